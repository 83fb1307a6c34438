import { randomBytes } from "node:crypto";
import type { Bytes } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { startTestGateway, type TestGateway, today } from "../support/gateway.ts";
import { certificateFile, startLocalWebPush } from "../support/local-services.ts";

describe("wake-ups are few and bounded", () => {
  let service: Awaited<ReturnType<typeof startLocalWebPush>>;
  let gateway: TestGateway;
  beforeEach(async () => {
    service = await startLocalWebPush();
    gateway = await startTestGateway({ webPush: service.config, certificateFile });
  });
  afterEach(async () => {
    await gateway.stop();
    await service.close();
  });

  const register = async (name: string): Promise<Bytes> =>
    (await gateway.client.register({ kind: "web-push", address: service.subscription(name) })).tokenId;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  test("ten handles of one device wake it once, and what comes within the window once more at its end", async () => {
    await gateway.stop();
    const windowMs = 3_000;
    const pace = { windowMs, spreadMs: 0 };
    gateway = await startTestGateway({ webPush: service.config, certificateFile, pace });
    const tokenId = await register("one");
    const handles = await Promise.all(Array.from({ length: 10 }, () => gateway.handle(tokenId)));
    const startedAt = Date.now();
    await gateway.wake(handles);
    await vi.waitFor(() => expect(service.received).toHaveLength(1), 2_000);
    await gateway.wake(handles);
    await gateway.wake(handles);
    await vi.waitFor(() => expect(service.received).toHaveLength(2), 10_000);
    expect(Date.now() - startedAt).toBeGreaterThanOrEqual(windowMs);
    await pause(windowMs + 500);
    expect(service.received).toHaveLength(2);
    expect(await gateway.count("wakes", "coalesced")).toBe(28);
  });

  test("who asks to be woken by mentions alone is woken by those alone", async () => {
    const handle = await gateway.handle(await register("one"), true);
    await gateway.wake([handle]);
    await pause(100);
    expect(service.received).toHaveLength(0);
    expect(await gateway.count("wakes", "not-mentioned")).toBe(1);
    await gateway.wake([handle], true);
    await vi.waitFor(() => expect(service.received).toHaveLength(1));
  });

  test("a bad handle is answered like a good one: expired, deleted, of another gateway, made up", async () => {
    const registration = await gateway.client.register({
      kind: "web-push",
      address: service.subscription("gone"),
    });
    const good = await gateway.handle(await register("one"));
    const expired = await gateway.handle(registration.tokenId, false, today());
    const deleted = await gateway.handle(registration.tokenId);
    await gateway.client.delete(registration);
    const changed = good.slice();
    changed[80]! ^= 1;
    const madeUp = new Uint8Array(randomBytes(good.length));
    for (const handle of [expired, deleted, changed, madeUp]) expect(await gateway.wake([handle])).toBe(202);
    await pause(100);
    expect(service.received).toHaveLength(0);
    // And it takes nothing from the good ones beside it.
    expect(await gateway.wake([madeUp, good, changed])).toBe(202);
    await vi.waitFor(() => expect(service.received).toHaveLength(1));
    expect(await gateway.count("wakes", "unreadable")).toBe(4);
    expect(await gateway.count("wakes", "expired")).toBe(1);
  });

  test("nobody wakes without the secret, nor with a part of it", async () => {
    const handle = await gateway.handle(await register("one"));
    for (const secret of [
      "wrong",
      "a-secret-between-two-processes-3",
      "a-secret-between-two-processes-322",
    ]) {
      expect(await gateway.wake([handle], false, secret)).toBe(401);
    }
    await pause(100);
    expect(service.received).toHaveLength(0);
  });

  test("a token is changed and deleted by its secret and by nothing else", async () => {
    const registration = await gateway.client.register({
      kind: "web-push",
      address: service.subscription("one"),
    });
    const other = await gateway.client.register({ kind: "web-push", address: service.subscription("two") });
    const stolen = { tokenId: registration.tokenId, secret: other.secret };
    const token = { kind: "web-push", address: service.subscription("three") } as const;
    const invalid = expect.objectContaining({ code: "auth/invalid" });
    await expect(gateway.client.delete(stolen)).rejects.toEqual(invalid);
    await expect(gateway.client.replace(stolen, token)).rejects.toEqual(invalid);
    const unknown = { tokenId: new Uint8Array(16), secret: other.secret };
    await expect(gateway.client.delete(unknown)).rejects.toEqual(invalid);
    await gateway.client.delete(registration);
    await expect(gateway.client.replace(registration, token)).rejects.toEqual(invalid);
  });

  test("a subscription that leads anywhere but to a push service is refused", async () => {
    const of = (address: string) => gateway.client.register({ kind: "web-push", address });
    const port = new URL(service.subscription("one")).port;
    for (const [address, code] of [
      ["https://127.0.0.1/", "token/endpoint-unknown"],
      [`https://127.0.0.1:${port}/push/one`, "token/endpoint-unknown"],
      ["https://localhost/push/one", "token/endpoint-unknown"],
      [`https://localhost:${port}.example.org/`, "token/endpoint-malformed"],
      [`https://user@localhost:${port}/`, "token/endpoint-malformed"],
      [`http://localhost:${port}/push/one`, "token/endpoint-malformed"],
      ["file:///etc/passwd", "token/endpoint-malformed"],
      ["", "token/endpoint-malformed"],
      [`${service.subscription("one")}${"x".repeat(2048)}`, "token/endpoint-malformed"],
    ] as const) {
      await expect(of(address), address).rejects.toMatchObject({ code });
    }
    await expect(gateway.client.register({ kind: "fcm", address: "x".repeat(40) })).rejects.toMatchObject({
      code: "token/service-unknown",
    });
  });

  test("registrations from one address run out, and come back with time", async () => {
    await gateway.stop();
    gateway = await startTestGateway({
      webPush: service.config,
      certificateFile,
      registrations: { burst: 3, perMinute: 30 },
    });
    for (const name of ["1", "2", "3"]) await register(name);
    await expect(register("4")).rejects.toMatchObject({ code: "push/gateway-unavailable" });
    await pause(2_100);
    await register("4");
  });

  test("bytes that are no request are refused, and the gateway goes on", async () => {
    const post = async (
      path: string,
      body: string | Uint8Array<ArrayBuffer>,
      headers: Record<string, string> = {},
    ) => {
      const response = await fetch(gateway.base + path, { method: "POST", body, headers });
      return [response.status, ((await response.json()) as { code: string }).code];
    };
    const secret = { authorization: "Bearer a-secret-between-two-processes-32" };
    expect(await post("/v1/tokens", "{")).toEqual([400, "request/malformed"]);
    expect(await post("/v1/tokens", "null")).toEqual([400, "request/malformed"]);
    expect(await post("/v1/tokens", '{"kind":"web-push","address":{}}')).toEqual([400, "request/malformed"]);
    expect(await post("/v1/tokens", '{"kind":"__proto__"}')).toEqual([400, "token/service-unknown"]);
    expect(await post("/v1/tokens", new Uint8Array([0xff, 0xfe]))).toEqual([400, "request/malformed"]);
    expect(await post("/v1/tokens", "x".repeat(70_000))).toEqual([413, "request/too-large"]);
    expect(await post("/v1/wake", '{"wakes":[{"handle":"AA"}]}', secret)).toEqual([400, "request/malformed"]);
    expect(await post("/v1/wake", '{"wakes":[null]}', secret)).toEqual([400, "request/malformed"]);
    const many = JSON.stringify({ wakes: Array.from({ length: 257 }, () => ({ handle: "AA" })) });
    expect(await post("/v1/wake", many, secret)).toEqual([400, "request/malformed"]);
    expect(await post("/v1/nothing", "")).toEqual([404, "request/unknown-route"]);
    expect((await fetch(`${gateway.base}/health`)).status).toBe(200);
  });

  test("tokens and the key that handles are sealed to outlast the process, and unused tokens do not stay", async () => {
    const tokenId = await register("one");
    const handle = await gateway.handle(tokenId);
    const { directory } = gateway;
    await gateway.close();
    const options = { webPush: service.config, certificateFile, dataDirectory: directory };
    gateway = await startTestGateway(options);
    await gateway.wake([handle]);
    await vi.waitFor(() => expect(service.received).toHaveLength(1));
    await gateway.close();
    const later = { now: () => Date.now() + 181 * 86_400_000, after: () => () => {} };
    gateway = await startTestGateway(options, { clock: later });
    await gateway.runRetention();
    expect(await (await fetch(`${gateway.base}/metrics`)).text()).toContain("push_gateway_tokens 0\n");
  });
});

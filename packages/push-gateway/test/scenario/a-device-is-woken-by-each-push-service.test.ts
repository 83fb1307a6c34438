import type { Bytes } from "@murmuration/base";
import type { PushKind } from "@murmuration/wire/push";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import {
  certificateFile,
  type LocalService,
  type QueuedAnswer,
  startLocalApns,
  startLocalFcm,
  startLocalWebPush,
  unregistered,
} from "../support/local-services.ts";

/** One push service under the scenarios, with an address that it could have given out. */
interface Opened {
  readonly service: LocalService<unknown>;
  readonly config: object;
  readonly address: string;
  readonly other: string;
}

interface Kind {
  readonly kind: PushKind;
  readonly open: () => Promise<Opened>;
  readonly goneAnswer: QueuedAnswer;
  /** What a wake-up says beside whom it wakes. */
  readonly body: (to: string) => unknown;
}

const kinds: readonly Kind[] = [
  {
    kind: "web-push",
    open: async () => {
      const service = await startLocalWebPush();
      const [address, other] = [service.subscription("one"), service.subscription("two")];
      return { service, config: { webPush: service.config, certificateFile }, address, other };
    },
    goneAnswer: { status: 410 },
    body: () => "",
  },
  {
    kind: "apns",
    open: async () => {
      const service = await startLocalApns();
      const [address, other] = ["ab".repeat(32), "cd".repeat(32)];
      return { service, config: { apns: service.config, certificateFile }, address, other };
    },
    goneAnswer: { status: 410, body: JSON.stringify({ reason: "Unregistered", timestamp: 1 }) },
    body: () => ({ aps: { "content-available": 1 } }),
  },
  {
    kind: "fcm",
    open: async () => {
      const service = await startLocalFcm();
      const [address, other] = [`${"x".repeat(22)}:APA91b${"y".repeat(100)}`, `z${"y".repeat(100)}`];
      return { service, config: { fcm: service.config }, address, other };
    },
    goneAnswer: unregistered,
    body: (token) => ({
      message: { token, android: { priority: "HIGH", ttl: "86400s", collapse_key: "wake" } },
    }),
  },
];

describe.each(kinds)("over $kind", ({ kind, open, goneAnswer, body }) => {
  let opened: Opened;
  let gateway: TestGateway;
  beforeEach(async () => {
    opened = await open();
    gateway = await startTestGateway(opened.config);
  });
  afterEach(async () => {
    await gateway.stop();
    await opened.service.close();
    expect(opened.service.complaints).toEqual([]);
  });

  const received = (count: number) =>
    vi.waitFor(() => expect(opened.service.received).toHaveLength(count), { timeout: 5_000, interval: 10 });
  const registered = async (address = opened.address): Promise<Bytes> =>
    (await gateway.client.register({ kind, address })).tokenId;

  test("a registered device is woken, and the push service is told nothing but whom", async () => {
    const handle = await gateway.handle(await registered());
    expect(await gateway.wake([handle])).toBe(202);
    await received(1);
    const [push] = opened.service.received;
    expect(opened.address).toContain(push!.to);
    const said = push!.body === "" ? "" : JSON.parse(push!.body);
    expect(said).toEqual(body(opened.address));
    // Worth a day, as each protocol says it.
    if (kind === "web-push") expect(push!.headers).toMatchObject({ ttl: "86400", topic: "wake" });
    if (kind === "apns") {
      const left = Number(push!.headers["apns-expiration"]) - Date.now() / 1000;
      expect(left).toBeGreaterThan(86_390);
      expect(left).toBeLessThan(86_410);
    }
  });

  test("a token that the push service knows no longer is deleted, and its handles wake nobody", async () => {
    const handle = await gateway.handle(await registered());
    opened.service.answers.push(goneAnswer);
    await gateway.wake([handle]);
    await received(1);
    await vi.waitFor(async () => expect(await gateway.count("pushes", `${kind}-gone`)).toBe(1));
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(await gateway.wake([handle])).toBe(202);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(opened.service.received).toHaveLength(1);
    expect(await (await fetch(`${gateway.base}/metrics`)).text()).toContain("push_gateway_tokens 0\n");
  });

  test("a push service that is busy is asked again until it takes the wake-up", async () => {
    const handle = await gateway.handle(await registered());
    const busy = { headers: {}, body: JSON.stringify({ reason: "TooManyRequests" }) };
    opened.service.answers.push({ status: 429, ...busy }, { status: 503, ...busy });
    await gateway.wake([handle]);
    await received(3);
    await vi.waitFor(async () => expect(await gateway.count("pushes", `${kind}-sent`)).toBe(1));
    expect(await gateway.count("pushes", `${kind}-later`)).toBe(2);
  });

  test("a push service that stays busy is given up after a bounded number of tries", async () => {
    const handle = await gateway.handle(await registered());
    const busy = { status: 503, body: JSON.stringify({ reason: "ServiceUnavailable" }) };
    opened.service.answers.push(...Array.from({ length: 20 }, () => busy));
    await gateway.wake([handle]);
    await vi.waitFor(async () => expect(await gateway.count("pushes", "given-up")).toBe(1), 5_000);
    expect(opened.service.received).toHaveLength(4);
  });

  test("what is refused is not asked again, and the log says why without naming the token", async () => {
    const handle = await gateway.handle(await registered());
    opened.service.answers.push({ status: 400, body: JSON.stringify({ reason: "PayloadEmpty" }) });
    await gateway.wake([handle]);
    await vi.waitFor(async () => expect(await gateway.count("pushes", `${kind}-refused`)).toBe(1));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(opened.service.received).toHaveLength(1);
    const refusal = gateway.logged.find((line) => line.includes("push-refused"));
    expect(refusal).toMatch(/"reason":"(?:status-400|PayloadEmpty)"/);
    expect(gateway.logged.join("\n")).not.toContain(opened.address);
  });

  test("another token takes the place of the first, and the handles stay good", async () => {
    const registration = await gateway.client.register({ kind, address: opened.address });
    const handle = await gateway.handle(registration.tokenId);
    await gateway.client.replace(registration, { kind, address: opened.other });
    await gateway.wake([handle]);
    await received(1);
    expect(opened.other).toContain(opened.service.received[0]!.to);
  });

  test("a push service that does not answer at all is given up after a bounded number of tries", async () => {
    const handle = await gateway.handle(await registered());
    await opened.service.close();
    await gateway.wake([handle]);
    await vi.waitFor(async () => expect(await gateway.count("pushes", "given-up")).toBe(1), 20_000);
    expect(await gateway.count("pushes", `${kind}-sent`)).toBe(0);
  });
});

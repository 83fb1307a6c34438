import { afterEach, describe, expect, it } from "vitest";
import { random } from "../support/random.ts";
import {
  startTestService,
  type TestService,
  type TestServiceOptions,
  temporaryDirectory,
} from "../support/service.ts";
import { startServiceProcess } from "../support/service-process.ts";
import { describeOnSockets } from "../support/socket-servers.ts";
import { call, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describeOnSockets("connections come and go", (adapter) => {
  const start = (options: TestServiceOptions = {}) =>
    startTestService({ ...options, config: { sockets: adapter.name } });
  let service: TestService;
  afterEach(() => service.stop());

  it("a half-open connection is cut after the silence timeout, and its device connects again", async () => {
    service = await start({ limits: { pingIntervalMs: 100, silenceTimeoutMs: 300 } });
    const bob = await TestDevice.register(service.base);
    const half = await TestSocket.device(service.port, bob);
    const quiet = await TestSocket.anonymous(service.port);
    // The peer vanished without a word: nothing is read any more, so no ping is answered.
    half.webSocket.pause();
    const silent = async () =>
      /connections_closed_total\{label="silent"\} 1$/m.test(
        await (await fetch(`${service.base}/metrics`)).text(),
      );
    await expect.poll(silent, { timeout: 3_000 }).toBe(true);
    // A connection that says nothing but answers pings lives on.
    expect(await quiet.request({ kind: "ping" })).toEqual({ kind: "pong" });
    half.webSocket.terminate();
    await (await TestSocket.device(service.port, bob)).next("queueEmpty");
  });

  it("the second connection of a device replaces the first", async () => {
    service = await start();
    const bob = await TestDevice.register(service.base);
    const first = await TestSocket.device(service.port, bob);
    const second = await TestSocket.device(service.port, bob);
    expect((await first.closed).reason).toBe("connection/replaced");
    const sender = await TestSocket.anonymous(service.port);
    await sender.request({ kind: "submitSealed", ...sealedTo([bob]) });
    expect(await second.envelopes(1)).toHaveLength(1);
  });

  it("when too many never say Hello, the oldest of them goes and a newcomer comes in", async () => {
    service = await start({ limits: { unidentifiedConnections: 10 } });
    const crowd: TestSocket[] = [];
    for (let i = 0; i < 13; i++) crowd.push(await TestSocket.open(service.port));
    for (const early of crowd.slice(0, 3)) expect((await early.closed).reason).toBe("connection/too-many");
    expect(crowd.slice(3).every((socket) => socket.webSocket.readyState === socket.webSocket.OPEN)).toBe(
      true,
    );
    const newcomer = await TestSocket.anonymous(service.port);
    expect(await newcomer.request({ kind: "ping" })).toEqual({ kind: "pong" });
  });

  it("one address gets no more than its share, another address is served", async () => {
    service = await start({ limits: { connectionsPerAddress: 5 } });
    for (let i = 0; i < 5; i++) await TestSocket.open(service.port);
    await expect(TestSocket.open(service.port)).rejects.toThrow("429");
    await TestSocket.open(service.port, "127.0.0.2");
  });

  it("a drain tells everybody, refuses what is new, answers what it has, and closes", async () => {
    service = await start();
    const bob = await TestDevice.register(service.base);
    const own = await TestSocket.device(service.port, bob);
    const sender = await TestSocket.anonymous(service.port);
    const inFlight = sender.request({ kind: "submitSealed", ...sealedTo([bob]) });
    await new Promise((resolve) => setTimeout(resolve, 2));
    const drained = service.drain();
    expect(await own.next("drain")).toMatchObject({ retryAfterMs: expect.any(Number) });
    // Taken on before the drain or refused with a word: never left without an answer.
    expect(["submitAccepted", "rejection"]).toContain((await inFlight).kind);
    await drained;
    expect(await own.closed).toMatchObject({ code: 1001, reason: "service/draining" });
    await expect(TestSocket.open(service.port)).rejects.toThrow();
  });

  it("a removed device is cut off at once and its token is worth nothing", async () => {
    service = await start();
    const phone = await TestDevice.register(service.base);
    const laptop = await phone.link(service.base);
    const connected = await TestSocket.device(service.port, laptop);
    await phone.unlink(service.base, laptop);
    expect((await connected.closed).reason).toBe("auth/invalid");
    expect((await call(service.base, "countKeys", { headers: laptop.headers() })).rejection?.code).toBe(
      "auth/invalid",
    );
    const sender = await TestSocket.anonymous(service.port);
    expect(await sender.request({ kind: "submitSealed", ...sealedTo([phone]) })).toMatchObject({
      kind: "submitAccepted",
    });
  });

  it("a deleted account is gone for its senders, and its id is never given out again", async () => {
    service = await start();
    const bob = await TestDevice.register(service.base);
    const sender = await TestSocket.anonymous(service.port);
    await sender.request({ kind: "submitSealed", ...sealedTo([bob]) });
    const connected = await TestSocket.device(service.port, bob);
    expect((await call(service.base, "deleteAccount", { headers: bob.headers() })).status).toBe(204);
    expect((await connected.closed).reason).toBe("auth/invalid");
    expect(await sender.request({ kind: "submitSealed", ...sealedTo([bob]) })).toMatchObject({
      kind: "submitMismatch",
      accounts: [{ accountId: bob.accountId, unknownAccount: true }],
    });
    const again = await call(service.base, "register", { body: bob.registration() });
    expect(again.rejection?.code).toBe("register/account-deleted");
  });

  it("a device whose one-time prekeys run out is told", async () => {
    service = await start();
    const bob = await TestDevice.register(service.base);
    const own = await TestSocket.device(service.port, bob);
    expect(await own.next("preKeysLow")).toMatchObject({ oneTimePreKeys: 0, oneTimeKyberPreKeys: 0 });
  });

  it("health says ok, metrics count without naming", async () => {
    service = await start();
    expect(await (await fetch(`${service.base}/health`)).text()).toBe("ok\n");
    const metrics = await (await fetch(`${service.base}/metrics`)).text();
    expect(metrics).toMatch(/^murmuration_store_transactions_total/m);
    expect(metrics).toMatch(/^murmuration_mailbox_envelopes 0$/m);
  });

  it("a blocked sender is shut out by a new access key, everybody else is not", async () => {
    service = await start();
    const bob = await TestDevice.register(service.base);
    const sender = await TestSocket.anonymous(service.port);
    const accessKey = random(16);
    const body = { accessKey, profile: new Uint8Array(0) };
    await call(service.base, "updateProfile", { headers: bob.headers(), body });
    expect(await sender.request({ kind: "submitSealed", ...sealedTo([bob]) })).toMatchObject({
      kind: "submitMismatch",
      accounts: [{ accessDenied: true }],
    });
    const submit = sealedTo([bob]);
    const recipients = submit.recipients.map((recipient) => ({ ...recipient, accessKey }));
    expect(await sender.request({ kind: "submitSealed", ...submit, recipients })).toMatchObject({
      kind: "submitAccepted",
    });
  });
});

describe("the service as a process", () => {
  it("SIGTERM drains and ends it with 0; what was accepted is there after a restart", async () => {
    const directory = temporaryDirectory();
    const first = await startServiceProcess(directory.path);
    const bob = await TestDevice.register(first.base);
    const sender = await TestSocket.anonymous(first.port);
    await sender.request({ kind: "submitSealed", ...sealedTo([bob]) });
    expect(await first.terminate()).toBe(0);
    expect(await sender.closed).toMatchObject({ code: 1001 });
    const second = await startServiceProcess(directory.path);
    const own = await TestSocket.device(second.port, bob);
    expect(await own.envelopes(1)).toHaveLength(1);
    await second.kill();
    directory.remove();
  });
});

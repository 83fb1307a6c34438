import { connect } from "node:net";
import { accountId, type DeviceId, envelopeId } from "@murmuration/base";
import { type ClientBody, encodeClientFrame, encodeServiceFrame, SOCKET_PATH } from "@murmuration/wire";
import { afterEach, beforeEach, expect, it } from "vitest";
import { WebSocket } from "ws";
import { mailboxRows } from "../support/database.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, type TestServiceOptions } from "../support/service.ts";
import { describeOnSockets } from "../support/socket-servers.ts";
import { recipientOf, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describeOnSockets("bad frames are refused with a stable code, and the service lives on", (adapter) => {
  const start = (options: TestServiceOptions = {}) =>
    startTestService({ ...options, config: { sockets: adapter.name } });
  let service: TestService;
  beforeEach(async () => {
    service = await start({ limits: { helloTimeoutMs: 400, frameBytes: 200_000 } });
  });
  afterEach(async () => {
    // Whatever a test did: a newcomer is served.
    await (await TestSocket.anonymous(service.port)).close();
    await service.stop();
  });

  async function refusal(socket: TestSocket, body: ClientBody): Promise<string> {
    const answer = await socket.request(body);
    return answer.kind === "rejection" ? answer.code : answer.kind;
  }

  it("an unknown kind of frame is refused and the connection goes on", async () => {
    const socket = await TestSocket.anonymous(service.port);
    // Field 63 of the frame's oneof range is not assigned: request_id 77, then an empty message.
    const answer = socket.answerTo(77);
    socket.sendRaw(Uint8Array.of(0x08, 77, 0xfa, 0x03, 0x00));
    expect(await answer).toMatchObject({ kind: "rejection", code: "wire/unknown-frame" });
    expect(await socket.request({ kind: "ping" })).toEqual({ kind: "pong" });
  });

  it.each([
    ["random bytes", random(300)],
    ["a truncated frame", encodeClientFrame({ requestId: 9, body: { kind: "ping" } }).subarray(0, 3)],
    ["an endless varint", new Uint8Array(20).fill(0xff)],
    ["a length beyond the end", Uint8Array.of(0x82, 0x01, 0xff, 0xff, 0xff, 0x7f)],
  ])("garbage (%s) is answered with a code before the connection closes", async (_, bytes) => {
    const socket = await TestSocket.anonymous(service.port);
    socket.sendRaw(bytes);
    const { code } = await socket.next("rejection");
    expect(code).toMatch(/^wire\//);
    expect((await socket.closed).reason === code || code === "wire/unknown-frame").toBe(true);
  });

  it("a frame of the service sent by a client is refused", async () => {
    const socket = await TestSocket.anonymous(service.port);
    socket.sendRaw(encodeServiceFrame({ requestId: 4, body: { kind: "queueEmpty" } }));
    expect((await socket.closed).reason).toBe("wire/wrong-direction");
  });

  it("an oversize frame is refused: a little too long in words, far too long by the close code", async () => {
    const little = await TestSocket.anonymous(service.port);
    little.sendRaw(new Uint8Array(200_001));
    expect(await little.next("rejection")).toMatchObject({ code: "wire/too-large" });
    expect(await little.closed).toMatchObject({ code: 4000, reason: "wire/too-large" });
    const far = await TestSocket.anonymous(service.port);
    far.sendRaw(new Uint8Array(1_000_000));
    expect(await far.closed).toMatchObject({ code: adapter.wholeFramesOnly ? 1006 : 1009 });
  });

  it("before Hello nobody may send much, not even slowly", async () => {
    const oversize = await TestSocket.open(service.port);
    oversize.sendRaw(new Uint8Array(2_000));
    expect(await oversize.closed).toMatchObject({ reason: "wire/too-large" });
    const unfinished = await TestSocket.open(service.port);
    unfinished.webSocket.send(new Uint8Array(90_000), { binary: true, fin: false });
    const late = { reason: "connection/hello-timeout" };
    expect(await unfinished.closed).toMatchObject(adapter.wholeFramesOnly ? late : { code: 1009 });
  });

  it("a text frame closes the connection", async () => {
    const socket = await TestSocket.anonymous(service.port);
    socket.webSocket.send("hello");
    expect(await socket.closed).toMatchObject({ code: 4000, reason: "connection/text-frame" });
  });

  it("whoever does not begin with Hello, repeats it, or never says it, is sent away", async () => {
    const early = await TestSocket.open(service.port);
    expect(await refusal(early, { kind: "ping" })).toBe("connection/hello-expected");
    expect((await early.closed).reason).toBe("connection/hello-expected");
    const twice = await TestSocket.anonymous(service.port);
    expect(await refusal(twice, { kind: "hello", versions: [1] })).toBe("connection/hello-repeated");
    await twice.closed;
    const silent = await TestSocket.open(service.port);
    expect((await silent.closed).reason).toBe("connection/hello-timeout");
    const future = await TestSocket.open(service.port);
    expect(await refusal(future, { kind: "hello", versions: [4711] })).toBe("version/unsupported");
  });

  it("a wrong token, an unknown device and an unknown account are one answer", async () => {
    const bob = await TestDevice.register(service.base);
    const wrong = [
      { ...bob.auth(), token: random(32) },
      { ...bob.auth(), deviceId: 9 as DeviceId },
      { ...bob.auth(), accountId: accountId(random(16)) },
    ];
    for (const auth of wrong) {
      const socket = await TestSocket.open(service.port);
      expect(await refusal(socket, { kind: "hello", versions: [1], auth })).toBe("auth/invalid");
      expect((await socket.closed).reason).toBe("auth/invalid");
    }
  });

  it("a submit on an authenticated connection is refused", async () => {
    const bob = await TestDevice.register(service.base);
    const own = await TestSocket.device(service.port, bob);
    const submit = { kind: "submitSealed", ...sealedTo([bob]) } as const;
    expect(await refusal(own, submit)).toBe("submit/sealed-on-authenticated");
    expect(mailboxRows(service.databasePath)).toEqual({ envelopes: 0, submits: 0 });
    expect(await own.request({ kind: "ping" })).toEqual({ kind: "pong" });
  });

  it("a message request or an acknowledgement on an anonymous connection is refused", async () => {
    const bob = await TestDevice.register(service.base);
    const socket = await TestSocket.anonymous(service.port);
    const { devices } = recipientOf([bob], random(10));
    const request = { submitId: sealedTo([]).submitId, accountId: bob.accountId, devices };
    expect(await refusal(socket, { kind: "submitIdentified", ...request })).toBe(
      "submit/identified-on-anonymous",
    );
    const acknowledge = { kind: "acknowledge", throughEnvelopeId: envelopeId(1) } as const;
    expect(await refusal(socket, acknowledge)).toBe("mailbox/needs-device");
  });

  it("acknowledging what was never delivered deletes nothing", async () => {
    const bob = await TestDevice.register(service.base);
    const own = await TestSocket.device(service.port, bob);
    await own.next("queueEmpty");
    const acknowledge = { kind: "acknowledge", throughEnvelopeId: envelopeId(1_000_000) } as const;
    expect(await refusal(own, acknowledge)).toBe("mailbox/not-delivered");
    const sender = await TestSocket.anonymous(service.port);
    await sender.request({ kind: "submitSealed", ...sealedTo([bob]) });
    expect(await own.envelopes(1)).toHaveLength(1);
  });

  it("a submit to 256 recipients with one unknown stores nothing and names the unknown one", async () => {
    const known = await TestDevice.register(service.base);
    const others = await Promise.all(Array.from({ length: 20 }, () => TestDevice.register(service.base)));
    const nobody = accountId(random(16));
    // 256 recipients: 21 accounts that exist, then 235 made-up ones of which the answer must name each.
    const real = sealedTo([known, ...others]);
    const unknown = Array.from({ length: 235 }, (_, index) => ({
      ...real.recipients[0]!,
      accountId: index === 0 ? nobody : accountId(random(16)),
    }));
    const socket = await TestSocket.anonymous(service.port);
    const submit = { ...real, recipients: [...real.recipients, ...unknown] };
    const answer = await socket.request({ kind: "submitSealed", ...submit });
    if (answer.kind !== "submitMismatch") throw new Error(answer.kind);
    expect(answer.accounts).toHaveLength(235);
    expect(answer.accounts.every((mismatch) => mismatch.unknownAccount)).toBe(true);
    expect(answer.accounts[0]!.accountId).toEqual(nobody);
    expect(mailboxRows(service.databasePath)).toEqual({ envelopes: 0, submits: 0 });
    // Repaired and sent again under the same id, it is stored.
    expect(await socket.request({ kind: "submitSealed", ...real })).toMatchObject({
      kind: "submitAccepted",
      repeatedSubmit: false,
    });
    expect(mailboxRows(service.databasePath)).toEqual({ envelopes: 21, submits: 1 });
  });

  it("missing, extra and stale devices and an outdated access key are named, and nothing is stored", async () => {
    const [phone, stale, blocker, good] = await Promise.all(
      Array.from({ length: 4 }, () => TestDevice.register(service.base)),
    );
    const laptop = await phone!.link(service.base);
    const socket = await TestSocket.anonymous(service.port);
    const submit = sealedTo([phone!, stale!, blocker!, good!]);
    const [toPhone, toStale, toBlocker, toGood] = submit.recipients;
    const extra = { ...toStale!.devices[0]!, deviceId: 5 as DeviceId };
    const outdated = { ...toStale!.devices[0]!, registrationId: (stale!.local.registrationId % 16_380) + 1 };
    const answer = await socket.request({
      kind: "submitSealed",
      ...submit,
      recipients: [
        toPhone!,
        { ...toStale!, devices: [outdated, extra] },
        { ...toBlocker!, accessKey: random(16) },
        toGood!,
      ],
    });
    const nothing = {
      unknownAccount: false,
      missingDevices: [],
      extraDevices: [],
      staleDevices: [],
      accessDenied: false,
      mailboxFull: false,
    };
    expect(answer).toEqual({
      kind: "submitMismatch",
      accounts: [
        { ...nothing, accountId: phone!.accountId, missingDevices: [laptop.deviceId] },
        { ...nothing, accountId: stale!.accountId, extraDevices: [5], staleDevices: [1] },
        { ...nothing, accountId: blocker!.accountId, accessDenied: true },
      ],
    });
    expect(mailboxRows(service.databasePath)).toEqual({ envelopes: 0, submits: 0 });
  });

  it("a recipient or a device named twice is refused", async () => {
    const bob = await TestDevice.register(service.base);
    const socket = await TestSocket.anonymous(service.port);
    const submit = sealedTo([bob, bob]);
    expect(await refusal(socket, { kind: "submitSealed", ...submit })).toBe("submit/duplicate-recipient");
    const [recipient] = submit.recipients;
    const doubled = { ...recipient!, devices: [...recipient!.devices, ...recipient!.devices] };
    expect(await refusal(socket, { kind: "submitSealed", ...submit, recipients: [doubled] })).toBe(
      "submit/duplicate-recipient",
    );
    expect(mailboxRows(service.databasePath)).toEqual({ envelopes: 0, submits: 0 });
  });

  it("a full mailbox is named, the others get nothing of that submit, and all of the next one without it", async () => {
    await service.stop();
    service = await start({ limits: { mailboxEnvelopes: 2 } });
    const [full, other] = await Promise.all([1, 2].map(() => TestDevice.register(service.base)));
    const socket = await TestSocket.anonymous(service.port);
    for (let i = 0; i < 2; i++) await socket.request({ kind: "submitSealed", ...sealedTo([full!]) });
    const nothing = {
      unknownAccount: false,
      missingDevices: [],
      extraDevices: [],
      staleDevices: [],
      accessDenied: false,
      mailboxFull: false,
    };
    expect(await socket.request({ kind: "submitSealed", ...sealedTo([full!, other!]) })).toEqual({
      kind: "submitMismatch",
      accounts: [{ ...nothing, accountId: full!.accountId, mailboxFull: true }],
    });
    expect(mailboxRows(service.databasePath)).toEqual({ envelopes: 2, submits: 2 });
    const rest = await socket.request({ kind: "submitSealed", ...sealedTo([other!]) });
    expect(rest).toMatchObject({ kind: "submitAccepted", repeatedSubmit: false });
    expect(mailboxRows(service.databasePath)).toEqual({ envelopes: 3, submits: 3 });
  });

  it("bytes that are no HTTP, and an upgrade to another path, do no harm", async () => {
    const raw = connect(service.port, "127.0.0.1");
    raw.on("error", () => {}).resume();
    raw.write(random(4_000));
    await new Promise((resolve) => raw.once("close", resolve));
    const elsewhere = new WebSocket(`ws://127.0.0.1:${service.port}${SOCKET_PATH}/other`);
    const status = new Promise((resolve) => {
      elsewhere.on("unexpected-response", (_, response) => resolve(response.statusCode));
    });
    elsewhere.on("error", () => {});
    expect(await status).toBe(404);
  });
});

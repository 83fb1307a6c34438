import { encodeClientFrame } from "@murmuration/wire";
import { afterEach, expect, it } from "vitest";
import { WebSocket } from "ws";
import { heldBytes } from "../support/held-bytes.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, type TestServiceOptions } from "../support/service.ts";
import { describeOnSockets } from "../support/socket-servers.ts";
import { sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describeOnSockets("a slow reader is told to come back, and loses nothing", (adapter) => {
  const start = (options: TestServiceOptions = {}) =>
    startTestService({ ...options, config: { sockets: adapter.name } });
  let service: TestService;
  afterEach(() => service.stop());

  async function fill(device: TestDevice, count: number, bytes: number): Promise<void> {
    const sender = await TestSocket.anonymous(service.port);
    for (let i = 0; i < count; i += 20) {
      const submits = Array.from({ length: Math.min(20, count - i) }, () =>
        sender.request({ kind: "submitSealed", ...sealedTo([device], random(bytes)) }),
      );
      for (const answer of await Promise.all(submits)) expect(answer.kind).toBe("submitAccepted");
    }
    await sender.close();
  }

  it("who stops reading gets a ResumeHint and a close, and the service holds only the send buffer", async () => {
    service = await start({
      limits: { sendBufferBytes: 2_000_000, unacknowledgedEnvelopes: 100_000, envelopesPerDeliver: 20 },
      timing: { slowReaderMs: 1500 },
    });
    const bob = await TestDevice.register(service.base);
    // More than the kernel's buffers of both sides take.
    await fill(bob, 400, 60_000);
    const heldBefore = heldBytes();
    const slow = await TestSocket.device(service.port, bob);
    slow.webSocket.pause();
    await new Promise((resolve) => setTimeout(resolve, 700));
    // It is still connected, so that what the service holds for it is held now: the buffer, and one delivery more.
    expect(heldBytes() - heldBefore).toBeLessThan(4_000_000);
    expect(slow.webSocket.readyState).toBe(WebSocket.OPEN);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    slow.webSocket.resume();
    expect(await slow.next("resumeHint")).toMatchObject({ retryAfterMs: expect.any(Number) });
    expect(await slow.closed).toMatchObject({ code: 1013, reason: "connection/slow-reader" });
    const read = slow.pushed.flatMap((body) => (body.kind === "deliver" ? body.envelopes : []));
    expect(read.length).toBeGreaterThan(0);
    expect(read.length).toBeLessThan(400);

    const again = await TestSocket.device(service.port, bob);
    const envelopes = await again.envelopes(400);
    expect(envelopes.map((envelope) => envelope.envelopeId)).toEqual(envelopes.map((_, index) => index + 1));
  });

  it("who reads but does not acknowledge gets no more than the window, and the rest after it does", async () => {
    service = await start({ limits: { unacknowledgedEnvelopes: 30, envelopesPerDeliver: 20 } });
    const bob = await TestDevice.register(service.base);
    await fill(bob, 70, 100);
    const reader = await TestSocket.device(service.port, bob);
    const first = await reader.envelopes(30);
    await reader.request({ kind: "ping" });
    expect(await reader.envelopes(30)).toHaveLength(30);
    expect(reader.pushed.some((body) => body.kind === "queueEmpty")).toBe(false);
    await reader.request({ kind: "acknowledge", throughEnvelopeId: first[29]!.envelopeId });
    await reader.envelopes(60);
    await reader.request({
      kind: "acknowledge",
      throughEnvelopeId: (await reader.envelopes(60))[59]!.envelopeId,
    });
    await reader.next("queueEmpty");
    expect((await reader.envelopes(70)).map((envelope) => envelope.envelopeId)).toEqual(
      Array.from({ length: 70 }, (_, index) => index + 1),
    );
  });

  it("who asks without reading the answers is not read from either", async () => {
    service = await start({
      limits: { sendBufferBytes: 400_000 },
      timing: { slowReaderMs: 300 },
    });
    const flood = await TestSocket.anonymous(service.port);
    flood.webSocket.pause();
    for (let requestId = 1; requestId <= 400_000; requestId++) {
      flood.sendRaw(encodeClientFrame({ requestId, body: { kind: "ping" } }));
      if (requestId % 20_000 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const newcomer = await TestSocket.anonymous(service.port);
    expect(await newcomer.request({ kind: "ping" })).toEqual({ kind: "pong" });
    flood.webSocket.terminate();
  });
});

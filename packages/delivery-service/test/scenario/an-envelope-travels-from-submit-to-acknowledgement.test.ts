import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { random } from "../support/random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";
import { call, recipientOf, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describe("an envelope travels from submit to acknowledgement", () => {
  let service: TestService;
  beforeEach(async () => {
    service = await startTestService();
  });
  afterEach(() => service.stop());

  it("reaches a connected device at once, and is gone after its acknowledgement", async () => {
    const bob = await TestDevice.register(service.base);
    const mailbox = await TestSocket.device(service.port, bob);
    await mailbox.next("queueEmpty");
    const sender = await TestSocket.anonymous(service.port);
    const ciphertext = random(300);
    const answer = await sender.request({ kind: "submitSealed", ...sealedTo([bob], ciphertext) });
    expect(answer).toMatchObject({ kind: "submitAccepted", repeatedSubmit: false });

    const [envelope] = await mailbox.envelopes(1);
    expect(envelope).toMatchObject({ envelopeId: 1, sealed: { ciphertext } });
    expect(envelope!.identified).toBeUndefined();
    const through = envelope!.envelopeId;
    expect(await mailbox.request({ kind: "acknowledge", throughEnvelopeId: through })).toMatchObject({
      kind: "acknowledged",
    });
    await mailbox.close();

    const again = await TestSocket.device(service.port, bob);
    await again.next("queueEmpty");
    expect(again.pushed.filter((body) => body.kind === "deliver")).toEqual([]);
  });

  it("waits for an offline device, in order, and comes again until it is acknowledged", async () => {
    const bob = await TestDevice.register(service.base);
    const sender = await TestSocket.anonymous(service.port);
    const ciphertexts = Array.from({ length: 250 }, () => random(64));
    for (const ciphertext of ciphertexts) {
      await sender.request({ kind: "submitSealed", ...sealedTo([bob], ciphertext) });
    }
    for (let visit = 0; visit < 2; visit++) {
      const mailbox = await TestSocket.device(service.port, bob);
      const envelopes = await mailbox.envelopes(250);
      expect(envelopes.map((envelope) => envelope.sealed!.ciphertext)).toEqual(ciphertexts);
      expect(envelopes.map((envelope) => envelope.envelopeId)).toEqual(ciphertexts.map((_, i) => i + 1));
      await mailbox.next("queueEmpty");
      await mailbox.close();
    }
  });

  it("goes to every device of an account, each with a mailbox of its own", async () => {
    const phone = await TestDevice.register(service.base);
    const laptop = await phone.link(service.base);
    const sender = await TestSocket.anonymous(service.port);
    const ciphertext = random(100);
    const submit = {
      ...sealedTo([]),
      recipients: [recipientOf([phone, { ...laptop, accessKey: phone.accessKey } as TestDevice], ciphertext)],
    };
    expect(await sender.request({ kind: "submitSealed", ...submit })).toMatchObject({
      kind: "submitAccepted",
    });
    for (const device of [phone, laptop]) {
      const mailbox = await TestSocket.device(service.port, device);
      expect((await mailbox.envelopes(1))[0]!.sealed!.ciphertext).toEqual(ciphertext);
    }
  });

  it("a resend after a lost answer is accepted and not stored twice", async () => {
    const bob = await TestDevice.register(service.base);
    const sender = await TestSocket.anonymous(service.port);
    const submit = { kind: "submitSealed", ...sealedTo([bob]) } as const;
    const both = await Promise.all([sender.request(submit), sender.request(submit)]);
    expect(both.map((answer) => answer.kind === "submitAccepted" && answer.repeatedSubmit).sort()).toEqual([
      false,
      true,
    ]);
    const later = await TestSocket.anonymous(service.port);
    expect(await later.request(submit)).toMatchObject({ kind: "submitAccepted", repeatedSubmit: true });
    const mailbox = await TestSocket.device(service.port, bob);
    await mailbox.next("queueEmpty");
    expect(await mailbox.envelopes(1)).toHaveLength(1);
  });

  it("first contact is a message request that names its sender", async () => {
    const alice = await TestDevice.register(service.base);
    const bob = await TestDevice.register(service.base);
    const own = await TestSocket.device(service.port, alice);
    const ciphertext = random(120);
    const { devices, accountId } = recipientOf([bob], ciphertext);
    const { submitId } = sealedTo([]);
    const answer = await own.request({ kind: "submitIdentified", submitId, accountId, devices });
    expect(answer).toMatchObject({ kind: "submitAccepted" });
    const mailbox = await TestSocket.device(service.port, bob);
    const [envelope] = await mailbox.envelopes(1);
    expect(envelope!.sealed).toBeUndefined();
    expect(envelope!.identified).toEqual({
      senderAccountId: alice.accountId,
      senderDeviceId: alice.deviceId,
      ciphertext,
    });
  });

  it("copies for the own other devices count as no message request", async () => {
    await service.stop();
    const requestsPerAccount = { burst: 1, perMinute: 1 };
    service = await startTestService({ limits: { rates: { ...unhurried.rates, requestsPerAccount } } });
    const phone = await TestDevice.register(service.base);
    const laptop = await phone.link(service.base);
    const own = await TestSocket.device(service.port, phone);
    for (let i = 0; i < 5; i++) {
      const { devices, accountId } = recipientOf([laptop], random(50));
      const { submitId } = sealedTo([]);
      const answer = await own.request({ kind: "submitIdentified", submitId, accountId, devices });
      expect(answer).toMatchObject({ kind: "submitAccepted" });
    }
    const copies = await (await TestSocket.device(service.port, laptop)).envelopes(5);
    expect(copies.map((copy) => copy.identified?.senderDeviceId)).toEqual([1, 1, 1, 1, 1]);
  });

  it("an ephemeral envelope reaches who is connected and is never stored", async () => {
    const bob = await TestDevice.register(service.base);
    const mailbox = await TestSocket.device(service.port, bob);
    await mailbox.next("queueEmpty");
    const sender = await TestSocket.anonymous(service.port);
    const submit = { ...sealedTo([bob]), ephemeral: true };
    await sender.request({ kind: "submitSealed", ...submit });
    expect((await mailbox.envelopes(1))[0]).toMatchObject({ envelopeId: 0 });
    await mailbox.close();
    await sender.request({ kind: "submitSealed", ...submit });
    const again = await TestSocket.device(service.port, bob);
    await again.next("queueEmpty");
    expect(again.pushed.filter((body) => body.kind === "deliver")).toEqual([]);
  });

  it("hands out keys, device list, certificate and profile", async () => {
    const bob = await TestDevice.register(service.base, true);
    const parameters = { accountId: Buffer.from(bob.accountId).toString("base64url") };
    const headers = bob.accessHeaders();
    const bundles = await call(service.base, "bundles", { parameters, headers, body: { deviceIds: [] } });
    expect(bundles.body).toMatchObject({
      deviceList: bob.local.deviceList,
      bundles: [{ deviceId: 1, registrationId: bob.local.registrationId }],
    });
    const counts = await call(service.base, "countKeys", { headers: bob.headers() });
    expect(counts.body).toEqual({ oneTimePreKeys: 99, oneTimeKyberPreKeys: 99 });
    const list = await call(service.base, "deviceList", { parameters, headers });
    expect(list.body).toMatchObject({ accountIdentityKey: bob.local.accountIdentityKey });
    const certificate = await call(service.base, "certificate", { headers: bob.headers() });
    expect(certificate.status).toBe(200);
    const accessKey = random(16);
    const profile = random(500);
    await call(service.base, "updateProfile", { headers: bob.headers(), body: { accessKey, profile } });
    expect((await call(service.base, "profile", { parameters, headers })).rejection).toMatchObject({
      code: "auth/access-denied",
    });
    const fresh = await call(service.base, "profile", { parameters, headers: bob.accessHeaders(accessKey) });
    expect(fresh.body).toEqual({ profile });
  });
});

import { type DeviceId, encode, groupId } from "@murmuration/base";
import { type GroupCommit, limits } from "@murmuration/wire";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Stores } from "../../src/service/context.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { TestSocket } from "../support/test-socket.ts";

type WelcomeRecipient = GroupCommit["recipients"][number];

/** An MLSMessage with a Welcome (RFC 9420, 12.4.3.1): well-formed, and nobody can open it. */
function welcomeOf(entries: number, groupInfoBytes: number): Uint8Array<ArrayBuffer> {
  return encode(undefined, (writer) => {
    for (const header of [1, 3, 1]) writer.uint16(header);
    // An entry is three empty vectors.
    writer.bytes(new Uint8Array(3 * entries));
    writer.bytes(new Uint8Array(groupInfoBytes));
  });
}

describe("Welcomes of a member who means harm", () => {
  let service: TestService;
  let stores: Stores;
  let mallory: Member;
  let victim: Member;
  beforeAll(async () => {
    service = await startTestService({ stores: (opened) => (stores = opened) });
    [mallory, victim] = [await Member.register(service), await Member.register(service)];
    await startCommunity(service, [mallory]);
  });
  afterAll(() => service.stop());

  it("a Welcome that no envelope can carry is refused with its commit", async () => {
    const made = mallory.makeAdd([victim]);
    const [fits, tooLarge] = [0, 1].map((more) => welcomeOf(1, limits.trimmedWelcomeBytes - 14 + more));
    expect([fits!.length, tooLarge!.length]).toEqual([
      limits.trimmedWelcomeBytes,
      limits.trimmedWelcomeBytes + 1,
    ]);
    expect(await mallory.socket.request({ ...made.frame, welcome: tooLarge! })).toMatchObject({
      code: "group/welcome-mismatch",
    });
    expectKind(await mallory.socket.request({ ...made.frame, welcome: fits! }), "groupCommitAccepted");
    mallory.merge();
    const mailbox = await TestSocket.device(service.port, victim.device);
    expect((await mailbox.envelopes(1))[0]!.welcome!.welcome).toEqual(fits);
    await mailbox.close();
  });

  it("thousands of empty entries are refused without a copy of the GroupInfo for each", async () => {
    const made = mallory.makeAdd(await Member.strangers(service, 1));
    const bomb = welcomeOf(20_000, limits.trimmedWelcomeBytes / 2);
    const before = process.memoryUsage().arrayBuffers;
    expect(await mallory.socket.request({ ...made.frame, welcome: bomb })).toMatchObject({
      code: "group/welcome-mismatch",
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 1024 * 1024);
    mallory.discard();
  });

  it("nobody gets a Welcome but the devices that the added credentials name, each its own", async () => {
    const joiners = [await Member.register(service), await Member.register(service)];
    const made = mallory.makeAdd(joiners);
    const [first, second] = made.frame.recipients as [WelcomeRecipient, WelcomeRecipient];
    const { accountId, deviceId } = (await Member.register(service)).device;
    for (const recipients of [
      [second, first],
      [first, { accountId, deviceId }],
      [first, { ...second, deviceId: (second.deviceId + 1) as DeviceId }],
      [first, first],
      [first],
      [first, second, { accountId, deviceId }],
    ]) {
      expect(await mallory.socket.request({ ...made.frame, recipients })).toMatchObject({
        code: "group/welcome-mismatch",
      });
    }
    expectKind(await mallory.commit(made), "groupCommitAccepted");
  });

  it("an envelope that cannot be encoded does not hold up those behind it, and is deleted", async () => {
    const { device } = await Member.register(service);
    const sizes = [100, limits.trimmedWelcomeBytes + 1, 200, limits.trimmedWelcomeBytes + 1];
    for (const size of sizes) {
      const welcome = { groupId: groupId(random(16)), treeHash: random(32), sequence: 1 };
      const envelope = {
        recipient: device.local.address,
        ciphertext: random(size),
        source: undefined,
        welcome,
      };
      const limit = { maxEnvelopes: 100, maxBytes: 1_000_000 };
      await stores.mailboxes.append({
        submitHash: random(32),
        envelopes: [envelope],
        acceptedAtMs: Date.now(),
        limits: limit,
      });
    }
    const mailbox = await TestSocket.device(service.port, device);
    const delivered = await mailbox.envelopes(2);
    expect(delivered.map(({ envelopeId, welcome }) => [envelopeId, welcome!.welcome.length])).toEqual([
      [1, 100],
      [3, 200],
    ]);
    await mailbox.next("queueEmpty");
    expect(await stores.mailboxes.depth(device.local.address)).toEqual({ envelopes: 2, bytes: 300 });
  });
});

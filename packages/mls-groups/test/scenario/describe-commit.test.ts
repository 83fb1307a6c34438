import { describe, expect, test } from "vitest";
import {
  type CommitDescription,
  createJoinTicket,
  describeCommit,
  encodeJoinTicket,
  nativeCrypto,
} from "../../src/index.ts";
import { addAll, Client } from "../clients.ts";
import { accountOf, type Device, idOf } from "../community-kit.ts";
import { World } from "../community-world.ts";

const crypto = nativeCrypto(1);

/** What a member and a follower say of a commit, which is the same. */
function described(world: World, message: Uint8Array): CommitDescription {
  const received = world.device("wanda").group.receive(message);
  if (received.kind !== "commit") throw new Error(received.kind);
  const { staged, from } = received.commit;
  const asMember = describeCommit(staged.public, from.public);
  const followed = world.follower.receive(message);
  if (followed.kind !== "commit") throw new Error(followed.kind);
  expect(describeCommit(followed.commit.public, followed.commit.from)).toEqual(asMember);
  return asMember;
}

const device = (account: string, number = 1) => ({ accountId: accountOf(account), deviceId: number });

describe("what a commit did, in words of a community", () => {
  test("a member's commit: who came, who went, what was set; before it is merged", () => {
    const world = new World();
    const olga = world.device("olga");
    const left = world.propose(world.device("max"), { kind: "self_remove" }, olga);
    const { keyPackage } = world.outsider({ account: "nina", device: 4 }).keyPackage();
    const [mia, max] = [world.leaf("mia", 2), world.leaf("max")];
    olga.group.createCommit({
      cached: [left],
      proposals: [
        { kind: "remove", removed: mia },
        { kind: "add", keyPackage },
        world.change({ slowModeSeconds: 30 }),
      ],
    });
    const pending = olga.group.pendingCommit!;
    const own = describeCommit(pending.public, pending.from);
    const { before, after, ...rest } = described(world, pending.message);
    expect(rest).toEqual({
      committer: 0,
      external: false,
      resync: false,
      added: [{ leaf: Math.min(mia, max), device: device("nina", 4) }],
      removed: [
        { leaf: max, device: device("max") },
        { leaf: mia, device: device("mia", 2) },
      ],
    });
    expect([before.slowModeSeconds, after.slowModeSeconds]).toEqual([0, 30]);
    expect(own).toEqual({ ...rest, before, after });
    // Also after the group has gone on.
    olga.save(olga.group.mergePending({ nowMs: 0 }));
    olga.commit();
    expect(describeCommit(pending.public, pending.from)).toEqual(own);
  });

  test("a join by a link adds the joiner, and nobody of the group committed it", () => {
    const { publicKey, privateKey: linkSeed } = crypto.generateSignatureKeyPair();
    const linkId = idOf("summer");
    const world = new World({
      fields: { links: [{ linkId, publicKey, maxUses: 0, approval: false, expiresAtMs: 0 }] },
    });
    const nina = world.outsider({ account: "nina" });
    const { publicKey: signatureKey } = nina.identity.signatureKeys;
    const use = { groupId: idOf("a community"), linkId, signatureKey };
    const message = world.join(nina, [encodeJoinTicket(createJoinTicket(crypto, { ...use, linkSeed }))]);
    expect(described(world, message)).toMatchObject({
      committer: undefined,
      external: true,
      resync: false,
      added: [{ leaf: 10, device: device("nina") }],
      removed: [],
    });
  });

  test("a resync is a leaf that goes and comes, of one device", () => {
    const world = new World();
    const max: Device = world.device("max");
    const leaf = world.leaf("max");
    expect(described(world, world.join(max, undefined, { removes: leaf }))).toMatchObject({
      committer: undefined,
      external: true,
      resync: true,
      added: [{ leaf, device: device("max") }],
      removed: [{ leaf, device: device("max") }],
    });
  });

  test("a group that is no community has no such words", () => {
    const [alice, bob] = [new Client("alice", crypto), new Client("bob", crypto)];
    alice.create("friends");
    addAll(alice, [bob]);
    bob.group.createCommit();
    const { public: staged, from } = bob.group.pendingCommit!;
    expect(() => describeCommit(staged, from)).toThrow("community/context-malformed");
  });
});

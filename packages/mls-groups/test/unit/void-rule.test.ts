import { toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  type CommitRefusal,
  createJoinTicket,
  describeCommit,
  encodeJoinTicket,
  nativeCrypto,
  partiesOf,
  provesVoid,
  REFUSALS_TO_VOID,
  silentAccounts,
} from "../../src/index.ts";
import { accountOf, type Device, idOf } from "../community-kit.ts";
import { type Insider, World } from "../community-world.ts";

const crypto = nativeCrypto(1);
const names = (accounts: readonly Uint8Array[]) => accounts.map(toHex).sort();

/** Who is silent about a commit: by those who judged it, and by its bytes, which says the same. */
function partiesIn(world: World, message: Uint8Array, proposals: readonly Uint8Array[] = []) {
  const followed = world.follower.receive(message);
  if (followed.kind !== "commit") throw new Error(followed.kind);
  const { from, next, addedCount, sender, external } = followed.commit;
  const judged = silentAccounts(describeCommit(followed.commit.public, from), from.tree);
  const parties = partiesOf(crypto, world.follower.tree, message, proposals);
  expect(names(parties.silent)).toEqual(names(judged));
  expect(parties.committerKey).toEqual(next.tree.signatureKey(sender));
  expect(parties.added).toHaveLength(addedCount + (external ? 1 : 0));
  for (const key of parties.added) expect(next.tree.leafBySignatureKey(key)).toBeDefined();
  return parties;
}

const silentIn = (...given: Parameters<typeof partiesIn>) => names(partiesIn(...given).silent);
const accounts = (...of: readonly string[]) => names(of.map(accountOf));

describe("whose word about a commit does not count", () => {
  test("its committer's", () => {
    const world = new World();
    expect(silentIn(world, world.commit(world.device("max"), {}))).toEqual(accounts("max"));
  });

  test("that of accounts that it takes a leaf from, one of two as well, and not of those that it adds", () => {
    const world = new World();
    const olga = world.device("olga");
    const { message: proposal, writes } = world.device("max").group.propose({ kind: "self_remove" });
    world.device("max").save(writes);
    const left = world.hear(proposal, [olga]);
    const { keyPackage } = world.outsider({ account: "nina" }).keyPackage();
    const proposals = [
      { kind: "remove", removed: world.leaf("mia", 2) },
      { kind: "add", keyPackage },
    ] as const;
    const message = world.commit(olga, { cached: [left], proposals });
    expect(silentIn(world, message, [proposal])).toEqual(accounts("olga", "mia", "max"));
    // Whoever never saw the proposal does not know whom it is about.
    const { silent } = partiesOf(crypto, world.follower.tree, message, [message, new Uint8Array(9)]);
    expect(names(silent)).toEqual(accounts("olga", "mia"));
  });

  test("a joiner's account's, and that of a device which comes back", () => {
    const { publicKey, privateKey: linkSeed } = crypto.generateSignatureKeyPair();
    const linkId = idOf("summer");
    const world = new World({
      fields: { links: [{ linkId, publicKey, maxUses: 0, approval: false, expiresAtMs: 0 }] },
    });
    const third = world.outsider({ account: "max", device: 3 });
    const { publicKey: signatureKey } = third.identity.signatureKeys;
    const use = { groupId: idOf("a community"), linkId, signatureKey };
    const ticket = encodeJoinTicket(createJoinTicket(crypto, { ...use, linkSeed }));
    expect(silentIn(world, world.join(third, [ticket]))).toEqual(accounts("max"));
    const back = world.join(world.device("mia"), undefined, { removes: world.leaf("mia") });
    expect(silentIn(world, back)).toEqual(accounts("mia"));
  });

  test("of what is no commit nobody is silent", () => {
    const world = new World();
    const { tree } = world.follower;
    const application = world.device("max").group.createApplicationMessage(new Uint8Array(3)).message;
    const { message: proposal } = world.device("mia").group.propose({ kind: "self_remove" });
    for (const message of [new Uint8Array(0), application, proposal])
      expect(partiesOf(crypto, tree, message, [])).toEqual({
        silent: [],
        committerKey: undefined,
        added: [],
      });
  });
});

describe("a commit is taken back", () => {
  const world = new World();
  const { tree } = world.follower;
  const signed = { label: "Murmuration Refuse", content: Uint8Array.of(1, 2, 3) };
  const by = (device: Device, { label, content } = signed): CommitRefusal => ({
    leafIndex: device.group.ownLeaf,
    signature: device.group.signForService(label, content),
  });
  const word = (account: Insider, device = 1) => by(world.device(account, device));
  const silent = [accountOf("olga"), accountOf("mia")];
  const proves = (...refusals: readonly CommitRefusal[]) =>
    provesVoid(crypto, tree, silent, signed, refusals);

  test(`by ${REFUSALS_TO_VOID} accounts, in whatever order and beside whatever else`, () => {
    expect(REFUSALS_TO_VOID).toBe(2);
    expect(proves(word("max"), word("adam", 2))).toBe(true);
    expect(proves(word("olga"), word("adam"), word("adam", 2), word("max"))).toBe(true);
  });

  test("not by less", () => {
    const max = word("max");
    const broken = max.signature.slice();
    broken[5]! ^= 1;
    const cases: Record<string, readonly CommitRefusal[]> = {
      nothing: [],
      one: [max],
      "one twice": [max, max],
      "two devices of one account": [word("adam"), word("adam", 2)],
      "the committer": [max, word("olga", 2)],
      "who was removed": [max, word("mia")],
      "a signature that is none": [word("adam"), { ...max, signature: broken }],
      "another leaf's signature": [word("adam"), { ...max, leafIndex: world.leaf("anna") }],
      "of another commit": [max, by(world.device("adam"), { ...signed, content: Uint8Array.of(1, 2, 4) })],
      "for another purpose": [max, by(world.device("adam"), { ...signed, label: "Murmuration Ban" })],
      "no leaf": [max, { ...max, leafIndex: 11 }, { ...max, leafIndex: 0xffff_ffff }],
    };
    for (const [name, refusals] of Object.entries(cases)) expect(proves(...refusals), name).toBe(false);
  });
});

import { utf8 } from "@murmuration/base";
import { beforeAll, describe, expect, test } from "vitest";
import type { CountingCrypto, OperationCounts } from "../../src/crypto/counting.ts";
import {
  bytesWritten,
  counting,
  type Group,
  nativeCrypto,
  type ReceivedCommit,
  type WriteSet,
} from "../../src/index.ts";
import { validateTree } from "../../src/tree/tree-validation.ts";
import { seededRandom } from "../seeded.ts";
import { WarmGroup } from "./warm-group.ts";

/*
 * What an operation costs, counted exactly. Each number is written as a formula in L, the height of the tree, and
 * holds at 1,000 members (L = 10) and at 16,000 (L = 14): nothing grows with the number of members itself.
 */

interface Counted {
  readonly group: Group;
  readonly crypto: CountingCrypto;
}

const MINUTE = 60_000;

function nonZero(counts: Readonly<OperationCounts>): Partial<OperationCounts> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}

/** The operations that an action asks of the member's provider. */
function counted<T>({ crypto }: Counted, action: () => T): { result: T; counts: Partial<OperationCounts> } {
  crypto.reset();
  const result = action();
  return { result, counts: nonZero(crypto.counts) };
}

function receiveCommit({ group }: Counted, message: Uint8Array): ReceivedCommit {
  const received = group.receive(message);
  if (received.kind !== "commit") throw new TypeError(`received a ${received.kind}`);
  return received.commit;
}

function receiveApplication({ group }: Counted, message: Uint8Array): WriteSet {
  const received = group.receive(message);
  if (received.kind !== "application") throw new TypeError(`received a ${received.kind}`);
  return received.writes;
}

const isDelta = (key: string): boolean => key.startsWith("d");

describe.each([
  { members: 1000, L: 10 },
  { members: 16_000, L: 14 },
])("in a warm group of $members members, a tree of height $L", ({ members, L }) => {
  const inner = nativeCrypto(1, { random: seededRandom(`growth ${members}`) });
  let alice: Counted;
  /** Alice's sibling: shares her whole path. */
  let bob: Counted;
  /** Shares only the root with Alice. */
  let carol: Counted;

  beforeAll(() => {
    const warm = new WarmGroup(inner, members);
    validateTree(warm.tree, warm.context);
    const member = (leaf: number): Counted => {
      const crypto = counting(inner);
      return { ...warm.member(leaf, crypto.provider), crypto };
    };
    [alice, bob, carol] = [member(0), member(1), member(members - 1)];
    expect(alice.group.tree.leafSlots).toBe(2 ** L);
    expect(alice.group.tree.pathCost(0)).toBe(L);
  }, 240_000);

  /** A commit by Alice that Bob and Carol receive and all merge. */
  function turn(nowMs: number) {
    const created = counted(alice, () => alice.group.createCommit());
    const own = counted(alice, () => alice.group.mergePending({ nowMs }));
    const others = [bob, carol].map((member) => {
      const received = counted(member, () => receiveCommit(member, created.result.message));
      const merged = counted(member, () => member.group.merge(received.result, { nowMs }));
      return { received, merged };
    });
    return { created, own, near: others[0]!, far: others[1]! };
  }

  test("creating and processing a commit cost a constant and a few operations for each level", () => {
    const { created, own, near, far } = turn(0);
    // Both sides. L parent hashes, tree hashes of the leaf and L parents, confirmed and interim transcript hash; and the
    // sibling leaf once for each of the two lowest of these, since hashes of leaves are not stored.
    const hash = 2 * L + 5;
    // For each level 99 bytes of parent hash input, 135 of tree hash input, and 117 of the commit in the transcript.
    const hashBytes = 881 + 351 * L;
    // Confirmation tag and membership tag; Extract for the joiner secret and for the PSKs.
    const both = { hash, hashBytes, mac: 2, extract: 2 };
    // Joiner secret, epoch secret and the nine secrets from it.
    const keySchedule = 11;
    expect(created.counts).toEqual({
      ...both,
      random: 1,
      // And for each node its node secret and the next path secret.
      expand: keySchedule + 2 * L,
      // LeafNode, commit, GroupInfo.
      sign: 3,
      generateHpkeKeyPair: 1,
      // The nodes of the path and external_pub.
      deriveHpkeKeyPair: L + 1,
      hpkeSeal: L,
    });
    // The sibling derives the whole path, the other half of the tree nothing but the root.
    for (const [{ received }, derived] of [
      [near, L],
      [far, 1],
    ] as const) {
      expect(received.counts).toEqual({
        ...both,
        expand: keySchedule + 2 * derived,
        // LeafNode and commit.
        verify: 2,
        deriveHpkeKeyPair: derived,
        // Each key of the path, the leaf's as a leaf and as part of the path.
        isValidHpkePublicKey: L + 2,
        hpkeOpen: 1,
      });
    }
    for (const merge of [own, near.merged, far.merged]) expect(merge.counts).toEqual({});
  });

  test("a commit writes under 16 KB, five rows at every receiver", () => {
    const { created, own, near, far } = turn(MINUTE);
    for (const { result } of [near.merged, far.merged]) {
      // Head, delta of the tree, root of the secret tree, resumption PSK, and the epoch that ended.
      const kinds = [...result.puts.keys()].map((key) => key[0]).sort();
      expect(kinds).toEqual(["d", "e", "g", "r", "s"]);
      // 73 bytes a level in the delta (key, parent hash, node index) and 37 in the head (private key); the rest constant.
      expect(bytesWritten(result)).toBeLessThan(1600 + 110 * L);
    }
    // The committer also keeps the pending commit until it knows that it was accepted.
    expect(bytesWritten(created.result.writes) + bytesWritten(own.result)).toBeLessThan(8 * 1024);
  });

  test("an application message costs the same few operations and one row of 42 bytes; a sender's first, log N of both", () => {
    const say = () => alice.group.createApplicationMessage(utf8("hello"));
    const first = counted(alice, say);
    const firstRead = counted(bob, () => receiveApplication(bob, first.result.message));
    // Key, nonce and next secret of the ratchet, key and nonce of the sender data; two seals; the reuse guard.
    const steady = { expand: 5, seal: 2, sign: 1, random: 1 };
    // First: two secrets for each level on the way down, and the two ratchets at the leaf.
    const descent = 2 * L + 2;
    expect(first.counts).toEqual({ ...steady, expand: steady.expand + descent });
    expect(firstRead.counts).toEqual({ expand: 5 + descent, open: 2, verify: 1 });
    for (const writes of [first.result.writes, firstRead.result]) {
      expect(writes.puts.size).toBe(L + 2);
      expect(bytesWritten(writes)).toBeLessThan(2 * 1024);
    }
    for (let i = 0; i < 3; i++) {
      const sent = counted(alice, say);
      const read = counted(bob, () => receiveApplication(bob, sent.result.message));
      expect(sent.counts).toEqual(steady);
      expect(read.counts).toEqual({ expand: 5, open: 2, verify: 1 });
      for (const writes of [sent.result.writes, read.result]) {
        expect([...writes.puts.values()].map(({ length }) => length)).toEqual([42]);
        expect(bytesWritten(writes)).toBeLessThan(64);
      }
    }
  });

  test.runIf(members === 1000)(
    "with the folding of deltas into snapshots a commit writes twice its delta on average, under 16 KB",
    () => {
      const cycle: WriteSet[] = [];
      for (let minute = 2; !cycle.at(-1)?.puts.has("t"); minute++) {
        const { message } = alice.group.createCommit();
        alice.group.mergePending({ nowMs: minute * MINUTE });
        cycle.push(bob.group.merge(receiveCommit(bob, message), { nowMs: minute * MINUTE }));
      }
      const deltas = cycle
        .slice(0, -1)
        .map((writes) => writes.puts.get([...writes.puts.keys()].find(isDelta)!)!);
      const fold = cycle.at(-1)!;
      // A snapshot is written when the deltas since the last one are as large as it was.
      const deltaBytes = deltas.reduce((sum, { length }) => sum + length, 0);
      expect(Math.abs(fold.puts.get("t")!.length - deltaBytes)).toBeLessThan(8192);
      const mean = cycle.reduce((sum, writes) => sum + bytesWritten(writes), 0) / cycle.length;
      expect(cycle.length).toBeGreaterThan(100);
      expect(mean).toBeLessThan(bytesWritten(cycle[0]!) + deltaBytes / deltas.length + 64);
      expect(mean).toBeLessThan(16 * 1024);
    },
  );
});

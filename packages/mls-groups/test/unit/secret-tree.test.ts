import { type Bytes, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { counting } from "../../src/crypto/counting.ts";
import { deriveSecret, expandWithLabel } from "../../src/crypto/labeled.ts";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { encodeRatchet } from "../../src/schedule/hash-ratchet.ts";
import { SecretTree, type SecretTreeWrites } from "../../src/schedule/secret-tree.ts";
import { leafToNode, left, right, root, slotsFor } from "../../src/tree/math.ts";
import { expectCode } from "../expect-error.ts";
import { seededRandom } from "../seeded.ts";

const crypto = nativeCrypto(1, { random: seededRandom("secret tree") });
const utf8 = new TextEncoder();
const newTree = (leaves: number) => SecretTree.create(crypto, rootSecret(), leaves);

function rootSecret(): Bytes {
  return seededRandom("encryption secret")(32);
}

function hexRows(tree: SecretTree): string[] {
  return [...tree.rows()].map(([key, value]) => `${key} ${toHex(value)}`).sort();
}

function apply(store: Map<string, Bytes>, writes: SecretTreeWrites): number {
  let bytes = 0;
  for (const key of writes.deletes) {
    store.delete(key);
    bytes += key.length;
  }
  for (const [key, value] of writes.puts) {
    store.set(key, value);
    bytes += key.length + value.length;
  }
  return bytes;
}

/** Secrets of all nodes on the way to a leaf, by the definition of section 9 without any laziness. */
function pathSecrets(leaves: number, leaf: number): Bytes[] {
  let node = root(slotsFor(leaves));
  const secrets = [rootSecret()];
  while (node !== leafToNode(leaf)) {
    const goesLeft = leafToNode(leaf) < node;
    const side = utf8.encode(goesLeft ? "left" : "right");
    secrets.push(expandWithLabel(crypto, secrets.at(-1)!, "tree", side, 32));
    node = goesLeft ? left(node) : right(node);
  }
  return secrets;
}

describe("a key is used once and in any order within bounds (RFC 9420 section 9)", () => {
  test.each([1, 2, 3, 5, 8, 16_384])(
    "sender and receiver find the same keys in a tree of %i leaves",
    (leaves) => {
      const [sender, receiver] = [newTree(leaves), newTree(leaves)];
      for (const leaf of new Set([0, leaves >> 1, leaves - 1])) {
        for (const type of ["handshake", "application"] as const) {
          for (let generation = 0; generation < 3; generation++) {
            const sent = sender.stageSend(leaf, type);
            const received = receiver.stageReceive(leaf, type, generation);
            expect(sent.generation).toBe(generation);
            expect(received.key).toEqual(sent.key);
            expect(received.nonce).toEqual(sent.nonce);
            sent.merge();
            received.merge();
          }
        }
      }
    },
  );

  test("a generation is consumed exactly once", () => {
    const tree = newTree(4);
    tree.stageReceive(2, "application", 0).merge();
    expectCode(() => tree.stageReceive(2, "application", 0), "mls/generation-spent");
    tree.stageReceive(2, "application", 3).merge();
    for (const generation of [3, 0]) {
      expectCode(() => tree.stageReceive(2, "application", generation), "mls/generation-spent");
    }
    tree.stageReceive(2, "application", 1).merge();
    expectCode(() => tree.stageReceive(2, "application", 1), "mls/generation-spent");
    expect(tree.stageReceive(2, "application", 2).generation).toBe(2);
  });

  test("a discarded key changes nothing, so a forged ciphertext uses up no generation", () => {
    const tree = newTree(64);
    tree.stageReceive(5, "application", 2).merge();
    const before = hexRows(tree);
    for (const [leaf, generation] of [
      [5, 3],
      [5, 40],
      [5, 1],
      [9, 0],
      [9, 30],
    ] as const) {
      const staged = tree.stageReceive(leaf, "application", generation);
      const key = toHex(staged.key);
      staged.discard();
      expect(hexRows(tree)).toEqual(before);
      const again = tree.stageReceive(leaf, "application", generation);
      expect(toHex(again.key)).toBe(key);
      again.discard();
    }
  });

  test("key and nonce are wiped by merge and by discard", () => {
    const tree = newTree(2);
    const discarded = tree.stageReceive(0, "handshake", 0);
    discarded.discard();
    const merged = tree.stageReceive(0, "handshake", 0);
    merged.merge();
    for (const { key, nonce } of [discarded, merged]) {
      expect([...key, ...nonce].every((byte) => byte === 0)).toBe(true);
    }
  });

  test("a key staged before another merge, or merged already, is stale and changes nothing", () => {
    const tree = newTree(4);
    const first = tree.stageReceive(0, "application", 0);
    const second = tree.stageReceive(0, "application", 0);
    first.merge();
    const before = hexRows(tree);
    expectCode(() => second.merge(), "mls/stale-staged-key");
    expectCode(() => first.merge(), "mls/stale-staged-key");
    first.discard();
    second.discard();
    expect(hexRows(tree)).toEqual(before);
  });

  test("a skip beyond the bound is refused before any derivation, one at the bound is followed", () => {
    const counted = counting(crypto);
    const tree = SecretTree.create(counted.provider, rootSecret(), 1024, { maxForward: 50 });
    const before = hexRows(tree);
    expectCode(() => tree.stageReceive(7, "application", 51), "mls/generation-too-far");
    expectCode(() => tree.stageReceive(7, "application", 0xffff_ffff), "mls/generation-too-far");
    expectCode(() => tree.stageReceive(1024, "application", 0), "mls/no-such-sender");
    expect(counted.counts.expand).toBe(0);
    expect(hexRows(tree)).toEqual(before);
    tree.stageReceive(7, "application", 50).merge();
    expectCode(() => tree.stageReceive(7, "application", 102), "mls/generation-too-far");
    tree.stageReceive(7, "application", 101).merge();
  });

  test("at most maxSkipped keys wait for late messages; the oldest are let go", () => {
    const tree = SecretTree.create(crypto, rootSecret(), 2, { maxSkipped: 3 });
    const reference = newTree(2);
    tree.stageReceive(1, "application", 10).merge();
    expectCode(() => tree.stageReceive(1, "application", 6), "mls/generation-spent");
    tree.stageReceive(1, "application", 12).merge();
    expectCode(() => tree.stageReceive(1, "application", 7), "mls/generation-spent");
    for (const generation of [11, 8, 9]) {
      const late = tree.stageReceive(1, "application", generation);
      expect(late.key).toEqual(reference.stageReceive(1, "application", generation).key);
      late.merge();
    }
  });

  test("the last of 2^32 generations is usable and nothing after it", () => {
    const row = (next: number) => encodeRatchet({ next, secret: new Uint8Array(32).fill(9), skipped: [] });
    const load = (next: number) =>
      SecretTree.load(crypto, 1, (key) => (key === "a0" ? row(next) : undefined));
    const tree = load(2 ** 32 - 1);
    const last = tree.stageSend(0, "application");
    expect(last.generation).toBe(0xffff_ffff);
    last.merge();
    expectCode(() => tree.stageSend(0, "application"), "mls/generations-exhausted");
    expectCode(() => load(2 ** 32).stageSend(0, "application"), "mls/generations-exhausted");
  });
});

describe("what is consumed is deleted (RFC 9420 section 9.2)", () => {
  test("after a message no secret above it is left, and its siblings' are", () => {
    const tree = newTree(8);
    tree.stageReceive(3, "application", 0).merge();
    const path = pathSecrets(8, 3);
    const consumed = [...path, deriveSecret(crypto, path.at(-1)!, "application")].map(toHex);
    const rows = hexRows(tree);
    for (const secret of consumed) expect(rows.some((row) => row.includes(secret))).toBe(false);
    const store = new Map(newTree(8).rows());
    apply(store, newTree(8).stageReceive(3, "application", 0).merge());
    for (const value of store.values()) expect(consumed).not.toContain(toHex(value));
    expect([...store.keys()].sort()).toEqual([...tree.rows().keys()].sort());
    // Siblings on the way: leaf 2 (node 4), nodes 1 and 11, and both ratchets of leaf 3.
    expect([...tree.rows().keys()].sort()).toEqual(["a3", "h3", "n1", "n11", "n4"]);
    const sibling = toHex(pathSecrets(8, 2).at(-1)!);
    expect(toHex(tree.rows().get("n4")!)).toBe(sibling);
  });

  test("the encryption secret that was handed over is wiped with the first message", () => {
    const secret = rootSecret();
    const tree = SecretTree.create(crypto, secret, 4);
    tree.stageSend(0, "application").discard();
    expect(secret).toEqual(rootSecret());
    tree.stageSend(0, "application").merge();
    expect(secret).toEqual(new Uint8Array(32));
  });

  test("destroy leaves nothing to derive from", () => {
    const tree = newTree(4);
    const staged = tree.stageReceive(1, "handshake", 2);
    tree.stageReceive(0, "application", 5).merge();
    tree.destroy();
    expect(tree.rows().size).toBe(0);
    expectCode(() => staged.merge(), "mls/stale-staged-key");
    expectCode(() => tree.stageSend(0, "application"), "mls/secret-tree-without-frontier");
  });
});

describe("cost and size", () => {
  test.each([
    [1, 0],
    [1000, 10],
    [16_384, 14],
  ])("with %i leaves a first message takes 2 * %i + 5 expansions, a later one 3", (leaves, depth) => {
    const counted = counting(crypto);
    const tree = SecretTree.create(counted.provider, rootSecret(), leaves);
    expect(counted.counts.expand).toBe(0);
    tree.stageReceive(0, "application", 0).merge();
    expect(counted.counts.expand).toBe(2 * depth + 5);
    for (const next of [tree.stageReceive(0, "application", 1), tree.stageSend(0, "handshake")]) {
      counted.reset();
      next.discard();
      const again =
        next.type === "handshake" ? tree.stageSend(0, "handshake") : tree.stageReceive(0, "application", 1);
      expect(counted.counts).toEqual({ ...counted.counts, expand: 3, hash: 0, mac: 0, extract: 0 });
      again.discard();
    }
    counted.reset();
    tree.stageReceive(0, "application", 4).merge();
    expect(counted.counts.expand).toBe(4 * 3);
    counted.reset();
    tree.stageReceive(0, "application", 2).merge();
    expect(counted.counts.expand).toBe(0);
  });

  test("a received message writes under 2 KB at 16,384 leaves, at most 100 bytes in the steady state", () => {
    const sizes = (first: number) => {
      const tree = newTree(16_384);
      const store = new Map(tree.rows());
      return [first, first + 1].map((generation) =>
        apply(store, tree.stageReceive(9999, "application", generation).merge()),
      );
    };
    const [first, second] = sizes(0);
    expect(first).toBeLessThan(800);
    expect(second).toBeLessThan(100);
    // A first message that skips so many that every retained key is written.
    for (const bytes of sizes(1000)) expect(bytes).toBeLessThan(2048);
  });

  test("loading reads only the rows that a message needs", () => {
    const tree = newTree(1024);
    const store = new Map(tree.rows());
    for (const leaf of [0, 512, 700]) apply(store, tree.stageReceive(leaf, "application", 0).merge());
    let reads = 0;
    const loaded = SecretTree.load(crypto, 1024, (key) => {
      reads++;
      return store.get(key);
    });
    expect(loaded.stageReceive(512, "application", 1).key).toEqual(
      tree.stageReceive(512, "application", 1).key,
    );
    expect(reads).toBe(1);
  });

  test("a damaged row is an error of ours and not a wrong key", () => {
    const load = (row: Uint8Array) =>
      SecretTree.load(crypto, 2, (key) => (key === "a0" || key === "n1" ? row : undefined));
    for (const row of [new Uint8Array(0), new Uint8Array(33), Uint8Array.of(2, ...new Uint8Array(50))]) {
      expectCode(() => load(row).stageSend(0, "application"), "mls/bad-secret-tree-row");
      expectCode(() => load(row).stageSend(1, "application"), "mls/bad-secret-tree-row");
    }
    expectCode(
      () => SecretTree.load(crypto, 2, () => undefined).stageSend(0, "application"),
      "mls/secret-tree-without-frontier",
    );
  });
});

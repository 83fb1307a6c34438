import { equalBytes, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { Journal } from "../../src/tree/journal.ts";
import { KeyTable, tableHash } from "../../src/tree/key-table.ts";
import { LeafChains } from "../../src/tree/leaf-chains.ts";
import {
  ancestorAt,
  commonAncestor,
  covers,
  directPath,
  endLeaf,
  firstLeaf,
  level,
  slotsFor,
} from "../../src/tree/math.ts";
import { NodeStore } from "../../src/tree/node-store.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { keepUsablePrivateKeys, retirePrivateKeys } from "../../src/tree/tree-kem.ts";
import { seededRandom } from "../seeded.ts";
import { encodeLeaf, leafContent, seededNumbers } from "../tree-kit.ts";

describe("tree math beyond the official vectors", () => {
  test("a node covers the leaves between its first and its end, and is their ancestor at its level", () => {
    for (let node = 0; node < 127; node++) {
      expect(endLeaf(node) - firstLeaf(node)).toBe(2 ** level(node));
      for (let leaf = 0; leaf < 64; leaf++) {
        expect(covers(node, leaf)).toBe(leaf >= firstLeaf(node) && leaf < endLeaf(node));
        expect(covers(node, leaf)).toBe(ancestorAt(leaf, level(node)) === node);
      }
    }
  });

  test("the common ancestor is the lowest node on both direct paths", () => {
    for (let a = 0; a < 32; a++) {
      for (let b = 0; b < 32; b++) {
        const pathOfB = [b * 2, ...directPath(b, 32)];
        expect(commonAncestor(a, b)).toBe(
          [a * 2, ...directPath(a, 32)].find((node) => pathOfB.includes(node)),
        );
      }
    }
  });

  test("slotsFor is the smallest power of two that holds the leaves", () => {
    expect([1, 2, 3, 4, 5, 8, 9, 1000, 16_384].map(slotsFor)).toEqual([1, 2, 4, 4, 8, 8, 16, 1024, 16_384]);
  });
});

describe("the hash of the key tables", () => {
  test("depends on the seed, the length and every byte", () => {
    const input = Uint8Array.from({ length: 64 }, (_, i) => i);
    const seen = new Set<number>();
    for (let end = 0; end <= 64; end++) seen.add(tableHash([1, 2], input, 0, end));
    for (let i = 0; i < 64; i++) {
      const changed = Uint8Array.from(input);
      changed[i]! ^= 0x80;
      seen.add(tableHash([1, 2], changed, 0, 64));
    }
    seen.add(tableHash([1, 3], input, 0, 64));
    seen.add(tableHash([2, 2], input, 0, 64));
    expect(seen.size).toBe(65 + 64 + 2);
  });
});

/** Keys of 0 to 3 bytes over a small alphabet, so that tables meet collisions and equal keys all the time. */
function smallKeys(random: (below: number) => number, count: number): Uint8Array[] {
  return Array.from({ length: count }, () => Uint8Array.from({ length: random(4) }, () => random(3)));
}

describe("key tables", () => {
  test("find, insert and delete answer as a Map would, under 20,000 random operations", () => {
    const random = seededNumbers(1);
    const keys = smallKeys(random, 500);
    const table = new KeyTable([random(2 ** 31), random(2 ** 31)], (entry, range) => {
      range.bytes = keys[entry]!;
      range.start = 0;
      range.end = keys[entry]!.length;
    });
    const model = new Map<string, number>();
    for (let i = 0; i < 20_000; i++) {
      const entry = random(keys.length);
      const name = toHex(keys[entry]!);
      if (random(2) === 0) {
        const other = model.get(name);
        expect(table.insert(entry)).toBe(other);
        if (other === undefined) model.set(name, entry);
      } else {
        const there = model.get(name) === entry;
        expect(table.delete(entry)).toBe(there);
        if (there) model.delete(name);
      }
      const wanted = keys[random(keys.length)]!;
      expect(table.find(wanted)).toBe(model.get(toHex(wanted)));
    }
  });

  test("chains list all leaves of a key, under 20,000 random operations", () => {
    const random = seededNumbers(2);
    const keys = smallKeys(random, 200);
    const chains = new LeafChains(
      new KeyTable([7, 8], (entry, range) => {
        range.bytes = keys[entry]!;
        range.start = 0;
        range.end = keys[entry]!.length;
      }),
      keys.length,
    );
    const present = new Set<number>();
    for (let i = 0; i < 20_000; i++) {
      const leaf = random(keys.length);
      if (present.delete(leaf)) chains.delete(leaf);
      else {
        present.add(leaf);
        chains.insert(leaf);
      }
      const wanted = keys[random(keys.length)]!;
      const expected = [...present].filter((other) => equalBytes(keys[other]!, wanted));
      expect(chains.find(wanted).toSorted((a, b) => a - b)).toEqual(expected.toSorted((a, b) => a - b));
    }
  });

  test("one key for all of 50,000 leaves costs no more than many keys", () => {
    const key = Uint8Array.of(1, 2, 3);
    let located = 0;
    const chains = new LeafChains(
      new KeyTable([7, 8], (_, range) => {
        located++;
        range.bytes = key;
        range.start = 0;
        range.end = 3;
      }),
      50_000,
    );
    for (let leaf = 0; leaf < 50_000; leaf++) chains.insert(leaf);
    for (let leaf = 0; leaf < 50_000; leaf++) chains.delete(leaf);
    expect(located).toBeLessThan(10 * 50_000);
    expect(chains.find(key)).toEqual([]);
  });
});

describe("the node store", () => {
  test("keeps every node as it was set, and its waste below a bound, under random writes", () => {
    const random = seededNumbers(3);
    const store = new NodeStore(64, new Uint8Array(0));
    const model = new Map<number, Uint8Array>();
    for (let i = 0; i < 20_000; i++) {
      const node = random(64);
      const value = Uint8Array.from({ length: random(5) === 0 ? 0 : random(400) }, () => random(256));
      store.set(node, value);
      model.set(node, value);
      const other = random(64);
      expect(equalBytes(store.view(other), model.get(other) ?? new Uint8Array(0))).toBe(true);
    }
    const alive = [...model.values()].reduce((sum, value) => sum + value.length, 0);
    expect(store.size).toBe(alive);
    expect(store.bytes.length).toBeLessThan(alive * 1.2 + 50_000);
  });

  test("writes over a node whose length stays the same", () => {
    const store = new NodeStore(2, new Uint8Array(0));
    store.set(0, new Uint8Array(100));
    const { length } = store.bytes;
    for (let i = 0; i < 10_000; i++) store.set(0, new Uint8Array(100).fill(i));
    expect(store.bytes.length).toBe(length);
  });
});

describe("a journal", () => {
  test("gives the first note of a node, and undoes in reverse order", () => {
    const journal = new Journal();
    journal.noteNode(4, Uint8Array.of(1));
    journal.noteNode(5, new Uint8Array(0));
    journal.noteNode(4, Uint8Array.of(2, 3));
    journal.noteHash(5, Uint8Array.of(9));
    journal.noteHash(5, Uint8Array.of(8));
    expect(journal.before(4)).toEqual(Uint8Array.of(1));
    expect(journal.before(6)).toBeUndefined();
    const undone: string[] = [];
    journal.undo(
      (node, value) => undone.push(`${node}=${toHex(value)}`),
      (node, hash) => undone.push(`#${node}=${toHex(hash)}`),
    );
    expect(undone).toEqual(["4=0203", "5=", "4=01", "#5=09"]);
  });
});

const crypto = nativeCrypto(1, { random: seededRandom("parts") });

function someTree(members: number): RatchetTree {
  const leaf = () =>
    encodeLeaf({ ...leafContent(crypto.random(32), crypto.random(32)), signature: crypto.random(64) });
  const tree = RatchetTree.create(crypto, leaf());
  tree.addLeaves(Array.from({ length: members - 1 }, leaf));
  return tree;
}

describe("a forked tree", () => {
  test("is read-only: changes go to the fork", () => {
    const tree = someTree(4);
    tree.fork();
    expect(() => tree.removeLeaf(1)).toThrow("mls/tree-is-read-only");
    expect(() => tree.reserveLeaf()).toThrow("mls/tree-is-read-only");
    expect(tree.memberCount).toBe(4);
  });

  test("answers for a retained epoch while a later one is current, without making it current", () => {
    const first = someTree(9);
    const keys = [...first.members()].map((leaf) => toHex(first.signatureKey(leaf)!));
    let tree = first.fork();
    for (const leaf of [3, 8, 1]) {
      tree.removeLeaf(leaf);
      tree = tree.fork();
    }
    tree.addLeaf(
      encodeLeaf({ ...leafContent(crypto.random(32), crypto.random(32)), signature: new Uint8Array(64) }),
    );
    const { notes } = first;
    expect([...first.members()].map((leaf) => toHex(first.signatureKey(leaf)!))).toEqual(keys);
    expect(first.leafSlots).toBe(16);
    expect(first.memberCount).toBe(9);
    expect(tree.leafSlots).toBe(8);
    expect(first.notes).toBe(notes);
    expect(tree.notes).toBe(0);
  });

  test("does not gather notes when two epochs are asked in turn", () => {
    const before = someTree(40).fork();
    before.removeLeaf(5);
    const after = before.fork();
    after.removeLeaf(17);
    after.treeHash();
    const counts = Array.from({ length: 20 }, () => {
      before.treeHash();
      after.treeHash();
      return before.notes;
    });
    expect(Math.max(...counts.slice(2))).toBeLessThanOrEqual(counts[2]!);
  });
});

describe("private keys of a member", () => {
  test("of nodes that were blanked are dropped, and zeroized when they are retired", () => {
    const tree = someTree(4).fork();
    tree.mergePath(0, tree.leafBytes(0)!, [
      { node: 1, encryptionKey: crypto.random(32), parentHash: crypto.random(32) },
      { node: 3, encryptionKey: crypto.random(32), parentHash: new Uint8Array(0) },
    ]);
    const old = new Map([0, 1, 3].map((node) => [node, crypto.random(32)]));
    const next = tree.fork();
    next.removeLeaf(3);
    next.removeLeaf(2);
    const kept = keepUsablePrivateKeys(next, 0, old);
    expect([...kept.keys()]).toEqual([0, 1]);
    retirePrivateKeys(old, kept);
    expect(old.get(3)).toEqual(new Uint8Array(32));
    expect(old.get(0)).not.toEqual(new Uint8Array(32));
  });
});

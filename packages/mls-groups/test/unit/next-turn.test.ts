import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { meanPathCost, nativeCrypto, nextWarmUpLeaf, type WarmUpTree } from "../../src/index.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { encodeLeaf, leafContent, seededNumbers } from "../tree-kit.ts";

const crypto = nativeCrypto(1);

/*
 * Exact trees: those of the engine, with keys and signatures that are random bytes, since a tree verifies neither.
 */

function newLeaf(signatureKey = crypto.random(32)): Uint8Array {
  const content = leafContent(crypto.random(32), signatureKey);
  return encodeLeaf({ ...content, signature: crypto.random(64) });
}

function grownTree(adds: number, batch: number): RatchetTree {
  const tree = RatchetTree.create(crypto, newLeaf());
  for (let added = 0; added < adds; added += batch) {
    tree.addLeaves(Array.from({ length: Math.min(batch, adds - added) }, () => newLeaf()));
  }
  return tree;
}

/** A self-update commit of this leaf: what it does to a tree. */
function selfUpdate(tree: RatchetTree, leaf: number): void {
  const path = tree.filteredDirectPath(leaf).map(({ node }) => ({
    node,
    encryptionKey: crypto.random(32),
    parentHash: crypto.random(32),
  }));
  tree.mergePath(leaf, newLeaf(tree.signatureKey(leaf)), path);
}

function exactMean(tree: RatchetTree): number {
  let total = 0;
  for (const leaf of tree.members()) total += tree.pathCost(leaf);
  return total / tree.memberCount;
}

/** Turns until no leaf is chosen, at most `most`. */
function warm(tree: RatchetTree, most: number, online: () => Iterable<number>): number {
  for (let turns = 0; turns < most; turns++) {
    const leaf = nextWarmUpLeaf(tree, online());
    if (leaf === undefined) return turns;
    selfUpdate(tree, leaf);
  }
  return most;
}

/** The same answers, counted. */
function counted(tree: RatchetTree): WarmUpTree & { readonly calls: () => number } {
  let calls = 0;
  const count =
    <A extends unknown[], R>(ask: (...args: A) => R) =>
    (...args: A): R => {
      calls++;
      return ask(...args);
    };
  return {
    leafSlots: tree.leafSlots,
    memberCount: tree.memberCount,
    hasMember: count((leaf) => tree.hasMember(leaf)),
    pathCost: count((leaf) => tree.pathCost(leaf)),
    resolutionSize: count((node) => tree.resolutionSize(node)),
    membersBelow: count((node) => tree.membersBelow(node)),
    calls: () => calls,
  };
}

describe("the next warm-up turn", () => {
  test("brings 1,001 members to log2(N) + 8 ciphertexts within 130 turns after four batches of Adds", () => {
    const tree = grownTree(1_000, 256);
    expect(exactMean(tree)).toBeGreaterThan(900);
    const turns = warm(tree, 200, () => tree.members());
    expect(turns).toBeLessThanOrEqual(130);
    expect(exactMean(tree)).toBeLessThanOrEqual(Math.log2(1_001) + 8.5);
  });

  test("does so with a random tenth of them online at each turn, and comes to an end", () => {
    const below = seededNumbers(5);
    const tree = grownTree(1_000, 256);
    const tenth = () => Array.from({ length: 100 }, () => below(1_001));
    const turns = warm(tree, 400, tenth);
    expect(turns).toBeLessThan(200);
    expect(exactMean(tree)).toBeLessThan(Math.log2(1_001) + 9);
  });

  test("helps as far as it can where only the same few are ever online, and then stops", () => {
    const tree = grownTree(500, 256);
    const turns = warm(tree, 100, () => [3, 4, 5, 6]);
    expect(turns).toBeGreaterThan(0);
    expect(turns).toBeLessThanOrEqual(4);
    expect(exactMean(tree)).toBeLessThan(350);
    expect(nextWarmUpLeaf(tree, [3, 4, 5, 6])).toBeUndefined();
    expect(nextWarmUpLeaf(tree, [400])).toBe(400);
  });

  test("saves at each turn as much as any other leaf that is online would have, to one in fifty", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 40 }),
        fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 30 }),
        fc.array(fc.nat(50), { minLength: 1, maxLength: 12 }),
        (members, changes, candidates) => {
          let tree = grownTree(members - 1, 7);
          for (const [update, choice] of changes) {
            const leaves = [...tree.members()];
            const leaf = leaves[choice % leaves.length]!;
            if (update) selfUpdate(tree, leaf);
            else if (leaves.length > 1) tree.removeLeaf(leaf);
          }
          const chosen = nextWarmUpLeaf(tree, candidates, { targetExtraCiphertexts: -100 });
          const before = exactMean(tree) * tree.memberCount;
          const savings = [...new Set(candidates)]
            .filter((leaf) => tree.hasMember(leaf))
            .map((leaf) => {
              const next = tree.fork();
              selfUpdate(next, leaf);
              const saved = before - exactMean(next) * next.memberCount;
              // The tree that was forked is read-only; a fork of it goes on.
              tree = tree.fork();
              return { leaf, saved };
            });
          const most = Math.max(0, ...savings.map(({ saved }) => Math.round(saved)));
          const own = savings.find(({ leaf }) => leaf === chosen);
          if (tree.memberCount < 2 || most === 0) expect(chosen).toBeUndefined();
          else expect(own!.saved * 1.02).toBeGreaterThan(most - 0.01);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("asks a warm tree no more than a sample of it, and a cold one about as much as it was warmed", () => {
    const tree = grownTree(4_000, 256);
    const everybody = Array.from({ length: 4_001 }, (_, leaf) => leaf);
    const first = counted(tree);
    nextWarmUpLeaf(first, everybody);
    expect(first.calls()).toBeLessThan(64 * 14 + 200);
    let most = 0;
    for (let turn = 0; ; turn++) {
      const asked = counted(tree);
      const leaf = nextWarmUpLeaf(asked, everybody);
      if (leaf === undefined) {
        // What is left is the sample alone.
        expect(asked.calls()).toBeLessThan(64 * 15);
        break;
      }
      most = Math.max(most, asked.calls() - 64 * 15 - 40 * turn);
      selfUpdate(tree, leaf);
    }
    // All nodes would be ten times as many.
    expect(most).toBeLessThan(1_500);
  });

  test("chooses nobody who is not there: blank leaves, leaves outside of the tree, nobody at all", () => {
    const tree = grownTree(100, 100);
    tree.removeLeaf(7);
    expect(nextWarmUpLeaf(tree, [])).toBeUndefined();
    expect(nextWarmUpLeaf(tree, [7, 128, 5_000, 0xffff_ffff])).toBeUndefined();
    expect(nextWarmUpLeaf(tree, [7, 9, 9, 128])).toBe(9);
    expect(nextWarmUpLeaf(grownTree(0, 1), [0])).toBeUndefined();
  });

  test("is the same for the same tree and leaves, in whatever order they come", () => {
    const tree = grownTree(300, 256);
    const leaves = [200, 17, 4, 250, 99];
    const chosen = nextWarmUpLeaf(tree, leaves);
    expect(nextWarmUpLeaf(tree, leaves.toReversed())).toBe(chosen);
    expect(nextWarmUpLeaf(tree, leaves, { targetExtraCiphertexts: 1_000 })).toBeUndefined();
  });
});

describe("the mean path cost", () => {
  test("is exact in small trees and near it in large ones, cold, warm and sparse", () => {
    expect(meanPathCost(grownTree(0, 1))).toBe(0);
    const small = grownTree(40, 10);
    selfUpdate(small, 3);
    small.removeLeaf(11);
    expect(meanPathCost(small)).toBeCloseTo(exactMean(small), 9);
    const large = grownTree(2_000, 256);
    const near = () => Math.abs(meanPathCost(large) / exactMean(large) - 1);
    expect(near()).toBeLessThan(0.02);
    for (let leaf = 0; leaf < 2_001; leaf += 16) selfUpdate(large, leaf);
    expect(near()).toBeLessThan(0.1);
    for (let leaf = 1; leaf < 1_900; leaf++) if (leaf % 10 !== 0) large.removeLeaf(leaf);
    expect(near()).toBeLessThan(0.15);
    expect(meanPathCost(large, large.memberCount)).toBeCloseTo(exactMean(large), 9);
  });
});

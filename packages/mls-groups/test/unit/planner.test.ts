import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bitReversedLeaves,
  type CommitCosts,
  cheapestCommitter,
  committerForLeaving,
  composeBatches,
  nearestMembers,
  planGrowth,
  warmUpAmong,
  warmUpLeaves,
  warmUpTurns,
} from "../../src/planner/index.ts";
import { seededNumbers } from "../tree-kit.ts";

/** A tree of which only blankness is known: enough to count the ciphertexts of a path, straight from 4.1.1. */
class BlanknessTree implements CommitCosts {
  readonly leafSlots: number;
  readonly blank = new Set<number>();
  constructor(leafSlots: number) {
    this.leafSlots = leafSlots;
    for (let node = 1; node < 2 * leafSlots - 1; node += 2) this.blank.add(node);
  }
  hasMember(leaf: number): boolean {
    return leaf < this.leafSlots && !this.blank.has(2 * leaf);
  }
  private resolutionSize(level: number, index: number): number {
    const node = (index << (level + 1)) + (1 << level) - 1;
    if (!this.blank.has(node)) return 1;
    if (level === 0) return 0;
    return this.resolutionSize(level - 1, 2 * index) + this.resolutionSize(level - 1, 2 * index + 1);
  }
  pathCost(leaf: number): number {
    let cost = 0;
    for (let level = 0; 1 << level < this.leafSlots; level++)
      cost += this.resolutionSize(level, (leaf >> level) ^ 1);
    return cost;
  }
  selfUpdate(leaf: number): void {
    for (let level = 1; 1 << level <= this.leafSlots; level++) {
      this.blank.delete(((leaf >> level) << (level + 1)) + (1 << level) - 1);
    }
  }
  remove(leaf: number): void {
    this.blank.add(2 * leaf);
    for (let level = 1; 1 << level <= this.leafSlots; level++) {
      this.blank.add(((leaf >> level) << (level + 1)) + (1 << level) - 1);
    }
  }
  meanCost(): number {
    let total = 0;
    for (let leaf = 0; leaf < this.leafSlots; leaf++) total += this.pathCost(leaf);
    return total / this.leafSlots;
  }
}

describe("warm-up order", () => {
  it("is the bit reversal of the leaf indexes, each leaf once", () => {
    expect([...bitReversedLeaves(8)]).toEqual([0, 4, 2, 6, 1, 5, 3, 7]);
    expect(new Set(bitReversedLeaves(256)).size).toBe(256);
    expect([...bitReversedLeaves(1)]).toEqual([0]);
  });

  it.each([0, 3, -4, 2.5])("refuses a width of %s, which is no power of two", (slots) => {
    expect(() => [...bitReversedLeaves(slots)]).toThrow("planner/leaf-slots-not-a-power-of-two");
  });

  it("skips blank leaves and stops after the turns asked for", () => {
    expect(warmUpLeaves(8, 3, (leaf) => leaf !== 4)).toEqual([0, 2, 6]);
    expect(warmUpLeaves(8, 100, (leaf) => leaf < 2)).toEqual([0, 1]);
  });

  it("warms a blank tree of 1,024 leaves to its target mean, where left-to-right order stays far above it", () => {
    const target = 24;
    const turns = warmUpTurns(1024, target);
    const reversed = new BlanknessTree(1024);
    for (const leaf of warmUpLeaves(1024, turns, () => true)) reversed.selfUpdate(leaf);
    const leftToRight = new BlanknessTree(1024);
    for (let leaf = 0; leaf < turns; leaf++) leftToRight.selfUpdate(leaf);
    expect(reversed.meanCost()).toBeLessThan(target * 1.25);
    expect(leftToRight.meanCost()).toBeGreaterThan(target * 10);
  });

  it("spreads the turns of newly added leaves over them, so that a grown tree stays near its target", () => {
    expect(warmUpAmong([10, 11, 12, 13, 14, 15], 3)).toEqual([10, 14, 12]);
    expect(warmUpAmong([], 3)).toEqual([]);
    const tree = new BlanknessTree(1024);
    for (let added = 0; added < 1024; added += 256) {
      const block = Array.from({ length: 256 }, (_, i) => added + i);
      for (const leaf of warmUpAmong(block, warmUpTurns(256, 64))) tree.selfUpdate(leaf);
    }
    expect(tree.meanCost()).toBeLessThan(64 * 1.25);
  });

  it("asks every leaf when the target is below the height of the tree", () => {
    expect(warmUpTurns(1024, 5)).toBe(1024);
    expect(warmUpTurns(1, 5)).toBe(0);
  });
});

describe("growth by doubling", () => {
  it("reaches the target exactly, never more than the limit or the warm half at once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 0, max: 5000 }), (current, more) => {
        const steps = planGrowth(current, current + more);
        let members = current;
        for (const step of steps) {
          if (step.kind === "warm-up") continue;
          expect(step.adds).toBeLessThanOrEqual(256);
          expect(step.adds).toBeLessThanOrEqual(Math.max(members, 64));
          members += step.adds;
          expect(step.membersAfter).toBe(members);
        }
        expect(members).toBe(current + more);
      }),
    );
  });

  it("lets some of the newly added leaves take a turn after every addition, or blank subtrees would add up", () => {
    for (const target of [2, 65, 300, 5000]) {
      const steps = planGrowth(1, target);
      expect(steps.map(({ kind }) => kind)).toEqual(steps.map((_, i) => (i % 2 === 0 ? "add" : "warm-up")));
    }
  });

  it("refuses to shrink a group", () => {
    expect(() => planGrowth(10, 9)).toThrow("planner/growth-target-below-current");
  });
});

describe("choice of the committer", () => {
  it("asks for those who leave the member that shares the most of its path with one of them", () => {
    const tree = new BlanknessTree(256);
    for (const leaf of bitReversedLeaves(256)) tree.selfUpdate(leaf);
    const everybody = Array.from({ length: 256 }, (_, leaf) => leaf);
    expect(committerForLeaving(tree, [77], everybody)).toBe(76);
    expect(committerForLeaving(tree, [77, 200], [0, 76, 201, 255])).toBe(76);
    expect(committerForLeaving(tree, [76, 77], everybody)).toBe(78);
    // 64 to 127 are the quarter that it stands in.
    expect(committerForLeaving(tree, [77], [3, 100, 130])).toBe(100);
    tree.remove(76);
    expect(committerForLeaving(tree, [77], everybody)).toBe(78);
    expect(committerForLeaving(tree, [77], [76, 77])).toBeUndefined();
  });

  it("keeps the commits of a group that one after the other leaves as small as they were", () => {
    const leave = (choose: (tree: BlanknessTree, gone: number) => number) => {
      const tree = new BlanknessTree(1024);
      for (const leaf of bitReversedLeaves(1024)) tree.selfUpdate(leaf);
      const below = seededNumbers(11);
      let most = 0;
      for (let epoch = 0; epoch < 100; epoch++) {
        let gone = 0;
        while (gone === 0 || !tree.hasMember(gone)) gone = below(1024);
        const committer = choose(tree, gone);
        tree.remove(gone);
        most = Math.max(most, tree.pathCost(committer));
        tree.selfUpdate(committer);
      }
      return most;
    };
    const everybody = Array.from({ length: 1024 }, (_, leaf) => leaf);
    expect(leave((tree, gone) => committerForLeaving(tree, [gone], everybody)!)).toBeLessThanOrEqual(10);
    expect(leave(() => 0)).toBeGreaterThan(200);
  });

  it("names nearest members first and passes blank leaves over", () => {
    const tree = new BlanknessTree(8);
    tree.remove(2);
    tree.remove(3);
    expect(nearestMembers(tree, 2, 3)).toEqual([0, 1, 4]);
  });

  it("gives every asker the same answer on a tie and none without candidates", () => {
    const tree = new BlanknessTree(4);
    expect(cheapestCommitter(tree, [3, 1, 2])).toEqual(cheapestCommitter(tree, [2, 3, 1]));
    expect(cheapestCommitter(tree, [])).toBeUndefined();
  });
});

describe("batch composition", () => {
  it("puts every Remove into the first commit and splits Adds in order", () => {
    const adds = Array.from({ length: 600 }, (_, i) => i);
    const batches = composeBatches({ adds, removes: ["x", "y"] });
    expect(batches.map((batch) => [batch.adds.length, batch.removes.length, batch.needsPath])).toEqual([
      [256, 2, true],
      [256, 0, false],
      [88, 0, false],
    ]);
    expect(batches.flatMap((batch) => batch.adds)).toEqual(adds);
    expect(composeBatches({ adds: [], removes: [] })).toEqual([]);
  });
});

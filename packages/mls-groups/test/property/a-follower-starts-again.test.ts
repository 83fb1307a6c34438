import { toHex } from "@murmuration/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nativeCrypto } from "../../src/index.ts";
import { type FollowedCommit, PublicGroup } from "../../src/public-group/index.ts";
import { Client } from "../clients.ts";

const crypto = nativeCrypto(1);

type Step =
  | { readonly kind: "add"; readonly count: number; readonly path: boolean; readonly by: number }
  | { readonly kind: "remove"; readonly who: number; readonly by: number }
  | { readonly kind: "update"; readonly by: number }
  | { readonly kind: "snapshot" };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant("add" as const),
    count: fc.integer({ min: 1, max: 6 }),
    path: fc.boolean(),
    by: fc.nat(),
  }),
  fc.record({ kind: fc.constant("remove" as const), who: fc.nat(), by: fc.nat() }),
  fc.record({ kind: fc.constant("update" as const), by: fc.nat() }),
  fc.record({ kind: fc.constant("snapshot" as const) }),
);

/** A group whose members all go on, and what a service stores of it. */
class Story {
  readonly members: Client[] = [new Client("founder", crypto)];
  follower: PublicGroup;
  snapshot: Uint8Array;
  deltas: Uint8Array[] = [];
  groupInfo: Uint8Array;
  #named = 0;

  constructor() {
    const [founder] = this.members;
    founder!.create("a group");
    this.groupInfo = founder!.group.groupInfo();
    this.snapshot = founder!.group.ratchetTree();
    this.follower = PublicGroup.follow(crypto, { groupInfo: this.groupInfo, ratchetTree: this.snapshot });
  }

  take(step: Step): void {
    if (step.kind === "snapshot") {
      this.snapshot = this.follower.treeSnapshot();
      this.deltas = [];
      return;
    }
    const by = this.members[step.by % this.members.length]!;
    if (step.kind === "update") this.#commit(by, {});
    else if (step.kind === "add") this.#add(by, step.count, step.path);
    else {
      const others = this.members.filter((member) => member !== by);
      if (others.length === 0) return;
      const gone = others[step.who % others.length]!;
      const removed = gone.group.ownLeaf;
      this.members.splice(this.members.indexOf(gone), 1);
      this.#commit(by, { proposals: [{ kind: "remove", removed }] });
    }
  }

  #add(by: Client, count: number, path: boolean): void {
    const joiners = Array.from({ length: count }, () => new Client(`joiner ${this.#named++}`, crypto));
    const bundles = joiners.map((joiner) => joiner.keyPackage());
    const proposals = bundles.map(({ keyPackage }) => ({ kind: "add", keyPackage }) as const);
    const welcome = this.#commit(by, { proposals, path: path ? "always" : "required" });
    const tree = by.group.ratchetTree();
    for (const [i, joiner] of joiners.entries()) joiner.join(welcome!, bundles[i]!, tree);
    this.members.push(...joiners);
  }

  #commit(by: Client, options: Parameters<Client["commit"]>[0]): Uint8Array | undefined {
    const { message, groupInfo, welcome } = by.commit(options);
    for (const member of this.members) if (member !== by) member.receive(message);
    const commit = followed(this.follower, message);
    this.deltas.push(this.follower.treeDelta(commit));
    this.groupInfo = groupInfo;
    return welcome;
  }

  restored(): PublicGroup {
    const { groupInfo, snapshot, deltas } = this;
    return PublicGroup.restore(crypto, { groupInfo, snapshot, deltas });
  }
}

function followed(follower: PublicGroup, message: Uint8Array): FollowedCommit {
  const result = follower.receive(message);
  if (result.kind !== "commit") throw new Error(result.kind);
  follower.merge(result.commit);
  return result.commit;
}

describe("a follower that starts again from a snapshot and what changed since", () => {
  test("is the one that never stopped, byte for byte, and goes on as it would have", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 14 }), fc.nat(), (steps, last) => {
        const story = new Story();
        for (const one of steps) {
          story.take(one);
          const restored = story.restored();
          expect(toHex(restored.ratchetTree())).toBe(toHex(story.follower.ratchetTree()));
          expect(toHex(restored.tree.encodeSnapshot())).toBe(toHex(story.follower.tree.encodeSnapshot()));
          expect(restored.context).toEqual(story.follower.context);
          // From now on the restored one follows, and what it says changed is what is stored.
          story.follower = restored;
        }
        story.take({ kind: "update", by: last });
        expect(story.follower.epoch).toBe(story.members[0]!.group.epoch);
      }),
      { numRuns: process.env["SLOW"] === "1" ? 200 : 25 },
    );
  });

  test("is given for each commit what that changes, however many members there are", () => {
    const founder = new Client("founder", crypto);
    founder.create("a group");
    const request = { groupInfo: founder.group.groupInfo(), ratchetTree: founder.group.ratchetTree() };
    const follower = PublicGroup.follow(crypto, request);
    const commit = (options: Parameters<Client["commit"]>[0] = {}) =>
      follower.treeDelta(followed(follower, founder.commit(options).message));
    const joiners = Array.from({ length: 255 }, (_, i) => new Client(`joiner ${i}`, crypto).keyPackage());
    const added = commit({
      proposals: joiners.map(({ keyPackage }) => ({ kind: "add", keyPackage })),
    });
    expect(added.length).toBeGreaterThan(40_000);
    expect(follower.treeSnapshot().length).toBeGreaterThan(40_000);
    // A leaf and eight parents.
    expect(commit().length).toBeLessThan(1_500);
  });
});

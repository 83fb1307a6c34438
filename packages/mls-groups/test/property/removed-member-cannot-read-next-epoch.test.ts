import { describe, expect, test } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { seededRandom } from "../seeded.ts";
import { seededNumbers } from "../tree-kit.ts";
import { expectLockedOut } from "./oracle/expect-locked-out.ts";
import { type Verdict, Village, type Villager } from "./oracle/village.ts";

const slow = process.env["SLOW"] === "1";
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000_007);
/** Small groups live long, large ones are large from the start: what an attack tries grows with both. */
const WALKS = [
  { members: 5, steps: 14 },
  { members: 12, steps: 11 },
  { members: 20, steps: 9 },
  { members: 40, steps: 6 },
].map(({ members, steps }) => ({ members, steps: slow ? steps * 4 : steps }));

/** One random step. Returns what the attack came to, when somebody was removed. */
function step(village: Village, pick: (below: number) => number, largest: number): Verdict | undefined {
  const { members } = village;
  const any = (...except: readonly Villager[]): Villager => {
    const able = members.filter((member) => !except.includes(member));
    return able[pick(able.length)]!;
  };
  const committer = any();
  const kind = pick(10);
  if (members.length < 3 || (kind < 3 && members.length < largest)) {
    const path = pick(3) === 0 ? "required" : "always";
    return village.commit({ committer, adds: 1 + pick(largest - members.length), path });
  }
  const leaver = any(committer);
  const removed = leaver.client.group.ownLeaf;
  switch (kind) {
    case 3:
      return village.commit({ committer });
    case 4:
      return village.commit({ committer, proposed: [{ by: leaver, proposal: "update" }] });
    case 5:
      return pick(2) === 0 ? village.joinFromOutside() : village.joinFromOutside(leaver);
    case 6:
      return village.commit({ committer, proposed: [{ by: leaver, proposal: { kind: "self_remove" } }] });
    case 7: {
      const by = any(committer, leaver);
      const update = { by: any(committer, leaver, by) ?? by, proposal: "update" } as const;
      const proposed = [{ by, proposal: { kind: "remove", removed } as const }, update];
      return village.commit({ committer, proposed: members.length > 3 ? proposed : proposed.slice(0, 1) });
    }
    case 8: {
      const leavers = members.filter((member) => member !== committer && pick(3) === 0);
      return village.commit({ committer, removes: leavers, adds: pick(3) });
    }
    default:
      return village.commit({ committer, removes: [leaver], path: "required" });
  }
}

/** A group in which everybody has committed once, so that its parent nodes have keys. */
function warmVillage(seedText: string, members: number): Village {
  const crypto = nativeCrypto(1, { random: seededRandom(seedText) });
  const village = new Village(crypto, seededNumbers(members));
  village.commit({ committer: village.members[0]!, adds: members - 1 });
  for (const committer of village.members) village.commit({ committer });
  return village;
}

const remove = ({ client }: Villager) => ({ kind: "remove", removed: client.group.ownLeaf }) as const;

/** A way to remove leaf 2 of a village in which leaf 5 commits. */
const ways: { readonly way: string; readonly removal: (village: Village) => Verdict | undefined }[] = [
  {
    way: "a Remove by value",
    removal: (v) => v.commit({ committer: v.members[5]!, removes: [v.members[2]!], path: "required" }),
  },
  {
    way: "a Remove by value that comes with Adds into the same leaf",
    removal: (v) => v.commit({ committer: v.members[5]!, removes: [v.members[2]!], adds: 2 }),
  },
  {
    way: "Removes of a whole subtree by value",
    removal: (v) => v.commit({ committer: v.members[5]!, removes: v.members.slice(0, 4), path: "required" }),
  },
  {
    way: "a Remove by reference",
    removal: (v) => {
      const proposed = [{ by: v.members[7]!, proposal: remove(v.members[2]!) }];
      return v.commit({ committer: v.members[5]!, proposed, path: "required" });
    },
  },
  {
    way: "a Remove of somebody who proposed an Update",
    removal: (v) => {
      const proposed = [{ by: v.members[2]!, proposal: "update" as const }];
      return v.commit({ committer: v.members[5]!, proposed, removes: [v.members[2]!] });
    },
  },
  {
    way: "a SelfRemove",
    removal: (v) => {
      const proposed = [{ by: v.members[2]!, proposal: { kind: "self_remove" } as const }];
      return v.commit({ committer: v.members[5]!, proposed, path: "required" });
    },
  },
  {
    way: "an external commit of the same person's new device",
    removal: (v) => v.joinFromOutside(v.members[2]!),
  },
];

describe("each way to be removed", () => {
  test.each(ways)("after $way old keys and all public data do not reach the new epoch", ({ removal }) => {
    const verdict = removal(warmVillage("each way", 8))!;
    expect(verdict.stayed).toBeDefined();
    expectLockedOut(verdict);
  });
});

describe(`who was removed cannot read on, seed ${seed} (replay with SEED=${seed})`, () => {
  test.each(WALKS)(
    "a walk of $steps steps, up to $members members: old keys and all public data do not reach the new epoch, nor later ones",
    ({ members, steps }) => {
      const crypto = nativeCrypto(1, { random: seededRandom(`removed member ${seed} ${members}`) });
      const pick = seededNumbers(seed + members);
      const village = new Village(crypto, pick);
      let removals = 0;
      for (let i = 0; i < steps || removals === 0; i++) {
        const verdict = step(village, pick, members);
        if (verdict === undefined) continue;
        if (verdict.stayed !== undefined) removals++;
        expectLockedOut(verdict);
      }
    },
    slow ? 3_600_000 : 120_000,
  );
});

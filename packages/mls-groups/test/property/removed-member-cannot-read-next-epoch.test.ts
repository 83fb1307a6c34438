import { describe, test } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { seededRandom } from "../seeded.ts";
import { seededNumbers } from "../tree-kit.ts";
import { expectLockedOut } from "./oracle/expect-locked-out.ts";
import { type Verdict, Village, type Villager } from "./oracle/village.ts";

const slow = process.env["SLOW"] === "1";
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000_007);
/** Small groups live long, large ones are large from the start: what an attack tries grows with both. */
const WALKS = [
  { members: 5, steps: 20 },
  { members: 12, steps: 14 },
  { members: 20, steps: 10 },
  { members: 40, steps: 7 },
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

describe(`who was removed cannot read on, seed ${seed} (replay with SEED=${seed})`, () => {
  test.each(WALKS)(
    "a walk of $steps steps, up to $members members: old keys and all public data do not reach the new epoch",
    ({ members, steps }) => {
      const crypto = nativeCrypto(1, { random: seededRandom(`removed member ${seed} ${members}`) });
      const pick = seededNumbers(seed + members);
      const village = new Village(crypto, pick);
      let removals = 0;
      for (let i = 0; i < steps || removals === 0; i++) {
        const verdict = step(village, pick, members);
        if (verdict === undefined) continue;
        removals++;
        expectLockedOut(verdict);
      }
    },
    slow ? 3_600_000 : 120_000,
  );
});

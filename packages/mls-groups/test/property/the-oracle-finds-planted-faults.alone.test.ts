import { toHex } from "@murmuration/base";
import { describe, expect, test, vi } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { seededRandom } from "../seeded.ts";
import { seededNumbers } from "../tree-kit.ts";
import { expectLockedOut } from "./oracle/expect-locked-out.ts";
import { leavePathUnblanked, sealToRemovedLeaves } from "./oracle/faults.ts";
import { type Verdict, Village } from "./oracle/village.ts";

const fault = vi.hoisted(() => ({ removeWithoutPath: false }));

vi.mock("../../src/structs/proposal.ts", async (importOriginal) => {
  const real = await importOriginal<typeof import("../../src/structs/proposal.ts")>();
  const requiresPath: typeof real.requiresPath = (proposal) =>
    real.requiresPath(proposal) && !(fault.removeWithoutPath && proposal.kind === "remove");
  return { ...real, requiresPath };
});

/** A Remove without a path: what ts-mls 2.0.0-rc.10 sends (against section 12.4). */
function removeWithoutPath(): () => void {
  fault.removeWithoutPath = true;
  return () => {
    fault.removeWithoutPath = false;
  };
}

/** Eight members whose keys are all fresh; one is removed by another who shares only the root with it. */
function removeOne(plant: () => () => void): Verdict {
  const crypto = nativeCrypto(1, { random: seededRandom("planted faults") });
  const village = new Village(crypto, seededNumbers(1));
  village.commit({ committer: village.members[0]!, adds: 7 });
  for (const committer of village.members) village.commit({ committer });
  const takeOut = plant();
  try {
    const [committer, leaver] = [village.members[5]!, village.members[2]!];
    return village.commit({ committer, removes: [leaver], path: "required" })!;
  } finally {
    takeOut();
  }
}

describe("the removed-member oracle finds planted faults", () => {
  test("without a fault the same removal holds", () => {
    expectLockedOut(removeOne(() => () => {}));
  });

  test.each([
    { name: "a Remove without a path", plant: removeWithoutPath },
    {
      name: "a path secret sealed to the old resolution, the removed leaf included",
      plant: sealToRemovedLeaves,
    },
    { name: "a removed member's path that was not blanked", plant: leavePathUnblanked },
  ])("the oracle finds $name", ({ plant }) => {
    const verdict = removeOne(plant);
    expect(() => expectLockedOut(verdict)).toThrow();
    expect(toHex(verdict.removed.authenticator ?? new Uint8Array(0))).toBe(verdict.authenticator);
    expect(verdict.removed.messages).toBe(1);
  });
});

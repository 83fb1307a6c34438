import { expect, test } from "vitest";
import { World } from "../../src/index.ts";
import { pretendAdmins, writeStep } from "../support/bent-creator.ts";
import { membersOf, on } from "../support/communities.ts";
import { allMoved, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";
import { decisions } from "../support/pairwise-groups.ts";

// The fault that they find: the client of whoever prepares the move ends, and ends again with each start.
test.each(["preparing", "ready"] as const)(
  "a group that gets too many admins while it is %s stays pairwise: its creator is told once, and gives the move up",
  async (state) => {
    await using world = await World.start();
    const all = await movers(world, ["Alice", "Bob", "Carol"]);
    const [alice, bob, carol] = all;
    const { id } = await pairwiseGroup(alice, [bob, carol]);
    if (state === "preparing") await carol.stop();
    await on(alice, id).migrate("start");
    await untilIn([alice], id, () => on(alice, id).migration?.state === state, `it is ${state}`);
    pretendAdmins(alice, 50);
    if (state === "preparing") await on(alice, id).migrate("finish-now");
    await untilIn([alice, bob], id, () => [alice, bob].every(isPairwise), "it is given up");
    if (state === "preparing") await carol.start();
    expect(decisions(alice, "migration/too-many-role-holders")).toBe(1);
    const talk = new Talk(id);
    for (const device of all) await talk.say(device, "as ever");
    await talk.heardBy(all);
    expect(all.map((device) => on(device, id).protocol)).toEqual(["pairwise", "pairwise", "pairwise"]);

    function isPairwise(device: (typeof all)[number]): boolean {
      return on(device, id).migration?.state === "pairwise";
    }
  },
  120_000,
);

test("a group that its owner has left over MLS recovers all the same: an admin is its owner then", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await on(alice, id).setRole(bob.id, "admin");
  await on(alice, id).migrate("start");
  await allMoved([alice, bob, carol], id);
  // The record has stood still, and knows of neither.
  await on(alice, id).setRole(bob.id, "owner");
  await on(alice, id).leave();
  const rest = [bob, carol];
  await untilIn(rest, id, () => rest.every((device) => on(device, id).memberCount === 2), "Alice has left");
  await writeStep(bob, id, ({ migration }) => ({
    kind: "migrate-recover",
    generation: migration.generation + 1,
  }));
  await untilIn(rest, id, () => rest.every((device) => on(device, id).migration?.generation === 2), "anew");
  await requireMoved(rest, id, "on we go");
  const members = [`${bob.id}/owner`, `${carol.id}/member`].sort();
  for (const device of rest) expect(membersOf(device, id)).toEqual(members);
}, 120_000);

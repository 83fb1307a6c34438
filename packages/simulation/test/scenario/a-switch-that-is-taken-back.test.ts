import { formatId, type GroupId, parseGroupId } from "@murmuration/base";
import { expect, test } from "vitest";
import { migrationGroupId } from "../../../client-core/src/core/migration/keys.ts";
import type { Reached } from "../../../client-core/src/store/migration.ts";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import {
  generationOf,
  insidesOf,
  refuseNewest,
  untilGeneration,
  vouchFor,
  writeStep,
} from "../support/bent-creator.ts";
import { membersOf, on, PATIENCE_MS } from "../support/communities.ts";
import { allMoved, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";
import { decisions } from "../support/pairwise-groups.ts";
import { askedOfForks } from "../support/refusals.ts";
import { storedLog } from "../support/service-rows.ts";

/** A group whose admin Mallory has two more accounts in it. */
async function birds() {
  const world = await World.start();
  const all = await movers(world, ["Alice", "Bob", "Mallory", "Mia", "Milo"]);
  const [alice, bob, mallory, ...accomplices] = all;
  const { id } = await pairwiseGroup(alice, all.slice(1));
  await on(alice, id).setRole(mallory.id, "admin");
  await untilIn(
    all,
    id,
    () => all.every((device) => membersOf(device, id).join().includes("admin")),
    "an admin",
  );
  return { world, all, alice, bob, mallory, accomplices, id };
}

const reachedBy = (device: SimulatedDevice, id: string): Reached | undefined =>
  insidesOf(device).context.migration.own(parseGroupId(id)).reached;

const epochOf = (device: SimulatedDevice, id: string): number =>
  Number(insidesOf(device).communities.registry.load(parseGroupId(id) as GroupId).group.epoch);

/** Two accounts say of the newest commit that they cannot follow it, before anybody has vouched for it. */
async function takeBack(world: World, id: string, accomplices: readonly SimulatedDevice[]): Promise<void> {
  const log = () => storedLog(world, formatId(migrationGroupId(parseGroupId(id) as GroupId, 1)));
  const { sequence } = log().findLast(({ kind }) => kind === "commit")!;
  for (const device of accomplices) refuseNewest(device, id, sequence);
  await until(() => log().some(({ voids }) => voids === sequence), PATIENCE_MS, "the commit is void");
}

test("a creator that has its own switching commit taken back, and then names it, brings nobody into the group before it", async () => {
  const { world, all, alice, bob, mallory, accomplices, id } = await birds();
  await using _ = world;
  const { migrations } = insidesOf(mallory);
  Object.assign(migrations.preparer, { writeSwitch: async () => {} });
  const honest = [alice, bob];
  const talk = new Talk(id);
  await talk.say(bob, "before");
  for (const device of all) vouchFor(device, false);
  await on(mallory, id).migrate("start");
  await untilIn(
    all,
    id,
    () => all.every((device) => reachedBy(device, id) !== undefined),
    "the commit is here",
  );
  const { epoch, authenticator, rosterHash } = reachedBy(mallory, id)!;
  Object.assign(migrations, { attempt: async () => false });
  await takeBack(world, id, accomplices);
  await until(() => all.every((device) => epochOf(device, id) === epoch - 1), PATIENCE_MS, "they are back");

  await writeStep(mallory, id, ({ migration: { generation } }) => ({
    kind: "migrate-switch",
    generation,
    epoch,
    authenticator,
    rosterHash,
  }));
  const isTold = (device: SimulatedDevice) => on(device, id).migration?.state === "switching";
  await untilIn(honest, id, () => honest.every(isTold), "the record names the commit");
  await talk.say(bob, "while nobody could hear it");
  expect(honest.map((device) => on(device, id).protocol)).toEqual(["pairwise", "pairwise"]);

  // A minute is over, and a person begins anew.
  insidesOf(alice).migrations.lookAtMs.set(`behind ${id}`, 0);
  await until(() => decisions(alice, "migration/switch-not-found") === 1, PATIENCE_MS, "a person is told");
  for (const device of all) vouchFor(device, true);
  await on(alice, id).migrate("start");
  await requireMoved(honest, id, "all are in", 80_000);
  await talk.heardBy(honest);
}, 180_000);

// The fault that it finds: it keeps its lease for an hour, in which the service takes no commit from it.
test("a creator whose switching commit is taken back begins the next generation, where it may commit again", async () => {
  const { world, all, alice, bob, accomplices, id } = await birds();
  await using _ = world;
  const { preparer } = insidesOf(alice).migrations;
  Object.assign(preparer, { writeSwitch: async () => {} });
  for (const device of all) vouchFor(device, false);
  await on(alice, id).migrate("start");
  await untilIn(
    all,
    id,
    () => all.every((device) => reachedBy(device, id) !== undefined),
    "the commit is here",
  );
  await takeBack(world, id, accomplices);
  for (const device of all) vouchFor(device, true);
  Reflect.deleteProperty(preparer, "writeSwitch");
  await requireMoved(all, id, "all are in");
  expect(on(bob, id).migration).toMatchObject({ generation: 2, creator: alice.id });
}, 120_000);

test("whoever has gone over by a commit that is taken back stays there, and an owner or admin begins anew by itself", async () => {
  const { world, all, alice, bob, accomplices, id } = await birds();
  await using _ = world;
  const talk = new Talk(id);
  for (const device of all) vouchFor(device, false);
  await on(alice, id).migrate("start");
  await allMoved(all, id);
  await talk.say(bob, "over MLS");
  await takeBack(world, id, accomplices);
  await untilGeneration(2, id, ...all);
  for (const device of all) vouchFor(device, true);

  await talk.say(bob, "while the group begins anew");
  await requireMoved(all, id, "all are in");
  await talk.heardBy(all);
  expect(generationOf(bob, id)).toBe(2);
  expect(askedOfForks(bob)).toBe(1);
}, 120_000);

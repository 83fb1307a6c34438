import { randomBytes } from "node:crypto";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseAccountId, parseGroupId, toHex } from "@murmuration/base";
import { migrationStates } from "@murmuration/wire";
import { expect, test } from "vitest";
import { deriveAccessPublicKey, sealRecord } from "../../../client-core/src/core/group-keys.ts";
import { encodeRecord } from "../../../client-core/src/core/group-record.ts";
import type { Context } from "../../../client-core/src/shell/context.ts";
import { ServiceApi } from "../../../client-core/src/shell/service-api.ts";
import { query } from "../../../delivery-service/test/support/database.ts";
import { type SimulatedDevice, testLimits, until, World } from "../../src/index.ts";
import { countOf, membersOf, on, PATIENCE_MS } from "../support/communities.ts";
import { allMoved, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

// The fault that these find: members remember a newer record than a restored service has, refuse the older one for ever, and
// the group can neither be changed nor spoken in.

/** The record as it lies at the service: its revision and where its migration stands. */
function recordAt(
  world: World,
  group: string,
): { readonly revision: number; readonly migration: number } | undefined {
  const [row] = query(
    join(world.serviceDirectory, "delivery-service.sqlite"),
    `SELECT revision, migration_state AS migration FROM group_records WHERE group_id = x'${toHex(parseGroupId(group))}'`,
  );
  return row as { revision: number; migration: number } | undefined;
}

const random = (length: number) => new Uint8Array(randomBytes(length));

/** What a device has inside: whoever is removed keeps it. */
const insideOf = ({ client }: SimulatedDevice): Context =>
  (client as unknown as { context: Context }).context;

/** Keeps a copy of the service as it is now. Returns how to set it back to that. */
async function copyOf(world: World): Promise<() => Promise<void>> {
  const copy = `${world.directory}/service-copy`;
  await world.stopService();
  cpSync(world.serviceDirectory, copy, { recursive: true });
  await world.startService();
  return async () => {
    await world.stopService();
    rmSync(world.serviceDirectory, { recursive: true });
    cpSync(copy, world.serviceDirectory, { recursive: true });
    await world.startService();
  };
}

async function settled(devices: readonly SimulatedDevice[]): Promise<void> {
  for (const device of devices) {
    await device.client.connection.caughtUp();
    await device.client.outbox.settled();
  }
}

/** What the service has after this, devices can tell that it has lost. */
async function marked(devices: readonly SimulatedDevice[]): Promise<void> {
  await settled(devices);
  // A mark of how far the store was is good for two seconds, and comes with the answer to the next sign of life.
  await delay(3_000);
}

/** A group that has changed in every way since the service was copied; `again` checks that nothing of it is lost. */
async function changedSinceTheCopy(world: World) {
  const [alice, bob, carol, dave] = await movers(world, ["Alice", "Bob", "Carol", "Dave"]);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const carolId = carol.id;
  const setBack = await copyOf(world);
  const copied = recordAt(world, id)!.revision;

  await on(alice, id).setTitle("Cranes");
  await on(alice, id).add([dave.id]);
  await on(alice, id).remove(carolId);
  await on(alice, id).setRole(bob.id, "admin");
  const after = [alice, bob, dave];
  await until(
    () => after.every((device) => on(device, id)?.title === "Cranes" && membersOf(device, id).length === 3),
    PATIENCE_MS,
  ).catch((error: Error) => {
    const seen = after.map(
      (device) =>
        `${on(device, id)?.title} ${on(device, id)?.state} ${JSON.stringify(membersOf(device, id))}`,
    );
    throw new Error(`${error.message}: ${seen.join("\n")}`);
  });
  await until(
    () =>
      on(bob, id)
        .members()
        .find(({ accountId }) => accountId === bob.id)?.role === "admin",
  );
  await until(() => on(carol, id).state === "removed");
  await marked(after);
  const { revision } = recordAt(world, id)!;

  const again = async () => {
    await until(
      () => (recordAt(world, id)?.revision ?? 0) >= revision,
      PATIENCE_MS,
      "the record is as it was",
    );
    const talk = new Talk(id);
    for (const device of after) await talk.say(device, "after the restore");
    await talk.heardBy(after);
    await on(bob, id).setTitle("Herons");
    await until(() => after.every((device) => on(device, id).title === "Herons"), PATIENCE_MS);
    for (const device of after) expect(membersOf(device, id)).toHaveLength(3);
    for (const text of talk.all) expect(countOf(carol, id, text), "nobody removed comes back").toBe(0);
    expect(on(carol, id).state).toBe("removed");
  };
  return { id, after, setBack, copied, revision, again };
}

test("what happened to a group since the copy is in its record again: who came, who was removed, its name and its roles", async () => {
  await using world = await World.start();
  const { setBack, again } = await changedSinceTheCopy(world);
  await setBack();
  await again();
}, 120_000);

test("a service that is set back once more, and again, while members look at its records and write them forward, gets them all the same", async () => {
  await using world = await World.start();
  const { id, after, setBack, copied, revision, again } = await changedSinceTheCopy(world);
  const isConnected = () => after.some(({ client }) => client.connection.state === "connected");
  const reached = (wanted: number) => () => (recordAt(world, id)?.revision ?? 0) >= wanted;
  await setBack();
  // When somebody is back and looks; when somebody has begun to write; and when the last change has just been written.
  for (const moment of [isConnected, reached(copied + 1), reached(revision)]) {
    await until(moment, PATIENCE_MS, "the moment to set the service back once more");
    await setBack();
  }
  await again();
}, 180_000);

test("a plain member writes it forward where the one who made the changes is away, also behind a removal", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const setBack = await copyOf(world);
  await on(alice, id).remove(carol.id);
  await on(alice, id).setTitle("Cranes");
  await until(() => on(bob, id).title === "Cranes" && membersOf(bob, id).length === 2, PATIENCE_MS);
  await marked([alice, bob]);
  const { revision } = recordAt(world, id)!;
  await alice.stop();

  await setBack();
  await until(() => recordAt(world, id)?.revision === revision, PATIENCE_MS, "the record is as it was");
  await alice.start();
  const talk = new Talk(id);
  for (const device of [alice, bob]) await talk.say(device, "after the restore");
  await talk.heardBy([alice, bob]);
}, 120_000);

// Under the key that it had, a removed member can write to the copy whatever it likes before anybody else comes.
test.each([
  ["a record with something else in it", (changes: readonly Uint8Array[]) => [...changes, random(200)]],
  ["what is no record at all", () => [random(3)]],
  [
    "nothing but its own removal",
    (changes: readonly Uint8Array[], removal: Uint8Array) => [...changes, removal],
  ],
])(
  "what somebody who was removed writes to the copy is written over, and it is out again: %s",
  async (_, forge) => {
    await using world = await World.start();
    const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
    const { id } = await pairwiseGroup(alice, [bob, carol]);
    const setBack = await copyOf(world);
    const { conversations } = insideOf(carol);
    const { groupKey, revision } = conversations.group(parseGroupId(id))!;
    await on(alice, id).remove(carol.id);
    await on(alice, id).setTitle("Cranes");
    await on(alice, id).setTitle("Herons");
    await until(() => on(bob, id).title === "Herons" && membersOf(bob, id).length === 2, PATIENCE_MS);
    await until(() => on(carol, id).state === "removed", PATIENCE_MS);
    await marked([alice, bob]);
    const before = recordAt(world, id)!.revision;
    const removal = insideOf(alice).conversations.changes(parseGroupId(id))[revision]!;
    for (const device of [alice, bob]) await device.stop();

    await setBack();
    const { api } = insideOf(carol);
    const group = parseGroupId(id);
    const known = conversations.changes(group).slice(0, revision);
    const record = encodeRecord(forge(known, removal) as Uint8Array<ArrayBuffer>[]);
    const blob = sealRecord(group, groupKey, revision + 1, record, random(12));
    await api.writeGroup(group, groupKey, ServiceApi.encodeGroupWrite({ expectedRevision: revision, blob }));

    for (const device of [bob, alice]) await device.start();
    await until(() => recordAt(world, id)?.revision === before, PATIENCE_MS, "the record is as it was");
    await on(alice, id).setTitle("Swifts");
    await until(() => on(bob, id).title === "Swifts", PATIENCE_MS);
    await expect(api.readGroup(group, groupKey)).rejects.toThrow("group/access-denied");
    const talk = new Talk(id);
    for (const device of [alice, bob]) await talk.say(device, "after the restore");
    await talk.heardBy([alice, bob]);
  },
);

// As an admin she had announced a key for a revision that never came, and members keep it.
test("a key that somebody had only announced before it was removed opens nothing that is written forward", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const group = parseGroupId(id);
  const setBack = await copyOf(world);
  const { conversations } = insideOf(carol);
  const { groupKey, revision } = conversations.group(group)!;
  const announced = {
    groupKey: random(32),
    fence: random(16),
    revision: 2 ** 40,
    author: parseAccountId(carol.id),
  };
  await on(alice, id).remove(carol.id);
  await on(alice, id).setTitle("Cranes");
  await on(alice, id).setTitle("Herons");
  await until(() => on(bob, id).title === "Herons" && membersOf(bob, id).length === 2, PATIENCE_MS);
  await marked([alice, bob]);
  const before = recordAt(world, id)!.revision;
  const changes = insideOf(alice)
    .conversations.changes(group)
    .slice(0, revision + 1);
  for (const device of [alice, bob]) {
    const inside = insideOf(device);
    inside.transaction(() => inside.conversations.addPendingKey(group, announced));
    await device.stop();
  }

  await setBack();
  const { api } = insideOf(carol);
  const body = ServiceApi.encodeGroupWrite({
    expectedRevision: revision,
    blob: sealRecord(group, announced.groupKey, revision + 1, encodeRecord(changes), random(12)),
    generation: {
      accessPublicKey: deriveAccessPublicKey(group, announced.groupKey),
      fence: announced.fence,
    },
  });
  await api.writeGroup(group, groupKey, body);
  await api.readGroup(group, announced.groupKey);

  for (const device of [bob, alice]) await device.start();
  await until(() => recordAt(world, id)?.revision === before, PATIENCE_MS, "the record is as it was");
  for (const key of [groupKey, announced.groupKey])
    await expect(api.readGroup(group, key)).rejects.toThrow("group/access-denied");
  await on(alice, id).setTitle("Swifts");
  await until(() => on(bob, id).title === "Swifts", PATIENCE_MS);
});

test("a group that was made since the copy is made once more", async () => {
  await using world = await World.start();
  const [alice, bob] = await movers(world, ["Alice", "Bob"]);
  const setBack = await copyOf(world);
  const { id } = await pairwiseGroup(alice, [bob]);
  await on(alice, id).setTitle("Cranes");
  await until(() => on(bob, id).title === "Cranes", PATIENCE_MS);
  await marked([alice, bob]);
  await setBack();
  await until(() => recordAt(world, id)?.revision === 2 || recordAt(world, id)?.revision === 3, PATIENCE_MS);
  await on(alice, id).setTitle("Herons");
  await until(() => on(bob, id).title === "Herons", PATIENCE_MS);
}, 120_000);

test.each(["before it began", "while it is prepared"] as const)(
  "a group whose service goes back, in mid-move, to %s moves all the same",
  async (point) => {
    await using world = await World.start();
    const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
    const everybody = [alice, bob, carol];
    const { id } = await pairwiseGroup(alice, [bob, carol]);
    const talk = new Talk(id);
    for (const device of everybody) await talk.say(device, "before");
    await talk.heardBy(everybody);
    // Somebody who does not come keeps the move from going on.
    await carol.stop();
    const begin = async () => {
      await on(alice, id).migrate("start");
      await untilIn([alice], id, () => on(alice, id).migration?.readyAccounts === 2, "all but one are ready");
    };
    if (point === "while it is prepared") await begin();
    await settled([alice, bob]);
    const setBack = await copyOf(world);
    await settled([alice, bob]);
    if (point === "before it began") await begin();
    for (const device of [alice, bob]) await talk.say(device, "meanwhile");
    await marked([alice, bob]);

    await setBack();
    await carol.start();
    await allMoved(everybody, id, 60_000);
    await talk.heardBy(everybody);
    await requireMoved(everybody, id, "everybody is in");
    await untilIn([alice], id, () => on(alice, id).migration?.state === "mls", "the record is done");
  },
  180_000,
);

test("a service that goes back behind the switch of a group is told of it, and who was away through all of it follows", async () => {
  await using world = await World.start();
  // Her Welcome is lost with the mailbox: after a while she comes in from outside.
  const settings = { migrationPatienceMs: 1_000 };
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"], { settings });
  const everybody = [alice, bob, carol];
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const talk = new Talk(id);
  for (const device of everybody) await talk.say(device, "before");
  await talk.heardBy(everybody);
  await settled(everybody);
  await carol.stop();
  const setBack = await copyOf(world);
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => on(alice, id).migration?.readyAccounts === 2, "all but one are ready");
  await on(alice, id).migrate("finish-now");
  await allMoved([alice, bob], id);
  for (const device of [alice, bob]) await talk.say(device, "over MLS");
  await talk.heardBy([alice, bob]);
  await untilIn([alice], id, () => on(alice, id).migration?.state === "mls", "the record is done");
  await marked([alice, bob]);
  const { revision } = recordAt(world, id)!;

  await setBack();
  await until(() => (recordAt(world, id)?.revision ?? 0) >= revision, PATIENCE_MS, "the record is as it was");
  await carol.start();
  await requireMoved(everybody, id, "everybody is in", 60_000);
  await talk.heardBy([alice, bob]);
}, 180_000);

// The copy has the lease of a device that never comes back, and so the token that was needed for what followed.
test.each(["at once", "when it runs out"] as const)(
  "others bring what the device said that moved the group and is gone for good: its lease is over %s",
  async (end) => {
    const leaseMs = end === "at once" ? 1_000 : 15_000;
    await using world = await World.start({
      service: { limits: { ...testLimits, migrationLeaseMs: leaseMs } },
    });
    const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
    const everybody = [alice, bob, carol];
    const { id } = await pairwiseGroup(alice, [bob, carol]);
    const talk = new Talk(id);
    for (const device of everybody) await talk.say(device, "before");
    await talk.heardBy(everybody);
    await carol.stop();
    await on(alice, id).migrate("start");
    await untilIn([alice], id, () => on(alice, id).migration?.readyAccounts === 2, "all but one are ready");
    await settled([alice, bob]);
    const setBack = await copyOf(world);
    expect(recordAt(world, id)?.migration).toBe(migrationStates.preparing);
    await carol.start();
    await allMoved(everybody, id);
    for (const device of everybody) await talk.say(device, "over MLS");
    await talk.heardBy(everybody);
    await untilIn([alice], id, () => on(alice, id).migration?.state === "mls", "the record is done");
    await marked(everybody);
    const { revision } = recordAt(world, id)!;
    await alice.stop();

    await setBack();
    await until(() => (recordAt(world, id)?.revision ?? 0) >= revision, 60_000, "the record is as it was");
    expect(recordAt(world, id)?.migration).toBe(migrationStates.mls);
    for (const device of [bob, carol]) await talk.say(device, "after the restore");
    await talk.heardBy([bob, carol]);
    await alice.start();
    await talk.heardBy(everybody);
  },
  180_000,
);

import { setTimeout as delay } from "node:timers/promises";
import { parseAccountId, parseGroupId } from "@murmuration/base";
import { expect, test } from "vitest";
import type { Context } from "../../../client-core/src/shell/context.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { membersOf, on, PATIENCE_MS } from "../support/communities.ts";
import { allMoved, movers, pairwiseGroup, Talk, untilIn } from "../support/moves.ts";

/** The only group of a device: whoever came after the move knows it by another id than those who were there before. */
const groupOn = (device: SimulatedDevice) =>
  device.client.conversations.list().find(({ kind }) => kind === "group");

/** All of them are in one group, with these members alone, and hear each other. */
async function requireTogether(devices: readonly SimulatedDevice[]): Promise<void> {
  const size = devices.length;
  await until(
    () => devices.every((device) => groupOn(device)?.memberCount === size),
    PATIENCE_MS,
    `${size} members: ${devices.map((device) => groupOn(device)?.memberCount).join()}`,
  );
  const texts = devices.map((device) => `together, ${device.path}`);
  await Promise.all(devices.map((device, index) => groupOn(device)!.send({ text: texts[index]! })));
  await until(
    () =>
      devices.every((device) => {
        const shown = textsOf(device.client, groupOn(device)!.id);
        return texts.every((text) => shown.filter((one) => one === text).length === 1);
      }),
    PATIENCE_MS,
    "everybody hears everybody",
  );
}

/** A pairwise group holds five. */
const settings = { mlsThreshold: 6, migrationMargin: 0, migrationUrgentDeadlineMs: 2_000 };

// The faults that these find: members that were promised and never added, added twice, or lost with the process that was
// asked to add them; and a group that goes back to what it was when somebody leaves.
test("more members than a pairwise group holds: it moves, and they are added then", async () => {
  await using world = await World.start();
  const devices = await movers(world, ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace"], {
    settings,
  });
  const [alice, bob, carol, dave, ...late] = devices;
  const { id } = await pairwiseGroup(alice, [bob, carol, dave]);
  const talk = new Talk(id);
  await talk.say(bob, "before");
  expect(await on(alice, id).add(late.map((device) => device.id))).toEqual([]);
  expect(on(alice, id).migration).toMatchObject({ generation: 1, waitingMembers: 3 });
  await talk.say(carol, "meanwhile");
  await requireTogether(devices);
  await talk.heardBy([alice, bob, carol, dave]);
  expect(on(alice, id).migration).toMatchObject({ state: "mls", waitingMembers: 0 });
}, 120_000);

test("who asked for more members is killed at once, again and again: they are added", async () => {
  await using world = await World.start();
  const devices = await movers(world, ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace"], {
    settings,
  });
  const [alice, bob, carol, dave, ...late] = devices;
  const { id } = await pairwiseGroup(alice, [bob, carol, dave]);
  await on(alice, id).add(late.map((device) => device.id));
  for (let kill = 0; kill < 6; kill++) {
    await alice.stop();
    await alice.start();
    await delay(150 * kill);
  }
  await requireTogether(devices);
}, 120_000);

test("who asked for more members is killed when they are written down and nothing else: they are added when it is back", async () => {
  await using world = await World.start();
  const devices = await movers(world, ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank"], { settings });
  const [alice, bob, carol, ...late] = devices;
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  // What is there between the two transactions of its request.
  const { context } = alice.client as unknown as { context: Context };
  context.transaction(() =>
    context.migration.addWaiting(
      parseGroupId(id),
      late.map((device) => parseAccountId(device.id)),
    ),
  );
  await alice.stop();
  await alice.start();
  await requireTogether(devices);
}, 120_000);

test("an admin who does not prepare the move asks for more members: it adds them when the group has moved", async () => {
  await using world = await World.start();
  const devices = await movers(world, ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank"], { settings });
  const [alice, bob, carol, dave, ...late] = devices;
  const { id } = await pairwiseGroup(alice, [bob, carol, dave]);
  await on(alice, id).setRole(bob.id, "admin");
  await untilIn([bob], id, () => membersOf(bob, id).join().includes("admin"), "Bob is an admin");
  await carol.stop();
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => on(alice, id).migration?.readyAccounts === 3, "one is missing");
  await on(bob, id).add(late.map((device) => device.id));
  expect(on(bob, id).migration).toMatchObject({ isCreator: false, waitingMembers: 2 });
  await bob.stop();
  await on(alice, id).migrate("finish-now");
  await allMoved([alice], id);
  await bob.start();
  await carol.start();
  await requireTogether(devices);
}, 120_000);

test("members that are asked for while the group switches are added", async () => {
  await using world = await World.start();
  const devices = await movers(world, ["Alice", "Bob", "Carol", "Dave", "Erin"], { settings });
  const [alice, bob, carol, ...late] = devices;
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await on(alice, id).migrate("start");
  // Whatever state the move is in: one call as it begins, one in the middle of it.
  await on(alice, id).add([late[0]!.id]);
  await untilIn([alice], id, () => on(alice, id).migration?.state !== "preparing", "ready, or switching");
  await on(alice, id).add([late[1]!.id]);
  await requireTogether(devices);
}, 120_000);

test("a group near the threshold moves by itself, and around the threshold it does not go back", async () => {
  await using world = await World.start();
  const near = { ...settings, migrationMargin: 2 };
  const devices = await movers(world, ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace"], {
    settings: near,
  });
  const [alice, bob, carol, dave, erin, frank, grace] = devices;
  await introduce(...devices);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await delay(500);
  expect(on(alice, id).migration).toBeUndefined();
  await on(alice, id).add([dave.id]);
  await untilIn([alice], id, () => on(alice, id).migration?.generation === 1, "it begins by itself");
  await allMoved([alice, bob, carol, dave], id);
  for (const [member, size] of [
    [erin, 5],
    [frank, 6],
    [grace, 7],
  ] as const) {
    await on(alice, id).add([member.id]);
    await until(() => groupOn(member)?.memberCount === size, PATIENCE_MS, `${size} members`);
  }
  for (const member of [grace, frank, erin, dave]) await on(alice, id).remove(member.id);
  await untilIn([alice, bob], id, () => membersOf(bob, id).length === 3, "three members", PATIENCE_MS);
  for (const device of [alice, bob, carol]) expect(on(device, id).protocol).toBe("mls");
  await on(alice, id).add([frank.id]);
  await requireTogether([alice, bob, carol, frank]);
  expect(on(alice, id).migration).toMatchObject({ state: "mls", generation: 1 });
}, 180_000);

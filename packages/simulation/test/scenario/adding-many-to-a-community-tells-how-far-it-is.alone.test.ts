import { accountId, formatId } from "@murmuration/base";
import { type ClientEvent, systemEnvironment } from "@murmuration/client-core";
import { limits } from "@murmuration/wire";
import { expect, test } from "vitest";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { agree, commitsIn, flock, membersOf, on, PATIENCE_MS, small } from "../support/communities.ts";

/** So that a few newcomers are several batches. */
(limits as { addsPerCommit: number }).addsPerCommit = 2;

type Progress = Extract<ClientEvent, { kind: "progress" }>;

/** What an application is told from here on of how far adding and removing is. */
function progressOf(device: SimulatedDevice): readonly Progress[] {
  const told: Progress[] = [];
  device.client.events.on((event) => {
    if (event.kind === "progress") told.push(event);
  });
  return told;
}

const steps = (told: readonly Progress[]) =>
  told.map(({ action, done, total }) => `${action} ${done} of ${total}`);

/** Alice's community with Bob, and newcomers whom nobody has added. */
async function scene(world: World, ...names: readonly string[]) {
  const [alice, bob] = await flock(world, "Alice", "Bob");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id],
    protocol: "mls",
  });
  await until(() => on(bob, id)?.title === "Flock", PATIENCE_MS);
  const newcomers: SimulatedDevice[] = [];
  for (const name of names) newcomers.push(await world.join(name, { settings: small }));
  return { alice, bob, id, newcomers, ids: newcomers.map((device) => device.id) };
}

test("whoever adds many is told after each commit how many of all are in, up to all of them, and nobody else is", async () => {
  await using world = await World.start();
  const { alice, bob, id, newcomers, ids } = await scene(world, "Carol", "Dave", "Eve", "Frank", "Grace");
  const [alices, bobs] = [progressOf(alice), progressOf(bob)];
  const before = commitsIn(world, id);

  expect(await on(alice, id).add(ids)).toEqual([]);
  expect(steps(alices)).toEqual(["add 2 of 5", "add 4 of 5", "add 5 of 5"]);
  expect(commitsIn(world, id) - before).toBe(3);
  // It passes by: an application that was not there asks the group who is in it.
  for (const event of alices) expect(event).toMatchObject({ eventId: 0, conversationId: id });
  expect(alice.client.events.read(0, 1_000).map(({ kind }) => kind)).not.toContain("progress");

  await agree([alice, bob, ...newcomers], id);
  expect(bobs).toEqual([]);
});

test("whoever cannot be added holds up no progress: it rises to all who were named, and they are named at the end", async () => {
  await using world = await World.start();
  const { alice, bob, id, newcomers, ids } = await scene(world, "Carol", "Dave", "Eve");
  const nobody = formatId(accountId(systemEnvironment.random(16)));
  const told = progressOf(alice);

  expect(await on(alice, id).add([ids[0]!, nobody, ids[1]!, ids[2]!])).toEqual([
    { accountId: nobody, code: "accounts/unknown" },
  ]);
  expect(steps(told)).toEqual(["add 2 of 4", "add 4 of 4"]);
  await agree([alice, bob, ...newcomers], id);
  expect(membersOf(bob, id)).toHaveLength(5);
});

test("whoever removes somebody is told when it is done", async () => {
  await using world = await World.start();
  const { alice, bob, id } = await scene(world);
  const told = progressOf(alice);
  await on(alice, id).remove(bob.id);
  expect(steps(told)).toEqual(["remove 1 of 1"]);
  expect(membersOf(alice, id)).toHaveLength(1);
});

import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import {
  agree,
  countOf,
  flock,
  hearEachOther,
  logOf,
  on,
  PATIENCE_MS,
  requireNoneTwice,
} from "../support/communities.ts";

/**
 * A flock whose member Bob is put back to an old copy of its database, after it has said a few things since. `since`: what
 * else happens in between. Bob is running and knows nothing of it when this returns.
 */
async function restored(world: World, since: (flock: Awaited<ReturnType<typeof scene>>) => Promise<void>) {
  const before = await scene(world);
  const { alice, bob, carol, id } = before;
  await on(bob, id).send({ text: "before the copy" });
  await until(
    () => [alice, carol].every((device) => countOf(device, id, "before the copy") === 1),
    PATIENCE_MS,
  );
  await bob.client.outbox.settled();
  await bob.stop();
  const restore = bob.saveCopy();
  await bob.start();
  await bob.client.connection.caughtUp();
  await since(before);
  for (const n of [1, 2, 3]) await on(bob, id).send({ text: `since the copy ${n}` });
  await bob.client.outbox.settled();
  await until(
    () => [alice, carol].every((device) => countOf(device, id, "since the copy 3") === 1),
    PATIENCE_MS,
  );
  await bob.stop();
  restore();
  await bob.start();
  return before;
}

async function scene(world: World) {
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  return { alice, bob, carol, id, everybody: [alice, bob, carol] as readonly SimulatedDevice[] };
}

const commits = (world: World, id: string) => logOf(world, id).filter(({ kind }) => kind === "commit").length;

// The fault that these find: ratchet keys used a second time. Whoever has read the first message under a key has deleted
// it, and never reads the second one.
test("a device that finds later messages of its own in the log enters anew before it says anything; all of it is read", async () => {
  await using world = await World.start();
  const { alice, bob, carol, id, everybody } = await restored(world, async () => undefined);
  const said = ["after the restore 1", "after the restore 2", "after the restore 3", "after the restore 4"];
  for (const text of said) await on(bob, id).send({ text });
  await until(
    () => [alice, carol].every((device) => said.every((text) => countOf(device, id, text) === 1)),
    PATIENCE_MS,
    "everything that it says is read",
  );
  await bob.client.connection.caughtUp();
  await agree(everybody, id);
  await hearEachOther(everybody, id, "in the end");
  for (const device of everybody) requireNoneTwice(device, id);
  expect(textsOf(alice.client, id)).toEqual(
    expect.arrayContaining(["since the copy 1", "since the copy 3", ...said]),
  );
});

test("a device that finds later commits of its own in the log enters anew, and refuses none of them", async () => {
  await using world = await World.start();
  const { alice, bob, carol, id, everybody } = await restored(world, async (flock) => {
    await flock.alice.client.conversations.get(flock.id)!.setRole(flock.bob.id, "admin");
    await until(
      () =>
        on(flock.bob, flock.id)
          .members()
          .some(({ role }) => role === "admin"),
      PATIENCE_MS,
    );
    await on(flock.bob, flock.id).setExpiry(3600);
    await on(flock.bob, flock.id).setTitle("Murmuration");
  });
  await on(bob, id).send({ text: "after the restore" });
  await until(
    () => [alice, carol].every((device) => countOf(device, id, "after the restore") === 1),
    PATIENCE_MS,
  );
  await bob.client.connection.caughtUp();
  await agree(everybody, id);
  await hearEachOther(everybody, id, "in the end");
  expect(on(bob, id).expireAfterSeconds).toBe(3600);
  expect(on(bob, id).title).toBe("Murmuration");
  expect(logOf(world, id).filter(({ kind }) => kind === "void")).toEqual([]);
});

test("a device that the mailbox has shown to be restored enters anew, and its KeyPackages are new", async () => {
  await using world = await World.start();
  let added = "";
  const { alice, bob, id, everybody } = await restored(world, async (flock) => {
    // A KeyPackage of the copy is used up: a Welcome for it can be opened once more only if its keys were replaced.
    const group = await flock.alice.client.conversations.createGroup({
      title: "Second",
      members: [flock.bob.id, flock.carol.id],
    });
    added = group.id;
    await until(() => on(flock.bob, added)?.title === "Second", PATIENCE_MS);
    await flock.alice.client.conversations.direct(flock.bob.id).send({ text: "something for the mailbox" });
    await until(() => textsOf(flock.bob.client, flock.alice.id).length === 1, PATIENCE_MS);
  });
  await alice.client.conversations.direct(bob.id).send({ text: "something that shows it" });
  await on(bob, id).send({ text: "after the restore" });
  await until(() => everybody.every((device) => countOf(device, id, "after the restore") === 1), PATIENCE_MS);
  await bob.client.connection.caughtUp();
  await agree(everybody, id);
  await hearEachOther(everybody, id, "in the end");
  // Groups that are made now reach it, one for each of its KeyPackages and one more.
  for (let n = 0; n < 5; n++) {
    const title = `Third ${n}`;
    const group = await alice.client.conversations.createGroup({ title, members: [bob.id], protocol: "mls" });
    await until(() => on(bob, group.id)?.title === title, PATIENCE_MS, title);
  }
  expect(commits(world, id)).toBe(2);
});

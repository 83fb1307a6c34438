import { expect, test } from "vitest";
import { CrashPlan, type SimulatedDevice, until, World } from "../../src/index.ts";
import {
  agree,
  commitsIn,
  flock,
  hearEachOther,
  membersOf,
  nothingLeft,
  on,
  PATIENCE_MS,
  Peephole,
} from "../support/communities.ts";
import { swallow } from "../support/crashes.ts";

/** A flock with two owners; the first one is about to die around the submit of its next commit. */
async function scene(world: World, moment: "before" | "after") {
  const [alice, bob, carol, dave] = await flock(world, "Alice", "Bob", "Carol", "Dave");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await on(alice, id).setRole(bob.id, "owner");
  await agree([alice, bob, carol], id);
  await alice.client.outbox.settled();
  await alice.stop();
  const plan = new CrashPlan();
  await alice.start({
    wrapStorage: plan.wrapStorage,
    wrapTransport: plan.wrapTransport,
    onFailure: swallow,
  });
  await alice.client.connection.caughtUp();
  const commits = commitsIn(world, id);
  plan.arm("send groupCommit", moment);
  /** Does something that commits; the client dies over it. */
  const dieOver = async (work: Promise<unknown>) => {
    const done = work.catch((error: unknown) => {
      if (!plan.dead) throw error;
    });
    await until(() => plan.dead, PATIENCE_MS, "death");
    await alice.stop().catch(swallow);
    await done;
  };
  const peephole = new Peephole();
  const revive = async () => {
    await alice.start({ wrapStorage: peephole.keep, wrapTransport: (transport) => transport });
    expect(peephole.unfinished()["mls_commit"], "a pending commit was left behind").toBe(1);
    await alice.client.connection.caughtUp();
  };
  /** Everybody is of one mind and one epoch, and nothing is left to be done. */
  let rounds = 0;
  const restored = async (...members: readonly SimulatedDevice[]) => {
    await agree(members, id);
    await nothingLeft(peephole);
    await hearEachOther(members, id, `after the crash, ${++rounds}`);
  };
  const newCommits = () => commitsIn(world, id) - commits;
  return { alice, bob, carol, dave, id, dieOver, revive, restored, newCommits };
}

// The fault that these find: a pending commit that is thrown away, kept for ever, or merged without the service's word.
test("never submitted: the next client submits the bytes that were written down", async () => {
  await using world = await World.start();
  const { alice, bob, carol, id, dieOver, revive, restored, newCommits } = await scene(world, "before");
  await dieOver(on(alice, id).setRole(carol.id, "admin"));
  expect(newCommits()).toBe(0);
  await revive();
  await until(() => membersOf(bob, id).includes(`${carol.id}/admin`), PATIENCE_MS);
  await restored(alice, bob, carol);
  expect(newCommits()).toBe(1);
});

test("submitted and won, unseen: the next client finds it in the log and merges it once", async () => {
  await using world = await World.start();
  const { alice, bob, carol, id, dieOver, revive, restored, newCommits } = await scene(world, "after");
  await dieOver(on(alice, id).setRole(carol.id, "admin"));
  await until(() => membersOf(bob, id).includes(`${carol.id}/admin`), PATIENCE_MS);
  await revive();
  await restored(alice, bob, carol);
  expect(newCommits()).toBe(1);
});

test("another commit won the epoch meanwhile: what was only asked for is dropped, and the group goes on", async () => {
  await using world = await World.start();
  const { alice, bob, carol, id, dieOver, revive, restored, newCommits } = await scene(world, "before");
  await dieOver(on(alice, id).setRole(carol.id, "admin"));
  await on(bob, id).setExpiry(3600);
  await revive();
  await restored(alice, bob, carol);
  expect(newCommits()).toBe(1);
  expect(on(alice, id).expireAfterSeconds).toBe(3600);
  // Nothing of the lost commit stands in the way of the next one.
  await on(alice, id).setRole(carol.id, "admin");
  await restored(alice, bob, carol);
  expect(newCommits()).toBe(2);
});

test("another commit won the epoch meanwhile: an addition is written down as a job, and is made anew on top of it", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, dieOver, revive, restored, newCommits } = await scene(world, "before");
  await dieOver(on(alice, id).add([dave.id]));
  await on(bob, id).setExpiry(3600);
  await revive();
  await until(() => on(dave, id)?.state === "active" && on(dave, id)?.title === "Flock", PATIENCE_MS);
  await restored(alice, bob, carol, dave);
  expect(newCommits()).toBe(2);
});

test("another admin added the same newcomer meanwhile: it is in once", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, dieOver, revive, restored, newCommits } = await scene(world, "before");
  await dieOver(on(alice, id).add([dave.id]));
  expect(await on(bob, id).add([dave.id])).toEqual([]);
  await revive();
  await until(() => on(dave, id)?.state === "active" && on(dave, id)?.title === "Flock", PATIENCE_MS);
  await restored(alice, bob, carol, dave);
  expect(newCommits()).toBe(1);
});

test("the member was removed meanwhile: its commit is gone with its place, and nothing is left to be done", async () => {
  await using world = await World.start();
  const { alice, bob, carol, id, dieOver, revive, restored, newCommits } = await scene(world, "before");
  const aliceId = alice.id;
  await dieOver(on(alice, id).setRole(carol.id, "admin"));
  await on(bob, id).remove(aliceId);
  await revive();
  await until(() => on(alice, id).state === "removed", PATIENCE_MS);
  await restored(bob, carol);
  expect(newCommits()).toBe(1);
});

import { setTimeout as delay } from "node:timers/promises";
import { openSqlcipher } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { ShiftedClock, type SimulatedDevice, until, World } from "../../src/index.ts";
import { commitsIn } from "../support/communities.ts";
import { flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { HeldFrames } from "../support/held-frames.ts";

const MINUTE_MS = 60_000;

/** Rows with the keys of past epochs. */
function pastEpochs({ path, key }: SimulatedDevice): number {
  const storage = openSqlcipher({ path, key });
  try {
    return storage.all("SELECT key FROM mls_row WHERE key LIKE 'e%'").length;
  } finally {
    storage.close();
  }
}

// The fault that this finds: they were deleted by the next commit only, and in a group that nobody changes there is none.
test("keys of past epochs but the last four are deleted after their time, though nobody commits any more", async () => {
  await using world = await World.start();
  const clock = new ShiftedClock();
  const [alice, bob] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob", { environment: clock.oftenLookedAt }),
  ];
  const group = await flockOf(alice, bob);
  for (const title of ["Two", "Three", "Four", "Five", "Six", "Seven", "Eight"]) {
    await group.setTitle(title);
    await until(() => inGroup(bob, group.id)?.title === title);
  }
  await talkRound([alice, bob], group.id, "before");
  expect(pastEpochs(bob)).toBeGreaterThan(4);
  const commits = commitsIn(world, group.id);
  clock.offsetMs += 11 * MINUTE_MS;
  await until(() => pastEpochs(bob) === 4);
  await talkRound([alice, bob], group.id, "after");
  expect(commitsIn(world, group.id)).toBe(commits);
});

test("a member that stays connected renews the keys of its leaf when they are old, once", async () => {
  await using world = await World.start();
  const clock = new ShiftedClock();
  const bobs = { environment: clock.oftenLookedAt, settings: { selfUpdateMs: 60 * MINUTE_MS } };
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob", bobs)];
  const group = await flockOf(alice, bob);
  await talkRound([alice, bob], group.id, "before");
  const commits = commitsIn(world, group.id);
  // Whoever is new takes the first turn after half of the time.
  await delay(1_000);
  expect(commitsIn(world, group.id)).toBe(commits);
  clock.offsetMs += 31 * MINUTE_MS;
  await until(() => commitsIn(world, group.id) > commits);
  clock.offsetMs += 30 * MINUTE_MS;
  await talkRound([alice, bob], group.id, "a little later");
  expect(commitsIn(world, group.id)).toBe(commits + 1);
});

// The fault that this finds: what is looked at every few minutes is begun once more while it is still under way, and a member
// whose service is slow makes one commit after the other.
test("a member whose commit is on its way to a slow service does not renew its keys once more behind it", async () => {
  await using world = await World.start();
  const clock = new ShiftedClock();
  const frames = new HeldFrames();
  const [alice, bob] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob", {
      environment: clock.oftenLookedAt,
      settings: { selfUpdateMs: 60 * MINUTE_MS },
      wrapTransport: frames.wrapTransport,
    }),
  ];
  const group = await flockOf(alice, bob);
  await talkRound([alice, bob], group.id, "before");
  await delay(1_000);
  const commits = commitsIn(world, group.id);
  frames.keep("groupCommit");
  clock.offsetMs += 31 * MINUTE_MS;
  await until(() => frames.keeps);
  // It is looked at several times meanwhile.
  await delay(1_000);
  frames.letGo();
  await until(() => commitsIn(world, group.id) > commits);
  await talkRound([alice, bob], group.id, "behind it");
  await delay(300);
  expect(commitsIn(world, group.id)).toBe(commits + 1);
});

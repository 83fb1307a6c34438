import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { seededRandom, World } from "../../src/index.ts";
import { on } from "../support/communities.ts";
import { allMoved, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

const ROUNDS = process.env["SLOW"] === "1" ? 24 : 6;

// The faults that these find: two groups for one generation, the group of the loser left behind as something that is waited
// for, and a client that ends because the group that it worked on is gone.
test("two admins start at the same moment: one prepares, the other follows", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const everybody = [alice, bob, carol];
  let byBob = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const { id } = await pairwiseGroup(alice, [bob, carol], `Birds ${round}`);
    await on(alice, id).setRole(bob.id, "admin");
    await untilIn(everybody, id, () => on(bob, id).members().some(isAdmin(bob.id)), "Bob is an admin");
    const talk = new Talk(id);
    await Promise.all([
      on(alice, id).migrate("start"),
      on(bob, id).migrate("start"),
      talk.say(carol, "meanwhile"),
    ]);
    await allMoved(everybody, id);
    await requireMoved(everybody, id, `round ${round}`);
    await talk.heardBy(everybody);
    const moves = everybody.map((device) => on(device, id).migration!);
    expect(moves.map(({ generation }) => generation)).toEqual([1, 1, 1]);
    expect(new Set(moves.map(({ creator }) => creator)).size).toBe(1);
    if (moves[0]!.creator === bob.id) byBob++;
  }
  console.log(`two admins started ${ROUNDS} moves; the second one won ${byBob}`);
}, 240_000);

test("a move that is given up at any moment: everybody stays pairwise, and a later one is another generation", async () => {
  const random = seededRandom();
  console.log(`SEED=${random.seed}`);
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const everybody = [alice, bob, carol];
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await on(alice, id).setRole(bob.id, "admin");
  await untilIn(everybody, id, () => on(bob, id).members().some(isAdmin(bob.id)), "Bob is an admin");
  const talk = new Talk(id);
  let generation = 0;
  for (let round = 0; round < ROUNDS; round++) {
    // Whoever is away keeps the move from ending.
    await carol.stop();
    await on(alice, id).migrate("start");
    generation++;
    await talk.say(bob, "meanwhile");
    await delay(random.below(800));
    const quitter = random.below(2) === 0 ? alice : bob;
    await untilIn([quitter], id, () => on(quitter, id).migration?.state === "preparing", "it has begun");
    await on(quitter, id).migrate("abort");
    await talk.say(alice, "given up");
    await carol.start();
    await talk.heardBy(everybody);
    await untilIn(
      everybody,
      id,
      () => everybody.every((device) => on(device, id).migration?.state === "pairwise"),
      "everybody knows that it was given up",
    );
    for (const device of everybody) expect(on(device, id).protocol).toBe("pairwise");
    expect(on(alice, id).migration?.generation).toBe(generation);
  }
  await expect(on(alice, id).migrate("abort")).rejects.toMatchObject({ code: "migration/not-started" });
  await on(bob, id).migrate("start");
  await requireMoved(everybody, id, "in the end");
  await talk.heardBy(everybody);
  expect(on(carol, id).migration?.generation).toBe(generation + 1);
  await expect(on(alice, id).migrate("abort")).rejects.toMatchObject({ code: "migration/already-switched" });
}, 240_000);

const isAdmin =
  (account: string) =>
  ({ accountId, role }: { readonly accountId: string; readonly role: string }) =>
    accountId === account && role === "admin";

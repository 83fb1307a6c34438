import { expect, test } from "vitest";
import { introduce, ShiftedClock, World } from "../../src/index.ts";
import { countOf, membersOf, on, PATIENCE_MS } from "../support/communities.ts";
import {
  allMoved,
  movable,
  movers,
  pairwiseGroup,
  requireMoved,
  Talk,
  untilIn,
  withoutKeyPackages,
} from "../support/moves.ts";

const DAY_MS = 86_400_000;

// The faults that these find: a log that stands still for want of the secret, what was said on either side of the switch
// in the wrong order or lost, and a device that nobody lets in because its account is not among those expected.
test("a device that is offline through the whole switch has everything that was said on both sides of it, in order", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const everybody = [alice, bob, carol];
  const carolId = carol.id;
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const talk = new Talk(id);
  for (const device of everybody) await talk.say(device, "before");
  await talk.heardBy(everybody);

  await carol.stop();
  await talk.say(bob, "pairwise");
  await on(alice, id).migrate("start");
  await talk.say(bob, "pairwise");
  await talk.say(alice, "pairwise");
  await untilIn(
    [alice],
    id,
    () => {
      const { notReady = [] } = on(alice, id).migration ?? {};
      return notReady.length === 1 && notReady[0]!.code === "migration/not-joined";
    },
    "all but one are ready",
  );
  expect(on(alice, id).migration).toMatchObject({ state: "preparing", readyAccounts: 2, accounts: 3 });
  await on(alice, id).migrate("finish-now");
  await allMoved([alice, bob], id);
  const leftBehind = [{ accountId: carolId, code: "migration/not-joined" }];
  expect(on(alice, id).migration).toMatchObject({ notReady: leftBehind, readyAccounts: 2, accounts: 3 });
  for (let round = 0; round < 3; round++) {
    await talk.say(bob, "mls");
    await talk.say(alice, "mls");
  }
  await talk.heardBy([alice, bob]);
  await untilIn([alice], id, () => on(alice, id).migration?.state === "mls", "the record is done");

  await carol.open();
  await talk.say(carol, "written while away");
  carol.client.connection.start();
  await talk.heardBy(everybody);
  await requireMoved(everybody, id, "everybody is back");
  expect(on(alice, id).migration).toMatchObject({ notReady: [], readyAccounts: 3, accounts: 3 });
}, 120_000);

// The fault that this finds: a telephone that somebody lost last year holds a group of hundreds up for a day.
test("a device that was not heard for thirty days is put in, is not waited for, and finds everything when it is back", async () => {
  const clock = new ShiftedClock();
  const { environment } = clock;
  await using world = await World.start({ serviceClock: clock });
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"], { environment });
  const carolId = carol.id;
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const talk = new Talk(id);
  for (const device of [alice, bob, carol]) await talk.say(device, "before");
  await talk.heardBy([alice, bob, carol]);
  const carolIs = (code: string) => {
    const { notReady = [] } = on(alice, id).migration ?? {};
    return notReady.length === 1 && notReady[0]!.accountId === carolId && notReady[0]!.code === code;
  };

  await carol.stop();
  // Day by day: those on which Alice was not there herself would not count.
  for (let days = 1; days <= 29; days++) {
    clock.offsetMs = days * DAY_MS;
    await talk.say(bob, `${days} days later`);
    await talk.heardBy([alice, bob]);
  }
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => carolIs("migration/not-joined"), "Bob is ready, and Carol may come");
  expect(on(alice, id).migration).toMatchObject({ state: "preparing", waitsFor: "members" });
  await on(alice, id).migrate("abort");

  // Not one day more: what was said on the first one is kept for Carol for thirty.
  clock.offsetMs = 30 * DAY_MS;
  await talk.say(bob, "30 days later");
  await talk.heardBy([alice, bob]);
  let wasAway = false;
  alice.client.events.on(() => {
    wasAway ||= carolIs("migration/away");
  });
  await on(alice, id).migrate("start");
  await allMoved([alice, bob], id);
  expect(wasAway).toBe(true);
  await talk.say(bob, "mls");

  await carol.start();
  await requireMoved([alice, bob, carol], id, "Carol is back");
  await talk.say(carol, "back");
  await talk.heardBy([alice, bob]);
  expect(talk.missing(carol)).toEqual([]);
}, 120_000);

// The fault that this finds: whoever was away itself takes everybody for lost, and goes over without them.
test("a device that was away for forty days waits for those whom it could not hear", async () => {
  const clock = new ShiftedClock();
  const { environment } = clock;
  await using world = await World.start({ serviceClock: clock });
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"], { environment });
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const talk = new Talk(id);
  for (const device of [alice, bob, carol]) await talk.say(device, "before");
  await talk.heardBy([alice, bob, carol]);

  await alice.stop();
  await carol.stop();
  clock.offsetMs = 40 * DAY_MS;
  await alice.start();
  await on(alice, id).migrate("start");
  const codes = () => on(alice, id).migration?.notReady.map(({ code }) => code);
  await untilIn(
    [alice],
    id,
    () => codes()?.join() === "migration/not-joined",
    "Bob is in, and Carol may come",
  );
  expect(on(alice, id).migration).toMatchObject({ state: "preparing", waitsFor: "members" });
  await carol.start();
  await requireMoved([alice, bob, carol], id, "all have moved");
}, 120_000);

test("a device without KeyPackages is named, left behind, comes in by itself, and what it had written is said", async () => {
  await using world = await World.start();
  const [alice, bob] = await movers(world, ["Alice", "Bob"]);
  const dave = await world.join("Dave", { settings: movable, wrapTransport: withoutKeyPackages });
  await introduce(alice, bob, dave);
  const everybody = [alice, bob, dave];
  const daveId = dave.id;
  const { id } = await pairwiseGroup(alice, [bob, dave]);
  const talk = new Talk(id);
  for (const device of everybody) await talk.say(device, "before");
  await talk.heardBy(everybody);

  await dave.stop();
  await talk.say(bob, "pairwise");
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => on(alice, id).migration?.notReady.length === 1, "one is not ready");
  expect(on(alice, id).migration?.notReady).toEqual([{ accountId: daveId, code: "key-packages/none" }]);
  await on(alice, id).migrate("finish-now");
  await allMoved([alice, bob], id);
  await on(bob, id).send({ text: "not for Dave" });
  await untilIn([alice], id, () => on(alice, id).migration?.state === "mls", "the record is done");
  expect(membersOf(alice, id)).toHaveLength(2);
  const behind = { readyAccounts: 2, accounts: 3 };
  const named = (code: string) => ({ ...behind, notReady: [{ accountId: daveId, code }] });
  expect(on(alice, id).migration, "who prepared it knows why").toMatchObject(named("key-packages/none"));
  expect(on(bob, id).migration, "others see that").toMatchObject(named("migration/left-behind"));

  await dave.open({ wrapTransport: (transport) => transport });
  await talk.say(dave, "written while away");
  await talk.say(dave, "written while away");
  dave.client.connection.start();
  await requireMoved(everybody, id, "everybody is in");
  await talk.heardBy(everybody);
  expect(countOf(dave, id, "not for Dave"), "he was not in the group then").toBe(0);
  for (const device of everybody)
    expect(on(device, id).migration).toMatchObject({ notReady: [], readyAccounts: 3, accounts: 3 });
  for (const device of everybody) expect(membersOf(device, id)).toHaveLength(3);
}, 120_000);

test("an invited account that had not accepted is not in the group, and accepts behind the switch", async () => {
  await using world = await World.start();
  const [alice, bob] = await movers(world, ["Alice", "Bob"]);
  const erin = await world.join("Erin", { settings: movable });
  const { id } = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id, erin.id] });
  await untilIn(
    [bob, erin],
    id,
    () => on(bob, id)?.state === "active" && on(erin, id)?.state === "invited",
    "Erin is invited",
  );
  await on(alice, id).migrate("start");
  await allMoved([alice, bob], id);
  await untilIn([alice], id, () => on(alice, id).migration?.state === "mls", "the record is done");
  expect(on(erin, id).state).toBe("invited");
  await on(bob, id).send({ text: "not for Erin" });
  // Being back is not being asked.
  await erin.stop();
  await erin.start();
  await erin.client.connection.caughtUp();
  expect(on(erin, id).state).toBe("invited");
  expect(membersOf(alice, id)).toHaveLength(2);
  for (const device of [alice, bob])
    expect(on(device, id).migration).toMatchObject({
      notReady: [{ accountId: erin.id, code: "migration/invited" }],
      readyAccounts: 2,
      accounts: 2,
    });

  await on(erin, id).accept();
  await untilIn([erin], id, () => on(erin, id).state === "active", "Erin is in", PATIENCE_MS);
  await requireMoved([alice, bob, erin], id, "everybody is in");
  expect(countOf(erin, id, "not for Erin")).toBe(0);
  expect(on(erin, id).title).toBe("Birds");
}, 120_000);

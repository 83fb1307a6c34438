import { DatabaseSync } from "node:sqlite";
import type { ClientSettings } from "@murmuration/client-core";
import { describe, expect, test } from "vitest";
import { introduce, ShiftedClock, type SimulatedDevice, until, World } from "../../src/index.ts";
import { countOf, on, PATIENCE_MS, small } from "../support/communities.ts";
import { allMoved, movable, pairwiseGroup } from "../support/moves.ts";
import { PushServices } from "../support/push.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/** Longer than any window in which the service wakes a device or a leaf once. */
const passWindows = (clock: ShiftedClock): void => {
  clock.offsetMs += 5 * 60_000;
};

/** Handles as the service has them, read from its file: of mailboxes and of leaves. */
function handlesAt(world: World): {
  readonly mailboxes: readonly string[];
  readonly leaves: readonly string[];
} {
  const database = new DatabaseSync(`${world.serviceDirectory}/delivery-service.sqlite`, { readOnly: true });
  try {
    const read = (table: string) =>
      database
        .prepare(`SELECT hex(handle) AS handle FROM ${table} ORDER BY handle`)
        .all()
        .map((row) => row["handle"] as string);
    return { mailboxes: read("mailbox_push_handles"), leaves: read("leaf_push_handles") };
  } finally {
    database.close();
  }
}

/** An owner, and two who have push on: bob and carol. */
async function start(push: PushServices, clock: ShiftedClock, settings: Partial<ClientSettings> = small) {
  const world = await World.start({ service: { pushGateway: push.config }, serviceClock: clock });
  const devices: SimulatedDevice[] = [];
  for (const name of ["ann", "bob", "carol"])
    devices.push(await world.join(name, { settings, environment: clock.environment }));
  await introduce(...devices);
  const [ann, bob, carol] = devices as [SimulatedDevice, SimulatedDevice, SimulatedDevice];
  for (const [name, device] of Object.entries({ bob, carol })) {
    await device.client.push.on(push.options(name));
    await device.client.push.settled();
  }
  return { world, ann, bob, carol };
}

async function community(ann: SimulatedDevice, ...others: readonly SimulatedDevice[]): Promise<string> {
  const members = others.map(({ id }) => id);
  const { id } = await ann.client.conversations.createGroup({ title: "choir", members, protocol: "mls" });
  for (const device of others) {
    await until(() => device.client.conversations.get(id)?.community.standing === "following", PATIENCE_MS);
    await until(() => device.client.push.status.waitingHandles === 0, PATIENCE_MS, "handles are set");
  }
  return id;
}

const accepted = (device: SimulatedDevice): Promise<void> => device.client.outbox.settled();

describe("who is away is woken", () => {
  test("by a message to it and by one to its community, and who is there is not; by mentions alone who wants that", async () => {
    await using push = await PushServices.start();
    const clock = new ShiftedClock();
    const { ann, bob, carol, world } = await start(push, clock);
    await using _ = world;
    const group = await community(ann, bob, carol);
    await push.forget();

    const bobs = bob.id;
    const carols = carol.id;
    await bob.stop();
    for (const id of [bobs, carols]) await ann.client.conversations.direct(id).send({ text: "hello" });
    await accepted(ann);
    await push.onlyWoken("bob");

    await bob.start();
    await bob.client.connection.caughtUp();
    await bob.stop();
    passWindows(clock);
    await on(ann, group).send({ text: "to all" });
    await accepted(ann);
    await push.onlyWoken("bob");

    // Carol hears of mentions alone, bob of nothing.
    await bob.start();
    await on(carol, group).setWakeBy("mentions");
    await on(bob, group).setWakeBy("nothing");
    for (const device of [bob, carol]) {
      await device.client.connection.caughtUp();
      await device.client.push.settled();
    }
    await bob.stop();
    await carol.stop();
    // The service has a handle of each, and sees in none what it says.
    expect(handlesAt(world).leaves).toHaveLength(2);
    passWindows(clock);
    await on(ann, group).send({ text: "to nobody in particular" });
    await accepted(ann);
    await push.onlyWoken();
    passWindows(clock);
    await on(ann, group).send({ text: "you two", mentions: [bobs, carols] });
    await accepted(ann);
    await push.onlyWoken("carol");

    await carol.start();
    await until(() => countOf(carol, group, "you two") === 1, PATIENCE_MS);
    const line = on(carol, group).history().at(-1);
    expect(line?.kind === "message" && line.mentions).toEqual([bobs, carols]);
  }, 180_000);

  test("no more after it was removed, or has turned push off", async () => {
    await using push = await PushServices.start();
    const clock = new ShiftedClock();
    const { ann, bob, carol, world } = await start(push, clock);
    await using _ = world;
    const group = await community(ann, bob, carol);
    const bobs = bob.id;
    const carols = carol.id;

    await bob.stop();
    await on(ann, group).remove(bobs);
    await until(() => on(carol, group).memberCount === 2, PATIENCE_MS);
    await carol.stop();
    // What brought the removal may have woken.
    await push.forget();
    passWindows(clock);
    await on(ann, group).send({ text: "without bob" });
    await accepted(ann);
    await push.onlyWoken("carol");

    await carol.start();
    await carol.client.connection.caughtUp();
    await carol.client.push.off();
    await carol.client.push.settled();
    expect(carol.client.push.status).toMatchObject({ state: "off", registered: false, waitingHandles: 0 });
    await carol.stop();
    expect(handlesAt(world).leaves).toEqual([]);
    expect(handlesAt(world).mailboxes).toHaveLength(1);
    passWindows(clock);
    await on(ann, group).send({ text: "into the void", mentions: [carols] });
    await ann.client.conversations.direct(carols).send({ text: "and here" });
    await accepted(ann);
    await push.onlyWoken();
  }, 180_000);

  test("by the handles it has set, which it does not set again when it starts again, but renews before they run out", async () => {
    await using push = await PushServices.start();
    const clock = new ShiftedClock();
    const { ann, bob, carol, world } = await start(push, clock);
    await using _ = world;
    await community(ann, bob, carol);
    const before = handlesAt(world);
    expect([before.mailboxes.length, before.leaves.length]).toEqual([2, 2]);

    await bob.stop();
    await bob.start();
    await bob.client.connection.caughtUp();
    await bob.client.push.settled();
    clock.offsetMs += 24 * DAY_MS;
    await bob.stop();
    await bob.start();
    await bob.client.connection.caughtUp();
    await bob.client.push.settled();
    expect(handlesAt(world)).toEqual(before);

    clock.offsetMs += 27 * DAY_MS;
    await bob.stop();
    await carol.stop();
    await bob.start();
    await bob.client.connection.caughtUp();
    await bob.client.push.settled();
    const renewed = handlesAt(world);
    for (const kind of ["mailboxes", "leaves"] as const)
      expect(renewed[kind].filter((handle) => !before[kind].includes(handle))).toHaveLength(1);

    // Twelve days later carol's are gone, who did not come, and bob is woken by those that he renewed.
    const bobs = bob.id;
    await bob.stop();
    clock.offsetMs += 12 * DAY_MS + HOUR_MS;
    await world.runRetention();
    expect(Object.values(handlesAt(world)).map((handles) => handles.length)).toEqual([1, 1]);
    await push.forget();
    await ann.client.conversations.direct(bobs).send({ text: "still there?" });
    await accepted(ann);
    await push.onlyWoken("bob");
  }, 180_000);

  test("once its gateway can be reached: until then it sends and receives as ever", async () => {
    await using push = await PushServices.start();
    const clock = new ShiftedClock();
    const { ann, bob, world } = await start(push, clock);
    await using _ = world;
    // Nobody listens there.
    await bob.client.push.on({ ...push.options("bob"), gateway: "http://127.0.0.1:9" });
    await bob.client.conversations.direct(ann.id).send({ text: "no gateway" });
    await accepted(bob);
    await expect(bob.client.push.settled(300)).rejects.toThrow("push/not-settled");
    expect(bob.client.push.status).toMatchObject({ state: "on", registered: false });
    // It is tried again by the next client on this database, and what is said last counts.
    const bobs = bob.id;
    await bob.stop();
    await bob.start();
    await bob.client.push.on(push.options("bob-anew"));
    await until(() => bob.client.push.status.registered && bob.client.push.status.waitingHandles === 0);
    await bob.stop();
    await push.forget();
    await ann.client.conversations.direct(bobs).send({ text: "wake up" });
    await accepted(ann);
    await push.onlyWoken("bob-anew");
  }, 120_000);

  test("by its new token after it was given one, and not by the old one", async () => {
    await using push = await PushServices.start();
    const clock = new ShiftedClock();
    const { ann, bob, world } = await start(push, clock);
    await using _ = world;
    const before = handlesAt(world);
    await bob.client.push.on(push.options("bob-again"));
    await bob.client.push.settled();
    expect(handlesAt(world)).toEqual(before);
    const bobs = bob.id;
    await bob.stop();
    await push.forget();
    await ann.client.conversations.direct(bobs).send({ text: "wake up" });
    await accepted(ann);
    await push.onlyWoken("bob-again");
  }, 120_000);

  test("in a group that has moved to MLS, and by another handle once it has entered the group anew", async () => {
    await using push = await PushServices.start();
    const clock = new ShiftedClock();
    const { ann, bob, carol, world } = await start(push, clock, movable);
    await using _ = world;
    const everybody = [bob, carol];
    const group = await pairwiseGroup(ann, everybody);
    expect([group.protocol, handlesAt(world).leaves.length]).toEqual(["pairwise", 0]);
    await group.migrate("start");
    await allMoved(everybody, group.id);
    await until(() => handlesAt(world).leaves.length === 2, PATIENCE_MS);
    for (const device of everybody) await device.client.push.settled();

    const before = handlesAt(world).leaves;
    await on(bob, group.id).community.heal();
    await until(() => handlesAt(world).leaves.join() !== before.join(), PATIENCE_MS);
    await bob.client.push.settled();
    expect(handlesAt(world).leaves.filter((handle) => before.includes(handle))).toHaveLength(1);
    await bob.stop();
    await push.forget();
    passWindows(clock);
    await on(ann, group.id).send({ text: "in MLS" });
    await accepted(ann);
    await push.onlyWoken("bob");
  }, 120_000);

  test("after its gateway lost all that it had, once it has looked there again", async () => {
    await using push = await PushServices.start();
    const clock = new ShiftedClock();
    const { ann, bob, world } = await start(push, clock);
    await using _ = world;
    await community(ann, bob);
    const before = handlesAt(world);
    await push.loseEverything();
    const bobs = bob.id;
    await bob.stop();
    clock.offsetMs += 3 * DAY_MS;
    await bob.start();
    await bob.client.connection.caughtUp();
    await until(() => handlesAt(world).leaves.join() !== before.leaves.join(), PATIENCE_MS);
    await bob.client.push.settled();
    await bob.stop();
    await push.forget();
    await ann.client.conversations.direct(bobs).send({ text: "with new keys" });
    await accepted(ann);
    await push.onlyWoken("bob");
  }, 120_000);

  test("and where the gateway refuses its token, the application is told why", async () => {
    await using push = await PushServices.start();
    const { bob, world } = await start(push, new ShiftedClock());
    await using _ = world;
    const elsewhere = { ...push.options("bob"), address: "https://not-a-push-service.example/bob" };
    await bob.client.push.on(elsewhere);
    await until(() => bob.client.push.status.failure !== undefined);
    expect(bob.client.push.status.failure).toMatch(/^token\//);
    await bob.client.push.on(push.options("bob"));
    await bob.client.push.settled();
    expect(bob.client.push.status.failure).toBeUndefined();
  }, 120_000);
});

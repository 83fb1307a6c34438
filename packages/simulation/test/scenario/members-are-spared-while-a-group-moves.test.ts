import { setTimeout as delay } from "node:timers/promises";
import { type Conversation, type Environment, systemEnvironment } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { NEWCOMERS_AT_A_TIME, newcomerPauseMs } from "../../../client-core/src/shell/migration/gentle.ts";
import { FrameTap, introduce, type SimulatedDevice, World } from "../../src/index.ts";
import { on } from "../support/communities.ts";
import { HeldFrames } from "../support/held-frames.ts";
import { hesitantFlock } from "../support/hesitant.ts";
import { allMoved, movable, movers, pairwiseGroup, untilIn } from "../support/moves.ts";

const isGroup = ({ kind }: Conversation): boolean => kind === "group";

/** A device that draws lots of one byte and always comes first: what it does at a moment of its own it does at once. */
const first: Environment = {
  ...systemEnvironment,
  random: (length) => (length === 1 ? new Uint8Array(1) : systemEnvironment.random(length)),
};

// The fault that this finds: in the moment in which a group begins to move, each of its members empties the log of its
// database, though there is nothing to erase, and nobody gets anything done for seconds.
test("no member empties its log when a move begins, and each does when the move was given up and it is quiet", async () => {
  await using world = await World.start();
  const emptied = new Set<string>();
  const frames = new HeldFrames();
  const join = (name: string): Promise<SimulatedDevice> =>
    world.join(name, {
      settings: movable,
      environment: first,
      ...(name === "Alice" ? { wrapTransport: frames.wrapTransport } : {}),
      wrapStorage: (storage) => {
        const erase = storage.eraseDeleted.bind(storage);
        storage.eraseDeleted = () => {
          erase();
          emptied.add(name);
        };
        return storage;
      },
    });
  const devices = [await join("Alice"), await join("Bob"), await join("Carol")] as const;
  const [alice, bob, carol] = devices;
  await introduce(...devices);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  emptied.clear();

  // Nobody comes into the MLS group, and has the key by which it came to erase.
  frames.keep("groupCommit");
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => frames.keeps, "members are about to be added");
  const are = (state: string) => () => devices.every((device) => on(device, id).migration?.state === state);
  await untilIn(devices, id, are("preparing"), "all know of it");
  await delay(300);
  expect([...emptied]).toEqual([]);

  await on(alice, id).migrate("abort");
  await untilIn(devices, id, are("pairwise"), "it was given up");
  await untilIn(devices, id, () => emptied.size === devices.length, "all have erased what was prepared");
}, 60_000);

// The fault that this finds: those who waited for the switch come as fast as the service takes them, and nobody else gets
// anything done while the others take one commit after the other.
test("those who waited for a move come one commit after the other, with a pause for each member in between", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  const founders = 24;
  const waiting = 3 * NEWCOMERS_AT_A_TIME;
  const settings = { ...movable, mlsThreshold: founders + 1, migrationMargin: 0 };
  const alice = await world.join("Alice", { settings, wrapTransport: tap.wrapTransport });
  const names = Array.from({ length: founders - 1 + waiting }, (_, member) => `Member ${member}`);
  const others = await movers(world, names, { settings });
  await introduce(alice, ...others);
  const { id } = await pairwiseGroup(alice, others.slice(0, founders - 1));
  const committed: { readonly atMs: number; readonly members: number }[] = [];
  alice.client.events.on((event) => {
    if (event.kind !== "line-added" || on(alice, id)?.protocol !== "mls") return;
    const members = on(alice, id).memberCount;
    if (members > (committed.at(-1)?.members ?? founders)) committed.push({ atMs: event.atMs, members });
  });

  await on(alice, id).add(others.slice(founders - 1).map((device) => device.id));
  await untilIn([alice], id, () => on(alice, id).memberCount === founders + waiting, "all are in");
  expect(committed.map(({ members }) => members)).toEqual([26, 28, 30]);
  for (const [index, { atMs }] of committed.slice(1).entries()) {
    const before = committed[index]!;
    // The next pause was counted before the commit that this one follows.
    expect(atMs - before.atMs).toBeGreaterThanOrEqual(newcomerPauseMs(before.members - NEWCOMERS_AT_A_TIME));
  }
  // A newcomer knows the group under the name of its MLS group, and hears from a member what it is called.
  const titles = () =>
    others.slice(founders - 1).map(({ client }) => client.conversations.list().find(isGroup)?.title);
  await untilIn([alice], id, () => titles().every((title) => title === "Birds"), "all know the title");
}, 120_000);

// The fault that this finds: what all members have to take of a move comes on top of what somebody has just said, and the next
// word waits for both.
test("a move does not begin in the moment in which something was said", async () => {
  await using world = await World.start();
  // Where it stands, if it does: then what was said just now was said just now for as long.
  let standsAtMs: number | undefined;
  const environment = { ...systemEnvironment, now: () => standsAtMs ?? Date.now() };
  const alice = await world.join("Alice", { settings: movable, environment });
  const others = await movers(world, ["Bob", "Carol"]);
  await introduce(alice, ...others);
  const { id } = await pairwiseGroup(alice, others);

  standsAtMs = Date.now();
  await on(alice, id).send({ text: "just now" });
  const started = on(alice, id).migrate("start");
  await delay(500);
  expect(on(alice, id).migration).toBeUndefined();
  standsAtMs = undefined;
  await started;
  await allMoved([alice, ...others], id);
}, 60_000);

// The fault that this finds: a step of a move leaves at once whatever its time is, and all members have their work with it in the
// same moment. That some have a later time than others: `who-hears-of-a-step-when` of the client core.
test("a word of a move does not leave before its time, and what is said in the group does not wait behind it", async () => {
  await using world = await World.start();
  const { hesitant, alice, bob, carol, id } = await hesitantFlock(world);

  hesitant.stand();
  await on(alice, id).migrate("start");
  await on(alice, id).send({ text: "meanwhile" });
  const heard = () =>
    on(bob, id)
      .history()
      .some((line) => line.kind === "message" && line.text === "meanwhile");
  await untilIn([bob], id, heard, "what was said is here");
  await delay(1_200);
  expect(on(bob, id).migration).toBeUndefined();
  hesitant.goOn();
  await allMoved([alice, bob, carol], id);
}, 60_000);

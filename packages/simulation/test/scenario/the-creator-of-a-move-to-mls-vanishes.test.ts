import { parseGroupId, UnavailableError } from "@murmuration/base";
import type { Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { FINISHED_WITHIN_MS } from "../../../client-core/src/core/migration/decisions.ts";
import { introduce, type SimulatedDevice, World } from "../../src/index.ts";
import { ShiftedClock } from "../../src/shifted-clock.ts";
import { insidesOf, writeStep } from "../support/bent-creator.ts";
import { on } from "../support/communities.ts";
import { HeldFrames } from "../support/held-frames.ts";
import { HeldRequests } from "../support/held-requests.ts";
import { allMoved, movable, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

interface Move {
  readonly alice: SimulatedDevice;
  readonly frames: HeldFrames;
  readonly requests: HeldRequests;
  readonly id: string;
}

/** A creator that goes until `vanish`, another admin that takes over, and the creator's return. */
async function tell(vanish: (move: Move) => Promise<void>): Promise<void> {
  const clock = new ShiftedClock();
  await using world = await World.start({ serviceClock: clock });
  const frames = new HeldFrames();
  const requests = new HeldRequests();
  const [bob, carol, dave] = await movers(world, ["Bob", "Carol", "Dave"], {
    environment: clock.environment,
  });
  const alice = await world.join("Alice", {
    settings: movable,
    environment: clock.environment,
    wrapTransport: (transport: Transport) => requests.wrapTransport(frames.wrapTransport(transport)),
  });
  const everybody = [alice, bob, carol, dave];
  await introduce(...everybody);
  const { id } = await pairwiseGroup(alice, [bob, carol, dave]);
  await on(alice, id).setRole(bob.id, "admin");
  const talk = new Talk(id);
  for (const device of everybody) await talk.say(device, "before");
  await talk.heardBy(everybody);
  await dave.stop();

  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => on(alice, id).migration?.readyAccounts === 3, "all but one are ready");
  await vanish({ alice, frames, requests, id });
  requests.lose();
  await alice.stop();
  await talk.say(bob, "without the creator");
  // It has looked once at whether it is needed; the lease is over, and so is the time that it gives the creator.
  await new Promise((resolve) => setTimeout(resolve, 5_500));
  expect(on(bob, id).migration?.generation).toBe(1);
  clock.offsetMs += 100_000;
  await untilIn([bob], id, () => on(bob, id).migration?.generation === 2, "somebody takes over");
  await untilIn([bob], id, () => on(bob, id).migration?.readyAccounts === 2, "the others are ready again");
  expect(on(bob, id).migration).toMatchObject({ isCreator: true, state: "preparing" });
  await on(bob, id).migrate("finish-now");
  await allMoved([bob, carol], id);
  await talk.say(carol, "without the creator");

  requests.letGo();
  await alice.open();
  await talk.say(alice, "back");
  alice.client.connection.start();
  await dave.start();
  await requireMoved(everybody, id, "everybody is back");
  await talk.heardBy(everybody);
  await untilIn(everybody, id, () => on(bob, id).migration?.state === "mls", "the record is done");
  for (const device of everybody)
    await untilIn([device], id, () => on(device, id).migration?.generation === 2, "one generation");
}

// The faults that these find: a group that nobody moves any more, one that two devices move, and a creator that comes back
// and goes on with what the others have given up.
test("a creator that vanishes while it prepares: another admin goes on when the lease is over", async () => {
  await tell(async () => undefined);
}, 120_000);

test("a creator that vanishes when all is ready: another admin goes on when the lease is over", async () => {
  await tell(async ({ alice, frames, id }) => {
    frames.keep("groupCommit");
    await on(alice, id).migrate("finish-now");
    await untilIn([alice], id, () => frames.keeps, "the switching commit is on its way");
    expect(on(alice, id).migration?.state).toBe("ready");
  });
}, 120_000);

test("a creator that vanishes between its commit and the record's switch: another admin goes on, in another group", async () => {
  await tell(async ({ alice, frames, requests, id }) => {
    frames.keep("groupCommit");
    await on(alice, id).migrate("finish-now");
    await untilIn([alice], id, () => frames.keeps, "the switching commit is on its way");
    requests.keep("PUT /v1/groups");
    frames.letGo();
    await untilIn([alice], id, () => requests.count > 0, "the record's switch is on its way");
  });
}, 120_000);

/** A creator that is gone when its group has switched, before it has said that all is done. */
async function tellAfterwards(
  go: (bob: SimulatedDevice, creator: string, id: string, clock: ShiftedClock) => Promise<void>,
): Promise<void> {
  const clock = new ShiftedClock();
  await using world = await World.start({ serviceClock: clock });
  const requests = new HeldRequests();
  const { environment } = clock;
  const [bob, carol] = await movers(world, ["Bob", "Carol"], { environment });
  const { wrapTransport } = requests;
  const alice = await world.join("Alice", { settings: movable, environment, wrapTransport });
  await introduce(alice, bob, carol);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await on(alice, id).setRole(bob.id, "owner");
  alice.client.events.on(({ kind }) => {
    if (kind === "protocol-changed") requests.keep("PUT /v1/groups");
  });
  await on(alice, id).migrate("start");
  await allMoved([alice, bob, carol], id);
  await untilIn([alice], id, () => requests.count > 0, "Alice is about to say that all is done");
  requests.lose();
  const { id: creator } = alice;
  await alice.stop();
  expect(on(bob, id).migration?.state).toBe("switching");

  await go(bob, creator, id, clock);
  await untilIn([bob], id, () => on(bob, id).migration?.state === "mls", "Bob has said that all is done");
  await untilIn([carol], id, () => on(carol, id).migration?.state === "mls", "and Carol has heard it");
}

// The fault that these find: a move that is over, and goes on for ever in the eyes of its members.
test("a creator that is removed when its group has switched: another owner says that all is done", async () => {
  await tellAfterwards(async (bob, creator, id, clock) => {
    await on(bob, id).remove(creator);
    for (let minute = 0; minute < 5 && on(bob, id).migration?.state === "switching"; minute++) {
      await new Promise((resolve) => setTimeout(resolve, 5_500));
      clock.offsetMs += 60_000;
    }
  });
}, 120_000);

test("a creator that is lost when its group has switched: another owner says that all is done, after a while", async () => {
  await tellAfterwards(async (bob, _creator, id, clock) => {
    clock.offsetMs += FINISHED_WITHIN_MS - 60_000;
    await new Promise((resolve) => setTimeout(resolve, 5_500));
    expect(on(bob, id).migration?.state).toBe("switching");
    for (let minute = 0; minute < 8 && on(bob, id).migration?.state === "switching"; minute++) {
      clock.offsetMs += 60_000;
      await new Promise((resolve) => setTimeout(resolve, 5_500));
    }
  });
}, 120_000);

/** A link that breaks behind the next write of a record: that reaches the service, and no answer comes back, nor to anything else. */
class BreakingLink {
  isToBreak = false;
  isBroken = false;

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      request: async (request: Parameters<Transport["request"]>[0]) => {
        const isWrite = `${request.method} ${request.path}`.startsWith("PUT /v1/groups");
        const reply = this.isBroken ? undefined : await transport.request(request);
        if (this.isToBreak && isWrite) this.isBroken = true;
        if (this.isBroken || reply === undefined) throw new UnavailableError("connection/lost");
        return reply;
      },
      close: () => transport.close(),
    });
}

// The fault that it finds: a member that waits for minutes where nobody else is there to tell it.
test("a creator that vanishes when the record has its group go on, before it could tell: its members ask, also where it recovered", async () => {
  await using world = await World.start();
  const link = new BreakingLink();
  const [alice] = await movers(world, ["Alice"], { wrapTransport: link.wrapTransport });
  const [bob, carol] = await movers(world, ["Bob", "Carol"]);
  await introduce(alice, bob, carol);
  const members = [bob, carol];
  const { id } = await pairwiseGroup(alice, members);
  await on(alice, id).migrate("start");
  await requireMoved([alice, ...members], id, "all are in");
  const { context } = insidesOf(alice);
  const group = parseGroupId(id);
  await writeStep(alice, id, ({ migration }) => ({
    kind: "migrate-recover",
    generation: migration.generation + 1,
  }));
  await untilIn([alice], id, () => context.migration.own(group).reached !== undefined, "it has committed");
  link.isToBreak = true;
  await untilIn([alice], id, () => link.isBroken, "the record has the switch");
  await alice.stop();
  expect(members.map((device) => on(device, id).migration?.state)).toEqual(["recovering", "recovering"]);
  await requireMoved(members, id, "without Alice");
  for (const device of members)
    expect(on(device, id).migration).toMatchObject({ generation: 2, state: "switching" });
}, 120_000);

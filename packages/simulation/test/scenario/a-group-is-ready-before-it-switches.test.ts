import { setTimeout as delay } from "node:timers/promises";
import { type Environment, systemEnvironment, type Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import {
  GENTLE_ADDS,
  GENTLE_PATIENCE,
  GENTLE_PAUSE_MS_PER_MEMBER,
} from "../../../client-core/src/shell/migration/gentle.ts";
import { startFaultProxy } from "../../src/fault-proxy.ts";
import { FrameTap, introduce, type SimulatedDevice, World } from "../../src/index.ts";
import { on } from "../support/communities.ts";
import { allMoved, movable, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

const named = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, member) => `Member ${member}`);

// The fault that this finds: whoever was put in last has no time to join, because it took long to put all of them in. The
// others go over, and it hears nothing until it has joined.
test("members wait for a move that takes longer to prepare than they wait: whoever was put in last can still join", async () => {
  await using world = await World.start();
  // The creator brings the others, and the last commit but one leaves one of them; one more waits for the move.
  const members = 5 * GENTLE_ADDS + 3;
  const settings = { migrationUrgentDeadlineMs: 3_000, mlsThreshold: members, migrationMargin: 0 };
  const devices = await movers(world, named(members), { settings });
  const [alice, ...others] = devices as readonly SimulatedDevice[] as [SimulatedDevice, ...SimulatedDevice[]];
  const waiting = others.at(-1)!;
  const founders = devices.slice(0, -1);
  const { id } = await pairwiseGroup(alice, founders.slice(1));
  const talk = new Talk(id);
  await talk.say(others[0]!, "before");
  const steps: { readonly state: string; readonly isEverybodyReady: boolean }[] = [];
  alice.client.events.on((event) => {
    if (event.kind !== "migration" || event.accounts === 0) return;
    steps.push({ state: event.state, isEverybodyReady: event.readyAccounts === event.accounts });
  });
  const notReady = (code: string) =>
    (on(alice, id).migration?.notReady ?? []).filter((left) => left.code === code);

  await on(alice, id).add([waiting.id]);
  await untilIn([alice], id, () => notReady("migration/not-added").length === 1, "one has to be put in");
  const [left] = notReady("migration/not-added");
  const last = founders.find((device) => device.id === left!.accountId)!;
  await last.stop();
  await untilIn([alice], id, () => notReady("migration/not-joined").length === 1, "it is put in");
  await delay(1_000);
  expect(on(alice, id).migration).toMatchObject({ state: "preparing" });
  await last.start();

  await allMoved(founders, id);
  await talk.say(others[0]!, "after");
  await talk.heardBy(founders);
  expect(steps.find(({ state }) => state === "ready")).toEqual({ state: "ready", isEverybodyReady: true });
}, 120_000);

/** Up to where a device has vouched for the log of a group: a commit is vouched for when it is persisted. */
function vouchedFor(sent: FrameTap["sent"]): number {
  const spoken = sent.findLast(({ kind }) => kind === "groupAcknowledge");
  return spoken?.kind === "groupAcknowledge" ? spoken.throughSequence : 0;
}

/** A device's clock that stands still while something is so: a rest lasts until it is over, however slow the machine is. */
function clockThatStandsStill(whileSo: () => boolean): Environment {
  let stoodStillMs = 0;
  let sinceMs: number | undefined;
  const now = (): number => {
    const nowMs = Date.now();
    if (whileSo()) sinceMs ??= nowMs;
    else if (sinceMs !== undefined) {
      stoodStillMs += nowMs - sinceMs;
      sinceMs = undefined;
    }
    return (sinceMs ?? nowMs) - stoodStillMs;
  };
  return { ...systemEnvironment, now };
}

const commitsIn = (tap: FrameTap): number => tap.sent.filter(({ kind }) => kind === "groupCommit").length;

// The fault that this finds: devices that have more to do than they can are given the next commit, and fall behind what
// people say.
test("members that are not in yet keep the next ones waiting, and those that do not come keep nobody for long", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  const alice = await world.join("Alice", { settings: movable, wrapTransport: tap.wrapTransport });
  const others = await movers(world, named(3 * GENTLE_ADDS));
  await introduce(alice, ...others);
  const { id } = await pairwiseGroup(alice, others);
  const pauseMs = GENTLE_PAUSE_MS_PER_MEMBER * (others.length + 1);
  for (const device of others) await device.stop();

  await on(alice, id).migrate("start");
  const committedAtMs: number[] = [];
  for (let commits = 1; commits <= 3; commits++) {
    await untilIn([alice], id, () => commitsIn(tap) >= commits, `commit ${commits}`);
    committedAtMs.push(Date.now());
  }
  const [first, second, third] = committedAtMs as [number, number, number];
  // The moment in which it is looked at the commits is not that in which they were made.
  for (const ms of [second - first, third - second])
    expect(ms).toBeGreaterThan((GENTLE_PATIENCE - 0.5) * pauseMs);

  for (const device of others) await device.start();
  await allMoved([alice, ...others], id);
}, 120_000);

// The fault that this finds: at the moment of the switch all members still have its commit to take, and the talk stands still
// for as long as that takes them.
test("members take the commit of the switch while they still talk pairwise, also those that are far away", async () => {
  await using world = await World.start();
  await using proxy = await startFaultProxy({ target: Number(new URL(world.origin).port) });
  const taps: FrameTap[] = [];
  const writes: { readonly atMs: number; readonly vouched: readonly number[] }[] = [];
  const seenByCreator = (transport: Transport): Transport => ({
    ...transport,
    request: (request) => {
      if (request.method === "PUT" && request.path.startsWith("/v1/groups/"))
        writes.push({ atMs: Date.now(), vouched: taps.map((tap) => vouchedFor(tap.sent)) });
      return transport.request(request);
    },
  });
  // A creator that rests waits for the slowest; one that does not rest does not look at its clock.
  let whenReady = Number.POSITIVE_INFINITY;
  let before: number | undefined;
  const environment = clockThatStandsStill(() => {
    const vouched = taps.map((tap) => vouchedFor(tap.sent));
    if (commitsIn(taps[0]!) > whenReady) before ??= Math.max(...vouched);
    return before !== undefined && Math.min(...vouched) <= before;
  });
  const devices: SimulatedDevice[] = [];
  for (const [member, name] of named(12).entries()) {
    const tap = new FrameTap();
    taps.push(tap);
    const wrapTransport = (transport: Transport): Transport =>
      member === 0 ? seenByCreator(tap.wrapTransport(transport)) : tap.wrapTransport(transport);
    const isFarAway = member === 1;
    const particular = member === 0 ? { environment } : isFarAway ? { origin: proxy.origin } : {};
    devices.push(await world.join(name, { settings: movable, wrapTransport, ...particular }));
  }
  await introduce(...devices);
  const [alice, ...others] = devices as [SimulatedDevice, ...SimulatedDevice[]];
  const { id } = await pairwiseGroup(alice, others);
  let switchedAtMs = 0;
  alice.client.events.on((event) => {
    if (event.kind === "protocol-changed") switchedAtMs = Date.now();
    if (event.kind === "migration" && event.state === "ready")
      whenReady = Math.min(whenReady, commitsIn(taps[0]!));
  });
  proxy.shape({ delayMs: 200 });
  await on(alice, id).migrate("start");
  await requireMoved(devices, id, "all have moved");
  const { vouched } = writes.findLast(({ atMs }) => atMs <= switchedAtMs)!;
  expect(Math.max(...vouched)).toBeGreaterThan(0);
  expect(new Set(vouched)).toEqual(new Set([Math.max(...vouched)]));
}, 120_000);

// The fault that this finds: the commit of the switch is made anew for each change of the record, members are given time for
// each of them, and a record that changes as often keeps the group from moving.
test("a record that changes all the time does not keep a group from moving", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  const changes = 20;
  let changed = 0;
  const rests = clockThatStandsStill(() => Math.min(commitsIn(tap) - 1, changes) > changed);
  const creator = { environment: rests, wrapTransport: tap.wrapTransport };
  const alice = await world.join("Alice", { settings: movable, ...creator });
  const others = await movers(world, ["Bob", "Carol"]);
  await introduce(alice, ...others);
  const [bob, carol] = others;
  const { id } = await pairwiseGroup(alice, others);
  await on(alice, id).setRole(bob.id, "owner");
  const roles = () =>
    on(bob, id)
      .members()
      .map(({ role }) => role);
  await untilIn([bob], id, () => roles().filter((role) => role === "owner").length === 2, "Bob is an owner");

  await on(alice, id).migrate("start");
  const isOver = () => on(alice, id).protocol === "mls";
  const changing = async (): Promise<void> => {
    while (changed < changes && !isOver()) {
      await untilIn([alice], id, () => commitsIn(tap) - 1 > changed || isOver(), "the switch is committed");
      // Whoever names the commit at once has done so by then.
      await delay(100);
      const change = on(bob, id).setRole(carol.id, changed % 2 === 0 ? "admin" : "member");
      // The switch may come first.
      await change.catch((error: Error) => expect(error.message).toBe("group/migrated"));
      changed++;
    }
  };
  await Promise.all([changing(), requireMoved([alice, ...others], id, "all have moved")]);
  expect(changed).toBeGreaterThan(0);
  expect(commitsIn(tap)).toBeLessThan(changes / 2);
}, 120_000);

const sealedIn = (tap: FrameTap): number => tap.sent.filter(({ kind }) => kind === "submitSealed").length;

// The fault that this finds: in the moment in which all members go over, each of them gets the same word once more.
test("the switch is told over the pairwise sessions when members have gone over, and not while they do", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  let sealedBefore: number | undefined;
  let areOver = false;
  const environment = clockThatStandsStill(() => sealedBefore !== undefined && !areOver);
  const alice = await world.join("Alice", {
    settings: movable,
    environment,
    wrapTransport: tap.wrapTransport,
  });
  const others = await movers(world, ["Bob", "Carol", "Dave"]);
  await introduce(alice, ...others);
  const { id } = await pairwiseGroup(alice, others);
  alice.client.events.on((event) => {
    if (event.kind === "protocol-changed") sealedBefore ??= sealedIn(tap);
  });
  await on(alice, id).migrate("start");
  await requireMoved([alice, ...others], id, "all have moved");
  // Longer than it rests.
  await delay(1_000);
  expect(sealedIn(tap)).toBe(sealedBefore);
  areOver = true;
  await untilIn([alice], id, () => sealedIn(tap) > sealedBefore!, "it is told");
}, 120_000);

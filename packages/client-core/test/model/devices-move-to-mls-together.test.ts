import { equalBytes, formatId, RejectionError } from "@murmuration/base";
import type { MigrationState } from "@murmuration/wire";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Decisions, soundDecisions } from "../support/moving-device.ts";
import { DEVICES, MovingWorld, Violation } from "../support/moving-world.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const slow = process.env["SLOW"] === "1";
const RUNS = slow ? 60_000 : 4_000;
/** A fault may need more than most, and ends its search. */
const FAULT_RUNS = slow ? 60_000 : 12_000;

interface Model {
  readonly world: MovingWorld;
}
type Command = fc.Command<Model, MovingWorld>;

const command = (name: string, run: (world: MovingWorld) => void): Command => ({
  check: () => true,
  run: ({ world }) => run(world),
  toString: () => name,
});

const anybody = fc.nat(DEVICES - 1);
const roleHolder = fc.constantFrom(0, 0, 1, 2);
const number = fc.nat(2 ** 30);

const of = <T extends unknown[]>(
  name: string,
  arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> },
  run: (world: MovingWorld, ...given: T) => void,
): fc.Arbitrary<Command> =>
  fc
    .tuple(...(arbitraries as fc.Arbitrary<unknown>[]))
    .map((given) => command(`${name} ${given.join(" ")}`, (world) => run(world, ...(given as T))));

const bustle = of("bustle", [number, fc.constantFrom(3, 10, 30, 80)], (world, by, steps) =>
  world.bustle(by, steps),
);

const commands: fc.Arbitrary<Command>[] = [
  bustle,
  bustle,
  bustle,
  of("say", [anybody], (world, who) => world.let(who, (device) => device.say())),
  of("say", [anybody], (world, who) => world.let(who, (device) => device.say())),
  of("act", [anybody, fc.nat(6), number], (world, who, what, pick) =>
    world.act(who, what, (below) => pick % below),
  ),
  of("start", [roleHolder], (world, who) => world.let(who, (device) => device.start())),
  of("two start", [fc.constantFrom(0, 1), fc.constantFrom(1, 2)], (world, one, other) => {
    world.let(one, (device) => device.start());
    world.let(other, (device) => device.start());
  }),
  of("give up", [roleHolder], (world, who) => world.let(who, (device) => device.abort())),
  of("finish now", [roleHolder], (world, who) => world.let(who, (device) => device.finishNow())),
  of("add", [roleHolder, anybody], (world, by, who) => world.add(by, who)),
  of("remove", [roleHolder, fc.integer({ min: 1, max: DEVICES - 1 })], (world, by, who) =>
    world.remove(by, who),
  ),
  of("come and go", [fc.constantFrom(4, 5), number], (world, who, by) => world.roundThreshold(who, by)),
  of("taken pairwise and not answered", [anybody], (world, who) => world.bringUnanswered(who)),
  of("remove behind the commit", [fc.integer({ min: 1, max: DEVICES - 1 }), number], (world, who, by) =>
    world.removeBehindCommit(who, by),
  ),
  of("remove in the commit", [fc.integer({ min: 1, max: DEVICES - 1 }), number], (world, who, by) =>
    world.removeInCommit(who, by),
  ),
  of("take the switching commit back", [number], (world, by) => world.takeBackSwitch(by)),
  of(
    "role",
    [fc.integer({ min: 1, max: 3 }), fc.constantFrom("member", "admin", "owner")],
    (world, who, role) => world.setRole(who, role),
  ),
  of(
    "role over MLS",
    [fc.integer({ min: 1, max: 3 }), fc.constantFrom("member", "admin", "owner")],
    (world, who, role) => world.setRoleOverMls(who, role),
  ),
  of("remove from MLS", [fc.integer({ min: 1, max: DEVICES - 1 })], (world, who) => world.removeFromMls(who)),
  of("lose the creator", [number], (world, by) => world.loseCreator(by)),
  of("ordinary commit", [anybody], (world, who) => world.ordinaryCommit(who)),
  of("crash at the next answer", [anybody], (world, who) => {
    world.devices[who]!.crashes = true;
  }),
  of("crash", [anybody], (world, who) => world.devices[who]!.restart()),
  of("offline", [anybody], (world, who) => {
    world.devices[who]!.isOnline = false;
  }),
  of("online", [anybody], (world, who) => {
    world.devices[who]!.isOnline = true;
  }),
  of("later", [fc.constantFrom(1_000, 20_000, 59_999, 61_000, 200_000)], (world, ms) => {
    world.service.nowMs += ms;
  }),
  of("notice comes twice", [number], (world, by) => world.duplicate(by)),
  of("service shows an older record", [anybody, fc.integer({ min: 1, max: 3 })], (world, who, by) =>
    world.rollBack(who, by),
  ),
  of("service refuses for nothing", [anybody], (world, who) =>
    world.let(who, (device) => device.refusedFence()),
  ),
  of("service keeps one in the past", [anybody], (world, who) => world.keepInPast(who)),
  of("no KeyPackages", [fc.integer({ min: 1, max: DEVICES - 1 })], (world, who) => {
    world.devices[who]!.hasKeyPackages = false;
  }),
  of(
    "creator turns evil",
    [fc.constantFrom(1, 2), fc.constantFrom("ghost", "promote", "ordinary", "misnamed", "void")],
    (world, who, evil) => {
      world.devices[who]!.evil = evil;
    },
  ),
];

/** Most runs begin on the way, where a search from the beginning seldom comes. */
const way = fc.record({
  until: fc.constantFrom<MigrationState>("pairwise", "preparing", "ready", "switching", "switching", "mls"),
  creator: roleHolder,
  evil: fc.constantFrom(undefined, undefined, undefined, "ghost", "promote", "ordinary", "misnamed", "void"),
  seed: number,
  /** Devices that are away from the start, and others that have no KeyPackages. */
  away: fc.constantFrom([], [], [], [3], [1], [2, 3]),
  unreachable: fc.constantFrom([], [], [], [3], [1]),
});

function goTo(
  world: MovingWorld,
  { until, creator, evil, seed: by, away, unreachable }: typeof way extends fc.Arbitrary<infer T> ? T : never,
): void {
  for (const who of away) if (who !== creator) world.devices[who]!.isOnline = false;
  for (const who of unreachable) world.devices[who]!.hasKeyPackages = false;
  if (until === "pairwise") return;
  world.let(creator, (device) => device.start());
  if (creator > 0 && evil !== undefined) world.devices[creator]!.evil = evil;
  if (away.length + unreachable.length > 0) {
    world.bustle(by, 20);
    world.let(creator, (device) => device.finishNow());
  }
  for (let step = 0; step < 400 && world.service.migration.state !== until; step++) {
    if (step % 20 === 0) world.let((by + step) % 4, (device) => device.say());
    world.bustle(by + step, 5);
  }
}

const runs = fc.tuple(way, fc.commands(commands, { maxCommands: 40, size: "max" }));

type Fault = Partial<Decisions>;
const sound = soundDecisions;

/** Small wrong versions of a decision, some of which the client once had. */
const faults: Readonly<Record<string, Fault>> = {
  "switches without a look at the roster": {
    decideSwitch: (facts) => sound.decideSwitch({ ...facts, hasStrangers: false, isMisnamed: false }),
  },
  "does not look at roles": {
    strangersAmong: (roster, members) =>
      sound.strangersAmong(
        roster.map((one) => {
          const member = members.find(({ account }) => equalBytes(account, one.account));
          return { ...one, role: member?.role ?? one.role };
        }),
        members,
      ),
  },
  "goes over by a commit that was taken back": {
    keepsReachedTakenBack: true,
    decideSwitch: (facts) =>
      sound.decideSwitch({
        ...facts,
        epoch: facts.epoch && Math.max(facts.epoch, facts.switchPoint?.epoch ?? 0),
      }),
  },
  "is led past the switch by ordinary commits": {
    decideSwitch: (facts) =>
      sound.decideSwitch({
        ...facts,
        enteredEpoch: facts.reached === undefined ? (facts.epoch ?? 0) : facts.enteredEpoch,
      }),
  },
  "switches by a refusal alone": { switchesByRefusal: true },
  "keeps a secret that somebody knows who was removed": {
    decidePreparation: (facts) =>
      sound.decidePreparation({ ...facts, secretDue: facts.secretDue && !facts.secretSent }),
    decideSwitchWrite: (facts) => sound.decideSwitchWrite({ ...facts, secretDue: false }),
  },
  "names a switching commit that was made before a removal": {
    mustCommitSwitch: ({ reached, hasForeignLeaves, isContextInForce }) =>
      reached === undefined || hasForeignLeaves || !isContextInForce,
    keepsReachedAtNewSecret: true,
  },
  "prepares on when its role was taken": {
    decidePreparation: (facts) => sound.decidePreparation({ ...facts, mayStep: true }),
  },
  "never takes over": { mayTakeOver: () => false },
  "takes over while the lease runs": {
    mayTakeOver: (facts) => sound.mayTakeOver({ ...facts, leaseLeftMs: 0 }),
  },
  "adds members for ever and does not end by its deadline": {
    decidePreparation: (facts) =>
      sound.decidePreparation({ ...facts, deadlineAtMs: Number.POSITIVE_INFINITY, finishNow: false }),
  },
  "announces one less than it has said pairwise": {
    planSaidAnew: (rows, numbered) => {
      const plan = sound.planSaidAnew(rows, numbered);
      return { ...plan, takeBackFrom: plan.takeBackFrom === undefined ? undefined : plan.takeBackFrom - 1 };
    },
  },
  "does not say again what waited at the switch": {
    planSaidAnew: (rows, numbered) => ({ ...sound.planSaidAnew(rows, numbered), sayAnew: [] }),
  },
  "takes what is said pairwise behind the announced end": {
    decidePairwise: (facts) => ({ ...sound.decidePairwise(facts), take: true }),
  },
  "takes nothing pairwise once it has switched": {
    decidePairwise: (facts) => ({ ...sound.decidePairwise(facts), take: facts.switchedAtMs === 0 }),
  },
  "shows what is said in MLS before its switch": { showsBeforeSwitch: true },
  "shows what is said in MLS before what its author had said": { mustWait: () => false },
  "holds for ever": { mustWait: ({ last }) => last !== undefined },
  "accepts an older record": { checkContinues: () => {} },
  "goes into the group of an attempt that is over": {
    placeWelcome: (...welcome) => {
      const place = sound.placeWelcome(...welcome);
      return place === "over" ? undefined : place;
    },
  },
  "stays outside when all others are through": {
    decideFollow: (facts) => (facts.state === "mls" ? "nothing" : sound.decideFollow(facts)),
  },
  "keeps the roles of a group that is given up": { goesByRecordAgain: false },
  "takes it from role holders of the record alone that all is done": {
    applyChange: (state, change) => {
      const role = state.members.get(formatId(change.author.accountId))?.role ?? "member";
      if (change.action.kind === "migrate-done" && role === "member")
        throw new RejectionError("group/role-too-low");
      return sound.applyChange(state, change);
    },
  },
  "enters from outside while its Welcome or secret is on the way": {
    decideFollow: (facts) => sound.decideFollow({ ...facts, isMailboxEmpty: true }),
  },
};

function search(decisions: Decisions, numRuns: number, count: (name: string) => void, endOnFailure = false) {
  return fc.check(
    fc.property(runs, ([start, run]) => {
      const world = new MovingWorld(decisions, count);
      goTo(world, start);
      fc.modelRun(() => ({ model: { world }, real: world }), run);
      world.heal();
    }),
    { seed, numRuns, endOnFailure },
  );
}

// biome-ignore format: one name a line would be a page.
const happenings = [
  "prepare", "ready", "abort", "switch", "done", "recover", "take-over tried", "done in the creator's place", "ends in pairwise",
  "ends in mls", "switched", "switched from outside", "said over MLS", "remove while pairwise",
  "remove while preparing", "remove while ready", "remove over MLS", "role over MLS", "role while switching", "crash", "duplicate",
  "group/rolled-back", "kept in the past", "stale welcome", "pairwise after the switch", "unanswered",
  "entered anew", "migration/roster-mismatch", "migration/other-epoch",
  "remove in the switching commit", "remove behind the commit", "remove while switching", "remove while recovering",
  "two creators", "round the threshold", "switching commit taken back",
  "creator crashes while preparing", "creator crashes while ready", "creator crashes while switching",
  "creator crashes while recovering",
  "notice comes before one that was written earlier", "notice comes behind one that was written later",
];

describe(`devices move to MLS together, seed ${seed} (replay with SEED=${seed})`, () => {
  it(
    "whatever they do, nothing is lost, doubled, out of order or read by others, and the move ends",
    () => {
      const counts = new Map<string, number>();
      const details = search(soundDecisions, RUNS, (name) => counts.set(name, (counts.get(name) ?? 0) + 1));
      console.log(JSON.stringify(Object.fromEntries([...counts].sort())));
      expect(details.failed, `${fc.defaultReportMessage(details)}\n${String(details.errorInstance)}`).toBe(
        false,
      );
      // The search proves nothing unless all of it happened.
      for (const name of happenings) expect(counts.get(name) ?? 0, name).toBeGreaterThan(3);
    },
    slow ? 1_200_000 : 120_000,
  );

  it.each(Object.entries(faults))("a device that %s is found out", (_, fault) => {
    const details = search({ ...sound, ...fault }, FAULT_RUNS, () => {}, true);
    console.log(`found in run ${details.numRuns}: ${String(details.errorInstance).split("\n")[0]}`);
    expect(details.failed).toBe(true);
    expect(details.errorInstance).toBeInstanceOf(Violation);
  });
});

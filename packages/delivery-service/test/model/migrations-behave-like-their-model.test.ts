import { hasSwitched, type MigrationState, migrationStates, migrationTransitions } from "@murmuration/wire";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryGroupRecordStore } from "../../src/adapters/memory-small-stores.ts";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import type { GroupMigration, GroupRecordStore } from "../../src/ports/group-records.ts";
import {
  answer,
  begun,
  type GroupModel,
  leaseLeft,
  type ModelAnswer,
  type ModelRequest,
  possible,
} from "../support/migration-model.ts";
import { blobBytes, MigrationWorld, type Shelf, START_MS } from "../support/migration-world.ts";
import { temporaryDirectory } from "../support/service.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const slow = process.env["SLOW"] === "1";
const states = Object.keys(migrationStates) as MigrationState[];
const CLIENTS = 3;

/** The group, and what its clients know of it. */
class Model {
  group: GroupModel = {
    nowMs: START_MS,
    revision: 1,
    blob: 0,
    fence: 0,
    state: "pairwise",
    generation: 0,
    holder: undefined,
    untilMs: 0,
  };
  /** Tokens that each client drew, also those that nobody took. */
  readonly tokens: number[][] = Array.from({ length: CLIENTS }, () => []);
  private drawn = 0;
  readonly seen: Seen;

  constructor(seen: Seen) {
    this.seen = seen;
  }

  draw(): number {
    return ++this.drawn;
  }

  /** Takes a request over, and holds the answer to the model's. */
  expect(request: ModelRequest, given: ModelAnswer): void {
    const [next, expected] = answer(this.group, request);
    expect(given, JSON.stringify(request)).toEqual(expected);
    this.become(next, [request], [given]);
  }

  become(next: GroupModel, requests: readonly ModelRequest[], answers: readonly ModelAnswer[]): void {
    const before = this.group;
    this.group = next;
    expect(next.generation).toBeGreaterThanOrEqual(before.generation);
    if (hasSwitched(before.state)) expect(hasSwitched(next.state)).toBe(true);
    answers.forEach((given, index) => {
      if (given.kind === "refused") this.seen.count(given.code);
      const request = requests[index]!;
      if (given.kind === "renewed") this.seen.count(leaseLeft(before) > 0 ? "renewal" : "late renewal");
      if (given.kind !== "written" || request.kind !== "write" || request.step === undefined) return;
      this.seen.count(`${before.state} to ${request.step.to}`);
      if (before.holder !== undefined && begun(next.state) && request.step.token !== before.holder) {
        this.seen.count("take-over");
      }
    });
  }
}

/** How often what happened: a search that never came there proves nothing. */
class Seen {
  readonly counts = new Map<string, number>();
  count(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }
}

const mostly = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
  fc.constantFrom(...Array.from({ length: 12 }, () => usual), ...others);

/** How a client makes its request: mostly as it should. */
const choice = fc.record({
  client: fc.constantFrom("holder", "holder", "holder", 0, 1, 2),
  kind: fc.constantFrom("step", "step", "step", "step", "write", "renew"),
  // Of those that are possible, the last ones lead on.
  to: fc.constantFrom<number | "begin">(0, 1, 2, 3, 4, 4, 5, 5),
  wild: mostly(false, true, true),
  generation: mostly(0, -1, 1),
  token: mostly("own", "none", "drawn", "drawn"),
  newToken: mostly("right", "wrong"),
  fence: mostly("right", "none", "none", "same", "same", "new", "new"),
  revision: mostly(0, -1, 1),
});
type Choice = typeof choice extends fc.Arbitrary<infer T> ? T : never;

const asItShould: Choice = {
  client: "holder",
  kind: "step",
  to: "begin",
  wild: false,
  generation: 0,
  token: "own",
  newToken: "right",
  fence: "right",
  revision: 0,
};
/** What meets at the end of a lease: its holder, who comes late, somebody in its place, and whoever writes meanwhile. */
const rush = fc.shuffledSubarray<Choice>(
  [
    { ...asItShould, kind: "renew" },
    { ...asItShould, token: "none" },
    { ...asItShould, kind: "write" },
  ],
  { minLength: 2 },
);

function requestOf(model: Model, chosen: Choice): ModelRequest {
  const { group } = model;
  const holder = model.tokens.findIndex((tokens) => tokens.includes(group.holder ?? -1));
  const client = chosen.client === "holder" ? Math.max(0, holder) : Number(chosen.client);
  const own = client === holder ? group.holder : model.tokens[client]!.at(-1);
  const token = chosen.token === "own" ? own : chosen.token === "none" ? undefined : model.draw();
  if (chosen.kind === "renew") {
    return {
      kind: "renew",
      generation: Math.max(1, group.generation + chosen.generation),
      token: token ?? 0,
    };
  }
  const targets = chosen.wild ? states : states.filter((to) => possible(group.state, to));
  const to = chosen.to === "begin" ? targets.find(begun)! : targets[chosen.to % targets.length]!;
  const isStep = chosen.kind === "step";
  const drawsFence =
    chosen.fence === "new" || (isStep && chosen.fence === "right" && to === "switching" && !gone(group));
  const fence = drawsFence ? model.draw() : chosen.fence === "same" ? group.fence : undefined;
  const newToken = isStep && begun(to) === (chosen.newToken === "right") ? model.draw() : undefined;
  if (newToken !== undefined) model.tokens[client]!.push(newToken);
  const generation = Math.max(1, group.generation + (begun(to) ? 1 : 0) + chosen.generation);
  return {
    kind: "write",
    revision: group.revision + chosen.revision,
    blob: model.draw(),
    fence,
    step: isStep ? { to, generation, token, newToken } : undefined,
  };
}

const gone = (group: GroupModel): boolean => hasSwitched(group.state);

/** Most runs begin on the way, where a search from the beginning seldom comes. */
const ways: readonly (readonly MigrationState[])[] = [
  [],
  ["preparing"],
  ["preparing", "ready"],
  ["preparing", "ready", "switching"],
  ["preparing", "ready", "switching", "mls"],
  ["preparing", "ready", "switching", "recovering"],
];

async function goTo(way: readonly MigrationState[], model: Model, world: MigrationWorld): Promise<void> {
  for (const to of way) {
    const { state, generation, fence, revision, holder } = model.group;
    const newToken = begun(to) ? model.draw() : undefined;
    if (newToken !== undefined) model.tokens[0]!.push(newToken);
    const request: ModelRequest = {
      kind: "write",
      revision,
      blob: model.draw(),
      fence: to === "switching" && state === "ready" ? model.draw() : fence,
      step: { to, generation: generation + (begun(to) ? 1 : 0), token: holder, newToken },
    };
    model.expect(request, await world.answer(request));
  }
}

type Command = fc.AsyncCommand<Model, MigrationWorld>;

/** Runs one step on model and service, and then holds what can be asked of the service to the model. */
function command(name: string, step: (model: Model, world: MigrationWorld) => Promise<void>): Command {
  return {
    check: () => true,
    async run(model, world) {
      const { fence } = model.group;
      await step(model, world);
      const { group } = model;
      expect(await world.read()).toEqual({
        revision: group.revision,
        blob: blobBytes(group.blob),
        ...(group.generation > 0 && {
          migration: { state: group.state, generation: group.generation, leaseLeftMs: leaseLeft(group) },
        }),
      });
      expect(await world.takes(group.fence)).toBe(!gone(group));
      if (fence !== group.fence) expect(await world.takes(fence)).toBe(false);
    },
    toString: () => name,
  };
}

/** In a race the service may have seen that a lease is lost before or after it knew why. */
const whyNot = (request: ModelRequest, given: ModelAnswer): ModelAnswer =>
  request.kind === "renew" && given.kind === "refused" ? { kind: "refused", code: "lost" } : given;

function orders<T>(items: readonly T[]): (readonly T[])[] {
  if (items.length < 2) return [items];
  return items.flatMap((item, index) => orders(items.toSpliced(index, 1)).map((rest) => [item, ...rest]));
}

/** The group after an order of the requests that explains all answers; undefined if none does. */
function explain(
  group: GroupModel,
  requests: readonly ModelRequest[],
  answers: readonly ModelAnswer[],
): GroupModel | undefined {
  for (const order of orders(requests.map((_, index) => index))) {
    let state = group;
    const fits = order.every((index) => {
      const [next, expected] = answer(state, requests[index]!);
      state = next;
      const [ours, its] = [expected, answers[index]!].map((one) => whyNot(requests[index]!, one));
      return JSON.stringify(ours) === JSON.stringify(its);
    });
    if (fits) return state;
  }
  return undefined;
}

const clockSteps = [1, 1_000, 20_000, 59_999, 60_000, 60_001, 60_001, 200_000, -5_000];

const commands: fc.Arbitrary<Command>[] = [
  ...[0, 1, 2].map(() =>
    choice.map((chosen) =>
      command(`request ${JSON.stringify(chosen)}`, async (model, world) => {
        const request = requestOf(model, chosen);
        model.expect(request, await world.answer(request));
      }),
    ),
  ),
  ...[fc.array(choice, { minLength: 2, maxLength: 3 }), rush].map((requests) =>
    fc
      .tuple(requests, fc.array(fc.nat(12), { minLength: 6, maxLength: 6 }), fc.constantFrom(0, 60_000))
      .map(([chosen, delays, laterMs]) =>
        command(`race ${laterMs} ms later ${JSON.stringify({ chosen, delays })}`, async (model, world) => {
          world.nowMs += laterMs;
          model.group = { ...model.group, nowMs: world.nowMs };
          const made = chosen.map((one) => requestOf(model, one));
          world.delays = [...delays];
          const answers = await Promise.all(made.map((request) => world.answer(request)));
          world.delays = [];
          const next = explain(model.group, made, answers);
          if (next === undefined) throw new Error(`no order explains ${JSON.stringify({ made, answers })}`);
          model.seen.count("race");
          model.become(next, made, answers);
        }),
      ),
  ),
  fc.constantFrom(...clockSteps).map((ms) =>
    command(`${ms} ms later`, async (model, world) => {
      world.nowMs += ms;
      model.group = { ...model.group, nowMs: world.nowMs };
    }),
  ),
  fc.constant(
    command("restart", async (model, world) => {
      model.seen.count("restart");
      await world.restart();
      const { state, generation } = model.group;
      expect(await world.migrations()).toEqual(generation === 0 ? {} : { [state]: 1 });
    }),
  ),
];
const runs = fc.tuple(fc.constantFrom(...ways), fc.commands(commands, { maxCommands: 40 }));
type Run = readonly [(typeof ways)[number], Iterable<Command>];

const sound = (store: GroupRecordStore): GroupRecordStore => store;

/** In memory a restart takes every record out of one store and into another. */
const inMemory = (
  fault = sound,
  kept: (migration: GroupMigration | undefined) => GroupMigration | undefined = (migration) => migration,
): Shelf & { readonly done: () => Promise<void> } => {
  let known: Parameters<GroupRecordStore["load"]>[0] | undefined;
  const remembering = (store: GroupRecordStore): GroupRecordStore =>
    changed(store, {
      create: (record) => {
        known = record.groupId;
        return store.create(record);
      },
    });
  return {
    open: async () => remembering(new MemoryGroupRecordStore()),
    reopen: async (old) => {
      const store = remembering(new MemoryGroupRecordStore());
      const record = (await old.load(known!))!;
      await store.create({ ...structuredClone(record), groupId: known!, migration: kept(record.migration) });
      return store;
    },
    fault,
    done: async () => {},
  };
};

/** In a file a restart closes it and opens it again. */
const inFile = (): Shelf & { readonly done: () => Promise<void> } => {
  const directory = temporaryDirectory();
  let stores = openSqliteStores(directory.path);
  return {
    open: async () => stores.groupRecords,
    reopen: async () => {
      await stores.close();
      stores = openSqliteStores(directory.path);
      return stores.groupRecords;
    },
    fault: sound,
    done: async () => {
      await stores.close();
      directory.remove();
    },
  };
};

/** A store with some of its methods replaced. */
function changed(store: GroupRecordStore, methods: Partial<GroupRecordStore>): GroupRecordStore {
  return Object.assign(Object.create(store) as GroupRecordStore, methods);
}

/** Shows another migration than the stored one. */
const shown =
  (change: (migration: GroupMigration) => GroupMigration) =>
  (store: GroupRecordStore): GroupRecordStore =>
    changed(store, {
      load: async (id) => {
        const record = await store.load(id);
        return record?.migration === undefined ? record : { ...record, migration: change(record.migration) };
      },
    });
const unguarded = (store: GroupRecordStore): GroupRecordStore =>
  changed(store, {
    compareAndSet: (next, write) =>
      store.compareAndSet(next, write.kind === "keep" ? write : { ...write, ifLeaseUntilMs: undefined }),
  });

const faults: Readonly<Record<string, () => ReturnType<typeof inMemory>>> = {
  "does not look at the time of a lease": () =>
    inMemory((store) =>
      shown((m) => (m.lease === undefined ? m : { ...m, lease: { ...m.lease, untilMs: 0 } }))(
        unguarded(store),
      ),
    ),
  "renews the lease of whoever holds it by then": () =>
    inMemory((store) =>
      changed(store, {
        renewLease: async (id, lease) => {
          const held = (await store.load(id))?.migration?.lease;
          return held === undefined ? "lost" : store.renewLease(id, { ...held, untilMs: lease.untilMs });
        },
      }),
    ),
  "takes a lease over that was renewed meanwhile": () => inMemory(unguarded),
  "forgets the generation when a migration is given up": () =>
    inMemory((store) =>
      changed(store, {
        compareAndSet: (next, write) =>
          store.compareAndSet(
            next.migration?.state === "pairwise" ? { ...next, migration: undefined } : next,
            write,
          ),
      }),
    ),
  "lets a generation go back": () =>
    inMemory(shown((m) => (m.state === "mls" ? { ...m, generation: m.generation - 1 } : m))),
  "lets a group that is switching go back": () =>
    inMemory(
      shown((m) =>
        m.state === "switching"
          ? { ...m, state: "ready", lease: { tokenHash: new Uint8Array(32), untilMs: 0 } }
          : m,
      ),
    ),
  "lets a recovery be given up": () =>
    inMemory(shown((m) => (m.state === "recovering" ? { ...m, state: "preparing" } : m))),
  "ignores the revision": () =>
    inMemory((store) =>
      changed(store, {
        compareAndSet: async (next, write) => {
          const stored = await store.load(next.groupId);
          return store.compareAndSet({ ...next, revision: stored!.revision + 1 }, write);
        },
      }),
    ),
  "takes a lease back that was renewed, with any write": () =>
    inMemory((store) =>
      changed(store, {
        compareAndSet: (next, write) =>
          store.compareAndSet(
            next,
            write.kind === "keep" ? { kind: "replace", ifLeaseUntilMs: undefined } : write,
          ),
      }),
    ),
  "forgets the migration with a write that is none of its steps": () =>
    inMemory((store) =>
      changed(store, {
        compareAndSet: (next, write) =>
          write.kind === "keep"
            ? store.compareAndSet(
                { ...next, migration: undefined },
                { kind: "replace", ifLeaseUntilMs: undefined },
              )
            : store.compareAndSet(next, write),
      }),
    ),
  "forgets the lease when it restarts": () =>
    inMemory(sound, (m) => (m?.lease === undefined ? m : { ...m, lease: { ...m.lease, untilMs: 0 } })),
  "stores a step and no fence": () =>
    inMemory((store) =>
      changed(store, {
        compareAndSet: async (next, write) => {
          const stored = await store.load(next.groupId);
          return store.compareAndSet(write.kind === "keep" ? next : { ...next, fence: stored!.fence }, write);
        },
      }),
    ),
};

async function runOn(shelf: ReturnType<typeof inMemory>, [way, run]: Run, seen: Seen): Promise<void> {
  try {
    const model = new Model(seen);
    const world = await MigrationWorld.open(shelf, model.group);
    await goTo(way, model, world);
    await fc.asyncModelRun(() => ({ model, real: world }), run);
  } finally {
    await shelf.done();
  }
}

describe(`migrations behave like their model, seed ${seed} (replay with SEED=${seed})`, () => {
  it.each([
    ["memory", inMemory, slow ? 30_000 : 2_000],
    ["a file", inFile, slow ? 1_000 : 60],
  ] as const)(
    "after any requests, races and restarts the service in %s answers as the model does",
    async (_, shelf, numRuns) => {
      const seen = new Seen();
      await fc.assert(
        fc.asyncProperty(runs, (run) => runOn(shelf(), run, seen)),
        { seed, numRuns },
      );
      console.log(JSON.stringify(Object.fromEntries([...seen.counts].sort())));
      if (numRuns < 2_000) return;
      // The search proves nothing unless all of it happened.
      for (const name of [
        ...migrationTransitions.map(({ from, to }) => `${from} to ${to}`),
        "migration/not-possible",
        "migration/wrong-generation",
        "migration/lease-held",
        "migration/lease-lost",
        "migration/fence-missing",
        "group/revision-conflict",
        "wire/missing-field",
        "wire/invalid-field",
        "race",
        "restart",
        "take-over",
        "renewal",
        "late renewal",
      ]) {
        expect(seen.counts.get(name) ?? 0, name).toBeGreaterThan(3);
      }
    },
    slow ? 1_200_000 : 120_000,
  );

  it.each(Object.entries(faults))("a service that %s is found out", async (_, shelf) => {
    const details = await fc.check(
      fc.asyncProperty(runs, (run) => runOn(shelf(), run, new Seen())),
      { seed, numRuns: 2_000, endOnFailure: true },
    );
    expect(details.failed).toBe(true);
    console.log(`found in run ${details.numRuns}`);
  });
});

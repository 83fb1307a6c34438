/**
 * The measured operations, written once over {@link MlsImplementation}. A unit yields the operations that one
 * preparation serves: a commit is created by one member and processed by others.
 */
import { utf8 } from "@murmuration/base";
import { type GroupFixture, type KeyPackageFixture, makeGroup, makeKeyPackage } from "./fixture.ts";
import type { Added, MlsImplementation, StoredRows } from "./implementation.ts";
import type { Counts, Operation } from "./rows.ts";

/** One run of one operation. */
export interface Sample {
  readonly operation: Operation;
  readonly ms: number;
  readonly worstMs: number | null;
  readonly bytes: number | null;
  readonly counts: Counts;
}

/** Told before each part, so that a run which takes too long can be named and cut. */
export type Announce = (operation: Operation, phase: "preparing" | "measuring") => void;

export const unitOperations = {
  "key-package": ["key-package"],
  "bulk-add": ["bulk-add"],
  "join-cold": ["join-cold"],
  "join-cold-pooled": ["join-cold-pooled"],
  "join-warm": ["join-warm"],
  "join-warm-pooled": ["join-warm-pooled"],
  "commit-cold": ["commit-create-cold", "commit-process-cold"],
  "commit-warm": ["commit-create-warm", "commit-process-warm"],
  application: ["application-create", "application-process"],
  load: ["load"],
  store: ["store-application", "store-commit"],
} as const satisfies Record<string, readonly Operation[]>;

export type Unit = keyof typeof unitOperations;
export const units = Object.keys(unitOperations) as Unit[];

const RECEIVERS = 6;
const WARM_UP_MEMBERS = 20;
const LOADED_GROUPS = 20;
/** Beyond this size fewer groups are loaded, so that the benchmark fits a small machine. */
const MANY_MEMBERS = 20_000;
const FEW_GROUPS = 4;
/** Short operations are optimised only after some thousand calls; a running client has made them. */
const WARM_UP_MS = { short: 1_500, long: 200 };
const SHORT_UNITS: readonly Unit[] = ["application", "commit-warm", "store"];
/**
 * Short operations are repeated within one run, as in a client that is at work: a process that idled while the others
 * had their turn finds cold caches, which the floor's loops do not. A slow implementation stops at the time.
 *
 * And they are repeated unmeasured before that. Each run begins with a forced collection, which empties the caches
 * in proportion to the heap, lets maps of objects die that compiled code relies on, and leaves pages to be mapped
 * again: the first hundred messages after it took up to ten times as long, the more members the longer. No client
 * collects before it sends, and nothing is collected before the floor's loops either.
 */
const STEADY = { messages: 400, leastMessages: 50, commits: 16, keyPackages: 200, forMs: 300, settleMs: 150 };
/** What only these units need; it is let go when another one begins, since a client does not hold it either. */
const NEEDED_BY: readonly (readonly [string, readonly Unit[]])[] = [
  ["key-packages", ["bulk-add", "join-cold", "join-cold-pooled"]],
  ["bulk-added", ["bulk-add", "join-cold", "join-cold-pooled"]],
  ["join-cold", ["join-cold", "join-cold-pooled"]],
  ["join-warm", ["join-warm", "join-warm-pooled"]],
  ["cold/", ["commit-cold"]],
  ["team/cold", ["commit-cold"]],
  ["team/warm", ["commit-warm"]],
  ["application-team", ["application"]],
];
/** 32 bytes. */
const PLAINTEXT = utf8("thirty-two bytes of chat message");

/** Leaves that receive: spread over the whole tree, the same for each implementation; leaf 0 is the sender. */
export function receiverLeaves(members: number): number[] {
  const count = Math.min(RECEIVERS, members - 1);
  const leaves = new Set<number>();
  for (let i = 0; leaves.size < count; i++) {
    const spread = Math.floor((i + 0.5) * 0.618_033_988_75 * members) % members;
    if (spread !== 0) leaves.add(spread);
    if (i > 4 * members) leaves.add(leaves.size + 1);
  }
  return [...leaves];
}

const isPooled = (operation: Operation): boolean => operation.endsWith("pooled");

export class UnitRunner<M> {
  private readonly mls: MlsImplementation<M>;
  private readonly seed: string;
  private readonly announce: Announce;
  private members = 0;
  private prepared = new Map<string, unknown>();
  private announced: Operation | undefined;

  constructor(mls: MlsImplementation<M>, seed: string, announce: Announce) {
    this.mls = mls;
    this.seed = seed;
    this.announce = announce;
  }

  async run(unit: Unit, members: number): Promise<Sample[]> {
    if (members !== this.members) this.prepared = new Map();
    this.members = members;
    this.letGo(unit);
    this.announced = undefined;
    this.announce(unitOperations[unit][0], "preparing");
    // Garbage of what came before belongs to no operation of this run.
    globalThis.gc?.();
    return this.measure(unit);
  }

  private letGo(unit: Unit): void {
    for (const key of this.prepared.keys()) {
      const needed = NEEDED_BY.find(([prefix]) => key.startsWith(prefix));
      if (needed !== undefined && !needed[1].includes(unit)) this.prepared.delete(key);
    }
  }

  /** Runs everything on a small group until the engine's code is compiled: a running client is not a cold start. */
  async warmUp(): Promise<void> {
    for (const unit of units) {
      const budget = SHORT_UNITS.includes(unit) ? WARM_UP_MS.short : WARM_UP_MS.long;
      const end = performance.now() + budget;
      this.members = WARM_UP_MEMBERS;
      do await this.measure(unit);
      while (performance.now() < end);
    }
  }

  private measure(unit: Unit): Promise<Sample[]> {
    switch (unit) {
      case "key-package":
        return this.keyPackage();
      case "bulk-add":
        return this.bulkAdd();
      case "join-cold":
      case "join-cold-pooled":
        return this.joinCold(unit);
      case "join-warm":
      case "join-warm-pooled":
        return this.joinWarm(unit);
      case "commit-cold":
        return this.commits("cold");
      case "commit-warm":
        return this.commits("warm");
      case "application":
        return this.application();
      case "load":
        return this.load();
      case "store":
        return this.store();
    }
  }

  private async once<T>(key: string, make: () => T | Promise<T>): Promise<T> {
    if (!this.prepared.has(key)) this.prepared.set(key, await make());
    return this.prepared.get(key) as T;
  }

  private group(members: number, temperature: "warm" | "cold"): Promise<GroupFixture> {
    return this.once(`${temperature}/${members}`, () => makeGroup(this.seed, members, temperature));
  }

  private keyPackages(): Promise<KeyPackageFixture[]> {
    return this.once("key-packages", () =>
      Array.from({ length: this.members }, (_, index) => makeKeyPackage(this.seed, index)),
    );
  }

  /** Times one operation and takes its counts. */
  private async timed<T>(
    operation: Operation,
    action: () => T | Promise<T>,
    bytesOf: (result: T) => number | null,
  ): Promise<{ result: T; sample: Sample }> {
    let result!: T;
    const keep = (value: T): number | null => {
      result = value;
      return bytesOf(value);
    };
    const [sample] = await this.timedEach(operation, { times: 1 }, action, keep);
    return { result, sample: sample! };
  }

  /**
   * Times each of several calls: `times` of them, and where there is a limit no more than it allows but
   * {@link STEADY.leastMessages}. `keep` takes each result, untimed, and tells its bytes. The counts are taken once,
   * around all calls: an accountant between two messages is nothing that a client has.
   */
  private async timedEach<T>(
    operation: Operation,
    { times, forMs = Number.POSITIVE_INFINITY }: { readonly times: number; readonly forMs?: number },
    action: (index: number) => T | Promise<T>,
    keep: (result: T) => number | null,
  ): Promise<Sample[]> {
    if (this.announced !== operation) this.announce(operation, "measuring");
    this.announced = operation;
    const calls: { ms: number; bytes: number | null }[] = [];
    this.mls.takeCounts();
    const end = performance.now() + forMs;
    while (calls.length < times && (calls.length < STEADY.leastMessages || performance.now() < end)) {
      const start = performance.now();
      const outcome = action(calls.length);
      const result = outcome instanceof Promise ? await outcome : outcome;
      const ms = performance.now() - start;
      calls.push({ ms, bytes: keep(result) });
    }
    const counts = perCall(this.mls.takeCounts(), calls.length);
    return calls.map(({ ms, bytes }) => ({ operation, ms, worstMs: null, bytes, counts }));
  }

  /** Runs something unmeasured until the process is at work, see {@link STEADY}; a slow implementation once. */
  private async settle(action: () => Promise<unknown>): Promise<void> {
    const end = performance.now() + STEADY.settleMs;
    do await action();
    while (performance.now() < end);
  }

  private async keyPackage(): Promise<Sample[]> {
    const identity = await this.once("identity", () => makeKeyPackage(this.seed, 0));
    const generate = (times: number): Promise<Sample[]> =>
      this.timedEach(
        "key-package",
        { times, forMs: STEADY.forMs },
        () => this.mls.generateKeyPackage(identity),
        (bytes) => bytes.length,
      );
    await this.settle(() => generate(10));
    return [meanOf(await generate(STEADY.keyPackages))];
  }

  private async bulkAdd(): Promise<Sample[]> {
    const [creator, ...others] = await this.keyPackages();
    const member = await this.mls.createGroup(creator!, utf8("bulk-add group"));
    const encoded = others.map(({ keyPackage }) => keyPackage);
    const { result, sample } = await this.timed(
      "bulk-add",
      () => this.mls.add(member, encoded),
      ({ commit, welcome }) => commit.length + welcome.length,
    );
    this.prepared.set("bulk-added", result);
    this.prepared.delete("bulk-added/tree");
    this.prepared.delete("join-cold/own");
    return [sample];
  }

  private async joinCold(operation: "join-cold" | "join-cold-pooled"): Promise<Sample[]> {
    if (!this.canJoin(operation)) return [];
    if (!this.prepared.has("bulk-added")) await this.bulkAdd();
    this.announce(operation, "preparing");
    const { member, welcome } = this.prepared.get("bulk-added") as Added<M>;
    const tree = await this.once("bulk-added/tree", () => this.mls.tree(member));
    const joiner = (await this.keyPackages()).at(-1)!;
    const own = await this.once("join-cold/own", () => this.mls.trimWelcome(welcome, joiner));
    return this.join(operation, joiner, own, tree);
  }

  private async joinWarm(operation: "join-warm" | "join-warm-pooled"): Promise<Sample[]> {
    if (!this.canJoin(operation)) return [];
    const { joiner, own, tree } = await this.once("join-warm/welcome", async () => {
      const adder = await this.mls.adopt(makeGroup(this.seed, this.members - 1, "warm"), 0);
      const newcomer = makeKeyPackage(this.seed, this.members - 1);
      const { member, welcome } = await this.mls.add(adder, [newcomer.keyPackage]);
      return {
        joiner: newcomer,
        own: await this.mls.trimWelcome(welcome, newcomer),
        tree: await this.mls.tree(member),
      };
    });
    return this.join(operation, joiner, own, tree);
  }

  private canJoin(operation: Operation): boolean {
    return !isPooled(operation) || this.mls.joinPooled !== undefined;
  }

  private async join(
    operation: Operation,
    joiner: KeyPackageFixture,
    own: Uint8Array,
    tree: Uint8Array | undefined,
  ): Promise<Sample[]> {
    const bytes = own.length + (tree?.length ?? 0);
    const action = () =>
      isPooled(operation) ? this.mls.joinPooled!(joiner, own, tree) : this.mls.join(joiner, own, tree);
    return [(await this.timed(operation, action, () => bytes)).sample];
  }

  /** The sender at leaf 0 first, then the receivers. */
  private team(temperature: "warm" | "cold"): Promise<M[]> {
    return this.once(`team/${temperature}`, async () => {
      const group = await this.group(this.members, temperature);
      const team: M[] = [];
      for (const leaf of [0, ...receiverLeaves(this.members)]) team.push(await this.mls.adopt(group, leaf));
      return team;
    });
  }

  /**
   * A cold commit is always that of leaf 0, whose copath stays blank; a warm one is that of each member in
   * turn. Every other member processes it.
   */
  private async commits(temperature: "warm" | "cold"): Promise<Sample[]> {
    // What leaf 0 fills is its own path, so each round finds the same tree.
    if (temperature === "cold") return this.rounds(() => this.commitRound(temperature));
    // The turn stays: runs go on round the team, and the first one begins with leaf 0.
    const turn = this.prepared.get("turn");
    await this.settle(() => this.commitRound(temperature));
    this.prepared.set("turn", turn ?? 0);
    return this.rounds(() => this.commitRound(temperature));
  }

  /** As many rounds as make a steady state, one at least. */
  private async rounds(round: () => Promise<Sample[]>): Promise<Sample[]> {
    const end = performance.now() + STEADY.forMs;
    const samples = await round();
    for (let done = 1; done < STEADY.commits && performance.now() < end; done++) {
      samples.push(...(await round()));
    }
    return samples;
  }

  /** One member of the team commits, all others process it. */
  private async commitRound(temperature: "warm" | "cold"): Promise<Sample[]> {
    const team = await this.team(temperature);
    const turn = temperature === "warm" ? ((this.prepared.get("turn") as number | undefined) ?? 0) : 0;
    this.prepared.set("turn", (turn + 1) % team.length);
    const created = await this.timed(
      `commit-create-${temperature}`,
      () => this.mls.commit(team[turn]!),
      ({ commit }) => commit.length,
    );
    const { commit, member } = created.result;
    const processed: Sample[] = [];
    for (const [index, receiver] of team.entries()) {
      if (index === turn) continue;
      const { result, sample } = await this.timed(
        `commit-process-${temperature}`,
        () => this.mls.process(receiver, commit),
        () => commit.length,
      );
      team[index] = result;
      processed.push(sample);
    }
    team[turn] = member;
    return [created.sample, meanOf(processed)];
  }

  private async application(): Promise<Sample[]> {
    const team = await this.once<M[]>("application-team", async () => {
      const group = await this.group(this.members, "warm");
      const pair = [await this.mls.adopt(group, 0), await this.mls.adopt(group, this.members - 1)];
      // A sender's first message in an epoch derives its way down the secret tree; steady state comes after.
      const first = await this.mls.encrypt(pair[0]!, PLAINTEXT);
      return [first.member, await this.mls.decrypt(pair[1]!, first.message)];
    });
    await this.settle(() => this.messages(team, 25));
    return this.messages(team, STEADY.messages);
  }

  /** Messages of the first member, then all of them processed by the second. */
  private async messages(team: M[], times: number): Promise<Sample[]> {
    const messages: Uint8Array[] = [];
    const created = await this.timedEach(
      "application-create",
      { times, forMs: STEADY.forMs },
      () => this.mls.encrypt(team[0]!, PLAINTEXT),
      ({ member, message }) => {
        team[0] = member;
        messages.push(message);
        return message.length;
      },
    );
    const processed = await this.timedEach(
      "application-process",
      { times: messages.length },
      (index) => this.mls.decrypt(team[1]!, messages[index]!),
      (member) => {
        team[1] = member;
        return messages[0]!.length;
      },
    );
    return [meanOf(created), meanOf(processed)];
  }

  private async load(): Promise<Sample[]> {
    const stored = await this.once("stored", () => this.storedMember());
    const size = stored instanceof Uint8Array ? stored.length : stored.size;
    return [
      (
        await this.timed(
          "load",
          () => this.mls.load(stored),
          () => size,
        )
      ).sample,
    ];
  }

  /**
   * Mean bytes that a loaded group holds, in and outside the JavaScript heap, after garbage collection. Each is
   * loaded from storage, so that nothing is shared which a process with many groups could not share.
   */
  async memory(members: number): Promise<number> {
    this.members = members;
    const stored = await this.once("stored", () => this.storedMember());
    const groups = members > MANY_MEMBERS ? FEW_GROUPS : LOADED_GROUPS;
    await this.mls.load(stored);
    const before = heldBytes();
    const loaded: M[] = [];
    for (let i = 0; i < groups; i++) loaded.push(await this.mls.load(stored));
    const held = heldBytes() - before;
    return Math.round(held / loaded.length);
  }

  private async storedMember(): Promise<Uint8Array | StoredRows> {
    const member = await this.mls.adopt(await this.group(this.members, "warm"), this.members - 1);
    return this.mls.stored(member);
  }

  /**
   * Receiving one message, or one warm commit, until what changed is handed to storage. The message is its sender's
   * first in the epoch, which writes most.
   */
  private async store(): Promise<Sample[]> {
    // Numbers of epochs take more bytes in later rounds, and how many there are is a matter of time.
    const first = await this.once("store/first", () => this.storeRound());
    const bytes = new Map(first.map((sample) => [sample.operation, sample.bytes]));
    await this.settle(() => this.storeRound());
    const samples = await this.rounds(() => this.storeRound());
    return samples.map((sample) => ({ ...sample, bytes: bytes.get(sample.operation)! }));
  }

  private async storeRound(): Promise<Sample[]> {
    const pair = await this.once<M[]>("store-team", async () => {
      const group = await this.group(this.members, "warm");
      const team = [await this.mls.adopt(group, 0), await this.mls.adopt(group, this.members - 1)];
      await this.mls.store(team[1]!);
      return team;
    });
    const sent = await this.mls.encrypt(pair[0]!, PLAINTEXT);
    const message = await this.stored("store-application", async () => {
      pair[1] = await this.mls.decrypt(pair[1]!, sent.message);
      return pair[1];
    });
    const committed = await this.mls.commit(sent.member);
    pair[0] = committed.member;
    const commit = await this.stored("store-commit", async () => {
      pair[1] = await this.mls.process(pair[1]!, committed.commit);
      return pair[1];
    });
    return [message, commit];
  }

  private async stored(operation: Operation, receive: () => Promise<M>): Promise<Sample> {
    const action = async (): Promise<number> => this.mls.store(await receive());
    return (await this.timed(operation, action, (bytes) => bytes)).sample;
  }
}

function heldBytes(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Exact counts of one call out of those of several; what does not divide shows as a fraction. */
function perCall(counts: Counts, calls: number): Counts {
  return Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, count / calls]));
}

/** One sample for several receivers or messages: mean time, the slowest beside it, mean counts. */
function meanOf(samples: readonly Sample[]): Sample {
  const first = samples[0]!;
  const names = new Set(samples.flatMap(({ counts }) => Object.keys(counts)));
  const mean = (of: (sample: Sample) => number) =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const counts = Object.fromEntries(
    [...names].map((name) => [name, Math.round(mean((sample) => sample.counts[name] ?? 0) * 100) / 100]),
  );
  return {
    operation: first.operation,
    ms: mean(({ ms }) => ms),
    worstMs: Math.max(...samples.map(({ ms }) => ms)),
    bytes: Math.round(mean(({ bytes }) => bytes ?? 0)),
    counts,
  };
}

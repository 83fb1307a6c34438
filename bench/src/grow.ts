/**
 * The `grow` sub-command: one group from its founder to tens of thousands of members, by the protocol alone. Adds of
 * at most 256, warm-up turns between them, then commits, a removal, messages, and a reload from storage. Nothing is
 * adopted or skipped: each commit is created by the member whose turn it is and received by the others that live here.
 */
import { equalBytes, utf8 } from "@murmuration/base";
import {
  bytesWritten,
  Group,
  generateKeyPackage,
  joinGroup,
  type KeyPackageBundle,
  MemoryGroupStore,
  nativeCrypto,
  nearestMembers,
  planGrowth,
  trimWelcomes,
  type WriteSet,
  warmUpAmong,
  warmUpLeaves,
} from "@murmuration/mls-groups";
import { commitAs, type LeafKeys } from "@murmuration/mls-groups/bench";
import { parseArguments, parseSizes } from "./arguments.ts";
import { describeMachine, packageVersion } from "./machine.ts";
import { median } from "./median.ts";
import { Progress } from "./progress.ts";
import { writeReport } from "./write-report.ts";

const MOST_MEMBERS = 65_536;
const LIFETIME = { notBefore: 0n, notAfter: 0xffff_ffff_ffff_ffffn };
const NOW = { nowMs: 0 };
/** Commits and messages that are measured once the group has its size. */
const SAMPLES = 24;

export const growHelp = `murmuration bench grow: one group grown by the protocol, then used and reloaded
  --members 50000        from 16 to ${MOST_MEMBERS}
  --json FILE            also write the report as JSON`;

interface GrowRow {
  readonly operation: string;
  readonly members: number;
  readonly implementation: "murmuration";
  readonly runs: number;
  readonly bestMs: number;
  readonly medianMs: number;
  /** Mean size of what was produced or written. */
  readonly bytes: number;
}

/** Times and sizes by operation. */
class Samples {
  private readonly taken = new Map<string, { ms: number[]; bytes: number }>();

  time<T>(operation: string, run: () => T, size: (result: T) => number): T {
    const started = performance.now();
    const result = run();
    const entry = this.taken.get(operation) ?? { ms: [], bytes: 0 };
    entry.ms.push(performance.now() - started);
    entry.bytes += size(result);
    this.taken.set(operation, entry);
    return result;
  }

  rows(members: number): GrowRow[] {
    return [...this.taken].map(([operation, { ms, bytes }]) => ({
      operation,
      members,
      implementation: "murmuration",
      runs: ms.length,
      bestMs: Math.min(...ms),
      medianMs: median(ms),
      bytes: Math.round(bytes / ms.length),
    }));
  }
}

/** The group while it grows: its founder, a second member that follows everything, and the keys of all other leaves. */
class GrowingGroup {
  readonly crypto = nativeCrypto(1);
  readonly samples = new Samples();
  readonly store = new MemoryGroupStore();
  readonly founder: Group;
  private follower: Group | undefined;
  private readonly leafKeys = new Map<number, LeafKeys>();
  /** Leaves of the latest Adds, ascending. */
  added: readonly number[] = [];
  private named = 0;

  constructor() {
    const request = { groupId: utf8("growing"), identity: this.identity(), lifetime: LIFETIME };
    const { group, writes } = Group.create(this.crypto, request);
    this.store.apply(writes);
    this.founder = group;
  }

  private identity() {
    const credential = { kind: "basic", identity: utf8(`member ${this.named++}`) } as const;
    return { credential, signatureKeys: this.crypto.generateSignatureKeyPair() };
  }

  get memberFollowing(): Group {
    if (this.follower === undefined) throw new Error("nobody follows yet");
    return this.follower;
  }

  private save(writes: WriteSet): WriteSet {
    this.store.apply(writes);
    return writes;
  }

  /** Adds `count` members in one commit without a path; the follower processes it, or joins by it. */
  add(count: number): void {
    const bundles = Array.from({ length: count }, () =>
      generateKeyPackage(this.crypto, this.identity(), LIFETIME),
    );
    const proposals = bundles.map(({ keyPackage }) => ({ kind: "add", keyPackage }) as const);
    const made = this.samples.time(
      "grow-add",
      () => this.founder.createCommit({ proposals, path: "required" }),
      ({ message, welcome }) => message.length + welcome!.length,
    );
    this.save(made.writes);
    this.save(this.founder.mergePending(NOW));
    if (this.follower === undefined) this.follower = this.join(made.welcome!, bundles, 0);
    else this.follow(this.follower, made.message, "grow-add-process");
    this.added = bundles.map((bundle) => this.keep(bundle));
  }

  private keep({ keyPackage, leafPrivateKey, signaturePrivateKey }: KeyPackageBundle): number {
    const leaf = this.founder.tree.leafBySignatureKey(keyPackage.leafNode.signatureKey)!;
    if (leaf !== this.follower?.ownLeaf)
      this.leafKeys.set(leaf, { leaf, leafPrivateKey, signaturePrivateKey });
    return leaf;
  }

  private join(welcome: Uint8Array, bundles: readonly KeyPackageBundle[], index: number): Group {
    const request = {
      welcome: trimWelcomes(welcome)[index]!,
      keyPackage: bundles[index]!,
      ratchetTree: this.founder.ratchetTree(),
    };
    return this.samples.time(
      "join",
      () => joinGroup(this.crypto, request).group,
      () => request.welcome.length,
    );
  }

  private follow(member: Group, message: Uint8Array, operation: string): void {
    this.samples.time(
      operation,
      () => {
        const received = member.receive(message);
        if (received.kind !== "commit") throw new Error("not a commit");
        return member.merge(received.commit, NOW);
      },
      (writes) => (member === this.founder ? bytesWritten(this.save(writes)) : bytesWritten(writes)),
    );
  }

  canCommit(leaf: number): boolean {
    return this.leafKeys.has(leaf) && this.founder.tree.hasMember(leaf);
  }

  /** The member at a leaf commits without proposals; founder and follower process it. */
  turn(leaf: number, operation: string): void {
    const keys = this.leafKeys.get(leaf)!;
    const made = this.samples.time(
      `${operation}-create`,
      () => commitAs(this.founder, keys),
      ({ message }) => message.length,
    );
    this.leafKeys.set(leaf, { ...keys, leafPrivateKey: made.leafPrivateKey });
    this.follow(this.founder, made.message, `${operation}-process`);
    this.follow(this.memberFollowing, made.message, `${operation}-process`);
  }

  /** A neighbour of the founder is removed by the founder. */
  remove(): void {
    const near = nearestMembers(this.founder.tree, this.founder.ownLeaf, 8);
    const removed = near.find((leaf) => this.canCommit(leaf))!;
    const made = this.samples.time(
      "remove-create",
      () => this.founder.createCommit({ proposals: [{ kind: "remove", removed }] }),
      ({ message }) => message.length,
    );
    this.save(made.writes);
    this.save(this.founder.mergePending(NOW));
    this.follow(this.memberFollowing, made.message, "remove-process");
    this.leafKeys.delete(removed);
  }

  say(): void {
    const { message, writes } = this.samples.time(
      "application-create",
      () => this.founder.createApplicationMessage(new Uint8Array(32)),
      (made) => made.message.length,
    );
    this.save(writes);
    this.samples.time(
      "application-process",
      () => {
        const received = this.memberFollowing.receive(message);
        if (received.kind !== "application") throw new Error("not an application message");
        return received.writes;
      },
      bytesWritten,
    );
  }

  /** One more member joins the warm tree, and the founder is loaded from its rows; all must be in one epoch. */
  joinAndReload(): void {
    const bundle = generateKeyPackage(this.crypto, this.identity(), LIFETIME);
    const proposals = [{ kind: "add", keyPackage: bundle.keyPackage } as const];
    const made = this.founder.createCommit({ proposals });
    this.save(made.writes);
    this.save(this.founder.mergePending(NOW));
    this.follow(this.memberFollowing, made.message, "add-one-process");
    const joined = this.join(made.welcome!, [bundle], 0);
    const loaded = this.samples.time(
      "load",
      () => Group.load(this.crypto, this.store),
      () => [...this.store.rows.values()].reduce((total, row) => total + row.length, 0),
    );
    const expected = this.founder.epochAuthenticator();
    for (const group of [this.memberFollowing, joined, loaded]) {
      if (!equalBytes(group.epochAuthenticator(), expected)) throw new Error("members disagree on the epoch");
    }
  }

  meanPathCost(): number {
    const { tree } = this.founder;
    const leaves = [...tree.members()];
    return leaves.reduce((total, leaf) => total + tree.pathCost(leaf), 0) / leaves.length;
  }
}

/** Grows the group step by step and returns it. */
function grow(members: number, progress: Progress): GrowingGroup {
  const growing = new GrowingGroup();
  for (const step of planGrowth(1, members)) {
    if (step.kind === "add") {
      progress.show(`${step.membersAfter} members`);
      growing.add(step.adds);
      continue;
    }
    const due = growing.added.filter((leaf) => growing.canCommit(leaf));
    for (const leaf of warmUpAmong(due, step.turns)) growing.turn(leaf, "warm-up");
    progress.step();
  }
  return growing;
}

export async function runGrow(argv: readonly string[]): Promise<number> {
  const { values } = parseArguments(argv, { values: ["members", "json"], switches: [], positional: [] });
  const [members] = parseSizes(values.get("members") ?? "50000", "members", 16, MOST_MEMBERS) as [number];
  console.log(
    `grow: one group to ${members} members; about ${Math.ceil(members / 400) + 5} s on a quiet machine.`,
  );
  const startedAt = new Date().toISOString();
  const progress = new Progress(planGrowth(1, members).filter(({ kind }) => kind === "warm-up").length);
  const started = performance.now();
  const growing = grow(members, progress);
  const grownSeconds = (performance.now() - started) / 1000;
  const meanPathCost = growing.meanPathCost();
  const due = warmUpLeaves(growing.founder.tree.leafSlots, SAMPLES, (leaf) => growing.canCommit(leaf));
  for (const leaf of due) growing.turn(leaf, "commit");
  growing.remove();
  for (let i = 0; i < SAMPLES; i++) growing.say();
  growing.joinAndReload();
  progress.clear();
  const report = {
    benchmark: "grow",
    startedAt,
    machine: describeMachine(),
    versions: {
      node: process.versions.node,
      openssl: process.versions.openssl,
      murmuration: packageVersion("@murmuration/mls-groups"),
    },
    members,
    grownSeconds,
    commits: Number(growing.founder.epoch),
    meanPathCost,
    rows: growing.samples.rows(members),
  };
  print(report);
  const path = values.get("json");
  if (path !== undefined) {
    writeReport(path, report);
  }
  return 0;
}

function print(report: {
  readonly members: number;
  readonly grownSeconds: number;
  readonly commits: number;
  readonly meanPathCost: number;
  readonly rows: readonly GrowRow[];
}): void {
  const { members, grownSeconds, commits, meanPathCost } = report;
  console.log(
    `\n${members} members after ${grownSeconds.toFixed(1)} s, ${commits} commits in all; a path commit now has ${meanPathCost.toFixed(1)} ciphertexts on average.\n`,
  );
  console.log(
    `${"operation".padEnd(22)}${"runs".padStart(6)}${"best".padStart(13)}${"median".padStart(13)}${"mean bytes".padStart(13)}`,
  );
  for (const { operation, runs, bestMs, medianMs, bytes } of report.rows) {
    const times = [bestMs, medianMs].map((ms) => `${ms.toFixed(3)} ms`.padStart(13)).join("");
    console.log(
      `${operation.padEnd(22)}${String(runs).padStart(6)}${times}${bytes.toLocaleString("en").padStart(13)}`,
    );
  }
}

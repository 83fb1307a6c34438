import { type Bytes, fromUtf8, type GroupId, toHex, UnavailableError, utf8 } from "@murmuration/base";
import { expect } from "vitest";
import type { PostgresDatabase } from "../../src/adapters/postgres-database.ts";
import { PostgresMlsGroupStore } from "../../src/adapters/postgres-mls-groups.ts";
import type { AppendCommit, AppendMessage } from "../../src/ports/mls-groups.ts";
import { commitFrom, messageTo, NOW, newDevice, newGroup, wholeLog } from "./mls-groups.ts";
import { random } from "./random.ts";

const GROUPS = 3;
const COMMITTERS = 2;
const SPEAKERS = 4;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** What was answered, and what was not. */
interface Said {
  readonly appended: { readonly groupId: GroupId; readonly sequence: number; readonly bytes: Bytes }[];
  readonly voided: { readonly groupId: GroupId; readonly sequence: number }[];
  readonly openMessages: AppendMessage[];
  readonly openCommits: AppendCommit[];
}

/** A commit whose bytes say how many Welcomes and removals belong to it, and whose GroupInfo and delta name its bytes. */
function newCommit(groupId: GroupId, epoch: number, n: number): AppendCommit {
  const [welcomes, removals] = [(n * 7) % 40, n % 4];
  const name = `${welcomes} ${removals} ${toHex(random(8))}`;
  return commitFrom(groupId, epoch, {
    commit: utf8(name),
    groupInfo: utf8(`GroupInfo of ${name}`),
    treeDelta: utf8(`delta of ${name}`),
    proposals: Array.from({ length: n % 3 }, () => random(200)),
    removed: Array.from({ length: removals }, () => random(32)),
    welcomes: Array.from({ length: welcomes }, () => ({ recipient: newDevice(), welcome: random(900) })),
    banList: n % 3 === 0 ? random(64) : undefined,
  });
}

/** Commits and voids until it is not answered. */
async function keepCommitting(store: PostgresMlsGroupStore, groupId: GroupId, said: Said): Promise<never> {
  for (let n = 1; ; n++) {
    const row = (await store.load(groupId))!;
    const append = newCommit(groupId, row.epoch, row.lastSequence + n);
    said.openCommits.push(append);
    const outcome = await store.appendCommit(append);
    said.openCommits.splice(said.openCommits.indexOf(append), 1);
    if (outcome.kind !== "appended") continue;
    const { sequence } = outcome;
    said.appended.push({ groupId, sequence, bytes: append.commit });
    if (n % 4 !== 0) continue;
    const voided = await store.voidCommit({ groupId, sequence, proof: random(8), acceptedAtMs: NOW });
    if (voided !== undefined) said.voided.push({ groupId, sequence });
  }
}

/** Speaks until it is not answered. */
async function keepSpeaking(store: PostgresMlsGroupStore, groupId: GroupId, said: Said): Promise<never> {
  for (;;) {
    const { epoch } = (await store.load(groupId))!;
    const append = messageTo(groupId, epoch, { epochsBehind: 1_000 });
    said.openMessages.push(append);
    const outcome = await store.appendMessage(append);
    said.openMessages.splice(said.openMessages.indexOf(append), 1);
    // Somebody was removed meanwhile.
    if (outcome.kind !== "appended") continue;
    said.appended.push({ groupId, sequence: outcome.sequence, bytes: append.message });
  }
}

/** Holds everything that is stored of a group to the commits in its log, and to what was answered. */
async function check(database: PostgresDatabase, groupId: GroupId, said: Said): Promise<void> {
  const store = new PostgresMlsGroupStore(database);
  const row = (await store.load(groupId))!;
  const log = await wholeLog(store, groupId);
  expect(log.map((entry) => entry.sequence)).toEqual(log.map((_, i) => i + 1));
  expect(row.lastSequence).toBe(log.length);
  expect(new Set(log.map((entry) => toHex(entry.message))).size).toBe(log.length);

  const voided = new Set(log.map((entry) => entry.voids));
  const counting = log.filter((entry) => entry.kind === "commit" && !voided.has(entry.sequence));
  expect(counting).toHaveLength(row.epoch);
  for (const [epoch, commit] of counting.entries()) {
    expect((await store.commitOf(groupId, epoch))?.at(-1)).toEqual(commit);
  }
  const newest = counting.at(-1);
  expect(row.lastCommitSequence).toBe(newest?.sequence ?? 0);
  if (newest !== undefined) expect(fromUtf8(row.groupInfo)).toBe(`GroupInfo of ${fromUtf8(newest.message)}`);
  const tree = await store.loadTree(groupId, row.epoch);
  expect(tree?.deltas.map(fromUtf8)).toEqual(counting.map(({ message }) => `delta of ${fromUtf8(message)}`));

  const countsOf = (table: string, column: string) =>
    database.read(async (statements) => {
      const rows = await statements.all(
        `SELECT ${column} AS at, count(*) AS n FROM ${table} JOIN mls_groups USING (mls_group) WHERE group_id = $1
         GROUP BY 1 ORDER BY 1`,
        groupId,
      );
      return rows.map(({ at, n }) => [at, n]);
    });
  const announced = (place: number) =>
    counting
      .map((commit) => [commit.sequence, Number(fromUtf8(commit.message).split(" ")[place])])
      .filter(([, n]) => n !== 0);
  expect(await countsOf("mls_outbox", "sequence")).toEqual(announced(0));
  expect(await countsOf("mls_former_leaves", "removed_at")).toEqual(announced(1));

  for (const answer of said.appended.filter((one) => one.groupId === groupId)) {
    expect(log[answer.sequence - 1]?.message).toEqual(answer.bytes);
  }
  for (const answer of said.voided.filter((one) => one.groupId === groupId)) {
    expect(voided).toContain(answer.sequence);
  }
}

/** Members of a few groups that commit, void and speak through several nodes until PostgreSQL goes away under them. */
export class Appending {
  readonly fates = { "message-there": 0, "message-absent": 0, "commit-whole": 0, "commit-absent": 0 };
  private readonly said: Said = { appended: [], voided: [], openMessages: [], openCommits: [] };
  private readonly databases: readonly PostgresDatabase[];
  private readonly nodes: readonly PostgresMlsGroupStore[];
  private readonly groups = Array.from({ length: GROUPS }, () => newGroup().groupId);

  /** The databases of the nodes. */
  constructor(databases: readonly PostgresDatabase[]) {
    this.databases = databases;
    this.nodes = databases.map((database) => new PostgresMlsGroupStore(database));
  }

  async createGroups(): Promise<void> {
    for (const groupId of this.groups) await this.nodes[0]!.create(newGroup({ groupId }));
  }

  get counts() {
    return { ...this.fates, answered: this.said.appended.length, voided: this.said.voided.length };
  }

  /** Goes on until so many more were answered and `takeAway` has been carried out, and requires that nobody is told it failed. */
  async until(answers: number, takeAway: () => Promise<void>): Promise<void> {
    const node = (i: number) => this.nodes[i % this.nodes.length]!;
    const writers = this.groups.flatMap((groupId) => [
      ...Array.from({ length: COMMITTERS }, (_, i) => keepCommitting(node(i), groupId, this.said)),
      ...Array.from({ length: SPEAKERS }, (_, i) => keepSpeaking(node(i), groupId, this.said)),
    ]);
    const ended = Promise.allSettled(writers);
    const goal = this.said.appended.length + answers;
    while (this.said.appended.length < goal) await pause(5);
    await takeAway();
    for (const writer of await ended) {
      expect(writer).toMatchObject({ status: "rejected", reason: expect.any(UnavailableError) });
    }
  }

  /** Whoever was not answered asks again on this node, and is told what happened. All is looked at before and after. */
  async goOn(node: number): Promise<void> {
    const index = node % this.nodes.length;
    const store = this.nodes[index]!;
    await this.check(index);
    for (const append of this.said.openMessages.splice(0)) {
      const outcome = await store.appendMessage(append);
      this.fates[outcome.kind === "repeated" ? "message-there" : "message-absent"]++;
    }
    for (const append of this.said.openCommits.splice(0)) {
      const outcome = await store.appendCommit(append);
      this.fates[outcome.kind === "repeated" ? "commit-whole" : "commit-absent"]++;
    }
    await this.check(index);
  }

  private async check(index: number): Promise<void> {
    for (const groupId of this.groups) await check(this.databases[index]!, groupId, this.said);
  }

  /** The run proves nothing unless messages and commits were under way when PostgreSQL went away. */
  requireHits(): void {
    const { fates } = this;
    expect(fates["message-there"] + fates["message-absent"]).toBeGreaterThan(0);
    expect(fates["commit-whole"] + fates["commit-absent"]).toBeGreaterThan(0);
    expect(this.said.voided.length).toBeGreaterThan(0);
  }
}

/** What appends to a group's log: functions of the database, each called once for one transaction. */
import { formatId, type GroupId, invariant, UnavailableError } from "@murmuration/base";
import {
  type AppendCommit,
  type AppendCommitOutcome,
  type AppendMessage,
  type AppendMessageOutcome,
  type AppendRefeed,
  type AppendRefeedOutcome,
  type VoidCommit,
  WELCOMES_WAITING,
} from "../ports/mls-groups.ts";
import type { PostgresDatabase, PostgresRow, PostgresStatements } from "./postgres-database.ts";

/** A commit as it is appended: one that is fed again may lead to an epoch without GroupInfo. */
type AnyCommit = Omit<AppendCommit, "groupInfo"> & {
  readonly groupInfo: AppendCommit["groupInfo"] | undefined;
  readonly partedSequence?: number | undefined;
};

/** Nothing was appended: there is no table yet for entries of this period. */
interface NoPeriod {
  readonly kind: "no-period";
  readonly period: number;
}

/**
 * Writes that are not of one group come after all groups of their transaction, whose keys are hexadecimal digits: no row
 * of a group is waited for by who holds these locks.
 */
export const PERIODS = "~periods";

/** Messages of one group that one statement appends. */
const MAX_MESSAGES = 256;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Messages of one group that wait for their turn. */
interface Line {
  readonly appends: AppendMessage[];
  bytes: number;
  readonly outcomes: Promise<readonly (AppendMessageOutcome | NoPeriod)[]>;
}

/**
 * Appends application messages. Those of one group that arrive while its lane is busy share one statement, one lock of
 * the group's row and one transaction: a group with a thousand writers pays for a few.
 */
export class MessageLines {
  private readonly database: PostgresDatabase;
  private readonly lines = new Map<string, Line>();

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  append(append: AppendMessage): Promise<AppendMessageOutcome> {
    return filed(this.database, async () => {
      const line = this.lineOf(append);
      const place = line.appends.push(append) - 1;
      line.bytes += append.message.length;
      return (await line.outcomes)[place]!;
    });
  }

  private lineOf({ groupId, message }: AppendMessage): Line {
    const name = formatId(groupId);
    const open = this.lines.get(name);
    const fits =
      open !== undefined &&
      open.appends.length < MAX_MESSAGES &&
      open.bytes + message.length <= MAX_MESSAGE_BYTES;
    if (fits) return open;
    const appends: AppendMessage[] = [];
    const close = () => {
      if (this.lines.get(name)?.appends === appends) this.lines.delete(name);
    };
    const outcomes = this.database
      .write(groupId, (statements) => {
        close();
        return appendMessages(statements, groupId, appends);
      })
      .finally(close);
    const line = { appends, bytes: 0, outcomes };
    this.lines.set(name, line);
    return line;
  }
}

export function appendCommit(database: PostgresDatabase, append: AppendCommit): Promise<AppendCommitOutcome> {
  return filed(database, () =>
    database.write(append.groupId, (statements) => callAppendCommit(statements, append)),
  );
}

export function appendRefeed(database: PostgresDatabase, append: AppendRefeed): Promise<AppendRefeedOutcome> {
  return filed(database, () => database.write(append.groupId, (statements) => refeed(statements, append)));
}

export function voidCommit(
  database: PostgresDatabase,
  request: VoidCommit,
): Promise<{ readonly sequence: number } | undefined> {
  const { groupId, sequence, proof, acceptedAtMs } = request;
  return filed(database, () =>
    database.write(groupId, async (statements) => {
      const row = await statements.get(
        "SELECT * FROM mls_void_commit($1, $2, $3, $4)",
        groupId,
        sequence,
        proof,
        acceptedAtMs,
      );
      if (row?.["kind"] === "not-the-newest") return undefined;
      return noPeriod(row!) ?? { kind: "voided", sequence: sequenceOf(row!) };
    }),
  ).then((outcome) => outcome && { sequence: outcome.sequence });
}

/** Runs an append; where there is no table for its period, makes it and runs the append again. */
async function filed<T extends { readonly kind: string } | undefined>(
  database: PostgresDatabase,
  append: () => Promise<T | NoPeriod>,
): Promise<T> {
  for (let tries = 0; tries < 3; tries++) {
    const outcome = await append();
    if (!isNoPeriod(outcome)) return outcome;
    await makePeriod(database, outcome.period);
  }
  throw new UnavailableError("store/no-period");
}

/** And the one after it: one append in two weeks waits, and none where clocks differ at the turn. */
async function makePeriod(database: PostgresDatabase, period: number): Promise<void> {
  await database.write(PERIODS, async (statements) => {
    for (const made of [period, period + 1]) await statements.get("SELECT mls_make_period($1)", made);
  });
}

async function appendMessages(
  statements: PostgresStatements,
  groupId: GroupId,
  appends: readonly AppendMessage[],
): Promise<readonly (AppendMessageOutcome | NoPeriod)[]> {
  const rows = await statements.all(
    "SELECT * FROM mls_append_messages($1, $2, $3, $4, $5, $6)",
    groupId,
    appends.map((append) => append.submitHash),
    appends.map((append) => append.message),
    appends.map((append) => append.epoch),
    appends.map((append) => append.epochsBehind),
    appends.map((append) => append.acceptedAtMs),
  );
  invariant(rows.length === appends.length, "group/append-without-outcome");
  return rows.map((row) => noPeriod(row) ?? toMessageOutcome(row));
}

function toMessageOutcome(row: PostgresRow): AppendMessageOutcome {
  const kind = row["kind"] as AppendMessageOutcome["kind"];
  return kind === "appended" || kind === "repeated" ? { kind, sequence: sequenceOf(row) } : { kind };
}

async function callAppendCommit(
  statements: PostgresStatements,
  append: AnyCommit,
): Promise<AppendCommitOutcome | NoPeriod> {
  const row = await statements.get(
    `SELECT * FROM
       mls_append_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
    append.groupId,
    append.fromEpoch,
    append.commitHash,
    append.proposals,
    append.commit,
    append.groupInfo ?? null,
    append.treeHash,
    append.treeDelta,
    append.banList ?? null,
    append.removed,
    append.listed,
    append.leafReplaced,
    append.welcomes.map(({ recipient }) => recipient.accountId),
    append.welcomes.map(({ recipient }) => recipient.deviceId),
    append.welcomes.map(({ welcome }) => welcome),
    WELCOMES_WAITING,
    append.acceptedAtMs,
    append.partedSequence ?? null,
  );
  return noPeriod(row!) ?? toCommitOutcome(row!);
}

function toCommitOutcome(row: PostgresRow): AppendCommitOutcome {
  const kind = row["kind"] as AppendCommitOutcome["kind"];
  if (kind === "unknown-group") return { kind };
  const epoch = row["epoch"] as number;
  return kind === "lost" ? { kind, epoch } : { kind, sequence: sequenceOf(row), epoch };
}

async function refeed(
  statements: PostgresStatements,
  append: AppendRefeed,
): Promise<AppendRefeedOutcome | NoPeriod> {
  const { groupId, fromEpoch, groupInfo, acceptedAtMs } = append;
  const group = await statements.get(
    "SELECT mls_group, epoch FROM mls_groups WHERE group_id = $1 FOR NO KEY UPDATE",
    groupId,
  );
  if (group === undefined) return { kind: "unknown-group" };
  const known = await statements.get(
    "SELECT sequence FROM mls_commits WHERE mls_group = $1 AND hash = ANY ($2::bytea[]) LIMIT 1",
    group["mls_group"] as number,
    append.commits.map(({ commitHash }) => commitHash),
  );
  const epoch = group["epoch"] as number;
  if (known !== undefined || epoch !== fromEpoch) return { kind: "lost", epoch };
  const sequences: number[] = [];
  for (const [index, commit] of append.commits.entries()) {
    const outcome = await callAppendCommit(statements, {
      ...commit,
      groupId,
      fromEpoch: fromEpoch + index,
      groupInfo: index === append.commits.length - 1 ? groupInfo : undefined,
      partedSequence: index === 0 ? append.partedSequence : undefined,
      welcomes: [],
      acceptedAtMs,
    });
    // All of them are of one period: if it is missing, nothing was appended yet.
    if (isNoPeriod(outcome) && index === 0) return outcome;
    invariant(outcome.kind === "appended", "group/refeed-not-appended");
    sequences.push(outcome.sequence);
  }
  return { kind: "appended", sequences, epoch: fromEpoch + sequences.length };
}

function noPeriod(row: PostgresRow): NoPeriod | undefined {
  return row["kind"] === "no-period" ? { kind: "no-period", period: sequenceOf(row) } : undefined;
}

function isNoPeriod(outcome: { readonly kind: string } | undefined): outcome is NoPeriod {
  return outcome?.kind === "no-period";
}

function sequenceOf(row: PostgresRow): number {
  return row["sequence"] as number;
}

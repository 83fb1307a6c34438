/** What appends to a group's log: functions of the database, each called once for one transaction. */
import { formatId, type GroupId, invariant } from "@murmuration/base";
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

/** Messages of one group that one statement appends. */
const MAX_MESSAGES = 256;
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Messages of one group that wait for their turn. */
interface Line {
  readonly appends: AppendMessage[];
  bytes: number;
  readonly outcomes: Promise<readonly AppendMessageOutcome[]>;
}

/**
 * Appends to groups, in the order in which it is asked to. Application messages of one group that come one after the
 * other while its lane is busy share one statement, one lock of the group's row and one transaction: a group with a
 * thousand writers pays for a few.
 */
export class PostgresAppends {
  private readonly database: PostgresDatabase;
  /** By group: the last that was asked for, as long as nothing else came after it and it has not begun. */
  private readonly lines = new Map<string, Line>();

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  async message(append: AppendMessage): Promise<AppendMessageOutcome> {
    const line = this.lineOf(append);
    const place = line.appends.push(append) - 1;
    line.bytes += append.message.length;
    return (await line.outcomes)[place]!;
  }

  commit(append: AppendCommit): Promise<AppendCommitOutcome> {
    return this.alone(append.groupId, (statements) => appendCommit(statements, append));
  }

  refeed(append: AppendRefeed): Promise<AppendRefeedOutcome> {
    return this.alone(append.groupId, (statements) => appendRefeed(statements, append));
  }

  voidCommit(request: VoidCommit): Promise<{ readonly sequence: number } | undefined> {
    return this.alone(request.groupId, (statements) => voidCommit(statements, request));
  }

  private alone<T>(groupId: GroupId, run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    this.lines.delete(formatId(groupId));
    return this.database.write(groupId, run);
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

async function appendMessages(
  statements: PostgresStatements,
  groupId: GroupId,
  appends: readonly AppendMessage[],
): Promise<readonly AppendMessageOutcome[]> {
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
  return rows.map(toMessageOutcome);
}

function toMessageOutcome(row: PostgresRow): AppendMessageOutcome {
  const kind = row["kind"] as AppendMessageOutcome["kind"];
  return kind === "appended" || kind === "repeated"
    ? { kind, sequence: row["sequence"] as number }
    : { kind };
}

async function appendCommit(statements: PostgresStatements, append: AnyCommit): Promise<AppendCommitOutcome> {
  const row = await statements.get(
    `SELECT * FROM
       mls_append_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
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
    append.fromCommitSequence ?? null,
  );
  return toCommitOutcome(row!);
}

function toCommitOutcome(row: PostgresRow): AppendCommitOutcome {
  const kind = row["kind"] as AppendCommitOutcome["kind"];
  if (kind === "unknown-group") return { kind };
  const epoch = row["epoch"] as number;
  return kind === "lost" ? { kind, epoch } : { kind, sequence: row["sequence"] as number, epoch };
}

async function appendRefeed(
  statements: PostgresStatements,
  append: AppendRefeed,
): Promise<AppendRefeedOutcome> {
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
    const outcome = await appendCommit(statements, {
      ...commit,
      groupId,
      fromEpoch: fromEpoch + index,
      groupInfo: index === append.commits.length - 1 ? groupInfo : undefined,
      partedSequence: sequences.at(-1) ?? append.partedSequence,
      welcomes: [],
      acceptedAtMs,
    });
    invariant(outcome.kind === "appended", "group/refeed-not-appended");
    sequences.push(outcome.sequence);
  }
  return { kind: "appended", sequences, epoch: fromEpoch + sequences.length };
}

async function voidCommit(
  statements: PostgresStatements,
  { groupId, sequence, proof, acceptedAtMs }: VoidCommit,
): Promise<{ readonly sequence: number } | undefined> {
  const row = await statements.get(
    "SELECT * FROM mls_void_commit($1, $2, $3, $4)",
    groupId,
    sequence,
    proof,
    acceptedAtMs,
  );
  return row!["kind"] === "voided" ? { sequence: row!["sequence"] as number } : undefined;
}

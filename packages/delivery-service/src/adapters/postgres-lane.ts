import { UnavailableError } from "@murmuration/base";
import pg from "pg";
import {
  isAgain,
  isAnswer,
  PostgresConnection,
  type PostgresStatements,
  unavailable,
} from "./postgres-connection.ts";
import type { TransactionReport } from "./sqlite-database.ts";

interface PendingWrite {
  readonly key: string;
  /** Whether it touches rows of its key only. */
  readonly own: boolean;
  run(statements: PostgresStatements): Promise<void>;
  done(): void;
  failed(error: unknown): void;
}

/** Writes that may share a transaction: what a row lock can be kept waiting for is bounded by it. */
const MAX_BATCH = 64;
/** Tries of a transaction that is known to have done nothing. */
const MAX_TRIES = 5;
/** From then on it is not tried again: whoever asked waits, and so does all that came after. */
const MAX_TRYING_MS = 10_000;
const SAVEPOINT = "one_write";

/** One transaction after the other, on whatever connection is free. */
export class Lane {
  private readonly pool: pg.Pool;
  private readonly report: (transaction: TransactionReport) => void;
  private readonly queue: PendingWrite[] = [];
  private busy = false;
  private drained: Promise<void> = Promise.resolve();

  constructor(pool: pg.Pool, report: (transaction: TransactionReport) => void) {
    this.pool = pool;
    this.report = report;
  }

  /** PostgresDatabase.write, or with `own` PostgresDatabase.writeRowsOf. */
  write<T>(key: string, own: boolean, run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let result: T;
      this.queue.push({
        key,
        own,
        run: async (statements) => {
          result = await run(statements);
        },
        done: () => resolve(result),
        failed: reject,
      });
      if (this.busy) return;
      this.busy = true;
      this.drained = this.drain();
    });
  }

  /** Resolves when every write that was asked for is answered. */
  async settled(): Promise<void> {
    while (this.busy) await this.drained;
  }

  private async drain(): Promise<void> {
    try {
      // What is asked for within one turn of the event loop goes together.
      await new Promise((resolve) => setImmediate(resolve));
      while (this.queue.length > 0) await this.commit(byKey(this.queue.splice(0, MAX_BATCH)));
    } finally {
      // Not a moment after the look at the queue: who asks in between would wait for the next one to ask.
      this.busy = false;
    }
  }

  private async commit(batch: readonly PendingWrite[]): Promise<void> {
    const startedAt = performance.now();
    const elapsed = () => performance.now() - startedAt;
    for (let tries = 1; ; tries++) {
      const runAll = tries === 1 ? together : oneByOne;
      const outcome = await this.attempt(batch, runAll, tries < MAX_TRIES && elapsed() < MAX_TRYING_MS);
      if (outcome === "durable") this.report({ writes: batch.length, durationMs: elapsed() });
      if (outcome !== "again") return;
    }
  }

  /** Answers every write of the batch unless it is to be tried again. */
  private async attempt(
    batch: readonly PendingWrite[],
    runAll: RunAll,
    mayTryAgain: boolean,
  ): Promise<"durable" | "failed" | "again"> {
    let connection: PostgresConnection;
    try {
      connection = await PostgresConnection.take(this.pool);
    } catch (error) {
      // Who asked meanwhile is told as well: else a long queue would wait for one failure after the other.
      for (const write of [...batch, ...this.queue.splice(0)]) write.failed(error);
      return "failed";
    }
    const thrown = new Map<PendingWrite, unknown>();
    let committing = false;
    try {
      connection.send("BEGIN");
      await runAll(connection, batch, thrown);
      committing = true;
      const carriedOut = await connection.control("COMMIT");
      if (carriedOut !== "COMMIT") throw new UnavailableError("store/write-failed");
    } catch (error) {
      if (!connection.isBroken) connection.send("ROLLBACK");
      // Without an answer to COMMIT nobody knows whether it happened.
      const isUndone = !committing || isAnswer(error);
      const isWorthIt = connection.isBroken || isAgain(error);
      if (error === ONE_THREW || (mayTryAgain && isUndone && isWorthIt)) return "again";
      for (const write of batch) {
        write.failed(thrown.get(write) ?? new UnavailableError("store/write-failed"));
      }
      return "failed";
    } finally {
      connection.release();
    }
    for (const write of batch) {
      if (thrown.has(write)) write.failed(thrown.get(write));
      else write.done();
    }
    return "durable";
  }
}

/** Runs a batch and notes which writes threw, their changes undone. Throws what ends the whole transaction. */
type RunAll = (
  connection: PostgresConnection,
  batch: readonly PendingWrite[],
  thrown: Map<PendingWrite, unknown>,
) => Promise<void>;

/** Never leaves this file: the batch is to be run again, one by one. */
const ONE_THREW = new Error("one of several writes threw");

/**
 * Without savepoints, which cost as much as what most writes do. Where one throws, which is rare, nobody knows what of the
 * transaction was its. Writes of different keys run side by side, so that their statements share round trips, if each
 * touches rows of its key only: within one transaction no lock keeps them apart.
 */
async function together(connection: PostgresConnection, batch: readonly PendingWrite[]): Promise<void> {
  const lines = batch.every((write) => write.own)
    ? [...Map.groupBy(batch, (write) => write.key).values()]
    : [batch];
  const outcomes = await Promise.allSettled(
    lines.map(async (line) => {
      for (const write of line) await write.run(connection);
    }),
  );
  if (connection.isBroken || isAgain(connection.refusal)) throw connection.refusal ?? ONE_THREW;
  const threw = outcomes.some((outcome) => outcome.status === "rejected");
  if (threw || connection.refusal !== undefined) throw ONE_THREW;
}

/** Each behind a savepoint, which goes out with its first statement, so that one that throws is undone alone. */
async function oneByOne(
  connection: PostgresConnection,
  batch: readonly PendingWrite[],
  thrown: Map<PendingWrite, unknown>,
): Promise<void> {
  for (const write of batch) {
    connection.send(`SAVEPOINT ${SAVEPOINT}`);
    try {
      await write.run(connection);
      if (connection.refusal !== undefined) throw connection.refusal;
      connection.send(`RELEASE ${SAVEPOINT}`);
    } catch (error) {
      if (connection.isBroken || isAgain(connection.refusal)) throw connection.refusal ?? error;
      await connection.goBack(SAVEPOINT);
      thrown.set(write, error instanceof pg.DatabaseError ? unavailable(error, "store/write-failed") : error);
    }
  }
}

/** By rising key; writes of one key stay in their order. */
function byKey(batch: readonly PendingWrite[]): readonly PendingWrite[] {
  return batch.toSorted((a, b) => (a.key < b.key ? -1 : Number(a.key > b.key)));
}

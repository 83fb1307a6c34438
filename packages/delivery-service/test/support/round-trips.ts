import pg from "pg";
import { FIRST_QUESTION } from "../../src/adapters/postgres-database.ts";

/**
 * Counts how often this process waits for PostgreSQL while `work` runs: statements that are sent while others of their
 * connection are under way do not count, nor does what a new connection is asked once. The statements themselves go where they always go.
 */
export async function roundTripsOf(work: () => Promise<unknown>): Promise<number> {
  const original = pg.Client.prototype.query as (...args: unknown[]) => Promise<unknown>;
  const underWay = new Map<pg.Client, number>();
  let roundTrips = 0;
  const counting = async function (this: pg.Client, ...args: unknown[]) {
    if (args[0] === FIRST_QUESTION) return original.apply(this, [...args]);
    const others = underWay.get(this) ?? 0;
    if (others === 0 || !this.pipeline) roundTrips++;
    underWay.set(this, others + 1);
    try {
      return await original.apply(this, [...args]);
    } finally {
      underWay.set(this, underWay.get(this)! - 1);
    }
  };
  pg.Client.prototype.query = counting as unknown as typeof pg.Client.prototype.query;
  try {
    await work();
  } finally {
    pg.Client.prototype.query = original as unknown as typeof pg.Client.prototype.query;
  }
  return roundTrips;
}

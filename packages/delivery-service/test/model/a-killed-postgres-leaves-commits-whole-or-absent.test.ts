import { describe, inject, it } from "vitest";
import { PostgresDatabase } from "../../src/adapters/postgres-database.ts";
import { startLocalPostgres } from "../../src/local-engines/index.ts";
import { Appending } from "../support/appending.ts";
import { seededRandom } from "../support/seeded-random.ts";

const ROUNDS = 6;
/** Answers before the next kill. */
const ANSWERS = 60;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(inject("cluster") === undefined)("PostgreSQL that is killed while two nodes append", () => {
  it("has each commit whole or not at all, logs without gaps, and whatever was answered", async () => {
    const { next, seed } = seededRandom();
    console.log(`seed ${seed}`);
    const postgres = await startLocalPostgres();
    const databases: PostgresDatabase[] = [];
    try {
      for (let i = 0; i < 2; i++)
        databases.push(await PostgresDatabase.open({ url: postgres.url, writers: 4, readers: 4 }));
      const appending = new Appending(databases);
      await appending.createGroups();
      for (let round = 0; round < ROUNDS; round++) {
        await appending.until(ANSWERS, async () => {
          await pause(next() * 60);
          await postgres.kill();
        });
        await postgres.start();
        await appending.goOn(round);
      }
      console.log(JSON.stringify(appending.counts));
      appending.requireHits();
    } finally {
      await Promise.all(databases.map((database) => database.close()));
      await postgres.dispose();
    }
  });
});

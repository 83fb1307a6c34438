import { accountId, type DeviceId, groupId, UnavailableError } from "@murmuration/base";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { PostgresAccountStore } from "../../src/adapters/postgres-accounts.ts";
import { PostgresDatabase } from "../../src/adapters/postgres-database.ts";
import { PostgresLostCommitStore } from "../../src/adapters/postgres-lost-commits.ts";
import { PostgresMlsGroupStore } from "../../src/adapters/postgres-mls-groups.ts";
import { POSTGRES_SCHEMA_STEPS } from "../../src/adapters/postgres-schema.ts";
import { directorySchema } from "../../src/adapters/postgres-schema-directory.ts";
import { healthSchema } from "../../src/adapters/postgres-schema-health.ts";
import { mlsSchema } from "../../src/adapters/postgres-schema-mls.ts";
import { type Scratch, scratch } from "../../src/local-engines/index.ts";

const urls = inject("cluster");

describe.skipIf(urls === undefined)("the schema of a PostgreSQL database", () => {
  let own: Scratch;
  let client: pg.Client;
  const opened: PostgresDatabase[] = [];
  beforeEach(async () => {
    own = scratch(urls!, "test");
    client = new pg.Client({ connectionString: urls!.postgres });
    await client.connect();
    await client.query(`SET search_path = ${own.engines.postgres.schema}`);
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((database) => database.close()));
    await client.end();
    await own.drop();
  });

  const open = async () => {
    const database = await PostgresDatabase.open({ ...own.engines.postgres, writers: 1, readers: 1 });
    opened.push(database);
    return database;
  };
  const stepsDone = async () => {
    const { rows } = await client.query("SELECT step FROM schema_steps ORDER BY step");
    return (rows as { readonly step: number }[]).map(({ step }) => step);
  };
  const allSteps = Array.from({ length: POSTGRES_SCHEMA_STEPS }, (_, index) => index + 1);
  /** What a version of the service that knew so many steps has left. */
  const leftBy = async (...steps: readonly string[]) => {
    await client.query(`CREATE SCHEMA ${own.engines.postgres.schema}`);
    await client.query(
      "CREATE TABLE schema_steps (step integer PRIMARY KEY, done_at timestamptz NOT NULL DEFAULT now())",
    );
    for (const [index, step] of steps.entries()) {
      await client.query(step);
      await client.query("INSERT INTO schema_steps (step) VALUES ($1)", [index + 1]);
    }
  };
  const alice = accountId(new Uint8Array(16).fill(0xa1));
  const group = groupId(new Uint8Array(16).fill(0xb2));
  const addAlice = () =>
    client.query(`
      INSERT INTO accounts VALUES ('\\x${"a1".repeat(16)}', '\\x01', '\\x02', '\\x03', 7, '\\x04', NULL);
      INSERT INTO devices VALUES ('\\x${"a1".repeat(16)}', 3, 99, '\\x05', '\\x06', 20000, true);
    `);
  const expectAlice = async (database: PostgresDatabase) =>
    expect(await new PostgresAccountStore(database).load(alice)).toEqual({
      accountId: alice,
      accountIdentityKey: new Uint8Array([1]),
      accessKeyHash: new Uint8Array([2]),
      profile: new Uint8Array([3]),
      deviceList: { version: 7, bytes: new Uint8Array([4]) },
      devices: [
        {
          deviceId: 3 as DeviceId,
          registrationId: 99,
          identityKey: new Uint8Array([5]),
          tokenHash: new Uint8Array([6]),
          lastSeenDay: 20_000,
          hasKeys: true,
        },
      ],
    });

  it("is made once by nodes that start together on an empty one, and each of them finds it whole", async () => {
    const nodes = await Promise.all(Array.from({ length: 4 }, open));
    expect(await stepsDone()).toEqual(allSteps);
    await addAlice();
    for (const node of nodes) await expectAlice(node);
  });

  it("is brought up to date from its first step, by several nodes at once, with the rows that are in it", async () => {
    await leftBy(directorySchema);
    await addAlice();
    const [database] = await Promise.all([open(), open(), open()]);
    expect(await stepsDone()).toEqual(allSteps);
    await expectAlice(database);
    // What came with later steps is there as well.
    expect(await new PostgresMlsGroupStore(database).load(group)).toBeUndefined();
    expect(await new PostgresLostCommitStore(database).since(group, 0)).toBe(0);
  });

  it("is brought up to date from a step in between, and what was done is not done again", async () => {
    await leftBy(directorySchema, mlsSchema, healthSchema);
    await addAlice();
    await client.query(`INSERT INTO mls_lost_commits VALUES ('\\x${"b2".repeat(16)}', 20000, 5)`);
    const { rows: before } = await client.query("SELECT step, done_at FROM schema_steps ORDER BY step");
    const database = await open();
    expect(await stepsDone()).toEqual(allSteps);
    const { rows: after } = await client.query("SELECT step, done_at FROM schema_steps ORDER BY step");
    expect(after.slice(0, before.length)).toEqual(before);
    await expectAlice(database);
    expect(await new PostgresLostCommitStore(database).since(group, 0)).toBe(5);
  });

  it("has no step of which it does not say that it was done: where that cannot be written, the step is undone", async () => {
    await leftBy(directorySchema);
    await addAlice();
    await client.query("ALTER TABLE schema_steps ADD CONSTRAINT obstacle CHECK (step <> 3)");
    await expect(open()).rejects.toBeInstanceOf(UnavailableError);
    expect(await stepsDone()).toEqual([1, 2]);
    const { rows } = await client.query("SELECT to_regclass('mls_lost_commits') AS of_step_3");
    expect(rows).toEqual([{ of_step_3: null }]);
    await client.query("ALTER TABLE schema_steps DROP CONSTRAINT obstacle");
    await expectAlice(await open());
    expect(await stepsDone()).toEqual(allSteps);
  });

  it("of a newer version is refused and left as it is, and keeps no other node from its turn", async () => {
    const running = await open();
    await addAlice();
    const newer = POSTGRES_SCHEMA_STEPS + 1;
    await client.query("INSERT INTO schema_steps (step) VALUES ($1)", [newer]);
    const refused = await Promise.allSettled([open(), open()]);
    expect(refused).toMatchObject(Array(2).fill({ reason: { code: "store/newer-schema" } }));
    expect(await stepsDone()).toEqual([...allSteps, newer]);
    // One that runs goes on.
    await expectAlice(running);
    await client.query("DELETE FROM schema_steps WHERE step = $1", [newer]);
    await expectAlice(await open());
  });
});

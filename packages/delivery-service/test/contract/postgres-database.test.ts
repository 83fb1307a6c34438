import { RejectionError } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { PostgresDatabase } from "../../src/adapters/postgres-database.ts";
import { type OpenedCluster, openCluster } from "../support/cluster.ts";
import { random } from "../support/random.ts";
import { roundTripsOf } from "../support/round-trips.ts";
import { openSilentRelay } from "../support/silent-relay.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("the engines of a cluster", () => {
  it("answer where CI is set: its suites are not left out there", () => {
    if (process.env["CI"] === "true") expect(inject("cluster")).toBeDefined();
  });
});

describe.skipIf(inject("cluster") === undefined)("a PostgreSQL database", () => {
  let cluster: OpenedCluster;
  beforeEach(async () => {
    cluster = await openCluster();
    await cluster.database.write("setup", (statements) =>
      statements.run(
        "CREATE TABLE notes (id bigint PRIMARY KEY, bytes bytea, small integer, yes boolean, word text)",
      ),
    );
  });
  afterEach(() => cluster.dispose());

  const insert = "INSERT INTO notes (id, bytes) VALUES ($1, $2)";
  const count = async () =>
    cluster.database.read(
      async (statements) => (await statements.get("SELECT count(*) AS n FROM notes"))?.["n"],
    );

  it("gives back each kind of value as it was", async () => {
    const bytes = random(300);
    const values = [2 ** 52 + 1, bytes, -7, true, "wörter"] as const;
    await cluster.database.write("a", (statements) =>
      statements.run("INSERT INTO notes VALUES ($1, $2, $3, $4, $5)", ...values),
    );
    const row = await cluster.database.read((statements) => statements.get("SELECT * FROM notes"));
    expect(row).toEqual({ id: values[0], bytes, small: -7, yes: true, word: "wörter" });
    const both = await cluster.database.read((statements) =>
      statements.get("SELECT id, word FROM notes WHERE bytes = ANY($1::bytea[])", [random(3), bytes]),
    );
    expect(both).toEqual({ id: values[0], word: "wörter" });
  });

  it("lets many writes share few transactions, and undoes alone the one that throws", async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 40 }, (_, i) =>
        cluster.database.write("one key", async (statements) => {
          await statements.run(insert, i, random(8));
          if (i % 10 === 3) throw new RejectionError("test/refused");
          return i;
        }),
      ),
    );
    expect(outcomes.filter((outcome) => outcome.status === "rejected")).toHaveLength(4);
    expect(await count()).toBe(36);
  });

  it("keeps the writes of one key in the order in which they were asked for", async () => {
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        cluster.database.write("one key", async () => {
          order.push(i);
        }),
      ),
    );
    expect(order).toEqual(Array.from({ length: 30 }, (_, i) => i));
  });

  it("answers a statement that PostgreSQL refuses with a code, without what was in the row", async () => {
    await cluster.database.write("a", (statements) => statements.run(insert, 1, random(8)));
    const again = cluster.database.write("a", (statements) => statements.run(insert, 1, random(8)));
    await expect(again).rejects.toMatchObject({ code: "store/write-failed" });
    await expect(again).rejects.not.toThrow(/Key|\(1\)/);
    expect(await count()).toBe(1);
  });

  it("two nodes that take the same rows in another order both get there", async () => {
    const other = await cluster.another();
    await cluster.database.write("a", async (statements) => {
      await statements.run(insert, 1, random(8));
      await statements.run(insert, 2, random(8));
    });
    const take = (database: typeof other.database, ids: readonly number[]) =>
      database.write("x", async (statements) => {
        for (const id of ids) {
          await statements.run("UPDATE notes SET small = coalesce(small, 0) + 1 WHERE id = $1", id);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      });
    await Promise.all([take(cluster.database, [1, 2]), take(other.database, [2, 1])]);
    const rows = await cluster.database.read((statements) => statements.all("SELECT small FROM notes"));
    expect(rows).toEqual([{ small: 2 }, { small: 2 }]);
  });

  it("answers a write at whatever moment it is asked for, also as its lane goes idle", async () => {
    for (let moments = 0; moments < 30; moments++) {
      await cluster.database.write("one key", async () => {});
      for (let moment = 0; moment < moments; moment++) await undefined;
      const answered = cluster.database.write("one key", async () => "answered");
      expect(await Promise.race([answered, pause(5_000)])).toBe("answered");
    }
  });

  it("waits once for rows of different keys, once for each of one key, and once for the COMMIT", async () => {
    const { database } = await cluster.another(1);
    const write = (key: string, id: number) =>
      database.writeRowsOf(key, (statements) =>
        Promise.all([
          statements.run(insert, id, random(8)),
          statements.run("UPDATE notes SET yes = true WHERE id = $1", id),
        ]),
      );
    const ids = Array.from({ length: 40 }, (_, i) => i);
    expect(await roundTripsOf(() => Promise.all(ids.map((id) => write(`key ${id}`, id))))).toBe(2);
    expect(await roundTripsOf(() => Promise.all(ids.map((id) => write("one key", 40 + id))))).toBe(41);
    expect(await count()).toBe(80);
  });

  it("lets writes that may touch the same rows run one after the other, whatever their keys", async () => {
    const { database } = await cluster.another(1);
    await database.write("a", (statements) => statements.run("INSERT INTO notes (id, small) VALUES (1, 0)"));
    const ids = Array.from({ length: 20 }, (_, i) => i);
    await Promise.all(
      ids.map((id) =>
        database.write(`key ${id}`, async (statements) => {
          const row = await statements.get("SELECT small FROM notes WHERE id = 1");
          await statements.run("UPDATE notes SET small = $1 WHERE id = 1", (row!["small"] as number) + 1);
        }),
      ),
    );
    const row = await database.read((statements) => statements.get("SELECT small FROM notes"));
    expect(row).toEqual({ small: 20 });
  });

  it("undoes alone a write that throws among those that run side by side", async () => {
    const { database } = await cluster.another(1);
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, id) =>
        database.writeRowsOf(`key ${id}`, async (statements) => {
          await statements.run(insert, id, random(8));
          if (id === 7) throw new RejectionError("test/refused");
          if (id === 9) await statements.run(insert, 8, random(8));
          return id;
        }),
      ),
    );
    expect(outcomes[7]).toMatchObject({ reason: { code: "test/refused" } });
    expect(outcomes[9]).toMatchObject({ reason: { code: "store/write-failed" } });
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(18);
    expect(await count()).toBe(18);
  });

  it("undoes a write that took no notice of what PostgreSQL refused, and no other one", async () => {
    await cluster.database.write("a", (statements) => statements.run(insert, 1, random(8)));
    const outcomes = await Promise.allSettled(
      [2, 1, 3].map((id) =>
        cluster.database.write("a", async (statements) => {
          await statements.run(insert, id + 10, random(8));
          await statements.run(insert, id, random(8)).catch(() => {});
        }),
      ),
    );
    expect(outcomes.map((outcome) => outcome.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(await count()).toBe(5);
  });

  it("tries again what a broken connection undid before its COMMIT was sent", async () => {
    let tries = 0;
    const write = cluster.database.write("a", async (statements) => {
      await statements.run(insert, 1, random(8));
      if (tries++ === 0) await statements.get("SELECT pg_terminate_backend(pg_backend_pid())");
      return tries;
    });
    expect(await write).toBe(2);
    expect(await count()).toBe(1);
    let looks = 0;
    const read = cluster.database.read(async (statements) => {
      if (looks++ === 0) await statements.get("SELECT pg_terminate_backend(pg_backend_pid())");
      return looks;
    });
    expect(await read).toBe(2);
  });

  it("says perhaps where the answer to a COMMIT was lost, and does not do it again by itself", async () => {
    await cluster.database.write("a", (statements) =>
      statements.run(`
        CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END$$`),
    );
    await cluster.database.write("a", (statements) =>
      statements.run(`CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION end_session()`),
    );
    let tries = 0;
    const write = cluster.database.write("a", async (statements) => {
      tries++;
      await statements.run(insert, 1, random(8));
    });
    await expect(write).rejects.toMatchObject({ code: "store/write-failed" });
    expect(tries).toBe(1);
  });

  it("goes on when a newer node has changed a table whose statements are prepared", async () => {
    const select = () => cluster.database.read((statements) => statements.all("SELECT * FROM notes"));
    await cluster.database.write("a", (statements) => statements.run(insert, 1, random(8)));
    expect(await select()).toHaveLength(1);
    await cluster.database.write("a", (statements) =>
      statements.run("ALTER TABLE notes ADD COLUMN more integer"),
    );
    expect(await select()).toMatchObject([{ id: 1, more: null }]);
  });

  it("lets writes happen while as many read as can", async () => {
    let done = 0;
    const reading = Array.from({ length: 7 }, async () => {
      await cluster.database.read((statements) => statements.get("SELECT pg_sleep(0.5)::text AS slept"));
      done++;
    });
    await cluster.database.write("a", (statements) => statements.run(insert, 1, random(8)));
    expect(done).toBe(0);
    await Promise.all(reading);
  });

  it("ends a statement that takes too long, and nothing that shares its transaction", async () => {
    const database = await hasty(inject("cluster")!.postgres);
    const outcomes = await Promise.allSettled([
      database.write("a", (statements) => statements.run(insert, 1, random(8))),
      database.write("a", (statements) => statements.run("SELECT pg_sleep(3)::text")),
      database.write("a", (statements) => statements.run(insert, 2, random(8))),
    ]);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(await count()).toBe(2);
    await database.close();
  });

  it("waits not forever for a connection on which nothing is heard any more", async () => {
    const url = new URL(inject("cluster")!.postgres);
    const relay = await openSilentRelay({ host: url.hostname, port: Number(url.port || 5432) });
    url.host = `127.0.0.1:${relay.port}`;
    const database = await hasty(url.href);
    const note = (id: number) =>
      database.write("a", async (statements) => {
        await statements.run(insert, id, random(8));
        // Whoever is cut off in the middle holds its rows no longer than others wait for them.
        if (id === 2) relay.silence();
      });
    await note(1);
    const startedAt = performance.now();
    await expect(note(2)).rejects.toMatchObject({ code: "store/write-failed" });
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    relay.restore();
    await cluster.database.write("b", (statements) => statements.run(insert, 2, random(8)));
    await note(3);
    expect(await count()).toBe(3);
    await database.close();
    await relay.dispose();
  });

  it("tells all who ask at once when nobody answers at its address, not one transaction after the other", async () => {
    const url = new URL(inject("cluster")!.postgres);
    const relay = await openSilentRelay({ host: url.hostname, port: Number(url.port || 5432) });
    url.host = `127.0.0.1:${relay.port}`;
    const database = await hasty(url.href);
    relay.silence();
    const startedAt = performance.now();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 200 }, () => database.write("a", async () => {})),
    );
    expect(performance.now() - startedAt).toBeLessThan(9_000);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "store/postgres-unreachable" } });
    }
    await database.close();
    await relay.dispose();
  });

  /** Another node, whose statements may take a second. */
  const hasty = (url: string) =>
    PostgresDatabase.open({ url, schema: cluster.schema, writers: 1, readers: 1, statementTimeoutMs: 1_000 });

  it("after closing says that it is closed", async () => {
    const { database } = await cluster.another();
    await database.close();
    await expect(database.write("a", async () => 1)).rejects.toMatchObject({ code: "store/closed" });
    await expect(database.read(async () => 1)).rejects.toMatchObject({ code: "store/closed" });
  });
});

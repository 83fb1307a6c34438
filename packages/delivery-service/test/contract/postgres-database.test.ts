import { RejectionError } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { type OpenedCluster, openCluster } from "../support/cluster.ts";
import { random } from "../support/random.ts";

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

  it("after closing says that it is closed", async () => {
    const { database } = await cluster.another();
    await database.close();
    await expect(database.write("a", async () => 1)).rejects.toMatchObject({ code: "store/closed" });
    await expect(database.read(async () => 1)).rejects.toMatchObject({ code: "store/closed" });
  });
});

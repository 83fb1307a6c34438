import { chmodSync, statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { accountId, type DeviceId, envelopeId, groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SqliteDatabase, type TransactionReport } from "../../src/adapters/sqlite-database.ts";
import { SqliteGroupRecordStore } from "../../src/adapters/sqlite-group-records.ts";
import { SqliteMailboxStore } from "../../src/adapters/sqlite-mailboxes.ts";
import { migrate, SCHEMA_VERSION } from "../../src/adapters/sqlite-schema.ts";
import { query } from "../support/database.ts";
import { temporaryDirectory } from "../support/service.ts";

describe("the embedded database", () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let path: string;
  let database: SqliteDatabase;
  let reports: TransactionReport[];
  beforeEach(() => {
    directory = temporaryDirectory();
    path = `${directory.path}/test.sqlite`;
    reports = [];
    database = new SqliteDatabase(path, (report) => reports.push(report));
  });
  afterEach(() => {
    database.close();
    directory.remove();
  });

  const insert = (job: string) =>
    database.write((statements) => {
      statements.prepare("INSERT INTO retention_runs VALUES (?, 0, 0, 0)").run(job);
      return job;
    });
  const jobs = () => query(path, "SELECT job FROM retention_runs ORDER BY job").map((row) => row["job"]);

  it("writes of one turn share one transaction, and each is answered after it is durable", async () => {
    const seen: unknown[][] = [];
    await Promise.all(["a", "b", "c", "d"].map((job) => insert(job).then(() => seen.push(jobs()))));
    // Whoever is answered first sees all of them from another connection.
    expect(seen).toEqual(Array.from({ length: 4 }, () => ["a", "b", "c", "d"]));
    expect(reports.map((report) => report.writes)).toEqual([4]);
    await insert("e");
    expect(reports.map((report) => report.writes)).toEqual([4, 1]);
  });

  it("only its owner may read the file and the log beside it, also a file that was there before", async () => {
    await insert("a");
    const modes = () => [path, `${path}-wal`].map((file) => (statSync(file).mode & 0o777).toString(8));
    expect(modes()).toEqual(["600", "600"]);
    database.close();
    chmodSync(path, 0o644);
    database = new SqliteDatabase(path);
    await insert("b");
    expect(modes()).toEqual(["600", "600"]);
  });

  it("a write that throws is undone alone", async () => {
    const failing = database.write((statements) => {
      statements.prepare("INSERT INTO retention_runs VALUES ('half', 0, 0, 0)").run();
      throw new Error("changed its mind");
    });
    const outcomes = await Promise.allSettled([insert("a"), failing, insert("b")]);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(jobs()).toEqual(["a", "b"]);
  });

  it("a transaction that cannot be made durable answers nobody with success, and the next one works", async () => {
    const rival = new DatabaseSync(path);
    rival.exec("BEGIN IMMEDIATE");
    const blocked = new SqliteDatabase(path);
    await blocked.read((statements) => statements.prepare("PRAGMA busy_timeout = 50").get());
    const write = () =>
      blocked.write((statements) => {
        statements.prepare("INSERT INTO retention_runs VALUES ('late', 0, 0, 0)").run();
      });
    const outcomes = await Promise.allSettled([write(), write()]);
    expect(outcomes.map((outcome) => outcome.status === "rejected" && outcome.reason.code)).toEqual([
      "store/write-failed",
      "store/write-failed",
    ]);
    rival.exec("ROLLBACK");
    rival.close();
    expect(jobs()).toEqual([]);
    await write();
    expect(jobs()).toEqual(["late"]);
    blocked.close();
  });

  it("is set to survive a power cut and to overwrite what is deleted", async () => {
    const pragma = (name: string) =>
      database.read((statements) => Object.values(statements.prepare(`PRAGMA ${name}`).get()!)[0]);
    expect(await pragma("journal_mode")).toBe("wal");
    expect(await pragma("synchronous")).toBe(2);
    expect(await pragma("secure_delete")).toBe(1);
    expect(await pragma("foreign_keys")).toBe(1);
  });

  it("is not kept in memory, and is closed only once", async () => {
    expect(() => new SqliteDatabase(":memory:")).toThrow("store/path-not-durable");
    const pending = insert("last");
    database.close();
    database.close();
    await pending;
    expect(jobs()).toEqual(["last"]);
    await expect(insert("later")).rejects.toMatchObject({ code: "store/closed" });
    await expect(database.read(() => 1)).rejects.toMatchObject({ code: "store/closed" });
  });

  it("brings a file of the first version up to date and keeps what is in it", async () => {
    const old = `${directory.path}/old.sqlite`;
    const first = new DatabaseSync(old);
    migrate(first, 1);
    first.exec(`
      INSERT INTO mailboxes VALUES (1, zeroblob(16), 1, 2, 2, 40, 0);
      INSERT INTO envelopes VALUES (1, 1, 60000, NULL, NULL, x'0102'), (1, 2, 60000, zeroblob(16), 3, x'03');
      INSERT INTO group_records VALUES (zeroblob(16), 7, zeroblob(32), x'fe', x'b10b', 20000);
    `);
    first.close();
    const upgraded = new SqliteDatabase(old);
    expect(query(old, "PRAGMA user_version")).toEqual([{ user_version: SCHEMA_VERSION }]);
    const owner = { accountId: accountId(new Uint8Array(16)), deviceId: 1 as DeviceId };
    const mailboxes = new SqliteMailboxStore(upgraded);
    const limits = { maxEnvelopes: 10, maxBytes: 1_000 };
    expect(await mailboxes.read(owner, envelopeId(0), limits)).toMatchObject([
      { id: 1, ciphertext: new Uint8Array([1, 2]), source: undefined, welcome: undefined },
      { id: 2, ciphertext: new Uint8Array([3]), source: { deviceId: 3 }, welcome: undefined },
    ]);
    const records = new SqliteGroupRecordStore(upgraded);
    expect(await records.load(groupId(new Uint8Array(16)))).toMatchObject({
      revision: 7,
      fence: new Uint8Array([0xfe]),
      blob: new Uint8Array([0xb1, 0x0b]),
      migration: undefined,
    });
    upgraded.close();
  });

  it("refuses a file that a newer version has made, and leaves it as it is", () => {
    const newer = `${directory.path}/newer.sqlite`;
    const made = new DatabaseSync(newer);
    migrate(made);
    made.exec(`PRAGMA user_version = ${SCHEMA_VERSION + 1}`);
    made.close();
    expect(() => new SqliteDatabase(newer)).toThrow("store/newer-schema");
    expect(query(newer, "PRAGMA user_version")).toEqual([{ user_version: SCHEMA_VERSION + 1 }]);
  });

  it("opens a database again and leaves its schema as it is", () => {
    const again = new SqliteDatabase(path);
    again.close();
    expect(query(path, "PRAGMA user_version")).toEqual([{ user_version: SCHEMA_VERSION }]);
  });
});

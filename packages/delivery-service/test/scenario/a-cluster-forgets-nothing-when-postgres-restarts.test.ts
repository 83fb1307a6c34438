import { accountId, type DeviceAddress, type DeviceId, groupId, UnavailableError } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { PostgresDatabase } from "../../src/adapters/postgres-database.ts";
import { PostgresGroupRecordStore } from "../../src/adapters/postgres-group-records.ts";
import { PostgresKeyStore } from "../../src/adapters/postgres-keys.ts";
import { type LocalPostgres, startLocalPostgres } from "../../src/local-engines/index.ts";
import type { GroupRecord } from "../../src/ports/group-records.ts";
import { random } from "../support/random.ts";

/** Each says: ask again. Nothing else may be said of a database that is away. */
const ASK_AGAIN = ["store/write-failed", "store/postgres-unreachable", "store/read-failed"];
const CALLERS = 24;

const newRecord = (): GroupRecord => ({
  groupId: groupId(random(16)),
  revision: 1,
  blob: random(400),
  accessPublicKey: random(32),
  fence: random(16),
  lastUsedDay: 100,
  migration: undefined,
});
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const codeOf = (error: unknown) => (error instanceof UnavailableError ? error.code : String(error));

/** Callers that ask one thing after the other until they are stopped. */
function keepAsking(ask: () => Promise<void>) {
  const refusals: string[] = [];
  let answered = 0;
  let stopped = false;
  const callers = Array.from({ length: CALLERS }, async () => {
    while (!stopped) {
      try {
        await ask();
        answered++;
      } catch (error) {
        refusals.push(codeOf(error));
        await pause(5);
      }
    }
  });
  return {
    refusals,
    /** Waits until so many more were answered. */
    async untilAnswered(more: number): Promise<void> {
      const goal = answered + more;
      while (answered < goal) await pause(10);
    },
    async stop(): Promise<void> {
      stopped = true;
      await Promise.all(callers);
    },
  };
}

describe.skipIf(inject("cluster") === undefined)("a PostgreSQL of its own that is killed", () => {
  let postgres: LocalPostgres;
  let database: PostgresDatabase;
  beforeEach(async () => {
    postgres = await startLocalPostgres();
    database = await PostgresDatabase.open({ url: postgres.url, writers: 4, readers: 2 });
  });
  afterEach(async () => {
    await database.close();
    await postgres.dispose();
  });

  it("has after each restart whatever was answered as stored, and the service goes on by itself", async () => {
    const records = new PostgresGroupRecordStore(database);
    const stored = new Map<GroupRecord["groupId"], GroupRecord>();
    const writing = keepAsking(async () => {
      const first = newRecord();
      if ((await records.create(first)) === "created") stored.set(first.groupId, first);
      const next = { ...newRecord(), groupId: first.groupId, revision: 2 };
      if ((await records.compareAndSet(next, { kind: "keep" })) === "stored") stored.set(next.groupId, next);
    });
    for (let kills = 0; kills < 3; kills++) {
      await writing.untilAnswered(150);
      await postgres.kill();
      await pause(100);
      await postgres.start();
    }
    await writing.untilAnswered(150);
    await writing.stop();
    // The kills met writes that were under way, and nothing was said of them but to ask again.
    expect(writing.refusals.length).toBeGreaterThan(0);
    expect(writing.refusals.filter((code) => !ASK_AGAIN.includes(code))).toEqual([]);
    expect(stored.size).toBeGreaterThan(600);
    for (const [id, record] of stored) {
      const found = await records.load(id);
      // The second write may have happened though nobody heard of it.
      if (found?.revision === record.revision) expect(found).toEqual(record);
      else expect([record.revision, found?.revision]).toEqual([1, 2]);
    }
  });

  it("hands out no one-time key a second time that it handed out before the kill", async () => {
    const keys = new PostgresKeyStore(database);
    const owner: DeviceAddress = { accountId: accountId(random(16)), deviceId: 1 as DeviceId };
    const signed = (id: number) => ({ id, publicKey: random(33), signature: random(64) });
    const ids = Array.from({ length: 2_000 }, (_, i) => i + 1);
    const upload = {
      uploadId: random(16),
      signedPreKey: signed(9_000),
      lastResortKyberPreKey: signed(9_001),
      preKeys: ids.map((id) => ({ id, publicKey: random(33) })),
      kyberPreKeys: ids.map(signed),
      replace: false,
    };
    await keys.upload(owner, upload, ids.length);
    const claimed: number[] = [];
    const claiming = keepAsking(async () => {
      const claim = await keys.claim(owner, true);
      if (claim?.preKey !== undefined) claimed.push(claim.preKey.id);
    });
    await claiming.untilAnswered(100);
    await postgres.kill();
    await postgres.start();
    await claiming.untilAnswered(100);
    await claiming.stop();
    expect(claiming.refusals.length).toBeGreaterThan(0);
    expect(new Set(claimed).size).toBe(claimed.length);
    const { preKeys } = await keys.count(owner);
    expect(preKeys).toBeLessThanOrEqual(ids.length - claimed.length);
  });

  it("keeps nobody waiting while it is away, however many ask", async () => {
    const records = new PostgresGroupRecordStore(database);
    await records.create(newRecord());
    await postgres.kill();
    const startedAt = performance.now();
    const asked = Array.from({ length: 2_000 }, () => records.create(newRecord()));
    const outcomes = await Promise.allSettled([...asked, records.load(newRecord().groupId)]);
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    const codes = outcomes.map((outcome) =>
      outcome.status === "rejected" ? codeOf(outcome.reason) : "answered",
    );
    expect(codes.filter((code) => !ASK_AGAIN.includes(code))).toEqual([]);
    await postgres.start();
    expect(await records.create(newRecord())).toBe("created");
  });
});

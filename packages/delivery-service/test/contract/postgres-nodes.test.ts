import {
  accountId,
  blobId,
  type DeviceAddress,
  type DeviceId,
  groupId,
  toHex,
  UnavailableError,
} from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { PostgresAccountStore } from "../../src/adapters/postgres-accounts.ts";
import { PostgresBlobStore } from "../../src/adapters/postgres-blobs.ts";
import { PostgresCertificateStore } from "../../src/adapters/postgres-certificates.ts";
import type { PostgresDatabase, PostgresStatements } from "../../src/adapters/postgres-database.ts";
import { PostgresGroupRecordStore } from "../../src/adapters/postgres-group-records.ts";
import { PostgresKeyPackageStore } from "../../src/adapters/postgres-key-packages.ts";
import { PostgresKeyStore } from "../../src/adapters/postgres-keys.ts";
import type { DeviceRecord } from "../../src/ports/accounts.ts";
import { type OpenedCluster, openCluster } from "../support/cluster.ts";
import { random } from "../support/random.ts";
import { roundTripsOf } from "../support/round-trips.ts";

const NOW = 1_800_000_000_000;
const signed = (id: number) => ({ id, publicKey: random(33), signature: random(64) });
const ids = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
const keyUpload = (count: number, from = 0) => ({
  uploadId: random(16),
  signedPreKey: signed(9_000),
  lastResortKyberPreKey: signed(9_001),
  preKeys: ids(count).map((id) => ({ id: from + id, publicKey: random(33) })),
  kyberPreKeys: ids(count).map((id) => signed(from + id)),
  replace: false,
});
const keyPackage = () => ({ reference: random(32), message: random(300), expiresAtMs: NOW + 1_000 });
const keyPackageUpload = (count: number, lastResort?: ReturnType<typeof keyPackage>) => ({
  uploadId: random(16),
  keyPackages: ids(count).map(keyPackage),
  lastResort,
  replace: false,
});
const device = (deviceId: number, lastSeenDay = 100): DeviceRecord => ({
  deviceId: deviceId as DeviceId,
  registrationId: deviceId,
  identityKey: random(33),
  tokenHash: random(32),
  lastSeenDay,
  hasKeys: true,
});
const newAccount = () => ({
  accountId: accountId(random(16)),
  accountIdentityKey: random(33),
  accessKeyHash: random(32),
  deviceList: { version: 1, bytes: random(200) },
  device: device(1),
});
const newRecord = (id = groupId(random(16)), revision = 1) => ({
  groupId: id,
  revision,
  blob: random(400),
  accessPublicKey: random(32),
  fence: random(16),
  lastUsedDay: 100,
  migration: undefined,
});
const rising = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
async function* inPieces(bytes: Uint8Array) {
  for (let at = 0; at < bytes.length; at += 50_001) yield bytes.subarray(at, at + 50_001);
}

/** A database whose writes end as `end` says: each has run, and nothing of it is committed yet. */
function withWrites(database: PostgresDatabase, end: (write: () => Promise<unknown>) => Promise<unknown>) {
  return {
    read: <T>(run: (statements: PostgresStatements) => Promise<T>) => database.read(run),
    writeRowsOf: (key: string, run: (statements: PostgresStatements) => Promise<unknown>) =>
      database.write(key, (statements) => end(() => run(statements))),
  } as unknown as PostgresDatabase;
}

describe.skipIf(inject("cluster") === undefined)("two nodes on one PostgreSQL", () => {
  let cluster: OpenedCluster;
  let nodes: readonly [PostgresDatabase, PostgresDatabase];
  let owner: DeviceAddress;
  beforeEach(async () => {
    cluster = await openCluster();
    nodes = [cluster.database, (await cluster.another()).database];
    owner = { accountId: accountId(random(16)), deviceId: 1 as DeviceId };
  });
  afterEach(() => cluster.dispose());

  /** Asks `count` times, both nodes in turn and all at once. */
  const onBoth = <S, T>(
    stores: readonly [S, S],
    count: number,
    ask: (store: S, turn: number) => Promise<T>,
  ): Promise<T[]> => Promise.all(ids(count).map((turn) => ask(stores[turn % 2]!, turn)));

  it("hand out each of 400 prekeys once, none is missed, and each count of what is left is seen", async () => {
    const stores = [new PostgresKeyStore(nodes[0]), new PostgresKeyStore(nodes[1])] as const;
    await stores[0].upload(owner, keyUpload(400), 400);
    const claims = await onBoth(stores, 400, (keys) => keys.claim(owner, true));
    expect(rising(claims.map((claim) => claim!.preKey!.id))).toEqual(ids(400));
    expect(rising(claims.map((claim) => claim!.kyberPreKey.id))).toEqual(ids(400));
    expect(rising(claims.map((claim) => claim!.left.preKeys + 1))).toEqual(ids(400));
    const late = await onBoth(stores, 10, (keys) => keys.claim(owner, true));
    expect(late.map((claim) => claim?.kyberPreKey.id)).toEqual(ids(10).map(() => 9_001));
  });

  it("hand out each of 400 KeyPackages once, none is missed, and the last-resort one afterwards", async () => {
    const stores = [new PostgresKeyPackageStore(nodes[0]), new PostgresKeyPackageStore(nodes[1])] as const;
    const lastResort = keyPackage();
    const stored = keyPackageUpload(400, lastResort);
    await stores[0].upload(owner, stored, 400);
    const claims = await onBoth(stores, 400, (keyPackages) => keyPackages.claim(owner, true, NOW));
    const claimed = claims.map((claim) => toHex(claim!.message));
    expect(claimed.toSorted()).toEqual(stored.keyPackages.map(({ message }) => toHex(message)).toSorted());
    expect(rising(claims.map((claim) => claim!.left.keyPackages + 1))).toEqual(ids(400));
    const late = await onBoth(stores, 10, (keyPackages) => keyPackages.claim(owner, true, NOW));
    expect(late.map((claim) => claim?.message)).toEqual(ids(10).map(() => lastResort.message));
  });

  it("do not lock the last-resort key away from each other", async () => {
    const keys = [new PostgresKeyStore(nodes[0]), new PostgresKeyStore(nodes[1])] as const;
    const packages = [new PostgresKeyPackageStore(nodes[0]), new PostgresKeyPackageStore(nodes[1])] as const;
    const lastResort = keyPackage();
    await keys[0].upload(owner, keyUpload(0), 400);
    await packages[0].upload(owner, keyPackageUpload(0, lastResort), 400);
    const claims = await onBoth(keys, 60, (store) => store.claim(owner, true));
    expect(claims.map((claim) => claim?.kyberPreKey.id)).toEqual(ids(60).map(() => 9_001));
    const others = await onBoth(packages, 60, (store, turn) => store.claim(owner, turn % 3 === 0, NOW));
    expect(others.map((claim) => claim?.message)).toEqual(ids(60).map(() => lastResort.message));
  });

  it("are not told that keys ran out by a claim that is undone in the end", async () => {
    const undone = withWrites(nodes[0], async (write) => {
      await write();
      await pause(300);
      throw new UnavailableError("test/undone");
    });
    await new PostgresKeyStore(nodes[0]).upload(owner, keyUpload(1), 400);
    const upload = keyPackageUpload(1, keyPackage());
    await new PostgresKeyPackageStore(nodes[0]).upload(owner, upload, 400);
    const failing = Promise.allSettled([
      new PostgresKeyStore(undone).claim(owner, true),
      new PostgresKeyPackageStore(undone).claim(owner, true, NOW),
    ]);
    await pause(100);
    const claimed = await new PostgresKeyStore(nodes[1]).claim(owner, true);
    const keyPackageClaimed = await new PostgresKeyPackageStore(nodes[1]).claim(owner, true, NOW);
    expect((await failing).map((outcome) => outcome.status)).toEqual(["rejected", "rejected"]);
    expect([claimed?.preKey?.id, claimed?.kyberPreKey.id]).toEqual([1, 1]);
    expect(keyPackageClaimed?.message).toEqual(upload.keyPackages[0]!.message);
  });

  it("store no more keys together than a device may have", async () => {
    await new PostgresKeyStore(nodes[1]).upload(owner, keyUpload(1), 100);
    await new PostgresKeyPackageStore(nodes[1]).upload(owner, keyPackageUpload(1), 100);
    const slow = withWrites(nodes[0], async (write) => {
      const outcome = await write();
      await pause(300);
      return outcome;
    });
    const first = Promise.all([
      new PostgresKeyStore(slow).upload(owner, keyUpload(60, 100), 100),
      new PostgresKeyPackageStore(slow).upload(owner, keyPackageUpload(60), 100),
    ]);
    await pause(100);
    const [keys, packages] = [new PostgresKeyStore(nodes[1]), new PostgresKeyPackageStore(nodes[1])];
    expect(await keys.upload(owner, keyUpload(60, 200), 100)).toBe("too-many");
    expect(await packages.upload(owner, keyPackageUpload(60), 100)).toBe("too-many");
    expect(await first).toEqual(["stored", "stored"]);
    expect(await keys.count(owner)).toEqual({ preKeys: 61, kyberPreKeys: 61 });
    expect(await packages.count(owner, NOW)).toEqual({ keyPackages: 61, lastResort: false });
  });

  it("give an account id out once, and never again once its account was deleted", async () => {
    const stores = [new PostgresAccountStore(nodes[0]), new PostgresAccountStore(nodes[1])] as const;
    const rivals = await onBoth(stores, 20, (accounts) =>
      accounts.create({ ...newAccount(), accountId: owner.accountId }),
    );
    expect(rivals.filter((outcome) => outcome === "created")).toHaveLength(1);
    const racing = await onBoth<PostgresAccountStore, string>(stores, 20, (accounts, turn) =>
      turn === 7
        ? accounts.delete(owner.accountId, 101)
        : accounts.create({ ...newAccount(), accountId: owner.accountId }),
    );
    expect(racing[6]).toBe("deleted");
    expect(racing.filter((outcome) => outcome === "created")).toEqual([]);
    expect(await stores[1].hasTombstone(owner.accountId)).toBe(true);
    expect(await stores[0].load(owner.accountId)).toBeUndefined();
  });

  it("let one of two device lists follow the present one, round after round", async () => {
    const stores = [new PostgresAccountStore(nodes[0]), new PostgresAccountStore(nodes[1])] as const;
    const account = newAccount();
    await stores[0].create(account);
    for (let version = 1; version <= 20; version++) {
      const outcomes = await onBoth(stores, 4, (accounts, turn) =>
        accounts.updateDevices({
          accountId: account.accountId,
          deviceList: { version: version + 1, bytes: new Uint8Array([version, turn]) },
          expectedVersion: version,
          added: [device(4 * version + turn)],
          removed: [],
        }),
      );
      expect(outcomes.toSorted()).toEqual(["conflict", "conflict", "conflict", "stored"]);
      const loaded = await stores[1].load(account.accountId);
      const winner = outcomes.indexOf("stored") + 1;
      expect(loaded?.deviceList.bytes).toEqual(new Uint8Array([version, winner]));
      expect(loaded?.devices).toHaveLength(version + 1);
      expect(loaded?.devices.at(-1)?.deviceId).toBe(4 * version + winner);
    }
  });

  it("leave nothing of a device that is added while its account is deleted", async () => {
    const stores = [new PostgresAccountStore(nodes[0]), new PostgresAccountStore(nodes[1])] as const;
    for (let round = 0; round < 10; round++) {
      const account = newAccount();
      await stores[0].create(account);
      await Promise.all([
        stores[0].updateDevices({
          accountId: account.accountId,
          deviceList: { version: 2, bytes: random(200) },
          expectedVersion: 1,
          added: [device(2)],
          removed: [],
        }),
        stores[1].delete(account.accountId, 101),
      ]);
      expect(await stores[0].idleDevices(1_000, 10)).toEqual([]);
    }
  });

  it("bury an account whose last two devices go at the same moment", async () => {
    const stores = [new PostgresAccountStore(nodes[0]), new PostgresAccountStore(nodes[1])] as const;
    for (let round = 0; round < 10; round++) {
      const account = newAccount();
      await stores[0].create(account);
      await stores[0].updateDevices({
        accountId: account.accountId,
        deviceList: { version: 2, bytes: random(200) },
        expectedVersion: 1,
        added: [device(2)],
        removed: [],
      });
      const gone = await onBoth(stores, 2, (accounts, turn) =>
        accounts.removeIdleDevice({ accountId: account.accountId, deviceId: turn as DeviceId }, 200),
      );
      expect(gone).toEqual(["removed", "removed"]);
      expect(await stores[0].hasTombstone(account.accountId)).toBe(true);
    }
  });

  it("let one of several writes follow a group record's present revision, round after round", async () => {
    const stores = [new PostgresGroupRecordStore(nodes[0]), new PostgresGroupRecordStore(nodes[1])] as const;
    const { groupId: id, ...first } = newRecord();
    await stores[0].create({ groupId: id, ...first });
    for (let revision = 2; revision <= 30; revision++) {
      const rivals = ids(6).map(() => newRecord(id, revision));
      const outcomes = await onBoth(stores, 6, (records, turn) =>
        records.compareAndSet(rivals[turn - 1]!, { kind: "keep" }),
      );
      expect(outcomes.toSorted()).toEqual([...ids(5).map(() => "conflict"), "stored"]);
      expect(await stores[1].load(id)).toEqual(rivals[outcomes.indexOf("stored")]);
    }
  });

  it("begin with the same keys of the certificate authority", async () => {
    const stores = [new PostgresCertificateStore(nodes[0]), new PostgresCertificateStore(nodes[1])] as const;
    const saved = await onBoth(stores, 6, (certificates) =>
      certificates.saveFirst({
        trustRootPublicKey: random(33),
        trustRootPrivateKey: random(32),
        signerKeyId: 1,
        signerCertificate: random(100),
        signerPrivateKey: random(32),
      }),
    );
    for (const keys of saved) expect(keys).toEqual(saved[0]);
    expect(await stores[1].load()).toEqual(saved[0]);
  });

  it("store one of two blobs under one id, whole, and nothing of the other", async () => {
    const stores = [new PostgresBlobStore(nodes[0]), new PostgresBlobStore(nodes[1])] as const;
    for (const same of [true, false]) {
      const id = blobId(random(16));
      const first = random(600_000);
      const contents = [first, same ? first : random(600_000)];
      const outcomes = await onBoth(stores, 2, (blobs, turn) =>
        blobs.put(id, inPieces(contents[turn - 1]!), NOW),
      );
      expect(outcomes.toSorted()).toEqual([same ? "repeated" : "exists", "stored"].toSorted());
      const part = await stores[1].read(id, 0, 600_000);
      expect(Buffer.compare(part!.bytes, contents[outcomes.indexOf("stored")]!)).toBe(0);
    }
    expect(await stores[0].expireUploads(NOW + 1, 10)).toBe(0);
    const chunks = await nodes[0].read((statements) =>
      statements.get("SELECT count(*) AS stored FROM blob_chunks"),
    );
    expect(chunks).toEqual({ stored: 6 });
  });

  it("keep a blob whose last write happened though its answer was lost", async () => {
    let lost = 0;
    const database = {
      read: <T>(run: (statements: PostgresStatements) => Promise<T>) => nodes[0].read(run),
      writeRowsOf: async <T>(key: string, run: (statements: PostgresStatements) => Promise<T>) => {
        const result = await nodes[0].write(key, run);
        if ((result as unknown) !== "stored") return result;
        lost++;
        throw new UnavailableError("store/write-failed");
      },
    } as unknown as PostgresDatabase;
    const [id, bytes] = [blobId(random(16)), random(600_000)];
    const put = new PostgresBlobStore(database).put(id, inPieces(bytes), NOW);
    await expect(put).rejects.toMatchObject({ code: "store/write-failed" });
    expect(lost).toBe(1);
    expect(await new PostgresBlobStore(nodes[1]).put(id, inPieces(bytes), NOW)).toBe("repeated");
    expect(Buffer.compare((await new PostgresBlobStore(nodes[1]).read(id, 0, 600_000))!.bytes, bytes)).toBe(
      0,
    );
  });

  it("show an auditor what is kept too long, and that nothing else is", async () => {
    const now = Date.now();
    const today = Math.floor(now / 86_400_000);
    const blobs = new PostgresBlobStore(nodes[0]);
    const packages = new PostgresKeyPackageStore(nodes[0]);
    const accounts = new PostgresAccountStore(nodes[0]);
    const records = new PostgresGroupRecordStore(nodes[0]);
    for (const days of [31, 29]) {
      await blobs.put(blobId(random(16)), inPieces(random(10)), now - days * 86_400_000);
    }
    await nodes[0].write("uploads", (statements) =>
      statements.run("INSERT INTO blob_uploads (started_at_ms) VALUES ($1), ($2)", now - 90_000_000, now),
    );
    const ends = [now - 60_000, now + 60_000].map((expiresAtMs) => ({ ...keyPackage(), expiresAtMs }));
    await packages.upload(owner, { ...keyPackageUpload(0), keyPackages: ends }, 10);
    for (const days of [182, 179])
      await accounts.create({ ...newAccount(), device: device(1, today - days) });
    for (const days of [402, 399]) await records.create({ ...newRecord(), lastUsedDay: today - days });
    const overdue = await nodes[1].read((statements) =>
      statements.all("SELECT job, overdue FROM retention_overdue WHERE job = ANY($1) ORDER BY job", [
        "blobs",
        "idle-devices",
        "idle-groups",
        "key-packages",
        "unfinished-uploads",
      ]),
    );
    expect(overdue).toEqual(
      ["blobs", "idle-devices", "idle-groups", "key-packages", "unfinished-uploads"].map((job) => ({
        job,
        overdue: 1,
      })),
    );
  });

  it("wait for the database as often as the design counted", async () => {
    const [keys, packages] = [new PostgresKeyStore(nodes[0]), new PostgresKeyPackageStore(nodes[0])];
    const [accounts, blobs] = [new PostgresAccountStore(nodes[0]), new PostgresBlobStore(nodes[0])];
    const records = new PostgresGroupRecordStore(nodes[0]);
    const many = ids(200).map(newAccount);
    await Promise.all(many.map((account) => accounts.create(account)));
    await keys.upload(owner, keyUpload(10), 100);
    await packages.upload(owner, keyPackageUpload(10, keyPackage()), 100);
    const record = newRecord();
    await records.create(record);
    const counted = {
      claimOfKeys: () => keys.claim(owner, true),
      claimOfLastResortKeys: () => keys.claim(owner, false),
      claimOfKeyPackage: () => packages.claim(owner, true, NOW),
      claimOfLastResortKeyPackage: () => packages.claim(owner, false, NOW),
      loadOf200Accounts: () => accounts.loadMany(many.map((account) => account.accountId)),
      newAccount: () => accounts.create(newAccount()),
      deletedAccount: () => accounts.delete(many[0]!.accountId, 101),
      groupRecord: () => records.load(record.groupId),
      nextGroupRecord: () => records.compareAndSet(newRecord(record.groupId, 2), { kind: "keep" }),
      upload: () => keys.upload(owner, keyUpload(10, 100), 100),
      smallBlob: () => blobs.put(blobId(random(16)), inPieces(random(1_000)), NOW),
    };
    const trips: Record<string, number> = {};
    for (const [name, work] of Object.entries(counted)) trips[name] = await roundTripsOf(work);
    // A write is its statements and its COMMIT.
    expect(trips).toEqual({
      claimOfKeys: 2,
      claimOfLastResortKeys: 1,
      claimOfKeyPackage: 2,
      claimOfLastResortKeyPackage: 1,
      loadOf200Accounts: 1,
      newAccount: 2,
      deletedAccount: 2,
      groupRecord: 1,
      nextGroupRecord: 2,
      upload: 2,
      smallBlob: 3,
    });
  });
});

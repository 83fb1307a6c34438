import { blobId, groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { GroupMigration, GroupRecord, MigrationWrite } from "../../src/ports/group-records.ts";
import type { Stores } from "../../src/service/context.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { random } from "../support/random.ts";

const NOW = 1_800_000_000_000;

const KEEP: MigrationWrite = { kind: "keep" };
const REPLACE: MigrationWrite = { kind: "replace", ifLeaseUntilMs: undefined };

const record = (given: Partial<GroupRecord> = {}): GroupRecord => ({
  groupId: groupId(random(16)),
  revision: 1,
  blob: random(400),
  accessPublicKey: random(32),
  fence: random(16),
  lastUsedDay: 100,
  migration: undefined,
  ...given,
});

const migration = (given: Partial<GroupMigration> = {}): GroupMigration => ({
  state: "preparing",
  generation: 1,
  lease: { tokenHash: random(32), untilMs: NOW + 60_000 },
  sinceMs: NOW,
  startedMs: NOW - 1,
  ...given,
});

/** In pieces as a socket gives them: of odd lengths. */
async function* inPieces(bytes: Uint8Array) {
  for (let at = 0; at < bytes.length; at += 50_001) yield bytes.subarray(at, at + 50_001);
}

describe.each(engines)("group records, blobs, certificates and retention log on $name", (engine) => {
  let opened: OpenedEngine;
  let stores: Stores;
  beforeEach(async () => {
    opened = await engine.open();
    stores = opened.stores;
  });
  afterEach(() => opened.dispose());

  it("a group record is created once", async () => {
    const first = record();
    const rival = record({ groupId: first.groupId });
    const { groupRecords } = stores;
    const outcomes = await Promise.all([groupRecords.create(first), groupRecords.create(rival)]);
    expect(outcomes).toEqual(["created", "exists"]);
    expect(await groupRecords.load(first.groupId)).toEqual(first);
  });

  it("of two writes on one revision one wins, and it replaces key and fence as well", async () => {
    const first = record();
    const { groupRecords } = stores;
    await groupRecords.create(first);
    const [a, b] = [1, 2].map(() => record({ groupId: first.groupId, revision: 2 }));
    const outcomes = await Promise.all([
      groupRecords.compareAndSet(a!, KEEP),
      groupRecords.compareAndSet(b!, KEEP),
    ]);
    expect(outcomes).toEqual(["stored", "conflict"]);
    expect(await groupRecords.load(first.groupId)).toEqual(a);
    expect(await groupRecords.compareAndSet(first, KEEP)).toBe("conflict");
    expect(await groupRecords.compareAndSet(record({ revision: 2 }), KEEP)).toBe("unknown");
  });

  it("a migration is stored with its record, in every state, and counted by its state", async () => {
    const { groupRecords } = stores;
    expect(await groupRecords.migrations()).toEqual({});
    const first = record({ migration: migration() });
    await groupRecords.create(first);
    await groupRecords.create(record());
    expect(await groupRecords.load(first.groupId)).toEqual(first);
    const states = ["ready", "switching", "mls", "recovering", "pairwise"] as const;
    for (const [index, state] of states.entries()) {
      const held = ["ready", "recovering"].includes(state);
      const next = record({
        groupId: first.groupId,
        revision: index + 2,
        migration: migration({ state, generation: index + 1, ...(!held && { lease: undefined }) }),
      });
      expect(await groupRecords.compareAndSet(next, REPLACE)).toBe("stored");
      expect(await groupRecords.load(first.groupId)).toEqual(next);
      expect(await groupRecords.migrations()).toEqual({ [state]: 1 });
    }
    await groupRecords.create(record({ migration: migration() }));
    expect(await groupRecords.migrations()).toEqual({ pairwise: 1, preparing: 1 });
  });

  it("a write that is no step leaves the migration as it is, and a lease that was renewed meanwhile", async () => {
    const { groupRecords } = stores;
    const first = record({ migration: migration() });
    await groupRecords.create(first);
    const lease = { tokenHash: first.migration!.lease!.tokenHash, untilMs: NOW + 90_000 };
    expect(await groupRecords.renewLease(first.groupId, lease)).toBe("renewed");
    // Decided on before the renewal.
    const next = { ...record({ groupId: first.groupId, revision: 2 }), migration: first.migration };
    expect(await groupRecords.compareAndSet(next, KEEP)).toBe("stored");
    const renewed = { ...first.migration!, lease };
    expect(await groupRecords.load(first.groupId)).toEqual({ ...next, migration: renewed });
  });

  it("a lease is taken over only as it was seen, and renewed only by whose it is", async () => {
    const { groupRecords } = stores;
    const first = record({ migration: migration() });
    const { groupId: id } = first;
    await groupRecords.create(first);
    const seen = first.migration!.lease!;
    const takeOver: MigrationWrite = { kind: "replace", ifLeaseUntilMs: seen.untilMs };
    const next = record({ groupId: id, revision: 2, migration: migration({ generation: 2 }) });
    const renewed = { ...seen, untilMs: seen.untilMs + 1 };
    const outcomes = [groupRecords.renewLease(id, renewed), groupRecords.compareAndSet(next, takeOver)];
    expect(await Promise.all(outcomes)).toEqual(["renewed", "renewed"]);
    expect(await groupRecords.load(id)).toEqual({
      ...first,
      migration: { ...first.migration, lease: renewed },
    });
    const again: MigrationWrite = { kind: "replace", ifLeaseUntilMs: renewed.untilMs };
    const others = [groupRecords.compareAndSet(next, again), groupRecords.renewLease(id, seen)];
    expect(await Promise.all(others)).toEqual(["stored", "lost"]);
    expect(await groupRecords.load(id)).toEqual(next);
    expect(await groupRecords.compareAndSet({ ...next, revision: 2 }, again)).toBe("conflict");
    const over = record({
      groupId: id,
      revision: 3,
      migration: migration({ state: "mls", lease: undefined }),
    });
    expect(await groupRecords.compareAndSet(over, REPLACE)).toBe("stored");
    expect(await groupRecords.renewLease(id, next.migration!.lease!)).toBe("lost");
    expect(await groupRecords.renewLease(record().groupId, seen)).toBe("lost");
    expect(await groupRecords.renewLease((await created(record())).groupId, seen)).toBe("lost");
  });

  const created = async (one: GroupRecord): Promise<GroupRecord> => {
    await stores.groupRecords.create(one);
    return one;
  };

  it("a record in a migration expires when others do", async () => {
    const moving = await created(record({ migration: migration() }));
    expect(await stores.groupRecords.expire(100, 10)).toBe(0);
    expect(await stores.groupRecords.load(moving.groupId)).toEqual(moving);
    expect(await stores.groupRecords.expire(101, 10)).toBe(1);
    expect(await stores.groupRecords.migrations()).toEqual({});
  });

  it("unused group records expire, used ones stay", async () => {
    const [idle, used] = [record(), record()];
    const { groupRecords } = stores;
    await groupRecords.create(idle);
    await groupRecords.create(used);
    await groupRecords.touch(used.groupId, 120);
    await groupRecords.touch(used.groupId, 110);
    expect(await groupRecords.expire(120, 10)).toBe(1);
    expect(await groupRecords.load(idle.groupId)).toBeUndefined();
    expect((await groupRecords.load(used.groupId))?.lastUsedDay).toBe(120);
  });

  it("a blob is stored once and read in any range", async () => {
    const [id, bytes] = [blobId(random(16)), random(600_000)];
    const { blobs } = stores;
    expect(await blobs.put(id, inPieces(bytes), NOW)).toBe("stored");
    expect(await blobs.put(id, inPieces(bytes), NOW)).toBe("repeated");
    expect(await blobs.put(id, inPieces(random(600_000)), NOW)).toBe("exists");
    const ranges = [
      [0, 600_000],
      [0, 1],
      [262_143, 262_145],
      [262_144, 524_288],
      [262_143, 524_289],
      [599_999, 600_000],
      [599_999, 999_999],
      [600_000, 600_001],
      [70_000, 70_000],
    ] as const;
    for (const [from, to] of ranges) {
      const part = await blobs.read(id, from, to);
      expect(part?.totalBytes).toBe(600_000);
      expect(Buffer.compare(part!.bytes, bytes.subarray(from, to))).toBe(0);
    }
    expect(await blobs.read(blobId(random(16)), 0, 1)).toBeUndefined();
  });

  it("an upload that breaks off leaves nothing, and the id stays free", async () => {
    const [id, bytes] = [blobId(random(16)), random(600_000)];
    async function* broken() {
      yield bytes.subarray(0, 300_000);
      throw new Error("the peer went away");
    }
    await expect(stores.blobs.put(id, broken(), NOW)).rejects.toThrow("the peer went away");
    expect(await stores.blobs.read(id, 0, 1)).toBeUndefined();
    expect(await stores.blobs.expireUploads(NOW + 1, 10)).toBe(0);
    expect(await stores.blobs.put(id, inPieces(bytes), NOW)).toBe("stored");
  });

  it("of two uploads to one id at the same time one is stored", async () => {
    const id = blobId(random(16));
    const contents = [random(300_000), random(300_000)];
    const outcomes = await Promise.all(contents.map((bytes) => stores.blobs.put(id, inPieces(bytes), NOW)));
    expect(outcomes.toSorted()).toEqual(["exists", "stored"]);
    const part = await stores.blobs.read(id, 0, 300_000);
    expect(part!.bytes).toEqual(contents[outcomes.indexOf("stored")]);
    expect(await stores.blobs.expireUploads(NOW + 1, 10)).toBe(0);
  });

  it("an empty blob is a blob", async () => {
    const id = blobId(random(16));
    await stores.blobs.put(id, inPieces(new Uint8Array(0)), NOW);
    expect(await stores.blobs.read(id, 0, 10)).toMatchObject({ totalBytes: 0 });
  });

  it("blobs expire by their age", async () => {
    const ids = [1, 2, 3].map(() => blobId(random(16)));
    for (const [index, id] of ids.entries()) await stores.blobs.put(id, inPieces(random(10)), NOW + index);
    expect(await stores.blobs.expire(NOW + 2, 1)).toBe(1);
    expect(await stores.blobs.expire(NOW + 2, 10)).toBe(1);
    expect(await stores.blobs.read(ids[0]!, 0, 1)).toBeUndefined();
    expect(await stores.blobs.read(ids[2]!, 0, 1)).toMatchObject({ totalBytes: 10 });
  });

  it("a blob that is uploaded again is kept from then on, and no shorter where the clock was set back", async () => {
    const [id, bytes] = [blobId(random(16)), random(300_000)];
    const { blobs } = stores;
    await blobs.put(id, inPieces(bytes), NOW);
    expect(await blobs.put(id, inPieces(bytes), NOW + 10)).toBe("repeated");
    expect(await blobs.put(id, inPieces(bytes), NOW + 5)).toBe("repeated");
    expect(await blobs.put(id, inPieces(random(300_000)), NOW + 20)).toBe("exists");
    expect(await blobs.expire(NOW + 10, 10)).toBe(0);
    expect(await blobs.read(id, 0, 1)).toMatchObject({ totalBytes: 300_000 });
    expect(await blobs.expire(NOW + 11, 10)).toBe(1);
    expect(await blobs.put(id, inPieces(bytes), NOW + 30)).toBe("stored");
  });

  it("the first keys of the certificate authority stay", async () => {
    const keys = () => ({
      trustRootPublicKey: random(33),
      trustRootPrivateKey: undefined,
      signerKeyId: 1,
      signerCertificate: random(100),
      signerPrivateKey: random(32),
    });
    const [first, second] = [keys(), keys()];
    expect(await stores.certificates.load()).toBeUndefined();
    expect(await stores.certificates.saveFirst(first)).toEqual(first);
    expect(await stores.certificates.saveFirst(second)).toEqual(first);
    expect(await stores.certificates.load()).toEqual(first);
  });

  it("the retention log names the latest run of each job", async () => {
    await stores.retentionLog.record({ job: "b", ranAtMs: NOW, removed: 2 });
    await stores.retentionLog.record({ job: "a", ranAtMs: NOW, removed: 0 });
    await stores.retentionLog.record({ job: "b", ranAtMs: NOW + 1, removed: 3 });
    expect(await stores.retentionLog.latest()).toEqual([
      { job: "a", ranAtMs: NOW, removed: 0 },
      { job: "b", ranAtMs: NOW + 1, removed: 3 },
    ]);
  });
});

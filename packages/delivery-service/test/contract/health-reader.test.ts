import { type Bytes, type GroupId, groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { openClusterStores } from "../../src/adapters/cluster-stores.ts";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import { openHealth } from "../../src/admin.ts";
import type { EngineConfig } from "../../src/config.ts";
import type { GroupHealth, HealthQuery, HealthReader } from "../../src/ports/group-health.ts";
import type { AppendCommit } from "../../src/ports/mls-groups.ts";
import type { Stores } from "../../src/service/context.ts";
import { openCluster } from "../support/cluster.ts";
import { commitFrom, DAY, messageTo, NOW, newDevice, newGroup } from "../support/mls-groups.ts";
import { random } from "../support/random.ts";
import { temporaryDirectory } from "../support/service.ts";

/** A store that a service writes, and where to read it beside the service. */
interface Opened {
  readonly stores: Stores;
  readonly config: { readonly engines: EngineConfig; readonly dataDirectory: string };
  dispose(): Promise<void>;
}

async function embedded(): Promise<Opened> {
  const directory = temporaryDirectory();
  const stores = openSqliteStores(directory.path);
  return {
    stores,
    config: { engines: { kind: "embedded" }, dataDirectory: directory.path },
    dispose: async () => {
      await stores.close();
      directory.remove();
    },
  };
}

async function clustered(): Promise<Opened> {
  const cluster = await openCluster();
  const { postgres, redis } = inject("cluster")!;
  const engines: EngineConfig = {
    kind: "cluster",
    postgres: { url: postgres, schema: cluster.schema, writers: 1, readers: 1 },
    redis: { url: redis, prefix: cluster.prefix },
    nodes: 2,
  };
  return {
    stores: openClusterStores(cluster.database, cluster.redis),
    config: { engines, dataDirectory: "unused" },
    dispose: () => cluster.dispose(),
  };
}

const DAY_MS = 86_400_000;
const places = [
  { name: "SQLite", open: embedded },
  ...(inject("cluster") === undefined ? [] : [{ name: "PostgreSQL", open: clustered }]),
];

describe.each(places)("the health of groups on $name", ({ open }) => {
  let opened: Opened;
  let stores: Stores;
  let health: HealthReader;
  beforeEach(async () => {
    opened = await open();
    stores = opened.stores;
    health = await openHealth(opened.config);
  });
  afterEach(async () => {
    await health?.close();
    await opened.dispose();
  });

  const create = async () => {
    const group = newGroup();
    await stores.mlsGroups.create(group);
    return group.groupId;
  };
  const say = async (group: GroupId, messages: number, epoch = 0) => {
    for (let i = 0; i < messages; i++) await stores.mlsGroups.appendMessage(messageTo(group, epoch));
  };
  const commit = async (group: GroupId, fromEpoch: number, given: Partial<AppendCommit> = {}) =>
    expect(await stores.mlsGroups.appendCommit(commitFrom(group, fromEpoch, given))).toMatchObject({
      kind: "appended",
    });
  const read = (group: GroupId, signatureKey: Bytes, throughSequence: number) =>
    stores.mlsGroups.saveCursors([{ groupId: group, signatureKey, throughSequence }]);
  const look = (query: Partial<HealthQuery> = {}) =>
    health.groups({
      sinceDay: DAY,
      stragglerEntries: 3,
      keyPackagesBelow: 10,
      nowMs: NOW,
      order: "entries",
      limit: 10,
      ...query,
    });
  const only = async (query: Partial<HealthQuery> = {}): Promise<GroupHealth> => {
    const groups = await look(query);
    expect(groups).toHaveLength(1);
    return groups[0]!;
  };

  it("is there for a group in which nothing has happened", async () => {
    const group = await create();
    expect(await only()).toEqual({
      groupId: group,
      epoch: 0,
      epochSinceMs: undefined,
      entries: 0,
      commits: 0,
      lostCommits: 0,
      readers: 0,
      stragglers: 0,
      leftBehind: 0,
      proposals: 0,
      welcomes: 0,
      lastUsedDay: DAY,
    });
  });

  it("tells epoch, its age, entries, and what waits", async () => {
    const group = await create();
    await say(group, 2);
    await commit(group, 0);
    const welcomes = [1, 2].map(() => ({ recipient: newDevice(), welcome: random(70) }));
    await commit(group, 1, { welcomes, proposals: [random(50)], acceptedAtMs: NOW + 5_000 });
    await stores.mlsGroups.addProposal(group, 2, random(50), 10);
    expect(await only()).toMatchObject({
      epoch: 2,
      epochSinceMs: NOW + 5_000,
      entries: 5,
      commits: 2,
      proposals: 1,
      welcomes: 2,
    });
  });

  it("counts commits that won and that came too late from a day on, and none that was voided", async () => {
    const group = await create();
    await commit(group, 0, { acceptedAtMs: NOW - 2 * DAY_MS });
    await commit(group, 1);
    await commit(group, 2);
    await stores.mlsGroups.voidCommit({ groupId: group, sequence: 3, proof: random(90), acceptedAtMs: NOW });
    await stores.lostCommits.add([
      { groupId: group, day: DAY, count: 4 },
      { groupId: group, day: DAY - 2, count: 10 },
      { groupId: groupId(random(16)), day: DAY, count: 100 },
    ]);
    expect(await only()).toMatchObject({ commits: 1, lostCommits: 4 });
    expect(await only({ sinceDay: DAY - 2 })).toMatchObject({ commits: 2, lostCommits: 14 });
  });

  it("tells stragglers, and leaves whose next entry is gone, but no leaf that was removed", async () => {
    const group = await create();
    for (let i = 0; i < 4; i++) {
      await stores.mlsGroups.appendMessage(messageTo(group, 0, { acceptedAtMs: NOW - 40 * DAY_MS }));
    }
    await say(group, 6);
    const removed = random(32);
    await commit(group, 0, { removed: [removed] });
    await stores.mlsGroups.expire(NOW - 30 * DAY_MS, 100);
    // The log is 5 to 11 now.
    await read(group, random(32), 11);
    await read(group, random(32), 8);
    await read(group, random(32), 7);
    await read(group, random(32), 4);
    await read(group, random(32), 3);
    await read(group, removed, 2);
    expect(await only()).toMatchObject({ entries: 7, readers: 5, stragglers: 3, leftBehind: 1 });
  });

  it("forgets the age of an epoch whose commit has expired", async () => {
    const group = await create();
    await commit(group, 0, { acceptedAtMs: NOW - 40 * DAY_MS });
    await say(group, 1, 1);
    expect(await only()).toMatchObject({ epoch: 1, epochSinceMs: NOW - 40 * DAY_MS });
    await stores.mlsGroups.expire(NOW - 30 * DAY_MS, 100);
    expect(await only()).toMatchObject({ epoch: 1, epochSinceMs: undefined, entries: 1 });
  });

  it("shows the worst first, by what was asked for, and no more than was asked for", async () => {
    const [quiet, raced, long] = [await create(), await create(), await create()];
    await commit(quiet, 0, { acceptedAtMs: NOW - DAY_MS });
    await commit(raced, 0, { welcomes: [{ recipient: newDevice(), welcome: random(70) }] });
    await stores.lostCommits.add([{ groupId: raced, day: DAY, count: 1 }]);
    await commit(long, 0);
    await say(long, 5, 1);
    await read(long, random(32), 1);
    const first = async (order: HealthQuery["order"]) =>
      (await look({ order, limit: 1 })).map((row) => row.groupId);
    expect(await first("stale")).toEqual([raced]);
    expect(await first("age")).toEqual([quiet]);
    expect(await first("entries")).toEqual([long]);
    expect(await first("stragglers")).toEqual([long]);
    expect(await first("outbox")).toEqual([raced]);
    expect(await look()).toHaveLength(3);
  });

  it("sees what a running service writes, at once", async () => {
    const group = await create();
    expect((await only()).entries).toBe(0);
    await say(group, 1);
    expect((await only()).entries).toBe(1);
  });

  it("counts devices whose KeyPackages run out, and takes expired ones for none", async () => {
    const stock = async (oneTime: number, lastResort: boolean, expiresAtMs = NOW + DAY_MS) => {
      const keyPackage = () => ({ reference: random(32), message: random(100), expiresAtMs });
      const upload = {
        uploadId: random(16),
        keyPackages: Array.from({ length: oneTime }, keyPackage),
        lastResort: lastResort ? keyPackage() : undefined,
        replace: false,
      };
      await stores.keyPackages.upload(newDevice(), upload, 100);
    };
    await stock(5, false);
    await stock(4, true);
    await stock(1, false);
    await stock(0, true);
    await stock(0, false);
    await stock(9, true, NOW - 1);
    expect(await health.keyPackages(5, NOW)).toEqual({ devices: 6, low: 2, lastResortOnly: 1, none: 2 });
  });

  it("shows what retention did, and what is overdue", async () => {
    await stores.retentionLog.record({ job: "lost-commits", ranAtMs: NOW, removed: 7 });
    await stores.lostCommits.add([{ groupId: groupId(random(16)), day: 1, count: 1 }]);
    const jobs = await health.retention();
    expect(jobs).toContainEqual({ job: "lost-commits", ranAtMs: NOW, removed: 7, overdue: 1 });
    expect(jobs).toContainEqual({ job: "key-packages", ranAtMs: undefined, removed: 0, overdue: 0 });
    expect(jobs.map(({ job }) => job)).toEqual(jobs.map(({ job }) => job).sort());
  });
});

describe("a store that cannot be read", () => {
  it("is said to be missing, or another version's", async () => {
    const directory = temporaryDirectory();
    const config = { engines: { kind: "embedded" } as const, dataDirectory: directory.path };
    await expect(openHealth(config)).rejects.toMatchObject({ code: "store/not-there" });
    directory.remove();
  });

  it.skipIf(inject("cluster") === undefined)("on PostgreSQL as well, and nothing is made there", async () => {
    const { postgres } = inject("cluster")!;
    const engines: EngineConfig = {
      kind: "cluster",
      postgres: { url: postgres, schema: "test_nobody_made_this", writers: 1, readers: 1 },
      redis: { url: "redis://unused", prefix: "unused:" },
      nodes: 2,
    };
    const config = { engines, dataDirectory: "unused" };
    await expect(openHealth(config)).rejects.toMatchObject({ code: "store/not-there" });
  });
});

import { accountId, type Bytes, compareBytes, type GroupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import type { PostgresDatabase, PostgresStatements } from "../../src/adapters/postgres-database.ts";
import { PostgresMlsGroupStore } from "../../src/adapters/postgres-mls-groups.ts";
import type { AppendCommit } from "../../src/ports/mls-groups.ts";
import { type OpenedCluster, openCluster } from "../support/cluster.ts";
import { ALL, commitFrom, messageTo, NOW, newDevice, newGroup, wholeLog } from "../support/mls-groups.ts";
import { random } from "../support/random.ts";

const WEEK = 604_800_000;
const welcomes = (count: number): AppendCommit["welcomes"] =>
  Array.from({ length: count }, () => ({ recipient: newDevice(), welcome: random(70) }));
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

/** The same database, with something done to the statements of each write. */
function through(
  database: PostgresDatabase,
  wrap: <T>(
    run: (statements: PostgresStatements) => Promise<T>,
    statements: PostgresStatements,
  ) => Promise<T>,
): PostgresDatabase {
  const write: PostgresDatabase["write"] = (key, run) =>
    database.write(key, (statements) => wrap(run, statements));
  return Object.assign(Object.create(database) as PostgresDatabase, { write });
}

describe.skipIf(inject("cluster") === undefined)("MLS groups in PostgreSQL", () => {
  let cluster: OpenedCluster;
  let other: PostgresDatabase;
  let nodes: readonly [PostgresMlsGroupStore, PostgresMlsGroupStore];
  let id: GroupId;
  beforeEach(async () => {
    cluster = await openCluster();
    other = (await cluster.another()).database;
    nodes = [new PostgresMlsGroupStore(cluster.database), new PostgresMlsGroupStore(other)];
    id = newGroup().groupId;
    await nodes[0].create(newGroup({ groupId: id }));
  });
  afterEach(() => cluster.dispose());

  const node = (i: number) => nodes[i % 2]!;
  const sequencesOf = async (group: GroupId) =>
    (await wholeLog(nodes[1], group)).map((entry) => entry.sequence);
  const rows = (sql: string) => cluster.database.read((statements) => statements.all(sql));
  const periods = async () =>
    (await rows("SELECT period FROM mls_periods ORDER BY 1")).map((row) => row["period"]);

  describe("of two nodes", () => {
    it("one wins when fifty commit in one epoch; all others are told that they lost, and leave nothing", async () => {
      const rivals = upTo(50).map(() =>
        commitFrom(id, 0, { proposals: [random(20)], welcomes: welcomes(2), removed: [random(32)] }),
      );
      const outcomes = await Promise.all(rivals.map((rival, i) => node(i).appendCommit(rival)));
      const won = outcomes.filter((outcome) => outcome.kind === "appended");
      expect(won).toEqual([{ kind: "appended", sequence: 2, epoch: 1 }]);
      expect(outcomes.filter((outcome) => outcome.kind !== "appended")).toEqual(
        upTo(49).map(() => ({ kind: "lost", epoch: 1 })),
      );
      const winner = rivals[outcomes.findIndex((outcome) => outcome.kind === "appended")]!;
      const row = await nodes[1].load(id);
      expect(row).toMatchObject({ epoch: 1, lastSequence: 2, groupInfo: winner.groupInfo });
      expect((await wholeLog(nodes[1], id)).map((entry) => entry.message)).toEqual([
        ...winner.proposals,
        winner.commit,
      ]);
      expect(await nodes[1].outbox(0, 100)).toMatchObject(winner.welcomes);
      const former = await rows("SELECT signature_key FROM mls_former_leaves");
      expect(former).toEqual([{ signature_key: winner.removed[0] }]);
    });

    it("messages and commits share one numbering without a gap", async () => {
      for (let epoch = 0; epoch < 4; epoch++) {
        const outcomes = await Promise.all(
          upTo(30).flatMap((i) => [
            node(i).appendMessage(messageTo(id, epoch)),
            ...(i % 5 === 0 ? [node(i / 5).appendCommit(commitFrom(id, epoch))] : []),
          ]),
        );
        expect(outcomes.filter((outcome) => outcome.kind === "lost")).toHaveLength(5);
        expect(outcomes.filter((outcome) => outcome.kind === "appended")).toHaveLength(31);
      }
      expect(await sequencesOf(id)).toEqual(upTo(124));
    });

    it("both answer one submit hash with one sequence number", async () => {
      const append = messageTo(id, 0);
      await nodes[1].appendMessage(messageTo(id, 0));
      const outcomes = await Promise.all(upTo(8).map((i) => node(i).appendMessage(append)));
      expect(outcomes.filter((outcome) => outcome.kind === "appended")).toEqual([
        { kind: "appended", sequence: 2 },
      ]);
      expect(outcomes.filter((outcome) => outcome.kind === "repeated")).toEqual(
        upTo(7).map(() => ({ kind: "repeated", sequence: 2 })),
      );
      expect(await sequencesOf(id)).toEqual([1, 2]);
    });

    it("a commit sent to both is appended once, and its Welcomes wait once", async () => {
      const append = commitFrom(id, 0, { proposals: [random(9)], welcomes: welcomes(3) });
      const outcomes = await Promise.all(upTo(6).map((i) => node(i).appendCommit(append)));
      expect(outcomes.map(({ kind }) => kind).sort()).toEqual(["appended", ...upTo(5).map(() => "repeated")]);
      for (const outcome of outcomes) expect(outcome).toMatchObject({ sequence: 2, epoch: 1 });
      expect(await sequencesOf(id)).toEqual([1, 2]);
      expect(await nodes[0].outbox(0, 10)).toHaveLength(3);
    });

    it("one voids a commit while the other commits on it: one of both happens", async () => {
      for (let round = 0; round < 6; round++) {
        const before = (await nodes[0].load(id))!;
        const first = await nodes[0].appendCommit(commitFrom(id, before.epoch));
        if (first.kind !== "appended") throw new Error(first.kind);
        const [voided, second] = await Promise.all([
          nodes[1].voidCommit({ groupId: id, sequence: first.sequence, proof: random(8), acceptedAtMs: NOW }),
          nodes[0].appendCommit(commitFrom(id, before.epoch + 1)),
        ]);
        expect(second.kind).toBe(voided === undefined ? "appended" : "lost");
        expect((await nodes[1].load(id))?.epoch).toBe(before.epoch + (voided === undefined ? 2 : 0));
      }
      const log = await sequencesOf(id);
      expect(log).toEqual(upTo(log.length));
    });

    it("what one reads while the other commits is of one moment", async () => {
      const hashOf = (epoch: number) => new Uint8Array(32).fill(epoch);
      let done = false;
      const committing = (async () => {
        for (let epoch = 0; epoch < 40; epoch++) {
          const given = { proposals: [random(9)], treeHash: hashOf(epoch + 1), groupInfo: hashOf(epoch + 1) };
          await nodes[0].appendCommit(commitFrom(id, epoch, { ...given, banList: hashOf(epoch + 1) }));
          if (epoch % 10 === 9) await nodes[0].saveSnapshot(id, epoch + 1, hashOf(epoch + 1), random(50));
        }
        done = true;
      })();
      const seen = new Set<number>();
      while (!done) {
        const row = (await nodes[1].load(id))!;
        seen.add(row.epoch);
        const log = await wholeLog(nodes[1], id);
        expect(log.map((entry) => entry.sequence)).toEqual(upTo(log.length));
        if (row.epoch === 0) continue;
        expect(row).toMatchObject({ groupInfo: hashOf(row.epoch), banList: hashOf(row.epoch) });
        expect(row).toMatchObject({ lastSequence: 2 * row.epoch, lastCommitSequence: 2 * row.epoch });
        const tree = (await nodes[1].loadTree(id, row.epoch))!;
        expect(tree.treeHash).toEqual(hashOf(row.epoch));
        expect(tree.deltas).toHaveLength(row.epoch - tree.snapshotEpoch);
        expect(await nodes[1].commitOf(id, row.epoch - 1)).toHaveLength(2);
      }
      await committing;
      // The other one was read from while it was busy.
      expect(seen.size).toBeGreaterThan(3);
    });

    it("both save the same cursors in opposite order: none goes back, and none waits in vain", async () => {
      const keys = upTo(60).map(() => random(32));
      const save = (i: number, order: readonly Bytes[]) =>
        node(i).saveCursors(
          order.map((signatureKey) => ({ groupId: id, signatureKey, throughSequence: 10 + (i % 5) })),
        );
      await Promise.all(upTo(12).map((i) => save(i, i % 2 === 0 ? keys : keys.toReversed())));
      for (const key of keys) expect(await nodes[0].cursor(id, key)).toBe(14);
    });
  });

  describe("the outbox", () => {
    it("shows a Welcome to whoever has read past it, when its commit was durable after a later one", async () => {
      const second = newGroup().groupId;
      await nodes[0].create(newGroup({ groupId: second }));
      await nodes[0].appendMessage(messageTo(id, 0));
      let [release, begun] = [() => {}, () => {}];
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const isWritten = new Promise<void>((resolve) => {
        begun = resolve;
      });
      const slow = new PostgresMlsGroupStore(
        through(other, async (run, statements) => {
          const result = await run(statements);
          begun();
          await held;
          return result;
        }),
      );
      const late = commitFrom(id, 0, { welcomes: welcomes(2) });
      const lateCommit = slow.appendCommit(late);
      await isWritten;
      const early = commitFrom(second, 0, { welcomes: welcomes(2) });
      await nodes[0].appendCommit(early);
      const first = await nodes[0].outbox(0, 10);
      expect(first).toMatchObject(early.welcomes);
      release();
      await lateCommit;
      const next = await nodes[0].outbox(first.at(-1)!.id, 10);
      expect(next).toMatchObject(late.welcomes);
      expect(await nodes[1].outbox(0, 10)).toEqual([...first, ...next]);
    });

    it("shows a Welcome that another node gave its id to in the middle of the question", async () => {
      const append = commitFrom(id, 0, { welcomes: welcomes(2) });
      await nodes[0].appendCommit(append);
      // Whatever is asked, the other node reads the outbox before the next question.
      let turn: Promise<unknown> = Promise.resolve();
      const interrupted = <T>(ask: () => Promise<T>): Promise<T> => {
        const answer = turn.then(ask);
        turn = answer.then(() => nodes[0].outbox(0, 10));
        return answer;
      };
      const read: PostgresDatabase["read"] = (run) =>
        other.read((within) =>
          run({
            all: (sql, ...values) => interrupted(() => within.all(sql, ...values)),
            get: (sql, ...values) => interrupted(() => within.get(sql, ...values)),
            run: (sql, ...values) => interrupted(() => within.run(sql, ...values)),
          }),
        );
      const reader = new PostgresMlsGroupStore(
        Object.assign(Object.create(other) as PostgresDatabase, { read }),
      );
      const page = await reader.outbox(0, 10);
      await turn;
      expect(page).toMatchObject(append.welcomes);
    });

    it("gives both nodes the same ids, however they read while commits go on", async () => {
      const groups = upTo(6).map(() => newGroup().groupId);
      for (const groupId of groups) await nodes[0].create(newGroup({ groupId }));
      let done = false;
      const committing = Promise.all(
        groups.map(async (group, i) => {
          for (let epoch = 0; epoch < 12; epoch++) {
            await node(i + epoch).appendCommit(commitFrom(group, epoch, { welcomes: welcomes(3) }));
          }
        }),
      ).then(() => {
        done = true;
      });
      const readAll = async (store: PostgresMlsGroupStore) => {
        const seen: number[] = [];
        for (;;) {
          const wasDone = done;
          const page = await store.outbox(seen.at(-1) ?? 0, 7);
          seen.push(...page.map((welcome) => welcome.id));
          if (wasDone && page.length === 0) return seen;
        }
      };
      const seen = await Promise.all(nodes.map(readAll));
      await committing;
      for (const ids of seen) expect(ids).toEqual(upTo(216));
    });
  });

  describe("counted", () => {
    let statements: string[];
    let counted: PostgresMlsGroupStore;
    beforeEach(async () => {
      await nodes[0].appendMessage(messageTo(id, 0));
      statements = [];
      counted = new PostgresMlsGroupStore(
        through(cluster.database, (run, within) =>
          run({
            all: (sql, ...values) => note(sql, within.all(sql, ...values)),
            get: (sql, ...values) => note(sql, within.get(sql, ...values)),
            run: (sql, ...values) => note(sql, within.run(sql, ...values)),
          }),
        ),
      );
    });
    const note = <T>(sql: string, result: T): T => {
      statements.push(sql);
      return result;
    };

    it("a message, a commit with all that follows from it, and a void are one statement each", async () => {
      await counted.appendMessage(messageTo(id, 0));
      expect(statements).toHaveLength(1);
      await counted.appendCommit(
        commitFrom(id, 0, {
          proposals: upTo(20).map(() => random(50)),
          welcomes: welcomes(200),
          removed: [random(32), random(32)],
          listed: [accountId(random(16))],
          banList: random(50),
        }),
      );
      expect(statements).toHaveLength(2);
      await counted.voidCommit({ groupId: id, sequence: 23, proof: random(9), acceptedAtMs: NOW });
      expect(statements).toHaveLength(3);
    });

    it("two hundred messages to one group at the same time are few statements", async () => {
      const outcomes = await Promise.all(upTo(200).map(() => counted.appendMessage(messageTo(id, 0))));
      expect(outcomes).toEqual(upTo(200).map((i) => ({ kind: "appended", sequence: i + 1 })));
      expect(statements.length).toBeLessThanOrEqual(2);
    });

    it("one that is repeated among them is answered with where the first is", async () => {
      const [a, b, c] = [messageTo(id, 0), messageTo(id, 0), messageTo(id, 0)];
      const early = messageTo(id, 1);
      const outcomes = await Promise.all([a, b, a, early, c, b].map((one) => counted.appendMessage(one)));
      expect(outcomes).toEqual([
        { kind: "appended", sequence: 2 },
        { kind: "appended", sequence: 3 },
        { kind: "repeated", sequence: 2 },
        { kind: "unknown-epoch" },
        { kind: "appended", sequence: 4 },
        { kind: "repeated", sequence: 3 },
      ]);
      expect(statements).toHaveLength(1);
      expect((await wholeLog(counted, id)).slice(1).map((entry) => entry.message)).toEqual(
        [a, b, c].map((one) => one.message),
      );
    });

    it("a thousand cursors are one statement", async () => {
      const cursors = upTo(1_000).map((i) => ({ groupId: id, signatureKey: random(32), throughSequence: i }));
      await counted.saveCursors(cursors);
      expect(statements).toHaveLength(1);
      expect(await counted.cursor(id, cursors[999]!.signatureKey)).toBe(1_000);
    });
  });

  describe("the tables themselves", () => {
    it("refuse a second commit that leads on from an epoch, an epoch twice and a sequence number twice", async () => {
      await nodes[0].appendCommit(commitFrom(id, 0));
      const insert = (sql: string) => cluster.database.write("x", (statements) => statements.run(sql));
      const commit = (sequence: number, leadsFrom: number | "NULL") =>
        insert(`INSERT INTO mls_commits SELECT mls_group, ${sequence}, '\\x${sequence}${sequence}', ${leadsFrom}, 0
          FROM mls_groups`);
      const refused = { code: "store/write-failed", message: expect.stringContaining("23505") };
      await expect(commit(2, 0)).rejects.toMatchObject(refused);
      await expect(commit(1, 1)).rejects.toMatchObject(refused);
      await expect(
        insert("INSERT INTO mls_epochs SELECT * FROM mls_epochs WHERE epoch = 1"),
      ).rejects.toMatchObject(refused);
      await expect(insert("INSERT INTO mls_entries SELECT * FROM mls_entries")).rejects.toMatchObject(
        refused,
      );
      await commit(2, "NULL");
    });

    it("hold a message once, whatever the number of members", async () => {
      await nodes[0].saveCursors(
        upTo(500).map(() => ({ groupId: id, signatureKey: random(32), throughSequence: 0 })),
      );
      await nodes[0].appendMessage(messageTo(id, 0, { message: random(600) }));
      expect(await rows("SELECT sum(length(message))::bigint AS bytes FROM mls_entries")).toEqual([
        { bytes: 600 },
      ]);
    });
  });

  describe("weeks", () => {
    const week = (n: number) => Math.floor(NOW / WEEK) + n;
    /** In the middle of the week that is so many away. */
    const at = (n: number) => week(n) * WEEK + WEEK / 2;
    const say = (n: number, group = id) =>
      nodes[0].appendMessage(messageTo(group, 0, { acceptedAtMs: at(n) }));

    it("are made ahead once the one before is in use, or when something is to be filed in them", async () => {
      await Promise.all(
        upTo(40).map((i) => node(i).appendMessage(messageTo(id, 0, { acceptedAtMs: at(0) }))),
      );
      expect(await periods()).toEqual([week(0)]);
      await Promise.all([nodes[0].expire(at(-4), 10), nodes[1].expire(at(-4), 10)]);
      expect(await periods()).toEqual([week(0), week(1)]);
      await nodes[0].expire(at(-4), 10);
      expect(await periods()).toEqual([week(0), week(1)]);
      await nodes[1].appendCommit(commitFrom(id, 0, { acceptedAtMs: at(2) }));
      expect(await periods()).toEqual([week(0), week(1), week(2)]);
      expect(await sequencesOf(id)).toEqual(upTo(41));
    });

    it("that are missing are made by whoever is first, though two nodes come to them from either end", async () => {
      let writes = 0;
      // One connection each, so that what is asked for at once is one transaction, in the order of the groups' ids.
      const lines = await Promise.all(
        upTo(2).map(async () => {
          const { database } = await cluster.another(1);
          const counted = through(database, (run, statements) => {
            writes++;
            return run(statements);
          });
          return new PostgresMlsGroupStore(counted);
        }),
      );
      const groups = upTo(4)
        .map(() => newGroup().groupId)
        .sort(compareBytes);
      for (const groupId of groups) await nodes[0].create(newGroup({ groupId }));
      for (let round = 0; round < 5; round++) {
        const [early, late] = [at(2 * round), at(2 * round + 1)];
        const say = (line: number, group: number, acceptedAtMs: number) =>
          lines[line]!.appendMessage(messageTo(groups[group]!, 0, { acceptedAtMs }));
        // Each wants to make one week and then the one with which the other begins.
        const outcomes = await Promise.all([
          say(0, 0, early),
          say(0, 1, late),
          say(1, 2, late),
          say(1, 3, early),
        ]);
        expect(outcomes.map(({ kind }) => kind)).toEqual(upTo(4).map(() => "appended"));
      }
      // None was in another's way, and had to be tried again.
      expect(writes).toBe(5 * 4);
      expect(await periods()).toEqual(upTo(10).map((n) => week(n - 1)));
      for (const group of groups) expect(await sequencesOf(group)).toEqual(upTo(5));
    });

    it("that another node is making are waited for, and filled with the first try", async () => {
      const { database } = await cluster.another(1);
      let tries = 0;
      const store = new PostgresMlsGroupStore(
        through(database, (run, statements) => {
          tries++;
          return run(statements);
        }),
      );
      const append = (n: number) => store.appendMessage(messageTo(id, 0, { acceptedAtMs: at(n) }));
      // From now on its connection looks nothing up by which it would hear of a new table.
      for (let i = 0; i < 8; i++) await append(0);
      tries = 0;
      let appended: ReturnType<typeof append> | undefined;
      await cluster.database.write("maker", async (statements) => {
        const maker = (await statements.get("SELECT pg_backend_pid() AS pid"))!["pid"] as number;
        await statements.get("SELECT mls_make_period($1)", week(1));
        appended = append(1);
        const waiting = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        await expect.poll(() => other.read((asked) => asked.all(waiting, maker))).toHaveLength(1);
      });
      expect(await appended).toEqual({ kind: "appended", sequence: 9 });
      expect(tries).toBe(1);
    });

    it("go whole from the disk when the last log has left them", async () => {
      const second = newGroup().groupId;
      await nodes[0].create(newGroup({ groupId: second }));
      for (const n of [0, 0, 1, 2]) await say(n);
      await say(0, second);
      expect(await nodes[0].expire(at(0) + 1, 3)).toBe(3);
      // Not over yet: only its first half is.
      expect(await periods()).toContain(week(0));
      expect(await sequencesOf(id)).toEqual([3, 4]);
      expect(await nodes[0].expire(at(1), 10)).toBe(0);
      expect(await periods()).not.toContain(week(0));
      expect(await rows("SELECT sequence FROM mls_entries ORDER BY 1")).toEqual([
        { sequence: 3 },
        { sequence: 4 },
      ]);
      expect(await nodes[1].expire(at(9), 10)).toBe(2);
      expect(await periods()).toEqual([]);
      expect(await nodes[0].load(id)).toMatchObject({ firstSequence: 5, lastSequence: 4 });
      expect(await say(9)).toEqual({ kind: "appended", sequence: 5 });
    });

    it("stay as long as a log begins in them, though it is the only one", async () => {
      const second = newGroup().groupId;
      await nodes[0].create(newGroup({ groupId: second }));
      await say(0);
      await say(0, second);
      // The budget reaches the first log only.
      expect(await nodes[0].expire(at(5), 1)).toBe(1);
      expect(await periods()).toContain(week(0));
      expect(await nodes[0].expire(at(5), 10)).toBe(1);
      expect(await periods()).toEqual([]);
    });

    it("hold an entry of a clock that went back behind those before it: no part of a log is lost", async () => {
      await say(3);
      await say(0);
      await say(-200);
      expect(await periods()).toEqual([week(3)]);
      expect(await nodes[0].expire(at(3), 10)).toBe(0);
      expect(await sequencesOf(id)).toEqual([1, 2, 3]);
      expect((await wholeLog(nodes[0], id)).map((entry) => entry.acceptedAtMs)).toEqual([
        at(3),
        at(0),
        at(-200),
      ]);
      expect(await nodes[0].expire(at(5), 10)).toBe(3);
      expect(await periods()).toEqual([]);
    });

    it("of a clock that is years off are made as well, and hurt no other log", async () => {
      const second = newGroup().groupId;
      await nodes[0].create(newGroup({ groupId: second }));
      await say(500);
      await say(-500, second);
      await say(0, second);
      expect(await periods()).toEqual([week(-500), week(0), week(500)]);
      expect(await nodes[0].expire(at(-4), 10)).toBe(1);
      expect(await periods()).toEqual([week(0), week(1), week(500), week(501)]);
      expect(await sequencesOf(second)).toEqual([2]);
    });

    it("are not waited for: one that is being read goes another time, and appends go on meanwhile", async () => {
      await say(0);
      await say(3);
      expect(await nodes[0].expire(at(2), 1)).toBe(1);
      const appended = await other.readAtOnce(async (statements) => {
        await statements.all("SELECT count(*) AS n FROM mls_entries");
        const expired = nodes[0].expire(at(2), 10);
        const outcome = await nodes[1].appendMessage(messageTo(id, 0, { acceptedAtMs: at(3) }));
        expect(await expired).toBe(0);
        return outcome;
      });
      expect(appended).toEqual({ kind: "appended", sequence: 3 });
      expect(await periods()).toContain(week(0));
      expect(await nodes[0].expire(at(2), 10)).toBe(0);
      expect(await periods()).not.toContain(week(0));
    });

    it("an auditor sees what is overdue and what is not", async () => {
      const overdue = async () =>
        Object.fromEntries(
          (await rows("SELECT job, overdue FROM mls_retention_overdue")).map((row) => [
            row["job"],
            row["overdue"],
          ]),
        );
      const daysAgo = (days: number) => Date.now() - days * 86_400_000;
      const old = newGroup({ day: Math.floor(daysAgo(401) / 86_400_000) });
      await nodes[0].create(old);
      await nodes[0].appendMessage(messageTo(id, 0, { acceptedAtMs: daysAgo(45) }));
      expect(await overdue()).toEqual({ "group-entries": 1, "group-periods": 0, "idle-mls-groups": 1 });
      await nodes[0].expire(daysAgo(30), 1);
      expect(await overdue()).toMatchObject({ "group-entries": 0, "group-periods": 1 });
      await nodes[0].expire(daysAgo(30), 1);
      await nodes[0].expireGroups(Math.floor(daysAgo(400) / 86_400_000), 10);
      expect(await overdue()).toEqual({ "group-entries": 0, "group-periods": 0, "idle-mls-groups": 0 });
    });

    it("two nodes that expire at the same time count each entry once", async () => {
      const groups = upTo(5).map(() => newGroup().groupId);
      for (const groupId of groups) {
        await nodes[0].create(newGroup({ groupId }));
        await Promise.all(upTo(6).map(() => say(0, groupId)));
      }
      const removed = await Promise.all([nodes[0].expire(at(0) + 1, 100), nodes[1].expire(at(0) + 1, 100)]);
      expect(removed[0] + removed[1]).toBe(30);
      for (const group of groups) expect(await nodes[0].read(group, 0, 99, ALL)).toEqual([]);
    });
  });
});

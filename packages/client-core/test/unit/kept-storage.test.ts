/** What stores keep in memory has to be what the database would answer, whatever was written or undone since. */
import { accountId, messageId } from "@murmuration/base";
import { beforeEach, describe, expect, it } from "vitest";
import { openSqlcipher } from "../../src/index.ts";
import type { Storage } from "../../src/ports/storage.ts";
import { ConversationStore } from "../../src/store/conversations.ts";
import { EventStore } from "../../src/store/events.ts";
import { HistoryStore } from "../../src/store/history.ts";
import { KeptRows, KeptStorage } from "../../src/store/kept-storage.ts";
import { MigrationStore } from "../../src/store/migration.ts";
import { MlsStore } from "../../src/store/mls.ts";
import { OutboxStore } from "../../src/store/outbox.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const id = new Uint8Array(16).fill(1);
const other = new Uint8Array(16).fill(2);

let queries: number;
let storage: KeptStorage;
let mls: MlsStore;
beforeEach(() => {
  const database = openSqlcipher({ path: ":memory:", key: new Uint8Array(32) });
  prepareSchema(database);
  const count: Pick<Storage, "get" | "all"> = {
    get: (sql, parameters) => {
      queries++;
      return database.get(sql, parameters);
    },
    all: (sql, parameters) => {
      queries++;
      return database.all(sql, parameters);
    },
  };
  storage = new KeptStorage(Object.assign(Object.create(database) as Storage, count));
  mls = new MlsStore(storage);
  for (const group of [id, other])
    mls.putGroup(group, { state: "active", cursor: 1, slot: 0, updatedAtMs: 0 });
  queries = 0;
});

describe("a group's row", () => {
  it("is read once, and its cursor is written through, without a word of the other groups", () => {
    for (const group of [id, other, id]) expect(mls.group(group)!.cursor).toBe(1);
    mls.setCursor(id, 2);
    expect(mls.group(id)!.cursor).toBe(2);
    expect(mls.group(other)!.cursor).toBe(1);
    expect(queries).toBe(2);
  });

  it("is read again once anybody has written to the table, by whatever statement", () => {
    const writes = [
      () => mls.setRefused(id, 7),
      () => mls.past.goBack(id, 0, 9),
      () => storage.run("INSERT OR REPLACE INTO mls_group (id, state, cursor) VALUES (?, 'over', 3)", [id]),
      () => storage.run("DELETE FROM mls_group WHERE id = ?", [id]),
      () => storage.exec("DELETE FROM mls_group"),
    ];
    for (const write of writes) {
      mls.group(id);
      write();
      const row = storage.get("SELECT cursor, refused_at FROM mls_group WHERE id = ?", [id]);
      expect(mls.group(id)?.cursor).toBe(row?.["cursor"]);
      expect(mls.group(id)?.refusedAt).toBe(row?.["refused_at"]);
    }
  });

  it("is as before after a transaction that failed, also what was read or written through in it", () => {
    const work = () =>
      storage.transaction(() => {
        mls.setState(id, "stuck");
        expect(mls.group(id)!.state).toBe("stuck");
        mls.group(other);
        mls.setCursor(id, 5);
        mls.setCursor(other, 6);
        throw new Error("after all not");
      });
    expect(work).toThrow("after all not");
    expect(mls.group(id)).toMatchObject({ state: "active", cursor: 1 });
    expect(mls.group(other)).toMatchObject({ cursor: 1 });
  });

  it("is as before after a rollback to a savepoint, and as after it where the savepoint is released", () => {
    storage.transaction(() => {
      mls.setCursor(id, 2);
      storage.run("SAVEPOINT content");
      mls.setCursor(id, 3);
      mls.setForked(id, true);
      expect(mls.group(id)).toMatchObject({ cursor: 3, forked: true });
      storage.run("ROLLBACK TO content");
      expect(mls.group(id)).toMatchObject({ cursor: 2, forked: false });
      mls.setCursor(id, 4);
      storage.run("RELEASE content");
    });
    expect(mls.group(id)).toMatchObject({ cursor: 4, forked: false });
  });
});

it("a group that is not there is asked for each time, so that it is seen when it comes", () => {
  const third = new Uint8Array(16).fill(3);
  expect(mls.group(third)).toBeUndefined();
  mls.putGroup(third, { state: "waiting", cursor: 0, slot: 0, updatedAtMs: 0 });
  expect(mls.group(third)?.state).toBe("waiting");
});

it("a column of the same name is no table: an event of a conversation leaves the conversation kept", () => {
  const conversations = new ConversationStore(storage);
  const events = new EventStore(storage);
  const row = {
    id,
    kind: "group",
    state: "active",
    protocol: "mls",
    title: "",
    expireAfterSeconds: 0,
  } as const;
  conversations.insert(row, 0);
  conversations.get(id);
  queries = 0;
  events.append({ kind: "conversation-changed", conversation: id, atMs: 0 });
  conversations.touch(id, 1);
  expect(conversations.get(id)).toEqual(row);
  expect(queries).toBe(0);
  conversations.setTitle(id, "Flock");
  expect(conversations.get(id)?.title).toBe("Flock");
});

describe("the newest events", () => {
  const append = (events: EventStore, detail: string) =>
    events.append({ kind: "line-added", conversation: id, historyId: 1, detail, atMs: 5 });
  const details = (events: EventStore, after: number, limit = 256) =>
    events.after(after, limit).map(({ detail }) => detail);

  it("are what the table holds, without a look at it", () => {
    const events = new EventStore(storage);
    queries = 0;
    for (const detail of ["a", "b", "c"]) append(events, detail);
    expect(details(events, 0)).toEqual(["a", "b", "c"]);
    expect(details(events, 1, 1)).toEqual(["b"]);
    expect(queries).toBe(0);
    expect(events.after(0, 256)).toEqual(new EventStore(storage).after(0, 256));
  });

  it("are without those of a transaction that failed, whose numbers come again", () => {
    const events = new EventStore(storage);
    append(events, "a");
    const work = () =>
      storage.transaction(() => {
        append(events, "undone");
        throw new Error("after all not");
      });
    expect(work).toThrow();
    append(events, "b");
    expect(details(events, 0)).toEqual(["a", "b"]);
    expect(events.after(1, 9).map((event) => event.id)).toEqual([2]);
  });

  it("are gone once they were acknowledged, and older ones than are kept are read", () => {
    const events = new EventStore(storage);
    for (let i = 1; i <= 300; i++) append(events, String(i));
    expect(details(events, 10, 2)).toEqual(["11", "12"]);
    expect(details(events, 298)).toEqual(["299", "300"]);
    events.deleteThrough(299);
    expect(details(events, 0)).toEqual(["300"]);
  });
});

describe("the oldest row of a lane", () => {
  const row = (n: number) => ({
    lane: "lane",
    target: { kind: "group", group: id } as const,
    messageId: messageId(new Uint8Array(16).fill(n)),
    content: new Uint8Array(4),
    confirm: false,
    createdAtMs: n,
  });

  it("is known where it was put into an empty lane, and is what the table holds", () => {
    const outbox = new OutboxStore(storage);
    expect(outbox.waiting("lane")).toBe(0);
    queries = 0;
    const first = outbox.append({ ...row(1), state: "ready", historyId: 7 });
    const kept = outbox.next("lane");
    expect(queries).toBe(0);
    expect(kept).toEqual(new OutboxStore(storage).next("lane"));
    outbox.append(row(2));
    expect(outbox.next("lane")?.id).toBe(first);
    expect(outbox.accept(first, 5)).toBe(true);
    expect(outbox.accept(first, 5)).toBe(false);
    expect(outbox.next("lane")?.createdAtMs).toBe(2);
    expect(outbox.waiting("lane")).toBe(1);
  });

  it("is not one that was undone", () => {
    const outbox = new OutboxStore(storage);
    outbox.waiting("lane");
    const work = () =>
      storage.transaction(() => {
        outbox.append(row(1));
        throw new Error("after all not");
      });
    expect(work).toThrow();
    expect(outbox.next("lane")).toBeUndefined();
    expect(outbox.waiting("lane")).toBe(0);
  });
});

describe("the newest line", () => {
  const author = accountId(new Uint8Array(16).fill(7));
  const line = (n: number, expireAfterSeconds = 0) => ({
    conversation: id,
    messageId: messageId(new Uint8Array(16).fill(n)),
    author,
    authorDevice: 1,
    outgoing: true,
    kind: "message" as const,
    body: new Uint8Array([n]),
    sentAtMs: n,
    storedAtMs: n,
    expireAfterSeconds,
    sendState: "waiting" as const,
  });

  it("is known as it was written and settled, and is what the table holds", () => {
    const history = new HistoryStore(storage);
    for (const [n, seconds] of [
      [1, 0],
      [2, 60],
    ] as const) {
      const number = history.append(line(n, seconds))!;
      expect(history.get(number)).toEqual(new HistoryStore(storage).get(number));
      expect(history.settle(number, "accepted", undefined, 9_000)).toEqual({ id: number, conversation: id });
      queries = 0;
      const kept = history.get(number);
      expect(queries).toBe(0);
      expect(kept).toEqual(new HistoryStore(storage).get(number));
      expect(kept?.expiresAtMs).toBe(seconds === 0 ? undefined : 69_000);
    }
  });

  it("is not kept once it was deleted or another one came", () => {
    const history = new HistoryStore(storage);
    const first = history.append(line(1))!;
    history.markDeleted(first);
    expect(history.get(first)).toMatchObject({ deleted: true, body: undefined });
    const second = history.append(line(2))!;
    history.append(line(3));
    queries = 0;
    history.get(second);
    expect(queries).toBe(1);
    expect(history.settle(99, "failed", "x", 1)).toBeUndefined();
  });

  it("says what hangs on it in one look, each by account", () => {
    const history = new HistoryStore(storage);
    const [zoe, adam] = [accountId(new Uint8Array(16).fill(200)), accountId(new Uint8Array(16).fill(3))];
    const number = history.append(line(1))!;
    const { messageId: message } = line(1);
    for (const who of [zoe, adam]) {
      history.react(number, who, "+");
      history.confirm(message, who, 1, who === zoe, 5);
    }
    queries = 0;
    expect(history.aside(history.get(number)!)).toEqual({
      reactions: [
        { author: adam, emoji: "+" },
        { author: zoe, emoji: "+" },
      ],
      delivered: [adam, zoe],
      read: [zoe],
      notReached: [],
    });
    expect(queries).toBe(1);
  });
});

it("keeps a bounded number of rows", () => {
  const rows = new KeptRows<number>(storage, "meta");
  for (let i = 0; i < 10_000; i++) rows.put(String(i), i);
  expect([...rows.values()].length).toBeLessThanOrEqual(256);
});

describe("the members of a group and its move", () => {
  let conversations: ConversationStore;
  let migration: MigrationStore;
  beforeEach(() => {
    conversations = new ConversationStore(storage);
    migration = new MigrationStore(storage);
  });
  const group = new Uint8Array(16).fill(9);
  const account = (n: number) => accountId(new Uint8Array(16).fill(n));
  const member = (n: number) => ({
    account: account(n),
    role: "member" as const,
    invited: false,
    identityKey: new Uint8Array(33).fill(n),
  });
  const present = () => conversations.members(group).map((row) => row.account[0]);

  it("are asked for once, and again after any change of them, also one that is undone", () => {
    conversations.saveMembers(group, [member(1), member(2)], 0);
    expect(present()).toEqual([1, 2]);
    queries = 0;
    expect(present()).toEqual([1, 2]);
    expect(queries).toBe(0);
    conversations.removeMember(group, account(1), 5);
    expect(present()).toEqual([2]);
    conversations.setRole(group, account(2), "admin");
    expect(conversations.members(group)[0]?.role).toBe("admin");
    const undone = () =>
      storage.transaction(() => {
        conversations.putMember(group, member(3));
        expect(present()).toEqual([2, 3]);
        throw new Error("after all not");
      });
    expect(undone).toThrow("after all not");
    expect(present()).toEqual([2]);
    expect(conversations.membersAfter(group, account(2))).toEqual([]);
  });

  it("a move is read once, roster included, and as it was written", () => {
    expect(migration.isMoving(group)).toBe(false);
    migration.saveRecord(group, {
      state: "preparing",
      generation: 1,
      creator: undefined,
      switchPoint: undefined,
    });
    expect(migration.isMoving(group)).toBe(true);
    const reached = {
      epoch: 7,
      authenticator: new Uint8Array(32).fill(1),
      rosterHash: new Uint8Array(32).fill(2),
      roster: [{ account: account(1), identityKey: new Uint8Array(33).fill(1), role: "owner" as const }],
      context: new Uint8Array([1, 2, 3]),
    };
    migration.setOwn(group, { reached });
    expect(migration.own(group).reached).toEqual(reached);
    queries = 0;
    for (let i = 0; i < 5; i++) expect(migration.own(group).reached?.roster).toHaveLength(1);
    expect(queries).toBe(0);
    migration.setOwn(group, { switchedAtMs: 5 });
    expect(migration.isMoving(group)).toBe(false);
    expect(migration.own(group).reached).toEqual(reached);
  });
});

import { accountId } from "@murmuration/base";
import { nativeCrypto } from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import { addAll, Client, textOf } from "../../../mls-groups/test/clients.ts";
import { openSqlcipher } from "../../src/index.ts";
import type { Context } from "../../src/shell/context.ts";
import { Maintenance } from "../../src/shell/maintenance.ts";
import { KeptStorage } from "../../src/store/kept-storage.ts";
import { MlsStore } from "../../src/store/mls.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const crypto = nativeCrypto(1);
const id = new Uint8Array(16);

function store() {
  const storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(32) });
  prepareSchema(storage);
  return { storage, mls: new MlsStore(new KeptStorage(storage)) };
}

/** Alice, and Bob whose rows lie in a client's database. */
function pair() {
  const { storage, mls } = store();
  const [alice, bob] = [new Client("alice", crypto), new Client("bob", crypto)];
  bob.store = mls.rows(id, 0);
  alice.create("friends");
  addAll(alice, [bob]);
  return { storage, mls, alice, bob };
}

/** Alice as she is, to go another way. */
function twinOf(alice: Client): Client {
  const twin = new Client("alice", crypto);
  const rows = [...alice.store.keys("")].map((key) => [key, alice.store.get(key)!.slice()] as const);
  twin.store.apply({ puts: new Map(rows), deletes: [], deletePrefixes: [] });
  twin.reload();
  return twin;
}

function follow(bob: Client, mls: MlsStore, commit: Uint8Array, sequence: number): void {
  const received = bob.group.receive(commit);
  if (received.kind !== "commit") throw new Error(received.kind);
  mls.applyCommit(id, 0, bob.group.merge(received.commit, { nowMs: 0 }), sequence, 0);
}

test("an epoch that goes on has neither the own commit that lost it nor proposals that the service has no more", () => {
  const { mls, alice, bob } = pair();
  const winner = twinOf(alice);
  bob.store.apply(bob.group.propose({ kind: "remove", removed: alice.group.ownLeaf }).writes);
  const mine = bob.group.createCommit({ cached: "none", path: "always" });
  bob.store.apply(mine.writes);
  follow(bob, mls, winner.commit().message, 1);
  expect(bob.group.hasPendingCommit).toBe(false);

  expect(mls.undo(id, 0, 1)).toBe(true);
  bob.reload();
  expect(bob.group.hasPendingCommit).toBe(true);
  expect(bob.group.cachedProposals).toHaveLength(1);
  expect(() => bob.group.createApplicationMessage(new Uint8Array(1))).toThrow("mls/proposals-pending");

  bob.store.apply(bob.group.discardPending());
  bob.store.apply(bob.group.forgetProposals());
  for (const restart of [false, true]) {
    if (restart) bob.reload();
    expect(bob.group.hasPendingCommit).toBe(false);
    expect(bob.group.cachedProposals).toEqual([]);
  }
  bob.say("on we go");
  bob.store.apply(bob.group.createCommit({}).writes);
});

test("what was received in an epoch that was taken back leaves nothing behind, and the epoch in its place can be read", () => {
  const { storage, mls, alice, bob } = pair();
  const rows = () => storage.all("SELECT key, value FROM mls_row ORDER BY key").map((row) => ({ ...row }));
  const before = rows();
  const other = twinOf(alice);

  follow(bob, mls, other.commit().message, 1);
  bob.receive(other.say("in the epoch that is taken back"));
  bob.receive(other.group.propose({ kind: "remove", removed: bob.group.ownLeaf }).message);
  bob.say("so says Bob");
  expect(mls.undo(id, 0, 1)).toBe(true);
  expect(rows()).toEqual(before);
  bob.reload();

  follow(bob, mls, alice.commit().message, 3);
  bob.reload();
  expect(textOf(bob.receive(alice.say("in the one that counts")))).toBe("in the one that counts");
  expect(textOf(alice.receive(bob.say("I am here")))).toBe("I am here");
});

test("a commit of one's own, made in an epoch that was taken back, is none any more", () => {
  const { mls, alice, bob } = pair();
  const other = twinOf(alice);
  follow(bob, mls, other.commit().message, 1);
  bob.store.apply(bob.group.createCommit({ path: "always" }).writes);
  expect(mls.undo(id, 0, 1)).toBe(true);
  bob.reload();
  expect(bob.group.hasPendingCommit).toBe(false);
  follow(bob, mls, alice.commit().message, 3);
  bob.reload();
  expect(textOf(alice.receive(bob.say("I am here")))).toBe("I am here");
});

test("a commit of one's own that refers to proposals which the service has no more goes with them", () => {
  const { bob, alice } = pair();
  const carol = new Client("carol", crypto);
  const { keyPackage } = carol.keyPackage();
  bob.receive(alice.group.propose({ kind: "add", keyPackage }).message);
  bob.store.apply(bob.group.createCommit({}).writes);
  bob.store.apply(bob.group.forgetProposals());
  for (const restart of [false, true]) {
    if (restart) bob.reload();
    expect(bob.group.hasPendingCommit).toBe(false);
    expect(bob.group.cachedProposals).toEqual([]);
  }
  // One that refers to none may be on its way, and win.
  bob.store.apply(bob.group.createCommit({ path: "always" }).writes);
  bob.store.apply(bob.group.forgetProposals());
  bob.reload();
  expect(bob.group.hasPendingCommit).toBe(true);
});

test("an epoch begins without rows of another one of its number", () => {
  const { mls, alice, bob } = pair();
  const other = twinOf(alice);
  const replaced = new Map([...bob.store.keys("")].map((key) => [key, bob.store.get(key)!] as const));
  bob.receive(other.commit().message);
  bob.receive(other.say("in the epoch that is taken back"));
  // Put back by a program that knew of no such rows.
  mls.rows(id, 0).apply({ puts: replaced as never, deletes: ["s2/n1"], deletePrefixes: [] });
  bob.reload();
  bob.receive(alice.commit().message);
  bob.reload();
  expect(textOf(bob.receive(alice.say("in the one that counts")))).toBe("in the one that counts");
});

test("what a void entry has to prove is known of the newest commit, and of one that can still be taken back", () => {
  const { mls, alice, bob } = pair();
  const rowOf = (byte: number) => ({
    hash: new Uint8Array(32).fill(byte),
    silent: [1, 2].map((at) => accountId(new Uint8Array(16).fill(byte + at))),
  });
  for (const sequence of [1, 2]) {
    follow(bob, mls, alice.commit().message, sequence);
    mls.noteProvisional(id, sequence, rowOf(sequence));
  }
  expect(mls.provisional(id, 1)).toBeUndefined();
  // One that is refused, and another one in its place.
  for (const sequence of [5, 7]) mls.noteProvisional(id, sequence, rowOf(sequence));
  expect([2, 5, 7].map((sequence) => mls.provisional(id, sequence))).toEqual([rowOf(2), undefined, rowOf(7)]);
  mls.noteProvisional(id, 7, { ...rowOf(9), silent: [] });
  expect(mls.provisional(id, 7)).toEqual({ ...rowOf(9), silent: [] });
  mls.delete(id);
  expect(mls.provisional(id, 7)).toBeUndefined();
});

test("what a commit replaced is forgotten after ten minutes, not after the longest pause", async () => {
  const { mls, alice, bob } = pair();
  follow(bob, mls, alice.commit().message, 1);
  const closing = new AbortController();
  const pauses: number[] = [];
  let nowMs = 360_000;
  const nothing = () => undefined;
  const context = {
    mls,
    closing,
    now: () => nowMs,
    transaction: <T>(work: () => T) => work(),
    eraseAfterwards: nothing,
    settings: { resendMemoryMs: 0 },
    outbox: { forgetSettled: nothing },
    history: { expired: () => [], nextExpiry: nothing, forgetOldChanges: nothing, forgetOldSeen: nothing },
    held: { forgetOld: nothing },
    heard: { forgetStrangers: nothing },
    conversations: { forgetPastKeys: nothing },
    environment: {
      sleep: async (ms: number) => {
        pauses.push(ms);
        nowMs += ms;
        if (pauses.length === 2) closing.abort();
      },
    },
    failed: (error: unknown) => {
      throw error;
    },
  };
  let tended = 0;
  const communities = {
    tend: () => {
      tended++;
    },
  };
  await new Maintenance(context as unknown as Context, communities).stop();
  expect(pauses).toEqual([240_001, 300_000]);
  expect(tended).toBe(2);
  expect(mls.hasUndo(id)).toBe(false);
});

test("of a group whose handshakes weigh too much the oldest epochs are forgotten", () => {
  const { mls } = store();
  for (let epoch = 0; epoch < 20; epoch++) {
    const [message, hash] = [new Uint8Array(100).fill(epoch), new Uint8Array(32).fill(epoch)];
    mls.past.addHandshake(id, { kind: "commit", epoch, message, hash }, 0);
  }
  mls.past.shrink(id, 500);
  expect([15, 16, 19].map((epoch) => mls.past.commitHash(id, epoch)?.[0])).toEqual([undefined, 16, 19]);
});

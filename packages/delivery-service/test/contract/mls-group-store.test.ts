import { readFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import {
  accountId,
  type Bytes,
  compareBytes,
  type DeviceAddress,
  type DeviceId,
  type GroupId,
} from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import {
  type AppendCommit,
  type AppendRefeed,
  type MlsGroupStore,
  WELCOMES_WAITING,
} from "../../src/ports/mls-groups.ts";
import { query } from "../support/database.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { scan } from "../support/leak-scan.ts";
import {
  ALL,
  commitFrom,
  DAY,
  messageTo,
  NOW,
  newDevice,
  newGroup,
  wholeLog,
} from "../support/mls-groups.ts";
import { random } from "../support/random.ts";
import { temporaryDirectory } from "../support/service.ts";

/** Stands in a void entry as it is. */
const proof = random(90);
const account = accountId(random(16));
const keys = (count: number): readonly Bytes[] => Array.from({ length: count }, () => random(32));
const welcomes = (count: number): AppendCommit["welcomes"] =>
  Array.from({ length: count }, () => ({ recipient: newDevice(), welcome: random(70) }));

describe.each(engines)("MLS group store on $name", (engine) => {
  let opened: OpenedEngine;
  let store: MlsGroupStore;
  let group: ReturnType<typeof newGroup>;
  let id: GroupId;
  beforeEach(async () => {
    opened = await engine.open();
    store = opened.stores.mlsGroups;
    group = newGroup();
    id = group.groupId;
    expect(await store.create(group)).toBe("created");
  });
  afterEach(() => opened.dispose());

  const say = async (epoch: number, given = {}) => await store.appendMessage(messageTo(id, epoch, given));
  const commit = async (fromEpoch: number, given: Partial<AppendCommit> = {}) => {
    const append = commitFrom(id, fromEpoch, given);
    expect(await store.appendCommit(append)).toMatchObject({ kind: "appended", epoch: fromEpoch + 1 });
    return append;
  };
  const sequences = async () => (await wholeLog(store, id)).map((entry) => entry.sequence);
  const kinds = async () => (await wholeLog(store, id)).map((entry) => entry.kind);

  describe("a group", () => {
    it("begins in its first epoch with an empty log", async () => {
      expect(await store.load(id)).toEqual({
        groupId: id,
        epoch: 0,
        lastSequence: 0,
        firstSequence: 1,
        groupInfo: group.groupInfo,
        treeHash: group.treeHash,
        banList: undefined,
        lastRemovalEpoch: 0,
        lastCommitSequence: 0,
        lastUsedDay: DAY,
      });
      expect(await wholeLog(store, id)).toEqual([]);
      expect(await store.loadTree(id, 0)).toEqual({
        epoch: 0,
        treeHash: group.treeHash,
        snapshotEpoch: 0,
        snapshot: group.tree,
        deltas: [],
      });
    });

    it("is created once, also when two ask at the same time", async () => {
      const first = newGroup();
      const second = newGroup({ groupId: first.groupId });
      expect(await Promise.all([store.create(first), store.create(second)])).toEqual(["created", "exists"]);
      expect((await store.load(first.groupId))?.groupInfo).toEqual(first.groupInfo);
      expect(await store.create({ ...group, treeHash: random(32) })).toBe("exists");
      expect((await store.load(id))?.treeHash).toEqual(group.treeHash);
    });

    it("may begin in a later epoch than 0", async () => {
      const late = newGroup({ epoch: 7 });
      await store.create(late);
      expect(await store.load(late.groupId)).toMatchObject({ epoch: 7, lastRemovalEpoch: 7 });
      expect(await store.appendMessage(messageTo(late.groupId, 6))).toEqual({ kind: "outdated" });
      expect(await store.appendCommit(commitFrom(late.groupId, 7))).toMatchObject({ epoch: 8 });
    });

    it("says how far it is beside many others, in the order of the question, with bans", async () => {
      const other = newGroup();
      await store.create(other);
      await commit(0);
      await store.ban(id, random(32), account, keys(2));
      expect(await store.heads([other.groupId, newGroup().groupId, id])).toEqual([
        { lastSequence: 0, bans: 0 },
        undefined,
        { lastSequence: 1, bans: 2 },
      ]);
      expect(await store.heads([])).toEqual([]);
    });

    it("that nobody created has nothing", async () => {
      const nowhere = newGroup().groupId;
      expect(await store.load(nowhere)).toBeUndefined();
      expect(await store.appendMessage(messageTo(nowhere, 0))).toEqual({ kind: "unknown-group" });
      expect(await store.appendCommit(commitFrom(nowhere, 0))).toEqual({ kind: "unknown-group" });
      expect(
        await store.voidCommit({ groupId: nowhere, sequence: 0, proof, acceptedAtMs: NOW }),
      ).toBeUndefined();
      expect(await store.addProposal(nowhere, 0, random(9), 9)).toBe("outdated");
      expect(await store.loadTree(nowhere, 0)).toBeUndefined();
      expect(await store.commitOf(nowhere, 0)).toBeUndefined();
      await store.ban(nowhere, random(16), account, keys(1));
      await store.saveCursors([{ groupId: nowhere, signatureKey: random(32), throughSequence: 3 }]);
      await store.saveSnapshot(nowhere, 0, random(32), random(9));
      await store.touch(nowhere, DAY);
      expect(await wholeLog(store, nowhere)).toEqual([]);
      expect(await store.pendingProposals(nowhere)).toEqual([]);
      expect(await store.bannedKeys(nowhere)).toEqual([]);
      expect(await store.bannedAccounts(nowhere)).toEqual([]);
      expect(await store.load(nowhere)).toBeUndefined();
    });
  });

  describe("an application message", () => {
    it("gets the next sequence number, without gaps, however many come at a time", async () => {
      const appends = Array.from({ length: 50 }, () => messageTo(id, 0));
      const outcomes = await Promise.all(appends.map((append) => store.appendMessage(append)));
      expect(outcomes).toEqual(appends.map((_, i) => ({ kind: "appended", sequence: i + 1 })));
      const log = await wholeLog(store, id);
      expect(log).toEqual(
        appends.map((append, i) => ({
          sequence: i + 1,
          kind: "application",
          message: append.message,
          banList: undefined,
          voids: undefined,
          acceptedAtMs: NOW,
        })),
      );
      expect(await store.load(id)).toMatchObject({ firstSequence: 1, lastSequence: 50, epoch: 0 });
    });

    it("sent again is answered with where it is, also after later commits and at the same time", async () => {
      const append = messageTo(id, 0);
      const both = await Promise.all([store.appendMessage(append), store.appendMessage(append)]);
      expect(both).toEqual([
        { kind: "appended", sequence: 1 },
        { kind: "repeated", sequence: 1 },
      ]);
      for (let epoch = 0; epoch < 6; epoch++) await commit(epoch, { removed: keys(1) });
      expect(await store.appendMessage(append)).toEqual({ kind: "repeated", sequence: 1 });
      expect(await sequences()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    });

    it("with one submit hash is another message in another group", async () => {
      const other = newGroup();
      await store.create(other);
      const append = messageTo(id, 0);
      await store.appendMessage(append);
      expect(await store.appendMessage({ ...append, groupId: other.groupId })).toEqual({
        kind: "appended",
        sequence: 1,
      });
    });

    it("may be as many epochs behind as allowed and no more", async () => {
      for (let epoch = 0; epoch < 6; epoch++) await commit(epoch);
      expect(await say(2, { epochsBehind: 4 })).toMatchObject({ kind: "appended" });
      expect(await say(1, { epochsBehind: 4 })).toEqual({ kind: "outdated" });
      expect(await say(6, { epochsBehind: 0 })).toMatchObject({ kind: "appended" });
      expect(await say(5, { epochsBehind: 0 })).toEqual({ kind: "outdated" });
    });

    it("of an epoch before the newest removal is outdated: a removed member holds its secret", async () => {
      await commit(0);
      await commit(1, { removed: keys(1) });
      expect(await say(1)).toEqual({ kind: "outdated" });
      expect(await say(2)).toMatchObject({ kind: "appended" });
      await commit(2);
      expect(await say(2)).toMatchObject({ kind: "appended" });
      expect((await store.load(id))?.lastRemovalEpoch).toBe(2);
    });

    it("of an epoch before a leaf came back with fresh keys is outdated: that leaf could not read it", async () => {
      await commit(0, { leafReplaced: true });
      expect(await say(0)).toEqual({ kind: "outdated" });
      expect(await say(1)).toMatchObject({ kind: "appended" });
    });

    it("of an epoch that the group has not reached is refused, and leaves nothing", async () => {
      const early = messageTo(id, 1);
      expect(await store.appendMessage(early)).toEqual({ kind: "unknown-epoch" });
      expect(await sequences()).toEqual([]);
      await commit(0);
      expect(await store.appendMessage(early)).toEqual({ kind: "appended", sequence: 2 });
    });
  });

  describe("a commit", () => {
    it("takes over epoch, GroupInfo, tree hash and ban list, and lies behind its proposals", async () => {
      await say(0);
      const proposals = [random(20), random(21)];
      const append = commitFrom(id, 0, { proposals, banList: random(16), acceptedAtMs: NOW + 5 });
      expect(await store.appendCommit(append)).toEqual({ kind: "appended", sequence: 4, epoch: 1 });
      expect(await store.load(id)).toEqual({
        groupId: id,
        epoch: 1,
        lastSequence: 4,
        firstSequence: 1,
        groupInfo: append.groupInfo,
        treeHash: append.treeHash,
        banList: append.banList,
        lastRemovalEpoch: 0,
        lastCommitSequence: 4,
        lastUsedDay: DAY,
      });
      const entry = { banList: undefined, voids: undefined, acceptedAtMs: NOW + 5 };
      expect((await wholeLog(store, id)).slice(1)).toEqual([
        { ...entry, sequence: 2, kind: "proposal", message: proposals[0] },
        { ...entry, sequence: 3, kind: "proposal", message: proposals[1] },
        { ...entry, sequence: 4, kind: "commit", message: append.commit, banList: append.banList },
      ]);
    });

    it("that does not change the ban list leaves it in force; an empty list is a list", async () => {
      const { banList } = await commit(0, { banList: random(32) });
      await commit(1);
      expect((await store.load(id))?.banList).toEqual(banList);
      expect((await wholeLog(store, id)).map((entry) => entry.banList)).toEqual([banList, undefined]);
      await commit(2, { banList: new Uint8Array(0) });
      expect((await store.load(id))?.banList).toEqual(new Uint8Array(0));
      expect((await wholeLog(store, id)).at(-1)?.banList).toEqual(new Uint8Array(0));
    });

    it("wins its epoch alone: of many at the same time one is appended, the others leave nothing", async () => {
      const rivals = Array.from({ length: 20 }, () =>
        commitFrom(id, 0, { proposals: [random(20)], welcomes: welcomes(2), removed: keys(1) }),
      );
      const outcomes = await Promise.all(rivals.map((rival) => store.appendCommit(rival)));
      expect(outcomes.filter((outcome) => outcome.kind === "appended")).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome.kind === "lost")).toEqual(
        Array.from({ length: 19 }, () => ({ kind: "lost", epoch: 1 })),
      );
      expect(await kinds()).toEqual(["proposal", "commit"]);
      expect(await store.outbox(0, 100)).toHaveLength(2);
      const won = rivals[outcomes.findIndex(({ kind }) => kind === "appended")]!;
      expect((await store.load(id))?.groupInfo).toEqual(won.groupInfo);
      const lost = rivals.filter((_, i) => outcomes[i]!.kind === "lost");
      for (const { removed } of lost) expect(await store.formerLeaf(id, removed[0]!)).toBeUndefined();
    });

    it("of an epoch that is over or not reached yet is lost", async () => {
      await commit(0);
      expect(await store.appendCommit(commitFrom(id, 0))).toEqual({ kind: "lost", epoch: 1 });
      expect(await store.appendCommit(commitFrom(id, 2))).toEqual({ kind: "lost", epoch: 1 });
      expect(await sequences()).toEqual([1]);
    });

    it("sent again is answered with where it is, also after later commits and at the same time", async () => {
      const append = commitFrom(id, 0, { proposals: [random(20)], welcomes: welcomes(1) });
      const both = await Promise.all([store.appendCommit(append), store.appendCommit(append)]);
      expect(both).toEqual([
        { kind: "appended", sequence: 2, epoch: 1 },
        { kind: "repeated", sequence: 2, epoch: 1 },
      ]);
      await commit(1);
      await commit(2);
      expect(await store.appendCommit(append)).toEqual({ kind: "repeated", sequence: 2, epoch: 1 });
      expect(await sequences()).toEqual([1, 2, 3, 4]);
      expect(await store.outbox(0, 10)).toHaveLength(1);
    });

    it("can be found by the epoch that it led on from, with its proposals and nothing else", async () => {
      await commit(0, { proposals: [random(9)] });
      await say(1);
      const second = await commit(1, { proposals: [random(20), random(21)], banList: random(16) });
      await say(2);
      const found = await store.commitOf(id, 1);
      expect(found).toEqual((await wholeLog(store, id)).slice(3, 6));
      expect(found?.map((entry) => entry.message)).toEqual([...second.proposals, second.commit]);
      expect((await store.commitOf(id, 0))?.map((entry) => entry.sequence)).toEqual([1, 2]);
      expect(await store.commitOf(id, 2)).toBeUndefined();
    });

    it("ends the proposals that wait", async () => {
      await store.addProposal(id, 0, random(20), 10);
      await commit(0);
      expect(await store.pendingProposals(id)).toEqual([]);
      expect(await kinds()).toEqual(["commit"]);
    });

    it("puts its Welcomes into the outbox, oldest first, until they are removed from it", async () => {
      const first = await commit(0, {
        proposals: [random(20)],
        welcomes: welcomes(2),
        acceptedAtMs: NOW + 3,
      });
      const second = await commit(1, { welcomes: welcomes(1) });
      const waiting = await store.outbox(0, 10);
      expect(waiting).toMatchObject([
        ...first.welcomes.map((welcome) => ({
          ...welcome,
          groupId: id,
          treeHash: first.treeHash,
          sequence: 2,
          acceptedAtMs: NOW + 3,
        })),
        { ...second.welcomes[0], groupId: id, treeHash: second.treeHash, sequence: 3, acceptedAtMs: NOW },
      ]);
      expect(await store.outbox(0, 1)).toEqual(waiting.slice(0, 1));
      expect(await store.outbox(waiting[0]!.id, 1)).toEqual(waiting.slice(1, 2));
      expect(await store.outbox(waiting[2]!.id, 1)).toEqual([]);
      await store.removeFromOutbox([waiting[0]!.id, waiting[2]!.id, 999_999]);
      expect(await store.outbox(0, 10)).toEqual([waiting[1]]);
    });

    it("of the Welcomes that wait for one device the newest stay, and no other device loses one", async () => {
      const [busy, other] = [newDevice(), newDevice()];
      const to = (recipient: DeviceAddress, n: number) => ({ recipient, welcome: Uint8Array.of(n) });
      await commit(0, { welcomes: [to(other, 0), to(busy, 0), to({ ...busy, deviceId: 2 as DeviceId }, 0)] });
      for (let n = 1; n <= WELCOMES_WAITING + 1; n++) await commit(n, { welcomes: [to(busy, n)] });
      const waiting = await store.outbox(0, 1_000);
      expect(waiting).toHaveLength(WELCOMES_WAITING + 2);
      expect(waiting.map(({ welcome }) => welcome[0])).toEqual([
        0,
        0,
        ...Array.from({ length: WELCOMES_WAITING }, (_, i) => i + 2),
      ]);
    });

    it("a Welcome's id is not given out again after it is gone", async () => {
      await commit(0, { welcomes: welcomes(1) });
      const [first] = await store.outbox(0, 10);
      await store.removeFromOutbox([first!.id]);
      await commit(1, { welcomes: welcomes(1) });
      expect((await store.outbox(0, 10))[0]!.id).toBeGreaterThan(first!.id);
    });
  });

  describe("commits that are fed again", () => {
    const fed = (fromEpoch: number, count: number, given: Partial<AppendRefeed> = {}): AppendRefeed => {
      const { groupInfo, ...first } = commitFrom(id, fromEpoch);
      const more = Array.from({ length: count - 1 }, (_, index) => commitFrom(id, fromEpoch + 1 + index));
      const commits = [first, ...more];
      return {
        groupId: id,
        fromEpoch,
        commits,
        groupInfo,
        partedSequence: 1,
        acceptedAtMs: NOW + 5,
        ...given,
      };
    };

    it("are appended all together, each with its proposals, and say where the members' logs part, and behind what they stand", async () => {
      await commit(0);
      await say(1);
      const append = fed(1, 2);
      const [first, second] = append.commits;
      const proposals = [random(20)];
      const commits = [{ ...first!, proposals }, second!];
      expect(await store.refeed({ ...append, commits })).toEqual({
        kind: "appended",
        sequences: [4, 5],
        epoch: 3,
      });
      expect(await kinds()).toEqual(["commit", "application", "proposal", "commit", "commit"]);
      const log = await wholeLog(store, id);
      expect(log.map(({ partedSequence }) => partedSequence)).toEqual([
        undefined,
        undefined,
        undefined,
        1,
        4,
      ]);
      expect(await store.load(id)).toMatchObject({
        epoch: 3,
        groupInfo: append.groupInfo,
        treeHash: second!.treeHash,
        lastCommitSequence: 5,
      });
      expect(await store.commitOf(id, 1)).toEqual(log.slice(2, 4));
      expect((await store.loadTree(id, 3))?.deltas).toHaveLength(3);
    });

    it("cut the leaves off that they remove, and end the proposals that wait", async () => {
      const [gone] = keys(1);
      await store.addProposal(id, 0, random(20), 5);
      const append = fed(0, 3);
      const commits = append.commits.map((one, index) => (index === 1 ? { ...one, removed: [gone!] } : one));
      await store.refeed({ ...append, commits });
      expect(await store.formerLeaf(id, gone!)).toEqual({ removedAt: 2 });
      expect(await store.load(id)).toMatchObject({ lastRemovalEpoch: 2 });
      expect(await store.pendingProposals(id)).toEqual([]);
    });

    it("lose whole against another commit of the epoch, and where one of them is in the log, voided or not", async () => {
      const known = await commit(0);
      expect(await store.refeed(fed(0, 2))).toEqual({ kind: "lost", epoch: 1 });
      expect(await store.refeed(fed(2, 2))).toEqual({ kind: "lost", epoch: 1 });
      await store.voidCommit({ groupId: id, sequence: 1, proof, acceptedAtMs: NOW });
      const append = fed(0, 2);
      expect(await store.refeed({ ...append, commits: [append.commits[0]!, known] })).toEqual({
        kind: "lost",
        epoch: 0,
      });
      expect(await kinds()).toEqual(["commit", "void"]);
      const nowhere = newGroup().groupId;
      expect(await store.refeed({ ...append, groupId: nowhere })).toEqual({ kind: "unknown-group" });
    });

    it("cannot be voided where nothing is known of the epoch before; the next commit can", async () => {
      await store.refeed(fed(0, 2));
      expect(await store.voidCommit({ groupId: id, sequence: 2, proof, acceptedAtMs: NOW })).toBeUndefined();
      await commit(2);
      expect(await store.voidCommit({ groupId: id, sequence: 3, proof, acceptedAtMs: NOW })).toEqual({
        sequence: 4,
      });
      expect(await store.load(id)).toMatchObject({ epoch: 2 });
    });
  });

  describe("a voided commit", () => {
    const voided = (sequence: number) =>
      store.voidCommit({ groupId: id, sequence, proof, acceptedAtMs: NOW + 9 });

    it("stays in the log with a void entry behind it, and the epoch before it is as it was", async () => {
      const first = await commit(0, { removed: keys(1), banList: random(16) });
      const before = await store.load(id);
      await commit(1, { removed: keys(1), banList: random(32) });
      await say(2);
      expect(await voided(2)).toEqual({ sequence: 4 });
      expect(await store.load(id)).toEqual({ ...before, lastSequence: 4 });
      expect((await store.load(id))?.groupInfo).toEqual(first.groupInfo);
      expect((await wholeLog(store, id)).slice(2)).toMatchObject([
        { sequence: 3, kind: "application" },
        { sequence: 4, kind: "void", voids: 2, acceptedAtMs: NOW + 9, message: proof },
      ]);
      // The list that the voided commit brought is still shown to whoever reads it.
      expect((await wholeLog(store, id))[1]?.banList).toHaveLength(32);
    });

    it("and another one in its place make an epoch of the same number, and no commit for the old one is for the new one", async () => {
      await commit(0);
      await voided(1);
      await commit(0);
      const late = commitFrom(id, 1);
      expect(await store.appendCommit({ ...late, fromCommitSequence: 1 })).toEqual({
        kind: "lost",
        epoch: 1,
      });
      expect(await store.appendCommit({ ...late, fromCommitSequence: 3 })).toMatchObject({
        kind: "appended",
        epoch: 2,
      });
    });

    it("leaves its epoch to another commit, and is not found by it any more", async () => {
      await commit(0, { proposals: [random(9)] });
      await voided(2);
      expect(await store.commitOf(id, 0)).toBeUndefined();
      const other = await commit(0);
      expect(await store.load(id)).toMatchObject({
        epoch: 1,
        treeHash: other.treeHash,
        lastCommitSequence: 4,
      });
      expect((await store.commitOf(id, 0))?.map((entry) => entry.sequence)).toEqual([4]);
      expect(await store.loadTree(id, 1)).toMatchObject({
        treeHash: other.treeHash,
        deltas: [other.treeDelta],
      });
      expect(await kinds()).toEqual(["proposal", "commit", "void", "commit"]);
    });

    it("sent again is lost, before and after another one: nobody could follow it", async () => {
      const bad = await commit(0);
      await voided(1);
      expect(await store.appendCommit(bad)).toEqual({ kind: "lost", epoch: 0 });
      await commit(0);
      expect(await store.appendCommit(bad)).toEqual({ kind: "lost", epoch: 1 });
      expect(await sequences()).toEqual([1, 2, 3]);
    });

    it("takes back its Welcomes that still wait, and no others", async () => {
      await commit(0, { welcomes: welcomes(2) });
      await commit(1, { welcomes: welcomes(2) });
      const waiting = await store.outbox(0, 10);
      await voided(2);
      expect(await store.outbox(0, 10)).toEqual(waiting.slice(0, 2));
    });

    it("removed nobody: its former leaves are members again, earlier ones are not", async () => {
      const [early, late] = [random(32), random(32)];
      await commit(0, { removed: [early] });
      await commit(1, { removed: [late] });
      await voided(2);
      expect(await store.formerLeaf(id, late)).toBeUndefined();
      expect(await store.formerLeaf(id, early)).toEqual({ removedAt: 1 });
      expect(await store.load(id)).toMatchObject({ lastRemovalEpoch: 1 });
      expect(await say(1)).toMatchObject({ kind: "appended" });
    });

    it("that removed banned leaves leaves them banned", async () => {
      const [banned] = keys(1);
      await store.ban(id, random(16), account, [banned!]);
      await commit(0, { removed: [banned!] });
      expect(await store.bannedKeys(id)).toEqual([]);
      await voided(1);
      expect(await store.bannedKeys(id)).toEqual([banned]);
    });

    it("whose ban list named a banned account leaves it to the order", async () => {
      const other = accountId(random(16));
      await store.ban(id, random(16), account, keys(2));
      await store.ban(id, random(16), other, keys(1));
      const both = [account, other].sort(compareBytes);
      expect(await store.bannedAccounts(id)).toEqual(both);
      await commit(0, { listed: [account] });
      expect(await store.bannedAccounts(id)).toEqual([other]);
      await commit(1, { listed: [other, account] });
      expect(await store.bannedAccounts(id)).toEqual([]);
      await voided(2);
      expect(await store.bannedAccounts(id)).toEqual([other]);
      await voided(1);
      expect(await store.bannedAccounts(id)).toEqual(both);
    });

    it("ends the proposals that wait for its epoch", async () => {
      await commit(0);
      await store.addProposal(id, 1, random(20), 10);
      await voided(1);
      expect(await store.pendingProposals(id)).toEqual([]);
      expect(await store.addProposal(id, 1, random(20), 10)).toBe("outdated");
      expect(await store.addProposal(id, 0, random(20), 10)).toBe("stored");
    });

    it("has no tree any more, also not the snapshot that was made of it", async () => {
      const bad = await commit(0);
      await store.saveSnapshot(id, 1, bad.treeHash, random(100));
      await voided(1);
      expect(await store.loadTree(id, 1)).toBeUndefined();
      expect(await store.findTree(bad.treeHash)).toBeUndefined();
      const good = await commit(0);
      await store.saveSnapshot(id, 1, bad.treeHash, random(100));
      expect(await store.loadTree(id, 1)).toMatchObject({ snapshotEpoch: 0, deltas: [good.treeDelta] });
    });

    it("must be the newest that counts: an earlier one, another entry or the same again changes nothing", async () => {
      await commit(0);
      await commit(1);
      await say(2);
      expect(await voided(1)).toBeUndefined();
      expect(await voided(3)).toBeUndefined();
      expect(await voided(0)).toBeUndefined();
      expect(await voided(2)).toEqual({ sequence: 4 });
      expect(await voided(2)).toBeUndefined();
      expect(await voided(4)).toBeUndefined();
      expect(await sequences()).toEqual([1, 2, 3, 4]);
    });

    it("may be followed by the one before it, down to the first epoch", async () => {
      await commit(0, { removed: keys(1) });
      await commit(1, { banList: random(16) });
      await commit(2);
      for (const sequence of [3, 2, 1]) expect(await voided(sequence)).toBeDefined();
      expect(await store.load(id)).toMatchObject({
        epoch: 0,
        groupInfo: group.groupInfo,
        treeHash: group.treeHash,
        banList: undefined,
        lastRemovalEpoch: 0,
        lastCommitSequence: 0,
        lastSequence: 6,
      });
      expect(await voided(0)).toBeUndefined();
    });
  });

  describe("reading", () => {
    it("a page keeps both limits and the end asked for, and holds at least one entry", async () => {
      for (let i = 0; i < 3; i++) await say(0, { message: random(50) });
      await commit(0, { commit: random(50), banList: random(32) });
      await say(1, { message: random(50) });
      const page = async (after: number, through: number, maxEntries: number, maxBytes: number) =>
        (await store.read(id, after, through, { maxEntries, maxBytes })).map((entry) => entry.sequence);
      expect(await page(0, 99, 2, 1_000)).toEqual([1, 2]);
      expect(await page(2, 99, 10, 1_000)).toEqual([3, 4, 5]);
      expect(await page(1, 3, 10, 1_000)).toEqual([2, 3]);
      expect(await page(0, 99, 10, 100)).toEqual([1, 2]);
      // The ban list of a commit counts.
      expect(await page(2, 99, 10, 131)).toEqual([3]);
      expect(await page(2, 99, 10, 132)).toEqual([3, 4]);
      expect(await page(3, 99, 10, 1)).toEqual([4]);
      expect(await page(5, 99, 10, 1_000)).toEqual([]);
      expect(await page(3, 2, 10, 1_000)).toEqual([]);
    });

    it("groups do not mix", async () => {
      const other = newGroup();
      await store.create(other);
      await say(0);
      const theirs = messageTo(other.groupId, 0);
      await store.appendMessage(theirs);
      expect((await wholeLog(store, other.groupId)).map((entry) => entry.message)).toEqual([theirs.message]);
      expect(await sequences()).toEqual([1]);
    });
  });

  describe("trees", () => {
    it("an epoch's tree is the nearest snapshot at or before it and the deltas from there", async () => {
      const commits: AppendCommit[] = [];
      for (let epoch = 0; epoch < 5; epoch++) commits.push(await commit(epoch));
      const snapshot = random(300);
      await store.saveSnapshot(id, 3, commits[2]!.treeHash, snapshot);
      expect(await store.loadTree(id, 2)).toEqual({
        epoch: 2,
        treeHash: commits[1]!.treeHash,
        snapshotEpoch: 0,
        snapshot: group.tree,
        deltas: [commits[0]!.treeDelta, commits[1]!.treeDelta],
      });
      expect(await store.loadTree(id, 3)).toMatchObject({ snapshotEpoch: 3, snapshot, deltas: [] });
      expect(await store.loadTree(id, 5)).toEqual({
        epoch: 5,
        treeHash: commits[4]!.treeHash,
        snapshotEpoch: 3,
        snapshot,
        deltas: [commits[3]!.treeDelta, commits[4]!.treeDelta],
      });
      expect(await store.loadTree(id, 6)).toBeUndefined();
      // Without reading them it is known how large they are.
      for (let epoch = 0; epoch <= 5; epoch++) {
        const { snapshot: base, deltas } = (await store.loadTree(id, epoch))!;
        const bytes = deltas.reduce((sum, { length }) => sum + length, base.length);
        expect(await store.treeBytes(id, epoch)).toBe(bytes);
      }
      expect(await store.treeBytes(id, 6)).toBe(0);
      expect(await store.treeBytes(newGroup().groupId, 0)).toBe(0);
    });

    it("what changed between two epochs is one entry for each commit, or nothing where one is not kept", async () => {
      const commits: AppendCommit[] = [];
      for (let epoch = 0; epoch < 4; epoch++) commits.push(await commit(epoch));
      await store.saveSnapshot(id, 2, commits[1]!.treeHash, random(300));
      const deltas = commits.map(({ treeDelta }) => treeDelta);
      const bytes = deltas.reduce((sum, { length }) => sum + length, 0);
      expect(await store.treeDeltas(id, 0, 4, bytes)).toEqual(deltas);
      expect(await store.treeDeltas(id, 0, 4, bytes - 1), "too large").toBeUndefined();
      expect(await store.treeDeltas(id, 1, 3, bytes), "behind a snapshot too").toEqual(deltas.slice(1, 3));
      for (const [from, to] of [
        [0, 5],
        [4, 6],
        [2, 2],
        [3, 1],
      ] as const)
        expect(await store.treeDeltas(id, from, to, bytes), `${from} to ${to}`).toBeUndefined();
      expect(await store.treeDeltas(newGroup().groupId, 0, 1, bytes)).toBeUndefined();
    });

    it("are found by their hash: the newest epoch that had it", async () => {
      const first = await commit(0);
      await commit(1);
      await commit(2, { treeHash: first.treeHash });
      expect(await store.findTree(first.treeHash)).toEqual({ groupId: id, epoch: 3 });
      expect(await store.findTree(group.treeHash)).toEqual({ groupId: id, epoch: 0 });
      expect(await store.findTree(random(32))).toBeUndefined();
    });

    it("a snapshot for an epoch with another tree hash is ignored, a second one as well", async () => {
      const { treeHash } = await commit(0);
      await store.saveSnapshot(id, 1, random(32), random(100));
      expect((await store.loadTree(id, 1))?.snapshotEpoch).toBe(0);
      const snapshot = random(100);
      await store.saveSnapshot(id, 1, treeHash, snapshot);
      await store.saveSnapshot(id, 1, treeHash, random(100));
      await store.saveSnapshot(id, 2, treeHash, random(100));
      expect((await store.loadTree(id, 1))?.snapshot).toEqual(snapshot);
    });
  });

  describe("leaves", () => {
    it("a former leaf is known by the commit that removed it, the newest where it came back", async () => {
      const [key, other] = [random(32), random(32)];
      expect(await store.formerLeaf(id, key)).toBeUndefined();
      await commit(0, { removed: [key, other] });
      await say(1);
      expect(await store.formerLeaf(id, key)).toEqual({ removedAt: 1 });
      await commit(1, { removed: [key] });
      expect(await store.formerLeaf(id, key)).toEqual({ removedAt: 3 });
      expect(await store.formerLeaf(id, other)).toEqual({ removedAt: 1 });
    });

    it("a former leaf says when its removal carried out a ban", async () => {
      const [banned, other] = keys(2) as [Bytes, Bytes];
      await store.ban(id, random(16), account, [banned]);
      await commit(0, { removed: [banned, other] });
      expect(await store.formerLeaf(id, banned)).toEqual({ removedAt: 1, banned: true });
      // Its account stays out, whoever removed the leaf.
      expect(await store.bannedAccounts(id)).toEqual([account]);
      expect(await store.formerLeaf(id, other)).toEqual({ removedAt: 1 });
      await commit(1, { removed: [banned] });
      expect(await store.formerLeaf(id, banned)).toEqual({ removedAt: 2 });
    });

    it("banned keys stay banned until a commit removes them", async () => {
      const [a, b, c] = keys(3) as [Bytes, Bytes, Bytes];
      await store.ban(id, random(16), account, [a, b]);
      await store.ban(id, random(16), account, [b, c]);
      expect(await store.bannedKeys(id)).toEqual([a, b, c].sort(compareBytes));
      await commit(0, { removed: [b] });
      expect(await store.bannedKeys(id)).toEqual([a, c].sort(compareBytes));
    });

    it("the same ban order again changes nothing, also after its leaf was removed and came back", async () => {
      const [order, key] = [random(16), random(32)];
      await store.ban(id, order, account, [key]);
      await commit(0, { removed: [key] });
      await store.ban(id, order, account, [key]);
      expect(await store.bannedKeys(id)).toEqual([]);
      await store.ban(id, random(16), account, [key]);
      expect(await store.bannedKeys(id)).toEqual([key]);
    });

    it("a cursor never goes back, and belongs to one leaf of one group", async () => {
      const key = random(32);
      const other = newGroup();
      await store.create(other);
      const save = (throughSequence: number) => ({ groupId: id, signatureKey: key, throughSequence });
      expect(await store.cursor(id, key)).toBeUndefined();
      await store.saveCursors([save(5), save(3), { ...save(9), signatureKey: random(32) }]);
      await store.saveCursors([save(4), { ...save(7), groupId: other.groupId }]);
      expect(await store.cursor(id, key)).toBe(5);
      expect(await store.cursor(other.groupId, key)).toBe(7);
      await store.saveCursors([save(6)]);
      expect(await store.cursor(id, key)).toBe(6);
    });
  });

  describe("proposals that wait", () => {
    it("keep the order of arrival, each once, and no more than allowed", async () => {
      const proposals = [random(20), random(20), random(20)] as const;
      expect(await store.addProposal(id, 0, proposals[0], 2)).toBe("stored");
      expect(await store.addProposal(id, 0, proposals[1], 2)).toBe("stored");
      expect(await store.addProposal(id, 0, proposals[2], 2)).toBe("full");
      expect(await store.addProposal(id, 0, proposals[0], 2)).toBe("stored");
      expect(await store.pendingProposals(id)).toEqual(proposals.slice(0, 2));
    });

    it("belong to the present epoch", async () => {
      expect(await store.addProposal(id, 1, random(20), 9)).toBe("outdated");
      await commit(0);
      expect(await store.addProposal(id, 0, random(20), 9)).toBe("outdated");
      expect(await store.addProposal(id, 1, random(20), 9)).toBe("stored");
    });
  });

  describe("expiry", () => {
    it("deletes old entries from the beginning of the log on, at most as many as asked", async () => {
      for (let i = 0; i < 6; i++) await say(0, { acceptedAtMs: NOW + i });
      expect(await store.expire(NOW + 4, 3)).toBe(3);
      expect(await store.load(id)).toMatchObject({ firstSequence: 4, lastSequence: 6 });
      expect(await store.expire(NOW + 4, 3)).toBe(1);
      expect(await store.expire(NOW + 4, 3)).toBe(0);
      expect(await sequences()).toEqual([5, 6]);
    });

    it("an empty log goes on where it was", async () => {
      for (let i = 0; i < 3; i++) await say(0);
      expect(await store.expire(NOW + 1, 10)).toBe(3);
      expect(await store.load(id)).toMatchObject({ firstSequence: 4, lastSequence: 3 });
      expect(await say(0)).toEqual({ kind: "appended", sequence: 4 });
      expect(await store.load(id)).toMatchObject({ firstSequence: 4, lastSequence: 4 });
      expect(await store.expire(NOW, 10)).toBe(0);
    });

    it("leaves no gap when clocks went back: an entry waits for those before it", async () => {
      await say(0, { acceptedAtMs: NOW + 9 });
      await say(0, { acceptedAtMs: NOW });
      expect(await store.expire(NOW + 5, 10)).toBe(0);
      expect(await sequences()).toEqual([1, 2]);
      expect(await store.expire(NOW + 10, 10)).toBe(2);
    });

    it("reaches all groups", async () => {
      const others = [newGroup(), newGroup()];
      for (const other of others) {
        await store.create(other);
        for (let i = 0; i < 3; i++) await store.appendMessage(messageTo(other.groupId, 0));
      }
      await say(0, { acceptedAtMs: NOW + 1 });
      expect(await store.expire(NOW + 1, 4)).toBe(4);
      expect(await store.expire(NOW + 1, 4)).toBe(2);
      for (const other of others) {
        expect(await store.load(other.groupId)).toMatchObject({ firstSequence: 4, lastSequence: 3 });
      }
      expect(await sequences()).toEqual([1]);
    });

    it("keeps the present epoch and its tree when everything else is gone", async () => {
      const commits: AppendCommit[] = [];
      for (let epoch = 0; epoch < 4; epoch++)
        commits.push(await commit(epoch, { banList: random(16 * epoch) }));
      await store.saveSnapshot(id, 2, commits[1]!.treeHash, random(300));
      const [row, tree] = [await store.load(id), await store.loadTree(id, 4)];
      expect(await store.expire(NOW + 1, 100)).toBe(4);
      expect(await store.load(id)).toEqual({ ...row, firstSequence: 5 });
      expect(await store.loadTree(id, 4)).toEqual(tree);
      expect(await store.findTree(commits[3]!.treeHash)).toEqual({ groupId: id, epoch: 4 });
      // Nothing of what only older epochs needed.
      expect(await store.loadTree(id, 1)).toBeUndefined();
      expect(await store.findTree(commits[0]!.treeHash)).toBeUndefined();
      expect(await store.commitOf(id, 3)).toBeUndefined();
    });

    it("keeps the tree of each epoch in which a kept entry was written", async () => {
      const commits: AppendCommit[] = [];
      for (let epoch = 0; epoch < 6; epoch++) {
        commits.push(await commit(epoch, { acceptedAtMs: NOW + epoch }));
        await store.saveSnapshot(id, epoch + 1, commits[epoch]!.treeHash, random(50));
      }
      await store.expire(NOW + 3, 100);
      expect(await sequences()).toEqual([4, 5, 6]);
      // The entry 4 is the commit from epoch 3 to 4.
      expect(await store.loadTree(id, 2)).toBeUndefined();
      for (const epoch of [3, 4, 5, 6]) {
        expect(await store.loadTree(id, epoch)).toMatchObject({ snapshotEpoch: epoch, deltas: [] });
      }
    });

    it("a newer snapshot lets older deltas go once no kept epoch needs them", async () => {
      const commits: AppendCommit[] = [];
      for (let epoch = 0; epoch < 3; epoch++) commits.push(await commit(epoch));
      await store.expire(NOW + 1, 100);
      expect(await store.loadTree(id, 3)).toMatchObject({ snapshotEpoch: 0 });
      await store.saveSnapshot(id, 3, commits[2]!.treeHash, random(50));
      expect(await store.loadTree(id, 3)).toMatchObject({ snapshotEpoch: 3, deltas: [] });
      expect(await store.loadTree(id, 2)).toBeUndefined();
      expect(await store.findTree(group.treeHash)).toBeUndefined();
    });

    it("a commit can still be voided as long as the log holds it, though the one before it is gone", async () => {
      const first = await commit(0, { banList: random(16), removed: keys(1) });
      const second = await commit(1, { acceptedAtMs: NOW + 9 });
      await store.saveSnapshot(id, 2, second.treeHash, random(50));
      await store.expire(NOW + 5, 100);
      expect(await store.voidCommit({ groupId: id, sequence: 2, proof, acceptedAtMs: NOW + 10 })).toEqual({
        sequence: 3,
      });
      expect(await store.load(id)).toMatchObject({
        epoch: 1,
        groupInfo: first.groupInfo,
        banList: first.banList,
        lastRemovalEpoch: 1,
        lastCommitSequence: 1,
      });
      expect(await store.loadTree(id, 1)).toMatchObject({
        treeHash: first.treeHash,
        deltas: [first.treeDelta],
      });
      expect(
        await store.voidCommit({ groupId: id, sequence: 1, proof, acceptedAtMs: NOW + 11 }),
      ).toBeUndefined();
      expect(await store.appendCommit(commitFrom(id, 1))).toMatchObject({ kind: "appended", sequence: 4 });
    });

    it("a commit whose proposals have expired is not shown in part", async () => {
      await commit(0, { proposals: [random(9), random(9)] });
      expect(await store.expire(NOW + 1, 1)).toBe(1);
      expect(await sequences()).toEqual([2, 3]);
      expect(await store.commitOf(id, 0)).toBeUndefined();
    });

    it("forgets hashes with their entries", async () => {
      const append = messageTo(id, 0);
      await store.appendMessage(append);
      const committed = await commit(0);
      await store.expire(NOW + 1, 10);
      expect(await store.appendMessage(append)).toEqual({ kind: "appended", sequence: 3 });
      expect(await store.appendCommit(committed)).toEqual({ kind: "lost", epoch: 1 });
    });

    it("forgets former leaves with their cursors and bans, but not who came back or was removed since", async () => {
      const [gone, back, late] = keys(3) as [Bytes, Bytes, Bytes];
      await store.ban(id, random(16), account, [gone, late]);
      await commit(0, { removed: [gone, back] });
      await commit(1, { removed: [late], acceptedAtMs: NOW + 9 });
      const cursor = (signatureKey: Bytes, throughSequence: number) => ({
        groupId: id,
        signatureKey,
        throughSequence,
      });
      await store.saveCursors([cursor(gone, 1), cursor(back, 2), cursor(late, 2)]);
      await store.expire(NOW + 5, 10);
      expect(await store.formerLeaf(id, gone)).toBeUndefined();
      expect(await store.formerLeaf(id, late)).toMatchObject({ removedAt: 2 });
      expect(await store.cursor(id, gone)).toBeUndefined();
      expect(await store.cursor(id, back)).toBe(2);
      expect(await store.cursor(id, late)).toBe(2);
      await store.voidCommit({ groupId: id, sequence: 2, proof, acceptedAtMs: NOW + 10 });
      expect(await store.bannedKeys(id)).toEqual([late]);
    });

    it("a ban order is not forgotten: it cannot be used again on a leaf that came back", async () => {
      const [order, key] = [random(16), random(32)];
      await store.ban(id, order, account, [key]);
      await commit(0, { removed: [key] });
      await store.expire(NOW + 1, 10);
      await store.ban(id, order, account, [key]);
      expect(await store.bannedKeys(id)).toEqual([]);
    });

    it("a Welcome that never left the outbox goes with its commit", async () => {
      await commit(0, { welcomes: welcomes(1) });
      await commit(1, { welcomes: welcomes(1), acceptedAtMs: NOW + 9 });
      await store.expire(NOW + 5, 10);
      expect((await store.outbox(0, 10)).map((welcome) => welcome.sequence)).toEqual([2]);
    });

    it("removes groups that nobody used, with all that is theirs", async () => {
      const idle = newGroup();
      await store.create(idle);
      const key = random(32);
      const committed = commitFrom(idle.groupId, 0, { welcomes: welcomes(1), removed: [key] });
      await store.appendCommit(committed);
      await store.saveCursors([{ groupId: idle.groupId, signatureKey: key, throughSequence: 1 }]);
      await store.touch(id, DAY + 30);
      await store.touch(id, DAY + 20);
      expect(await store.expireGroups(DAY + 30, 10)).toBe(1);
      expect(await store.load(idle.groupId)).toBeUndefined();
      expect(await wholeLog(store, idle.groupId)).toEqual([]);
      expect(await store.outbox(0, 10)).toEqual([]);
      expect(await store.cursor(idle.groupId, key)).toBeUndefined();
      expect(await store.findTree(committed.treeHash)).toBeUndefined();
      expect((await store.load(id))?.lastUsedDay).toBe(DAY + 30);
      expect(await store.create(idle)).toBe("created");
      expect(await store.formerLeaf(idle.groupId, key)).toBeUndefined();
    });

    it("appending to a group is using it", async () => {
      await say(0, { acceptedAtMs: NOW + 40 * 86_400_000 });
      expect((await store.load(id))?.lastUsedDay).toBe(DAY + 40);
      expect(await store.expireGroups(DAY + 40, 10)).toBe(0);
    });
  });
});

describe("MLS groups in one file", () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  beforeEach(() => {
    directory = temporaryDirectory();
  });
  afterEach(() => directory.remove());
  const file = () => `${directory.path}/delivery-service.sqlite`;

  it("of commits through two connections one wins each epoch, and messages share one numbering", async () => {
    const connections = [openSqliteStores(directory.path), openSqliteStores(directory.path)];
    const id = newGroup().groupId;
    await connections[0]!.mlsGroups.create(newGroup({ groupId: id }));
    for (let epoch = 0; epoch < 5; epoch++) {
      const outcomes = await Promise.all(
        Array.from({ length: 8 }, (_, i) => connections[i % 2]!.mlsGroups).flatMap((store) => [
          store.appendCommit(commitFrom(id, epoch, { proposals: [random(9)] })),
          store.appendMessage(messageTo(id, epoch)),
        ]),
      );
      expect(outcomes.filter((outcome) => outcome.kind === "lost")).toHaveLength(7);
      expect(outcomes.filter((outcome) => outcome.kind === "appended")).toHaveLength(9);
    }
    const log = await connections[1]!.mlsGroups.read(id, 0, 1_000, ALL);
    expect(log.map((entry) => entry.sequence)).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    for (const connection of connections) await connection.close();
  });

  it("the file itself refuses a second commit that leads on from an epoch, and a second entry with a number", async () => {
    const stores = openSqliteStores(directory.path);
    const id = newGroup().groupId;
    await stores.mlsGroups.create(newGroup({ groupId: id }));
    await stores.mlsGroups.appendCommit(commitFrom(id, 0));
    await stores.close();
    const entry = (sequence: number, leadsFrom: number | "NULL") =>
      `INSERT INTO mls_entries VALUES (1, ${sequence}, 0, 'commit', randomblob(32), ${leadsFrom}, 0, NULL, x'00', NULL)`;
    const database = new DatabaseSync(file());
    expect(() => database.exec(entry(2, 0))).toThrow("UNIQUE constraint failed");
    expect(() => database.exec(entry(1, 1))).toThrow("UNIQUE constraint failed");
    expect(() => database.exec("INSERT INTO mls_epochs SELECT * FROM mls_epochs WHERE epoch = 1")).toThrow(
      "UNIQUE constraint failed",
    );
    expect(() => database.exec(entry(2, "NULL"))).not.toThrow();
    database.close();
  });

  it("of what expired, was voided, delivered or replaced nothing is left in the file", async () => {
    const stores = openSqliteStores(directory.path);
    const store = stores.mlsGroups;
    const id = newGroup().groupId;
    await store.create(newGroup({ groupId: id }));
    const old = { acceptedAtMs: NOW - 9, removed: keys(1), banList: random(64), welcomes: welcomes(1) };
    const [message, first] = [messageTo(id, 0, { acceptedAtMs: NOW - 9 }), commitFrom(id, 0, old)];
    const [second, third, bad] = [
      commitFrom(id, 1, { acceptedAtMs: NOW - 9, banList: random(64) }),
      commitFrom(id, 2, { banList: random(64), welcomes: welcomes(1) }),
      commitFrom(id, 3, { welcomes: welcomes(1), removed: keys(1) }),
    ];
    const proposal = random(60);
    await store.appendMessage(message);
    await store.addProposal(id, 0, proposal, 9);
    await store.appendCommit(first);
    await store.removeFromOutbox((await store.outbox(0, 9)).map((welcome) => welcome.id));
    await store.appendCommit(second);
    await store.appendCommit(third);
    await store.appendCommit(bad);
    await store.voidCommit({ groupId: id, sequence: 5, proof, acceptedAtMs: NOW });
    await store.saveSnapshot(id, 2, second.treeHash, random(200));
    await store.expire(NOW, 100);
    await stores.compact();
    const needles = {
      message: message.message,
      "submit hash": message.submitHash,
      proposal,
      commit: first.commit,
      "former leaf": first.removed[0]!,
      "old ban list": first.banList!,
      "old tree": first.treeDelta,
      "delivered Welcome": first.welcomes[0]!.welcome,
      "voided Welcome": bad.welcomes[0]!.welcome,
      "GroupInfo of a voided epoch": bad.groupInfo,
      "tree of a voided epoch": bad.treeDelta,
      "kept commit": third.commit,
      "kept ban list": third.banList!,
      "waiting Welcome": third.welcomes[0]!.welcome,
      "kept void entry": proof,
    };
    const found = scan(
      [{ name: "file", bytes: readFileSync(file()) }],
      Object.entries(needles).flatMap(([name, bytes]) => [
        { name, bytes: bytes.subarray(0, 20) },
        { name, bytes: bytes.subarray(-20) },
      ]),
    );
    // What is kept is found: the search sees what there is.
    expect(new Set(found.map((leak) => leak.needle))).toEqual(
      new Set(["kept commit", "kept ban list", "waiting Welcome", "kept void entry"]),
    );
    await stores.close();
  });

  it("a message is stored once, whatever the number of members", async () => {
    const stores = openSqliteStores(directory.path);
    const id = newGroup().groupId;
    await stores.mlsGroups.create(newGroup({ groupId: id }));
    const cursors = Array.from({ length: 500 }, () => ({
      groupId: id,
      signatureKey: random(32),
      throughSequence: 0,
    }));
    await stores.mlsGroups.saveCursors(cursors);
    const append = messageTo(id, 0, { message: random(600) });
    await stores.mlsGroups.appendMessage(append);
    const rows = query(file(), "SELECT sum(length(message)) AS bytes FROM mls_entries");
    expect(rows).toEqual([{ bytes: 600 }]);
    await stores.close();
  });
});

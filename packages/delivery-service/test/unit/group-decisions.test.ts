import { accountId, RejectionError } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { compareEpoch, decideLink, decideReadFrom, decideSender } from "../../src/core/group-decisions.ts";
import { bytesThatFit, encodeRefusals, entriesThatFit, toWireEntry } from "../../src/core/group-entries.ts";
import { readMlsHeader } from "../../src/core/mls-header.ts";
import { ProvisionalCommit } from "../../src/core/provisional-commit.ts";
import type { LogEntry } from "../../src/ports/mls-groups.ts";
import { random } from "../support/random.ts";

describe("who may send", () => {
  const settings = { announcementOnly: false, slowModeSeconds: 10 };

  it("a member, with the pause of the group's settings, a day at most", () => {
    expect(decideSender({ role: "member", settings })).toBe(10_000);
    expect(decideSender({ role: "member", settings: { ...settings, slowModeSeconds: 0 } })).toBe(0);
    const endless = { ...settings, slowModeSeconds: 2 ** 32 - 1 };
    expect(decideSender({ role: "member", settings: endless })).toBe(86_400_000);
  });

  it("only admins and owners where it is for announcements, and they without a pause", () => {
    const strict = { announcementOnly: true, slowModeSeconds: 3600 };
    expect(() => decideSender({ role: "member", settings: strict })).toThrow("group/not-allowed");
    for (const role of ["admin", "owner"] as const) {
      expect(decideSender({ role, settings: strict })).toBe(0);
    }
  });
});

describe("whom a link lets in", () => {
  it("anybody until it expires, and nobody from that moment on", () => {
    expect(() => decideLink({ expiresAtMs: 1_000 }, 999)).not.toThrow();
    expect(() => decideLink({ expiresAtMs: 1_000 }, 1_000)).toThrow("group/link-expired");
    expect(() => decideLink({ expiresAtMs: 0 }, Number.MAX_SAFE_INTEGER)).not.toThrow();
  });
});

describe("from where one may read", () => {
  it("the entry behind the last one that the reader has must be there", () => {
    expect(() => decideReadFrom(5, 4)).not.toThrow();
    expect(() => decideReadFrom(5, 3)).toThrow("group/rejoin");
    expect(() => decideReadFrom(5, undefined)).not.toThrow();
    expect(() => decideReadFrom(1, 0)).not.toThrow();
  });
});

describe("epochs", () => {
  it("equal is right: not one less, not one more", () => {
    expect(compareEpoch(3, 3)).toBe("present");
    expect(compareEpoch(2, 3)).toBe("past");
    expect(() => compareEpoch(4, 3)).toThrow("group/epoch-unknown");
  });
});

describe("entries", () => {
  const entry = (bytes: number, fields: Partial<LogEntry> = {}): LogEntry => ({
    sequence: 1,
    kind: "commit",
    message: random(bytes),
    banList: undefined,
    voids: undefined,
    partedSequence: undefined,
    acceptedAtMs: 5,
    ...fields,
  });

  it("are told as far as they fit, in order", () => {
    const entries = [entry(100), entry(100), entry(1000), entry(1)];
    expect(entriesThatFit(entries, { maxEntries: 10, maxBytes: 10_000 })).toEqual(entries);
    expect(entriesThatFit(entries, { maxEntries: 10, maxBytes: 400 })).toEqual(entries.slice(0, 2));
    expect(entriesThatFit(entries, { maxEntries: 1, maxBytes: 10_000 })).toEqual(entries.slice(0, 1));
    expect(entriesThatFit(entries, { maxEntries: 10, maxBytes: 10 })).toEqual([]);
    expect(bytesThatFit([random(10), random(10), random(10)], 40)).toHaveLength(2);
  });

  it("say what they are", () => {
    const head = { sequence: 1, serverTimeMs: 5 };
    const { message } = entry(3);
    expect(toWireEntry(entry(3, { kind: "application", message }))).toEqual({
      ...head,
      application: { message },
    });
    expect(toWireEntry(entry(3, { kind: "proposal", message }))).toEqual({
      ...head,
      proposal: { proposal: message },
    });
    expect(toWireEntry(entry(3, { message }))).toEqual({ ...head, commit: { commit: message } });
    // An empty ban list is what the hash in the GroupContext says: nothing has to be sent for it.
    expect(toWireEntry(entry(3, { message, banList: new Uint8Array(0) }))).toEqual({
      ...head,
      commit: { commit: message },
    });
    const banList = random(16);
    expect(toWireEntry(entry(3, { message, banList }))).toEqual({
      ...head,
      commit: { commit: message, banList },
    });
    const refusals = [
      { leafIndex: 0, signature: random(64) },
      { leafIndex: 70_000, signature: random(256) },
    ];
    const proof = encodeRefusals(refusals);
    expect(toWireEntry(entry(0, { kind: "void", voids: 7, message: proof }))).toEqual({
      ...head,
      void: { sequence: 7, refusals },
    });
    // Of before refusals were kept.
    expect(toWireEntry(entry(0, { kind: "void", voids: 7 }))).toEqual({
      ...head,
      void: { sequence: 7, refusals: [] },
    });
    for (const message of [proof.subarray(1), proof.subarray(0, -1), Uint8Array.of(...proof, 0)])
      expect(() =>
        toWireEntry(entry(0, { kind: "void", voids: 7, message: new Uint8Array(message) })),
      ).toThrow(RejectionError);
  });
});

describe("a provisional commit", () => {
  const leafOf = (account = accountId(random(16))) => ({ signatureKey: random(32), accountId: account });
  const [ann, bob, cid, mallory, removed] = [leafOf(), leafOf(), leafOf(), leafOf(), leafOf()];
  const added = leafOf();
  const hash = random(32);
  const question = {
    hash,
    committerKey: mallory.signatureKey,
    silent: [mallory.accountId, removed.accountId],
    added: [added.signatureKey],
  };
  const fresh = () => new ProvisionalCommit(9, question);
  let index = 0;
  const refusalOf = () => ({ leafIndex: ++index, signature: random(64) });
  const refusedBy = (commit: ProvisionalCommit, ...leaves: ReturnType<typeof leafOf>[]) =>
    leaves.map((leaf) => commit.refuse(leaf, hash, refusalOf()) !== undefined);

  it("is taken back when two accounts refuse it and nobody vouched, on what they signed and no more", () => {
    const commit = fresh();
    const [first, again, second] = [refusalOf(), refusalOf(), refusalOf()];
    expect(commit.refuse(ann, hash, first)).toBeUndefined();
    expect(commit.refuse(leafOf(ann.accountId), hash, again)).toBeUndefined();
    expect(commit.refuse(bob, hash, second)).toEqual([again, second]);
    expect(commit.refuse(cid, hash, refusalOf())).toEqual([again, second]);
  });

  it("is not on what was said of another commit", () => {
    const commit = fresh();
    expect(commit.refuse(ann, random(32), refusalOf())).toBeUndefined();
    expect(refusedBy(commit, bob, ann)).toEqual([false, true]);
  });

  it("is not, once somebody vouched who has it", () => {
    const commit = fresh();
    commit.vouch(leafOf(), 8);
    commit.vouch(cid, 9);
    expect(refusedBy(commit, ann, bob)).toEqual([false, false]);
  });

  it("counts no word of its committer's account, of one that it takes a leaf from, nor of a leaf that came with it", () => {
    const commit = fresh();
    const silent = [mallory, leafOf(mallory.accountId), removed, leafOf(removed.accountId), added];
    for (const leaf of silent) commit.vouch(leaf, 20);
    expect(refusedBy(commit, ...silent, ann)).toEqual([false, false, false, false, false, false]);
    expect(refusedBy(commit, bob)).toEqual([true]);
  });

  it("may learn who made it after others have spoken, and counts no refusal before", () => {
    const commit = new ProvisionalCommit(9, undefined);
    commit.vouch(mallory, 9);
    expect(refusedBy(commit, ann, bob)).toEqual([false, false]);
    commit.learn(question);
    commit.learn({ ...question, committerKey: ann.signatureKey, silent: [ann.accountId] });
    expect(commit.committerKey).toEqual(mallory.signatureKey);
    expect(refusedBy(commit, ann, bob)).toEqual([false, true]);
  });
});

describe("the header of an MLSMessage", () => {
  it("is refused where it is cut off, of another version or kind, or says nothing of a group", () => {
    const good = Uint8Array.of(0, 1, 0, 2, 1, 7, 0, 0, 0, 0, 0, 0, 0, 3, 1);
    expect(readMlsHeader(good)).toEqual({
      groupId: Uint8Array.of(7),
      epoch: 3,
      content: "application",
      sender: undefined,
    });
    for (let length = 0; length < good.length; length++) {
      expect(() => readMlsHeader(good.subarray(0, length))).toThrow("wire/invalid-field");
    }
    for (const [at, value] of [
      [1, 2],
      [3, 3],
      [3, 5],
      [14, 0],
      [14, 4],
      [6, 0x80],
    ] as const) {
      expect(() => readMlsHeader(good.with(at, value)), `${at}`).toThrow("wire/invalid-field");
    }
  });
});

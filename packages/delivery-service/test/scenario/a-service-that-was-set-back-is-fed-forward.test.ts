import { createHash } from "node:crypto";
import { cpSync, rmSync } from "node:fs";
import type { Bytes } from "@murmuration/base";
import {
  type ClientBody,
  encodeGroupMarkInput,
  GROUP_MARK_BYTES,
  type GroupEntry,
  type GroupMark,
  type GroupPastCommit,
} from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createInProcessValidator } from "../../src/adapters/in-process-validator.ts";
import { systemClock } from "../../src/adapters/system-environment.ts";
import { createConfig } from "../../src/config.ts";
import { type RunningDeliveryService, startDeliveryService } from "../../src/main.ts";
import type { Clock } from "../../src/ports/environment.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { query } from "../support/database.ts";
import { movableClock, temporaryDirectory, unhurried } from "../support/service.ts";

const sha256 = (bytes: Uint8Array) => new Uint8Array(createHash("sha256").update(bytes).digest());
const markOf = (entry: GroupEntry): GroupMark => ({
  sequence: entry.sequence,
  hash: sha256(encodeGroupMarkInput(entry)).slice(0, GROUP_MARK_BYTES),
});
type Refeed = Extract<ClientBody, { kind: "groupRefeed" }>;

describe("a service that was set back to an older copy of its database", () => {
  const folder = temporaryDirectory();
  const data = `${folder.path}/data`;
  const copy = `${folder.path}/copy`;
  let service: RunningDeliveryService & { readonly base: string };
  let alice: Member;
  let bob: Member;
  let carol: Member;
  let mallory: Member;
  let dave: Member;
  /** What the copy does not have: a message, Mallory's removal, Dave's coming, another commit. */
  let past: GroupPastCommit[];
  /** Of the epoch that the first of these commits led to, by Bob. */
  let afterRemoval: Bytes;
  const members = () => [alice, bob, carol];

  const start = async (limits: Partial<typeof unhurried> = {}, clock: Clock = systemClock) => {
    const config = createConfig({
      dataDirectory: data,
      limits: { ...unhurried, ...limits },
      logLevel: "silent",
    });
    const running = await startDeliveryService(config, { clock, validator: createInProcessValidator() });
    service = { ...running, base: `http://127.0.0.1:${running.port}` };
  };
  const setBack = async (limits: Partial<typeof unhurried> = {}, clock: Clock = systemClock) => {
    await service.close();
    rmSync(data, { recursive: true, force: true });
    cpSync(copy, data, { recursive: true });
    await start(limits, clock);
  };

  beforeEach(async () => {
    await start();
    alice = await Member.register(service);
    [bob, carol, mallory, dave] = (await Member.strangers(service, 4)) as [Member, Member, Member, Member];
    await startCommunity(service, [alice, bob, carol, mallory]);
    for (const member of [bob, carol, mallory]) await member.open(service, 1);
    expectKind(await bob.socket.request(bob.say("before the copy")), "groupSubmitAccepted");
    for (const member of [alice, bob, carol, mallory]) await member.catchUp(2);
    await service.close();
    cpSync(data, copy, { recursive: true });
    await start();
    for (const member of [alice, bob, carol]) {
      await enter(member, 2);
    }
    expectKind(await bob.socket.request(bob.say("after the copy")), "groupSubmitAccepted");
    const removal = { proposals: [{ kind: "remove", removed: mallory.leafIndex }] } as const;
    expectKind(await alice.commit(alice.makeCommit(removal)), "groupCommitAccepted");
    for (const member of [bob, carol]) await member.catchUp(4);
    afterRemoval = bob.group.groupInfo();
    const add = alice.makeAdd([dave]);
    expectKind(await alice.commit(add), "groupCommitAccepted");
    for (const member of [bob, carol]) await member.catchUp(5);
    dave.join(add.welcome!, add.keyPackages[0]!, alice.group.ratchetTree());
    expectKind(await carol.commit(carol.makeCommit()), "groupCommitAccepted");
    for (const member of members()) await member.catchUp(6);
    const commits = bob.entries.flatMap(({ commit, sequence }) =>
      commit && sequence > 2 ? [commit.commit] : [],
    );
    past = commits.map((commit) => ({ commit, proposals: [] }));
    expect(past).toHaveLength(3);
  });
  afterEach(async () => {
    await service.close();
    rmSync(data, { recursive: true, force: true });
    rmSync(copy, { recursive: true, force: true });
  });

  /** Opens the group with marks on everything that the member has seen, newest first. */
  const come = async (member: Member) => {
    await member.connect(service);
    const marks = member.entries.map(markOf).reverse();
    return member.socket.request(member.accessFrame(marks[0]?.sequence ?? 0, { marks }));
  };
  const enter = async (member: Member, afterSequence: number) => {
    await member.connect(service);
    await member.open(service, afterSequence);
  };
  const entriesOf = (member: Member) =>
    member.socket.pushed.flatMap((body) => (body.kind === "groupEntries" ? body.entries : []));
  const refeed = (member: Member, changes: Partial<Refeed> = {}): Refeed => ({
    kind: "groupRefeed",
    groupId: member.groupId,
    commits: past,
    groupInfo: member.group.groupInfo(),
    agreedSequence: 2,
    ...changes,
  });
  /** The first of several frames. */
  const firstOf = (member: Member): Refeed => {
    const { groupInfo: _, ...more } = refeed(member, { commits: past.slice(0, 1) });
    return more;
  };
  const rows = () =>
    query(
      `${data}/delivery-service.sqlite`,
      "SELECT sequence, kind, leads_from, parted_sequence FROM mls_entries ORDER BY sequence",
    );

  it("a member that was further is told so, gets no entries, and feeds it: the group goes on at the newest epoch", async () => {
    await setBack();
    expect(await come(bob)).toMatchObject({
      kind: "groupAccessGranted",
      epoch: 1,
      lastSequence: 2,
      agreedSequence: 2,
    });
    expect(await bob.socket.request(refeed(bob))).toEqual({ kind: "groupDone" });
    expect(entriesOf(bob)).toEqual([]);
    expect(rows()).toEqual([
      { sequence: 1, kind: "commit", leads_from: 0, parted_sequence: null },
      { sequence: 2, kind: "application", leads_from: null, parted_sequence: null },
      { sequence: 3, kind: "commit", leads_from: 1, parted_sequence: 2 },
      { sequence: 4, kind: "commit", leads_from: 2, parted_sequence: 3 },
      { sequence: 5, kind: "commit", leads_from: 3, parted_sequence: 4 },
    ]);
    // Everybody goes on: who fed, who comes now, who was added since the copy.
    for (const member of [alice, bob, carol, dave]) await enter(member, 5);
    expectKind(await dave.socket.request(dave.say("still here")), "groupSubmitAccepted");
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
  });

  it("the marks tell a client where the logs part, and the commit that led to its epoch that its past is the service's", async () => {
    await setBack();
    await come(bob);
    await bob.socket.request(refeed(bob));
    const granted = expectKind(await come(carol), "groupAccessGranted");
    expect(granted).toMatchObject({ epoch: 4, agreedSequence: 2, lastSequence: 5 });
    expect(granted.commitHash).toEqual(sha256(past[2]!.commit));
    expect(entriesOf(carol)).toEqual([]);
  });

  it("what others have appended to the copy stays, and the commits say what members which were further have not seen", async () => {
    await setBack();
    // Mallory, who was removed, and who is here before anybody who knows.
    await enter(mallory, 2);
    expectKind(await mallory.socket.request(mallory.say("who is here?")), "groupSubmitAccepted");
    await come(bob);
    expect(await bob.socket.request(refeed(bob))).toEqual({ kind: "groupDone" });
    expect(rows()[3]).toEqual({ sequence: 4, kind: "commit", leads_from: 1, parted_sequence: 2 });
  });

  it("whoever was removed since the copy is out from that moment, reads up to the removal, and does nothing else", async () => {
    await setBack();
    await enter(mallory, 2);
    const frame = mallory.say("too late");
    await come(bob);
    await bob.socket.request(refeed(bob));
    await enter(alice, 5);
    expectKind(await alice.socket.request(alice.say("among us")), "groupSubmitAccepted");
    await mallory.socket.until(() => entriesOf(mallory).length > 0, 5000, "no removal");
    expect(entriesOf(mallory).map(({ sequence }) => sequence)).toEqual([3]);
    expect(await mallory.socket.request(frame)).toMatchObject({ code: "group/not-a-member" });
    expect(await mallory.socket.request(mallory.makeCommit().frame)).toMatchObject({
      code: "group/not-a-member",
    });
    await mallory.connect(service);
    expect(await mallory.socket.request(mallory.accessFrame(2))).toMatchObject({
      removed: true,
      lastSequence: 3,
    });
  });

  it("several members feed at once: the first one's is stored, the others' is there already", async () => {
    await setBack();
    for (const member of members()) await come(member);
    const answers = await Promise.all(members().map((member) => member.socket.request(refeed(member))));
    expect(answers).toEqual(members().map(() => ({ kind: "groupDone" })));
    expect(rows()).toHaveLength(5);
    // And once more, when nothing is behind.
    expect(await bob.socket.request(refeed(bob))).toEqual({ kind: "groupDone" });
    expect(rows()).toHaveLength(5);
  });

  it("in several frames, of which nothing is stored before the last", async () => {
    await setBack();
    await come(bob);
    const { groupInfo, ...more } = refeed(bob);
    for (const commit of past)
      expect(await bob.socket.request({ ...more, commits: [commit] })).toEqual({ kind: "groupDone" });
    expect(rows()).toHaveLength(2);
    expect(await bob.socket.request({ ...more, commits: [], groupInfo: groupInfo! })).toEqual({
      kind: "groupDone",
    });
    expect(rows()).toHaveLength(5);
  });

  it("in one frame, for which there need be no room among those that wait", async () => {
    await setBack({ waitingRefeedBytes: past[0]!.commit.length });
    await come(bob);
    expect(await bob.socket.request(firstOf(bob))).toEqual({ kind: "groupDone" });
    await come(carol);
    expect(await carol.socket.request(refeed(carol))).toEqual({ kind: "groupDone" });
    expect(rows()).toHaveLength(5);
  });

  it("it counts as commits of the group, of which more may be fed than committed at once", async () => {
    await setBack({ rates: { ...unhurried.rates, commitsPerGroup: { burst: 2, perMinute: 0.01 } } });
    await come(bob);
    expect(await bob.socket.request(refeed(bob))).toEqual({ kind: "groupDone" });
    // What is there already costs nothing.
    await come(carol);
    expect(await carol.socket.request(refeed(carol))).toEqual({ kind: "groupDone" });
    await enter(bob, 5);
    expect(await bob.socket.request(bob.makeCommit().frame)).toMatchObject({ code: "rate/limited" });
  });

  it("a part of it may come first, from somebody who knows no more", async () => {
    await setBack();
    await come(bob);
    const part = refeed(bob, { commits: past.slice(0, 1), groupInfo: afterRemoval });
    expect(await bob.socket.request(part)).toEqual({ kind: "groupDone" });
    expect(rows()).toHaveLength(3);
    await come(carol);
    expect(await carol.socket.request(refeed(carol))).toEqual({ kind: "groupDone" });
    expect(rows()).toHaveLength(5);
  });

  it("after a restart the group is what was fed: members, former leaves, GroupInfo", async () => {
    await setBack();
    await come(bob);
    await bob.socket.request(refeed(bob));
    await service.close();
    await start();
    await enter(dave, 4);
    await dave.catchUp(5);
    const made = dave.makeCommit();
    expect(await dave.commit(made)).toMatchObject({ kind: "groupCommitAccepted", epoch: 5 });
    await mallory.connect(service);
    expect(await mallory.socket.request(mallory.accessFrame(2))).toMatchObject({ removed: true });
  });

  it("a commit that was fed again cannot be voided", async () => {
    await setBack();
    await come(carol);
    const fed = refeed(carol);
    const { commit } = fed.commits.at(-1)!;
    await carol.socket.request(fed);
    for (const member of [alice, bob]) {
      await enter(member, 5);
      expect(await member.socket.request(member.refuseFrame(5, commit))).toEqual({ kind: "groupDone" });
    }
    expect(rows()).toHaveLength(5);
  });

  it("a member that was added since the copy is told that the service is behind, and not that it is no member", async () => {
    await setBack();
    await dave.connect(service);
    expect(await dave.socket.request(dave.accessFrame(5))).toMatchObject({ code: "group/epoch-unknown" });
  });

  describe("refuses, and stores nothing", () => {
    const refuses = async (by: Member, frame: Refeed, code = "group/refeed-refused") => {
      expect(await by.socket.request(frame)).toMatchObject({ kind: "rejection", code });
      expect(rows()).toHaveLength(2);
    };
    const broken = (commit: Bytes) => {
      const other = commit.slice();
      other[Math.floor(other.length / 2)]! ^= 1;
      return other;
    };

    it("commits that lead past the removal of who feeds them", async () => {
      await setBack();
      await enter(mallory, 2);
      await refuses(mallory, refeed(bob, { groupInfo: mallory.group.groupInfo() }));
      // Also with the GroupInfo of somebody who is a member in the end.
      await refuses(mallory, refeed(bob));
    });

    it("from a connection that does not have the group open", async () => {
      await setBack();
      await dave.connect(service);
      await refuses(dave, refeed(dave), "group/not-open");
    });

    it("a gap: at the beginning, and in between", async () => {
      await setBack();
      await come(bob);
      await refuses(bob, refeed(bob, { commits: past.slice(1) }));
      await refuses(bob, refeed(bob, { commits: [past[0]!, past[2]!] }));
      await refuses(bob, refeed(bob, { commits: [past[1]!, past[0]!, past[2]!] }));
    });

    it("a commit that nobody signed, and what is no commit", async () => {
      await setBack();
      await come(bob);
      await refuses(
        bob,
        refeed(bob, { commits: [{ commit: broken(past[0]!.commit), proposals: [] }, ...past.slice(1)] }),
      );
      await refuses(bob, refeed(bob, { commits: [{ commit: bob.propose().proposal, proposals: [] }] }));
      await refuses(
        bob,
        refeed(bob, { commits: [{ commit: new Uint8Array(9), proposals: [] }] }),
        "wire/invalid-field",
      );
    });

    it("the GroupInfo of another epoch, of another signer, and one with another signature", async () => {
      await setBack();
      await come(bob);
      await refuses(bob, refeed(bob, { commits: past.slice(0, 2) }));
      await refuses(bob, refeed(bob, { groupInfo: carol.group.groupInfo() }));
      await refuses(bob, refeed(bob, { groupInfo: broken(bob.group.groupInfo()) }));
    });

    it("more than a re-feeding may have, in one frame or in several", async () => {
      await setBack({ refeedCommits: 2 });
      await come(bob);
      await refuses(bob, refeed(bob));
      const { groupInfo: _, ...more } = refeed(bob, { commits: past.slice(0, 2) });
      expect(await bob.socket.request(more)).toEqual({ kind: "groupDone" });
      await refuses(bob, refeed(bob, { commits: past.slice(2) }));
    });

    it("more bytes than may wait in the whole service, which are free again with the connection", async () => {
      await setBack({ waitingRefeedBytes: past[0]!.commit.length });
      const more = firstOf(bob);
      await come(bob);
      expect(await bob.socket.request(more)).toEqual({ kind: "groupDone" });
      await come(carol);
      await refuses(carol, more, "group/busy");
      await bob.socket.close();
      await expect.poll(() => carol.socket.request(more)).toEqual({ kind: "groupDone" });
    });

    it("what comes too late behind the frame before it, whose place is free by then", async () => {
      await setBack({ waitingRefeedBytes: past[0]!.commit.length, refeedPauseMs: 300 });
      const more = firstOf(bob);
      await come(bob);
      expect(await bob.socket.request(more)).toEqual({ kind: "groupDone" });
      await come(carol);
      await refuses(carol, more, "group/busy");
      await expect.poll(() => carol.socket.request(more)).toEqual({ kind: "groupDone" });
      await refuses(bob, refeed(bob, { commits: past.slice(1) }));
      // From the beginning it is taken.
      expect(await bob.socket.request(refeed(bob))).toEqual({ kind: "groupDone" });
    });

    it("more bytes than the address may store now, whoever else has stored them; a little later it is taken", async () => {
      const clock = movableClock(Date.now());
      const groupBytesPerAddress = { burst: 40_000, perMinute: 20_000 };
      await setBack({ rates: { ...unhurried.rates, groupBytesPerAddress } }, clock);
      await enter(mallory, 2);
      for (const length of [4000, 10]) {
        const said = () => mallory.socket.request(mallory.say("x".repeat(length)));
        while ((await said()).kind === "groupSubmitAccepted");
      }
      const before = rows();
      await come(bob);
      expect(await bob.socket.request(refeed(bob))).toMatchObject({ code: "rate/limited" });
      expect(rows()).toEqual(before);
      clock.advance(60_000);
      expect(await bob.socket.request(refeed(bob))).toEqual({ kind: "groupDone" });
      expect(rows()).toHaveLength(before.length + 3);
    });

    it("another past than the one that the service has gone on with: that is for people to decide", async () => {
      await setBack();
      await enter(mallory, 2);
      expectKind(await mallory.commit(mallory.makeCommit()), "groupCommitAccepted");
      const granted = expectKind(await come(bob), "groupAccessGranted");
      expect(granted).toMatchObject({ epoch: 2, agreedSequence: 2 });
      expect(await bob.socket.request(refeed(bob))).toMatchObject({ code: "group/refeed-refused" });
      expect(rows()).toHaveLength(3);
    });

    it("the return of somebody who is banned and still in the tree", async () => {
      await setBack();
      await come(alice);
      expect(await alice.socket.request(alice.banFrame([carol]))).toEqual({ kind: "groupDone" });
      await come(bob);
      // Carol made the last of these commits.
      await refuses(bob, refeed(bob));
    });
  });
});

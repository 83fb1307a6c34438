import { UnavailableError } from "@murmuration/base";
import { afterEach, describe, expect, it } from "vitest";
import type { Stores } from "../../src/service/context.ts";
import { addMembers, expectKind, Member, startCommunity } from "../support/community.ts";
import { movableClock, startTestService, type TestService } from "../support/service.ts";

/** Counts what the log is asked. */
function counting(calls: { read: number; saveCursors: number; cursors: number }) {
  return (stores: Stores): Stores => {
    const { mlsGroups } = stores;
    const counted = Object.assign(Object.create(mlsGroups) as typeof mlsGroups, {
      read: (...args: Parameters<typeof mlsGroups.read>) => {
        calls.read++;
        return mlsGroups.read(...args);
      },
      saveCursors: (...args: Parameters<typeof mlsGroups.saveCursors>) => {
        calls.saveCursors++;
        calls.cursors += args[0].length;
        return mlsGroups.saveCursors(...args);
      },
    });
    return { ...stores, mlsGroups: counted };
  };
}

describe("the log reaches every reader without a gap", () => {
  let service: TestService;
  afterEach(() => service.stop());

  const sequences = (member: Member) =>
    member.socket.pushed.flatMap((body) =>
      body.kind === "groupEntries" ? body.entries.map((e) => e.sequence) : [],
    );
  const acknowledge = (member: Member, throughSequence: number) =>
    member.socket.request({ kind: "groupAcknowledge", groupId: member.groupId, throughSequence });

  it("a message to 300 members that are here is encoded once, and not read from the log at all", async () => {
    const calls = { read: 0, saveCursors: 0, cursors: 0 };
    service = await startTestService({ stores: counting(calls) });
    const owner = await Member.register(service);
    const members = await Member.strangers(service, 300);
    await startCommunity(service, [owner]);
    await addMembers(owner, members.slice(0, 150), false);
    await addMembers(owner, members.slice(150), false);
    for (const member of members) expectKind(await member.open(service, 2), "groupAccessGranted");
    await owner.catchUp(2);
    const before = calls.read;
    expectKind(await owner.socket.request(owner.say("to all")), "groupSubmitAccepted");
    for (const member of members) {
      await member.socket.until(() => sequences(member).includes(3), 10_000, "no message");
    }
    expect(calls.read - before).toBe(0);
  }, 120_000);

  it("messages that are stored together go out together: a socket is written to a few times for all of them", async () => {
    const calls = { read: 0, saveCursors: 0, cursors: 0 };
    service = await startTestService({ stores: counting(calls) });
    const owner = await Member.register(service);
    const members = await Member.strangers(service, 20);
    await startCommunity(service, [owner]);
    await addMembers(owner, members, false);
    for (const member of members) expectKind(await member.open(service, 1), "groupAccessGranted");
    await owner.catchUp(1);
    const before = calls.read;
    const said = Array.from({ length: 40 }, (_, n) => n + 2);
    const answers = await Promise.all(said.map((n) => owner.socket.request(owner.say(`${n}`))));
    for (const answer of answers) expectKind(answer, "groupSubmitAccepted");
    for (const member of members) {
      await member.socket.until(() => sequences(member).includes(said.at(-1)!), 10_000, "no message");
      expect(sequences(member).slice(-said.length)).toEqual(said);
      const frames = member.socket.pushed.filter(
        (body) => body.kind === "groupEntries" && body.entries[0]!.sequence >= said[0]!,
      );
      expect(frames.length).toBeLessThan(said.length / 2);
    }
    expect(calls.read - before).toBe(0);
  }, 60_000);

  it("what cannot be read while the database is away comes when it is back, though nothing else happens", async () => {
    let isAway = false;
    const stores = (opened: Stores): Stores => {
      const { mlsGroups } = opened;
      const read: typeof mlsGroups.read = (...args) =>
        isAway ? Promise.reject(new UnavailableError("store/read-failed")) : mlsGroups.read(...args);
      return { ...opened, mlsGroups: Object.assign(Object.create(mlsGroups) as typeof mlsGroups, { read }) };
    };
    service = await startTestService({ stores });
    const [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    expectKind(await bob.open(service, 1), "groupAccessGranted");
    isAway = true;
    // A message would be given on as it came; a commit is read from the log.
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(sequences(bob)).toEqual([]);
    isAway = false;
    await bob.socket.until(() => sequences(bob).includes(2), 10_000, "no commit");
  });

  it("who comes late gets pages, and no more than the window until it acknowledges", async () => {
    service = await startTestService({ limits: { unacknowledgedEntries: 30, entriesPerDeliver: 20 } });
    const [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    for (let i = 0; i < 70; i++)
      expectKind(await alice.socket.request(alice.say(`${i}`)), "groupSubmitAccepted");
    await bob.open(service, 1);
    await bob.socket.until(() => sequences(bob).length >= 20, 5000, "no page");
    await bob.socket.request({ kind: "ping" });
    const first = sequences(bob).length;
    expect(first).toBeLessThanOrEqual(30);
    expect(await acknowledge(bob, 1 + first + 1)).toMatchObject({ code: "group/not-delivered" });
    while (sequences(bob).length < 70) {
      const there = sequences(bob).length;
      expect(await acknowledge(bob, 1 + there)).toEqual({ kind: "groupDone" });
      await bob.socket.until(() => sequences(bob).length > there, 5000, "no more");
    }
    expect(sequences(bob)).toEqual(Array.from({ length: 70 }, (_, index) => index + 2));
  });

  it("who stops reading is told to come back, and goes on where it was", async () => {
    service = await startTestService({
      limits: { sendBufferBytes: 1_000_000, unacknowledgedEntries: 100_000, entriesPerDeliver: 10 },
      timing: { slowReaderMs: 300 },
    });
    const [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    const long = "x".repeat(60_000);
    for (let i = 0; i < 250; i++) {
      expectKind(await alice.socket.request(alice.say(long)), "groupSubmitAccepted");
      alice.socket.pushed.length = 0;
    }
    await bob.connect(service);
    await bob.open(service, 1);
    bob.socket.webSocket.pause();
    await new Promise((resolve) => setTimeout(resolve, 600));
    bob.socket.webSocket.resume();
    expect(await bob.socket.next("resumeHint")).toMatchObject({ retryAfterMs: expect.any(Number) });
    expect(await bob.socket.closed).toMatchObject({ code: 1013, reason: "connection/slow-reader" });
    const read = sequences(bob);
    expect(read.length).toBeLessThan(250);
    await bob.connect(service);
    await bob.open(service, read.at(-1) ?? 1);
    await bob.socket.until(() => sequences(bob).includes(251), 20_000, "no end");
    expect([...read, ...sequences(bob)]).toEqual(Array.from({ length: 250 }, (_, index) => index + 2));
  }, 60_000);

  it("acknowledgements of one leaf cost one write in the time of a cursor, and none is lost by a close", async () => {
    const calls = { read: 0, saveCursors: 0, cursors: 0 };
    service = await startTestService({ stores: counting(calls), limits: { cursorDelayMs: 400 } });
    const alice = await Member.register(service);
    await startCommunity(service, [alice]);
    for (let i = 0; i < 20; i++) {
      expectKind(await alice.socket.request(alice.say(`${i}`)), "groupSubmitAccepted");
      await alice.socket.until(() => sequences(alice).includes(i + 1), 5000, "no entry");
      await acknowledge(alice, i + 1);
    }
    expect(calls.saveCursors).toBeLessThanOrEqual(2);
    await new Promise((resolve) => setTimeout(resolve, 600));
    const written = calls.saveCursors;
    expect(written).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(calls.saveCursors).toBe(written);
    expect(calls.cursors).toBe(written);
  });

  it("whose entries are gone is told to join again", async () => {
    const clock = movableClock(Date.now());
    service = await startTestService({ clock });
    const [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    expectKind(await alice.socket.request(alice.say("old")), "groupSubmitAccepted");
    clock.advance(31 * 86_400_000);
    await service.runRetention();
    expectKind(await alice.socket.request(alice.say("new")), "groupSubmitAccepted");
    await bob.connect(service);
    expect(await bob.socket.request(bob.accessFrame(1))).toMatchObject({ code: "group/rejoin" });
    expect(await bob.open(service, 2)).toMatchObject({ firstSequence: 3, lastSequence: 3 });
  });
});

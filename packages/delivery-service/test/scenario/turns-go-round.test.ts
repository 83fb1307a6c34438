import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { addMembers, expectKind, Member, startCommunity, turnOf } from "../support/community.ts";
import { startTestService, type TestService } from "../support/service.ts";

const TURN_MS = 1000;

/** A community of 32 whose tree is cold, and the four of them who are here. */
async function coldCommunity(
  warmUpQuietMs = 50,
): Promise<{ readonly patient: TestService; readonly here: readonly Member[] }> {
  // Time enough to use a turn, however busy the machine is.
  const patient = await startTestService({ limits: { turnMs: 60_000, warmUpQuietMs } });
  const members = [await Member.register(patient), ...(await Member.strangers(patient, 31))];
  await startCommunity(patient, members);
  const here = members.slice(0, 4);
  await here[0]!.catchUp(1);
  for (const member of here.slice(1)) await member.open(patient, 1);
  return { patient, here };
}

describe("turns go round", () => {
  let service: TestService;
  let alice: Member;
  let bob: Member;
  let carol: Member;
  let dora: Member;
  beforeEach(async () => {
    service = await startTestService({ limits: { turnMs: TURN_MS } });
    const members = [await Member.register(service), ...(await Member.strangers(service, 3))];
    [alice, bob, carol, dora] = members as [Member, Member, Member, Member];
    await startCommunity(service, members);
    for (const member of members.slice(1)) await member.open(service, 1);
  });
  afterEach(() => service.stop());

  /** Alice wins the epoch; the others lose it, one after the other. */
  const race = async () => {
    const lost = [bob, carol, dora].map((member) => member.makeCommit().frame);
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    const answers = [];
    for (const [index, member] of [bob, carol, dora].entries()) {
      answers.push(expectKind(await member.socket.request(lost[index]!), "groupCommitLost"));
      await member.catchUp(2);
    }
    return answers;
  };

  it("a turn that is not used passes to the next when its time is over, and that is soon", async () => {
    const answers = await race();
    expect(answers.map((answer) => answer.place)).toEqual([0, 1, 2]);
    const startedAt = performance.now();
    const turn = await carol.nextTurn();
    expect(performance.now() - startedAt).toBeLessThan(TURN_MS + 1000);
    expect(turn.turn).toBeGreaterThan(answers[0]!.turn!);
    // The first turn is void: it has no right in the second one's time.
    const late = bob.makeCommit({}, { turn: answers[0]!.turn! });
    expect(await bob.socket.request(late.frame)).toMatchObject({ kind: "groupCommitLost", entries: [] });
    const release = { kind: "groupTurnRelease", groupId: bob.groupId, turn: answers[0]!.turn! } as const;
    expect(await bob.socket.request(release)).toMatchObject({ code: "group/turn-passed" });
    expectKind(await carol.commit(carol.makeCommit({}, { turn: turn.turn })), "groupCommitAccepted");
  });

  it("a turn that is given back passes to the next at once", async () => {
    const [first] = await race();
    const release = { kind: "groupTurnRelease", groupId: bob.groupId, turn: first!.turn! } as const;
    expect(await bob.socket.request(release)).toEqual({ kind: "groupDone" });
    expect(await carol.nextTurn(TURN_MS / 2)).toMatchObject({ reason: "line" });
  });

  it("who waits and leaves loses its place; who has the turn and comes back is told again", async () => {
    const answers = await race();
    await carol.socket.close();
    await bob.socket.close();
    await bob.connect(service);
    await bob.open(service, 2);
    const again = await bob.nextTurn(TURN_MS);
    expect(again.turn).toBe(answers[0]!.turn!);
    expect(again.expiresInMs).toBeLessThan(TURN_MS);
    expectKind(await bob.commit(bob.makeCommit({}, { turn: again.turn })), "groupCommitAccepted");
    expect(await dora.nextTurn(TURN_MS)).toMatchObject({ reason: "line" });
  });

  it("an account with many devices has a few places, and loses them when it lets its turns pass", async () => {
    const bobs = [bob];
    while (bobs.length < 5) bobs.push(await new Member(await bob.device.pair()).at(service));
    await addMembers(alice, bobs.slice(1));
    for (const tablet of bobs.slice(1)) {
      await tablet.connect(service);
      await tablet.open(service, 2);
    }
    for (const member of [bob, carol, dora]) await member.catchUp(2);
    const lost = [dora, ...bobs, carol].map((member) => ({ member, frame: member.makeCommit().frame }));
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    const places: number[] = [];
    for (const { member, frame } of lost)
      places.push(expectKind(await member.socket.request(frame), "groupCommitLost").place);
    // The fifth of Bob's has none, and nobody waits behind it.
    expect(places).toEqual([0, 1, 2, 3, 4, 5, 5]);
    await carol.nextTurn(6 * TURN_MS);
    const again = lost.find(({ member }) => member === bobs[4])!;
    expect(await again.member.socket.request(again.frame)).toMatchObject({ place: 1 });
    const { place } = expectKind(await dora.socket.request(lost[0]!.frame), "groupCommitLost");
    expect(place).toBe(1);
  });

  it("what lost gets no place where it is of another leaf than the one that signed for the connection", async () => {
    const [bobs, carols] = [bob, carol].map((member) => member.makeCommit().frame);
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    expect(await bob.socket.request(carols!)).toMatchObject({ code: "group/commit-invalid" });
    expect(await carol.socket.request(carols!)).toMatchObject({ kind: "groupCommitLost", place: 0 });
    expect(await bob.socket.request(bobs!)).toMatchObject({ kind: "groupCommitLost", place: 1 });
  });

  it("who lets its turn pass gets no other one for a while, on whatever connection", async () => {
    const lost = [bob, carol].map((member) => member.makeCommit().frame);
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    expect(await bob.socket.request(lost[0]!)).toMatchObject({ place: 0, turn: expect.any(Number) });
    expect(await carol.socket.request(lost[1]!)).toMatchObject({ place: 1 });
    await carol.nextTurn(TURN_MS + 1000);
    await bob.connect(service);
    await bob.open(service, 2);
    expect(await bob.socket.request(lost[0]!)).toMatchObject({ kind: "groupCommitLost", place: 1 });
    await carol.catchUp(2);
    expectKind(await carol.commit(carol.makeCommit()), "groupCommitAccepted");
    // Nobody has the turn, and still it is not given one: it may only commit like anybody.
    const answer = expectKind(await bob.socket.request(lost[0]!), "groupCommitLost");
    expect(answer.turn).toBeUndefined();
    await dora.catchUp(3);
    expectKind(await dora.commit(dora.makeCommit()), "groupCommitAccepted");
  });

  it("a banned leaf is removed in the next turn, whoever waits in the line", async () => {
    const answers = await race();
    expect(await alice.socket.request(alice.banFrame([dora]))).toEqual({ kind: "groupDone" });
    expectKind(await bob.commit(bob.makeCommit({}, { turn: answers[0]!.turn! })), "groupCommitAccepted");
    expect(await alice.nextTurn(TURN_MS / 2)).toMatchObject({ reason: "ban" });
    expect(carol.hasTurn).toBe(false);
  });

  it("anybody commits when no turn runs, whatever number it names", async () => {
    expectKind(await bob.commit(bob.makeCommit({}, { turn: 17 })), "groupCommitAccepted");
    await carol.catchUp(2);
    expectKind(await carol.commit(carol.makeCommit()), "groupCommitAccepted");
  });

  it("proposals that wait are offered to one member after the other, and not twice in a row to one", async () => {
    expectKind(await dora.socket.request(dora.propose()), "groupProposeAccepted");
    const asked = new Set<Member>();
    const numbers: number[] = [];
    for (let i = 0; i < 3; i++) {
      const { member, turn } = await turnOf([alice, bob, carol]);
      expect(turn).toMatchObject({ reason: "proposals" });
      asked.add(member);
      numbers.push(turn.turn);
    }
    expect(asked.size).toBe(3);
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    expect(dora.hasTurn).toBe(false);
  });

  it("a cold tree is warmed by turns of who is here, after each commit, until it is warm enough", async () => {
    const { here, patient } = await coldCommunity();
    let turns = 0;
    for (; turns < 8; turns++) {
      const asked = await turnOf(here, TURN_MS).catch(() => undefined);
      if (asked === undefined) break;
      expect(asked.turn).toMatchObject({ reason: "warm-up", proposals: [], bannedLeaves: [] });
      const { member } = asked;
      expectKind(
        await member.commit(member.makeCommit({}, { turn: asked.turn.turn })),
        "groupCommitAccepted",
      );
      for (const each of here) {
        await each.catchUp(2 + turns);
        await each.acknowledge(2 + turns);
      }
    }
    expect(turns).toBeGreaterThan(0);
    expect(turns).toBeLessThan(8);
    await patient.stop();
  });

  it("nobody is asked to warm the tree while most of those who are here have not taken the newest commit", async () => {
    const { here, patient } = await coldCommunity();
    const asked = await turnOf(here);
    expectKind(
      await asked.member.commit(asked.member.makeCommit({}, { turn: asked.turn.turn })),
      "groupCommitAccepted",
    );
    for (const member of here) await member.catchUp(2);
    for (const member of here.slice(0, 2)) await member.acknowledge(2);
    const isAsked = () =>
      turnOf(here, TURN_MS).then(
        () => true,
        () => false,
      );
    expect(await isAsked()).toBe(false);
    await here[2]!.acknowledge(2);
    expect(await isAsked()).toBe(true);
    await patient.stop();
  });

  it("while people talk, nobody is asked to warm the tree until their devices had three quarters of the time for themselves", async () => {
    const { here, patient } = await coldCommunity();
    const asked = await turnOf(here);
    expectKind(
      await asked.member.commit(asked.member.makeCommit({}, { turn: asked.turn.turn })),
      "groupCommitAccepted",
    );
    const committedAt = performance.now();
    for (const member of here) await member.catchUp(2);
    await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    expectKind(await here[1]!.socket.request(here[1]!.say("hello")), "groupSubmitAccepted");
    for (const member of here) await member.acknowledge(2);
    await turnOf(here);
    expect(performance.now() - committedAt).toBeGreaterThan(3.5 * TURN_MS);
    await patient.stop();
  });

  it("a turn to warm the tree that is given back is offered to another one later, and not at once", async () => {
    const quietMs = 200;
    const { here, patient } = await coldCommunity(quietMs);
    const { member, turn } = await turnOf(here);
    const release = { kind: "groupTurnRelease", groupId: member.groupId, turn: turn.turn } as const;
    expect(await member.socket.request(release)).toEqual({ kind: "groupDone" });
    const releasedAt = performance.now();
    const next = await turnOf(here);
    expect(performance.now() - releasedAt).toBeGreaterThan(5 * quietMs);
    expect(next.turn).toMatchObject({ reason: "warm-up" });
    expect(next.member).not.toBe(member);
    await patient.stop();
  });
});

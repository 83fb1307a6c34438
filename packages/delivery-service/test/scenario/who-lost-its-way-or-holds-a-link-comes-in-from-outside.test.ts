import { inflateRawSync } from "node:zlib";
import { BanList, communityContextOf, communityExtensions } from "@murmuration/mls-groups";
import type { ClientBody } from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { expectKind, Link, Member, startCommunity, treePath } from "../support/community.ts";
import { movableClock, startTestService, type TestService } from "../support/service.ts";
import { callRaw } from "../support/test-device.ts";

describe("who lost its way, or holds a link, comes in from outside", () => {
  let service: TestService;
  const link = new Link();
  let alice: Member;
  let bob: Member;
  beforeEach(async () => {
    service = await startTestService();
    [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob], { links: [link.inContext], joinsPerMinute: 2 });
  });
  afterEach(() => service.stop());

  const info = async (member: Member, proof: object) => {
    const frame = { kind: "groupInfoRequest", groupId: alice.groupId, ...proof } as ClientBody;
    const reply = expectKind(await member.socket.request(frame), "groupInfoReply");
    const served = await callRaw(service.base, "GET", treePath(reply.treeHash));
    return { reply, tree: new Uint8Array(inflateRawSync(served.raw)) };
  };
  const nowhere = () => ({ groupId: alice.groupId, epoch: 0, leafIndex: 0 });
  const byLink = (member: Member) => ({
    link: { linkId: link.linkId, signature: link.signAccess(member, nowhere()) },
  });
  const stranger = async () => {
    const member = (await Member.strangers(service, 1))[0]!;
    await member.connect(service);
    return member;
  };

  it("a device that lost the group joins again in its own place, and is one member as before", async () => {
    await bob.open(service, 1);
    const before = bob.socket;
    await bob.connect(service);
    const { reply, tree } = await info(bob, {
      leaf: { signatureKey: bob.key, signature: bob.signAccess(nowhere()) },
    });
    const frame = bob.joinExternally(reply, tree, alice.groupId, { removes: 1 });
    const { sequence } = expectKind(await bob.socket.request(frame), "groupCommitAccepted");
    bob.save(bob.group.confirmJoin());
    expect(bob.group.memberCount).toBe(2);
    expect(await bob.open(service, sequence)).toMatchObject({ removed: false });
    expectKind(await bob.socket.request(bob.say("back")), "groupSubmitAccepted");
    await alice.catchUp(sequence + 1);
    expect(alice.heard).toEqual(["back"]);
    // The older connection is the same leaf's: it was removed and brought back in one commit.
    const delivered = () =>
      before.pushed.flatMap((body) =>
        body.kind === "groupEntries" ? body.entries.map((e) => e.sequence) : [],
      );
    await before.until(() => delivered().includes(sequence + 1), 5000, "no message");
    expect(delivered()).toEqual([sequence, sequence + 1]);
  });

  it("a link lets in as many a minute as the group says", async () => {
    const outcomes: string[] = [];
    for (let i = 0; i < 3; i++) {
      const joiner = await stranger();
      const { reply, tree } = await info(joiner, byLink(joiner));
      const answer = await joiner.socket.request(joiner.joinExternally(reply, tree, alice.groupId, { link }));
      outcomes.push(answer.kind === "rejection" ? answer.code : answer.kind);
    }
    expect(outcomes).toEqual(["groupCommitAccepted", "groupCommitAccepted", "rate/limited"]);
  });

  it("a link lets in until it expires: from then on it gets no GroupInfo, and a commit made in time comes too late", async () => {
    await service.stop();
    const clock = movableClock(Date.now());
    service = await startTestService({ clock });
    [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    const [hour, forGood] = [new Link(clock.now() + 3_600_000), new Link()];
    await startCommunity(service, [alice, bob], { links: [hour.inContext, forGood.inContext] });
    const ask = (member: Member, by: Link, signer = by) =>
      member.socket.request({
        kind: "groupInfoRequest",
        groupId: alice.groupId,
        link: { linkId: by.linkId, signature: signer.signAccess(member, nowhere()) },
      });
    const [carol, dave] = [await stranger(), await stranger()];
    const commitOf = async (member: Member, by: Link) => {
      const reply = expectKind(await ask(member, by), "groupInfoReply");
      const served = await callRaw(service.base, "GET", treePath(reply.treeHash));
      const tree = new Uint8Array(inflateRawSync(served.raw));
      return member.joinExternally(reply, tree, alice.groupId, { link: by });
    };

    clock.advance(3_600_000 - 1);
    expectKind(await carol.socket.request(await commitOf(carol, hour)), "groupCommitAccepted");
    const late = await commitOf(dave, hour);

    clock.advance(1);
    expect(await ask(dave, hour)).toMatchObject({ code: "group/link-expired" });
    // Whoever has not the link's key is not told even that.
    expect(await ask(dave, hour, forGood)).toMatchObject({ code: "group/not-a-member" });
    expect(await dave.socket.request(late)).toMatchObject({ code: "group/link-expired" });
    expectKind(await dave.socket.request(await commitOf(dave, forGood)), "groupCommitAccepted");
  });

  it("who loses the race to join waits in the line like a member, and loses its place with its connection", async () => {
    const [carol, dave] = [await stranger(), await stranger()];
    const made: Extract<ClientBody, { kind: "groupCommit" }>[] = [];
    for (const joiner of [carol, dave]) {
      const { reply, tree } = await info(joiner, byLink(joiner));
      made.push(joiner.joinExternally(reply, tree, alice.groupId, { link }));
    }
    await alice.catchUp(1);
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    const first = expectKind(await carol.socket.request(made[0]!), "groupCommitLost");
    expect(first).toMatchObject({ place: 0, turn: expect.any(Number) });
    expect(await dave.socket.request(made[1]!)).toMatchObject({ kind: "groupCommitLost", place: 1 });
    await carol.socket.close();
    const turn = await dave.nextTurn(4000);
    const { reply, tree } = await info(dave, byLink(dave));
    const again = dave.joinExternally(reply, tree, alice.groupId, { link });
    expectKind(await dave.socket.request({ ...again, turn: turn.turn }), "groupCommitAccepted");
  });

  it("holders of a link who let their turns pass lose the places of their address, and a member comes before all but one", async () => {
    await service.stop();
    service = await startTestService({ limits: { turnMs: 400 } });
    [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob], { links: [link.inContext] });
    await bob.open(service, 1);
    const joiners = await Promise.all(Array.from({ length: 8 }, stranger));
    const { reply, tree } = await info(joiners[0]!, byLink(joiners[0]!));
    const old = joiners[0]!.joinExternally(reply, tree, alice.groupId, { link });
    for (const joiner of joiners) await info(joiner, byLink(joiner));
    const late = bob.makeCommit().frame;
    await alice.catchUp(1);
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    await Promise.all(joiners.map((joiner) => joiner.socket.request(old)));
    expect(await bob.socket.request(late)).toMatchObject({ kind: "groupCommitLost", place: 1 });
    await bob.nextTurn(2000);
    const told = () => joiners.filter((joiner) => joiner.hasTurn).length;
    await new Promise((later) => setTimeout(later, 4000));
    // The first learned of its turn by the answer. The fourth had its own already when the third one's had passed.
    expect(told()).toBeLessThanOrEqual(3);
    const answer = expectKind(await joiners[7]!.socket.request(old), "groupCommitLost");
    expect([answer.place, answer.turn]).toEqual([1, undefined]);
  });

  it("who may not join learns nothing from a lost race and holds nobody up in the line", async () => {
    const [carol, mallory] = [await stranger(), await stranger()];
    const { reply, tree } = await info(carol, byLink(carol));
    const old = carol.joinExternally(reply, tree, alice.groupId, { link });
    await alice.catchUp(1);
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    expect(await mallory.socket.request(old)).toMatchObject({ code: "group/not-open" });
    expect(await carol.socket.request(old)).toMatchObject({ kind: "groupCommitLost", entries: [], place: 0 });
    expect(await mallory.socket.request(old)).toMatchObject({ code: "group/not-open" });
  });

  it("a banned account comes in by no door", async () => {
    await bob.open(service);
    expect(await alice.socket.request(alice.banFrame([bob]))).toEqual({ kind: "groupDone" });
    const proof = { leaf: { signatureKey: bob.key, signature: bob.signAccess(nowhere()) } };
    const frame = { kind: "groupInfoRequest", groupId: alice.groupId, ...proof } as ClientBody;
    expect(await bob.socket.request(frame)).toMatchObject({ code: "group/not-a-member" });
    // Not with a GroupInfo that somebody else gave it either.
    const accomplice = await stranger();
    const { reply, tree } = await info(accomplice, byLink(accomplice));
    const turn = await alice.nextTurn();
    const release = { kind: "groupTurnRelease", groupId: alice.groupId, turn: turn.turn } as const;
    expect(await alice.socket.request(release)).toEqual({ kind: "groupDone" });
    const back = bob.joinExternally(reply, tree, alice.groupId, { removes: 1 });
    expect(await bob.socket.request(back)).toMatchObject({ code: "group/not-a-member" });
    expect(await accomplice.socket.request(back)).toMatchObject({ code: "group/not-a-member" });
  });

  it("nor with a device that no ban names: not by a link, and not as somebody's guest", async () => {
    const tablet = await new Member(await bob.device.pair()).at(service);
    await tablet.connect(service);
    const { reply, tree } = await info(tablet, byLink(tablet));
    expect(await alice.socket.request(alice.banFrame([bob]))).toEqual({ kind: "groupDone" });
    const turn = await alice.nextTurn();
    const release = { kind: "groupTurnRelease", groupId: alice.groupId, turn: turn.turn } as const;
    expect(await alice.socket.request(release)).toEqual({ kind: "groupDone" });
    const join = tablet.joinExternally(reply, tree, alice.groupId, { link });
    expect(await tablet.socket.request(join)).toMatchObject({ code: "group/not-a-member" });
    expect(await alice.socket.request(alice.makeAdd([tablet]).frame)).toMatchObject({
      code: "group/commit-invalid",
    });
    alice.discard();
    // Others come in as before.
    const guest = await stranger();
    const made = guest.joinExternally(reply, tree, alice.groupId, { link });
    expectKind(await guest.socket.request(made), "groupCommitAccepted");
  });

  it("nor when its leaf is gone, until a ban list has named it and that is lifted", async () => {
    const tablet = await new Member(await bob.device.pair()).at(service);
    await tablet.connect(service);
    const join = async () => {
      const { reply, tree } = await info(tablet, byLink(tablet));
      return tablet.socket.request(tablet.joinExternally(reply, tree, alice.groupId, { link }));
    };
    expect(await alice.socket.request(alice.banFrame([bob]))).toEqual({ kind: "groupDone" });
    // Whoever removes it for the one who ordered the ban need not have the right to change the list, or thinks of none.
    const removal = { proposals: [{ kind: "remove", removed: bob.leafIndex }] } as const;
    expectKind(await alice.commit(alice.makeCommit(removal)), "groupCommitAccepted");
    expect(await join()).toMatchObject({ code: "group/not-a-member" });
    expect(await alice.socket.request(alice.makeAdd([tablet]).frame)).toMatchObject({
      code: "group/commit-invalid",
    });
    alice.discard();

    const setList = async (list: BanList) => {
      const before = communityContextOf(alice.group.context.extensions);
      const extensions = communityExtensions({ ...before, banListHash: list.hash() });
      const proposals = [{ kind: "group_context_extensions", extensions }] as const;
      const banList = list.encode();
      expectKind(await alice.commit(alice.makeCommit({ proposals }, { banList })), "groupCommitAccepted");
    };
    await setList(BanList.empty.with(alice.groupId, bob.device.accountId));
    // Now it is the list that keeps it out, as members see it.
    expect(await join()).toMatchObject({ code: "group/commit-invalid" });
    await setList(BanList.empty);
    expectKind(await join(), "groupCommitAccepted");
  });
});

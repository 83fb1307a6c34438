import { BanList, communityContextOf, communityExtensions } from "@murmuration/mls-groups";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createInProcessValidator } from "../../src/adapters/in-process-validator.ts";
import { createConfig } from "../../src/config.ts";
import { startDeliveryService } from "../../src/main.ts";
import { expectKind, Member, startCommunity, turnOf } from "../support/community.ts";
import { query } from "../support/database.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";

describe("who left a community reads no further", () => {
  let service: TestService;
  let alice: Member;
  let bob: Member;
  let mallory: Member;
  beforeEach(async () => {
    service = await startTestService();
    [alice, bob, mallory] = [await Member.register(service), ...(await Member.strangers(service, 2))] as [
      Member,
      Member,
      Member,
    ];
    await startCommunity(service, [alice, bob, mallory]);
    await bob.open(service, 1);
    await mallory.open(service, 1);
  });
  afterEach(() => service.stop());

  const remove = async (by: Member, whom: Member) => {
    const made = by.makeCommit({ proposals: [{ kind: "remove", removed: whom.leafIndex }] });
    return expectKind(await by.commit(made), "groupCommitAccepted");
  };
  const sequences = (member: Member) =>
    member.socket.pushed.flatMap((body) =>
      body.kind === "groupEntries" ? body.entries.map((e) => e.sequence) : [],
    );

  it("a removed member gets the entry of its removal and none behind it, and may not send", async () => {
    const late = mallory.say("late");
    const { sequence } = await remove(alice, mallory);
    await bob.catchUp(sequence);
    for (const text of ["one", "two"])
      expectKind(await bob.socket.request(bob.say(text)), "groupSubmitAccepted");
    await alice.catchUp(4);
    expect(sequences(mallory)).toEqual([2]);
    expect(await mallory.socket.request(late)).toMatchObject({ code: "group/not-a-member" });
    expect(await mallory.socket.request(mallory.propose())).toMatchObject({ code: "group/not-a-member" });
    expect(await mallory.socket.request(mallory.makeCommit().frame)).toMatchObject({
      code: "group/not-a-member",
    });
  });

  it("and on a new connection as well: up to its removal, and told that it was removed", async () => {
    expectKind(await bob.socket.request(bob.say("before")), "groupSubmitAccepted");
    await mallory.socket.close();
    await alice.catchUp(2);
    await remove(alice, mallory);
    await bob.catchUp(3);
    expectKind(await bob.socket.request(bob.say("after")), "groupSubmitAccepted");
    await mallory.connect(service);
    expect(await mallory.open(service, 1)).toMatchObject({ epoch: 2, lastSequence: 3, removed: true });
    await mallory.socket.until(() => sequences(mallory).includes(3), 5000, "no removal");
    await mallory.socket.request({ kind: "ping" });
    expect(sequences(mallory)).toEqual([2, 3]);
    expect(await mallory.socket.request(mallory.say("let me in"))).toMatchObject({
      code: "group/not-a-member",
    });
  });

  it("while messages and the removal race, it never gets one behind its removal", async () => {
    for (let i = 0; i < 8; i++) {
      const says = Array.from({ length: 8 }, (_, n) => bob.socket.request(bob.say(`${i} ${n}`)));
      if (i === 4) void remove(alice, mallory);
      await Promise.all(says.map((said) => said.catch(() => undefined)));
      if (i >= 4) bob.takeIn();
    }
    const last = await bob.socket.request(bob.say("the last"));
    expectKind(last, "groupSubmitAccepted");
    const removal = alice.socket.pushed
      .flatMap((body) => (body.kind === "groupEntries" ? body.entries : []))
      .find((entry) => entry.commit !== undefined && entry.sequence > 1)!.sequence;
    await mallory.socket.until(() => sequences(mallory).includes(removal), 5000, "no removal");
    await mallory.socket.request({ kind: "ping" });
    expect(Math.max(...sequences(mallory))).toBe(removal);
  });

  it("a banned one is cut off at once, on every connection, before it is removed", async () => {
    const ban = alice.banFrame([mallory]);
    expect(await alice.socket.request(ban)).toEqual({ kind: "groupDone" });
    expect(await mallory.socket.request(mallory.say("still here?"))).toMatchObject({
      code: "group/not-a-member",
    });
    expectKind(await bob.socket.request(bob.say("gone")), "groupSubmitAccepted");
    await alice.catchUp(2);
    await mallory.socket.request({ kind: "ping" });
    expect(sequences(mallory)).toEqual([]);
    const before = mallory.socket;
    await mallory.connect(service);
    expect(await mallory.socket.request(mallory.accessFrame(1))).toMatchObject({
      code: "group/not-a-member",
    });
    await before.close();

    // An admin who is here is asked to remove it.
    const { member, turn } = await turnOf([alice, bob]);
    expect(member).toBe(alice);
    expect(turn).toMatchObject({ reason: "ban", bannedLeaves: [mallory.leafIndex] });
    await remove(alice, mallory);
    expect(await mallory.socket.request(mallory.accessFrame(1))).toMatchObject({
      code: "group/not-a-member",
    });
  });

  it("a commit that bans brings the ban list, which everybody gets and which keeps the account out", async () => {
    const { groupId: id } = alice;
    const banList = BanList.empty.with(id, mallory.device.accountId);
    const context = communityContextOf(alice.group.context.extensions);
    const banIn = (banListHash: Uint8Array) => {
      const extensions = communityExtensions({ ...context, banListHash: new Uint8Array(banListHash) });
      const remove = { kind: "remove", removed: mallory.leafIndex } as const;
      return { proposals: [remove, { kind: "group_context_extensions", extensions } as const] };
    };
    const made = alice.makeCommit(banIn(banList.hash()));
    expect(await alice.socket.request(made.frame)).toMatchObject({ code: "group/commit-invalid" });
    const wrong = { ...made.frame, banList: BanList.empty.with(id, bob.device.accountId).encode() };
    expect(await alice.socket.request(wrong)).toMatchObject({ code: "group/commit-invalid" });
    const frame = { ...made.frame, banList: banList.encode() };
    const { sequence } = expectKind(await alice.socket.request(frame), "groupCommitAccepted");
    alice.merge();
    await bob.catchUp(sequence);
    expect(bob.entries.at(-1)!.commit!.banList).toEqual(banList.encode());

    const place = { groupId: id, epoch: 0, leafIndex: 0 };
    const leaf = { signatureKey: bob.key, signature: bob.signAccess(place) };
    const reply = expectKind(
      await bob.socket.request({ kind: "groupInfoRequest", groupId: id, leaf }),
      "groupInfoReply",
    );
    expect(reply.banList).toEqual(banList.encode());
    // Also by a member who knows nothing of the list, and after the service was loaded anew.
    const again = await startDeliveryService(
      createConfig({ dataDirectory: service.directory, limits: unhurried, logLevel: "silent" }),
      { validator: createInProcessValidator() },
    );
    await bob.connect(again);
    await bob.open(again, sequence);
    expect(await bob.socket.request(bob.makeAdd([mallory]).frame)).toMatchObject({
      code: "group/commit-invalid",
    });
    await again.close();
  });

  it("only an admin's leaf orders a ban, in its own name, and nobody bans the owner", async () => {
    const orders = [
      await bob.socket.request(bob.banFrame([mallory])),
      await bob.socket.request(alice.banFrame([mallory])),
      await alice.socket.request({ ...alice.banFrame([mallory]), orderId: random(16) }),
      await alice.socket.request({ ...alice.banFrame([mallory]), signatureKeys: [bob.key] }),
    ];
    for (const answer of orders) expect(answer).toMatchObject({ code: "group/not-allowed" });
    expectKind(await mallory.socket.request(mallory.say("nothing happened")), "groupSubmitAccepted");
  });

  it("a ban is of leaves of one account: other keys are not kept, and no order is about two accounts", async () => {
    const bans = () => Number(query(service.databasePath, "SELECT count(*) AS n FROM mls_bans")[0]!["n"]);
    const outsider = (await Member.strangers(service, 1))[0]!;
    expect(await alice.socket.request(alice.banFrame([bob, mallory]))).toMatchObject({
      code: "group/not-allowed",
    });
    expect(await alice.socket.request(alice.banFrame([outsider]))).toEqual({ kind: "groupDone" });
    expect(bans()).toBe(0);
    expect(await alice.socket.request(alice.banFrame([outsider, mallory]))).toEqual({ kind: "groupDone" });
    expect(bans()).toBe(1);
    expect(await mallory.socket.request(mallory.say("still here?"))).toMatchObject({
      code: "group/not-a-member",
    });
    expectKind(await bob.socket.request(bob.say("and I am")), "groupSubmitAccepted");
  });

  it("a member that leaves by itself is a former one once somebody committed it", async () => {
    expectKind(await mallory.socket.request(mallory.propose()), "groupProposeAccepted");
    const { member, turn } = await turnOf([alice, bob]);
    member.takeIn();
    for (const proposal of turn.proposals) member.save(readProposal(member, proposal));
    expectKind(await member.commit(member.makeCommit({}, { turn: turn.turn })), "groupCommitAccepted");
    expect(await mallory.socket.request(mallory.say("bye"))).toMatchObject({ code: "group/not-a-member" });
  });
});

function readProposal(member: Member, proposal: Uint8Array) {
  const received = member.group.receive(proposal);
  if (received.kind !== "proposal") throw new Error(received.kind);
  return received.writes;
}

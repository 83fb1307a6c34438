import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createInProcessValidator } from "../../src/adapters/in-process-validator.ts";
import { systemClock } from "../../src/adapters/system-environment.ts";
import { createConfig } from "../../src/config.ts";
import { startDeliveryService } from "../../src/main.ts";
import { addMembers, expectKind, groupsInUse, Member, startCommunity } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";

const HOUR = 3_600_000;

describe("a commit that nobody can follow is taken back", () => {
  let service: TestService;
  let clock: ReturnType<typeof fastForward>;
  let alice: Member;
  let bob: Member;
  let carol: Member;
  let mallory: Member;
  beforeEach(async () => {
    clock = fastForward();
    service = await startTestService({ clock });
    const members = [await Member.register(service), ...(await Member.strangers(service, 3))];
    [alice, bob, carol, mallory] = members as [Member, Member, Member, Member];
    await startCommunity(service, members);
    for (const member of members.slice(1)) await member.open(service, 1);
  });
  afterEach(() => service.stop());

  /** A commit which the service cannot tell from a good one: its membership tag is not the members'. */
  const unfollowable = (by: Member) => {
    const made = by.makeCommit();
    const commit = made.frame.commit.slice();
    commit[commit.length - 1]! ^= 1;
    return { ...made.frame, commit };
  };
  const spoil = async (by: Member) => {
    const frame = unfollowable(by);
    const { sequence } = expectKind(await by.socket.request(frame), "groupCommitAccepted");
    return { commit: frame.commit, sequence };
  };
  const restart = () =>
    startDeliveryService(
      createConfig({ dataDirectory: service.directory, limits: unhurried, logLevel: "silent" }),
      { validator: createInProcessValidator() },
    );
  /** A second device of this member, which everybody has seen come in. */
  const withTablet = async (member: Member) => {
    const tablet = await new Member(await member.device.pair()).at(service);
    await addMembers(member, [tablet]);
    await tablet.connect(service);
    await tablet.open(service, 2);
    for (const other of [alice, bob, carol, mallory]) if (other !== member) await other.catchUp(1);
    return tablet;
  };
  const acknowledge = (member: Member, throughSequence: number) =>
    member.socket.request({ kind: "groupAcknowledge", groupId: member.groupId, throughSequence });
  const entriesOf = (member: Member) =>
    member.socket.pushed.flatMap((body) => (body.kind === "groupEntries" ? body.entries : []));

  it("its committer commits no more for an hour, though everybody left and the group was forgotten meanwhile", async () => {
    const { commit, sequence } = await spoil(mallory);
    for (const member of [bob, carol])
      expect(await member.socket.request(member.refuseFrame(sequence, commit))).toEqual({
        kind: "groupDone",
      });
    for (const member of [alice, bob, carol, mallory]) await member.socket.close();
    await expect.poll(() => groupsInUse(service)).toBe(0);
    await mallory.connect(service);
    await mallory.open(service, sequence + 1);
    mallory.discard();
    const again = mallory.makeCommit().frame;
    expect(await mallory.socket.request(again)).toMatchObject({ code: "group/not-allowed" });
    clock.passes(HOUR);
    expectKind(await mallory.socket.request(again), "groupCommitAccepted");
  });

  it("when two members say so: a void entry, the epoch before it goes on, its committer commits no more", async () => {
    const { commit, sequence } = await spoil(mallory);
    await bob.socket.until(
      () => entriesOf(bob).some((entry) => entry.sequence === sequence),
      5000,
      "no commit",
    );
    expect(await bob.socket.request(bob.refuseFrame(sequence, commit))).toEqual({ kind: "groupDone" });
    // The same member again is still one.
    expect(await bob.socket.request(bob.refuseFrame(sequence, commit))).toEqual({ kind: "groupDone" });
    await bob.socket.request({ kind: "ping" });
    expect(entriesOf(bob)).toHaveLength(1);
    expect(await carol.socket.request(carol.refuseFrame(sequence, commit))).toEqual({ kind: "groupDone" });
    await bob.socket.until(() => entriesOf(bob).length === 2, 5000, "no void entry");
    const refusals = [bob, carol].map((member) => ({
      leafIndex: member.leafIndex,
      signature: member.refuseFrame(sequence, commit).signature,
    }));
    // Whoever reads it need not take the service's word: it says who said so.
    expect(entriesOf(bob)[1]).toMatchObject({ sequence: sequence + 1, void: { sequence, refusals } });

    mallory.discard();
    expect(await mallory.socket.request(mallory.makeCommit().frame)).toMatchObject({
      code: "group/not-allowed",
    });
    expect(await bob.socket.request(bob.makeCommit().frame)).toMatchObject({
      kind: "groupCommitAccepted",
      epoch: 2,
      sequence: sequence + 2,
    });
    bob.merge();
    expectKind(await bob.socket.request(bob.say("goes on")), "groupSubmitAccepted");
  });

  it("also when the service was started again in between, which has forgotten who made it", async () => {
    const { commit, sequence } = await spoil(mallory);
    await service.close();
    const again = await restart();
    for (const member of [mallory, bob, carol]) {
      await member.connect(again);
      await member.open(again, sequence - 1);
      await member.socket.until(() => entriesOf(member).length > 0, 5000, "no commit");
    }
    // Its committer says that all is well, which says nothing.
    expect(await acknowledge(mallory, sequence)).toEqual({ kind: "groupDone" });
    for (const member of [bob, carol]) await member.socket.request(member.refuseFrame(sequence, commit));
    await bob.socket.until(
      () => entriesOf(bob).some((entry) => entry.void !== undefined),
      5000,
      "no void entry",
    );
    await again.close();
  });

  it("until an admin commits, who lets its committer commit again", async () => {
    const { commit, sequence } = await spoil(mallory);
    for (const member of [bob, carol]) await member.socket.request(member.refuseFrame(sequence, commit));
    mallory.discard();
    const made = alice.makeCommit();
    expectKind(await alice.commit(made), "groupCommitAccepted");
    const received = mallory.group.receive(made.message);
    if (received.kind !== "commit") throw new Error(received.kind);
    mallory.save(mallory.group.merge(received.commit, { nowMs: 0 }));
    expectKind(await mallory.commit(mallory.makeCommit()), "groupCommitAccepted");
  });

  it("not when another leaf than its committer has vouched for it, by acknowledging or by committing on it", async () => {
    const made = mallory.makeCommit();
    const { commit } = made.frame;
    const { sequence } = expectKind(await mallory.commit(made), "groupCommitAccepted");
    await alice.catchUp(sequence);
    expect(await acknowledge(alice, sequence)).toEqual({ kind: "groupDone" });
    for (const member of [bob, carol]) {
      expect(await member.socket.request(member.refuseFrame(sequence, commit))).toEqual({
        kind: "groupDone",
      });
    }
    expectKind(await alice.socket.request(alice.say("no void")), "groupSubmitAccepted");
    await bob.catchUp(sequence + 1);
    expect(bob.heard).toEqual(["no void"]);
  });

  it("not when another leaf has vouched for it by opening the group behind it", async () => {
    const made = mallory.makeCommit();
    const { sequence } = expectKind(await mallory.commit(made), "groupCommitAccepted");
    await alice.catchUp(sequence);
    await alice.connect(service);
    await alice.open(service, sequence);
    for (const member of [bob, carol])
      await member.socket.request(member.refuseFrame(sequence, made.frame.commit));
    expectKind(await alice.socket.request(alice.say("no void")), "groupSubmitAccepted");
    await bob.catchUp(sequence + 1);
    expect(bob.heard).toEqual(["no void"]);
  });

  // The fault that this finds: whoever stayed in what was taken back keeps every later commit of its epoch.
  it("also when somebody opens the group who is in an epoch of its number that was taken back before", async () => {
    const spoilt = await spoil(mallory);
    mallory.merge();
    for (const member of [bob, carol])
      await member.socket.request(member.refuseFrame(spoilt.sequence, spoilt.commit));
    const { commit, sequence } = await spoil(bob);
    expect(sequence).toBe(spoilt.sequence + 2);
    await mallory.connect(service);
    expect(await mallory.open(service, spoilt.sequence)).toMatchObject({
      epoch: Number(mallory.group.epoch),
    });
    for (const member of [alice, carol]) await member.socket.request(member.refuseFrame(sequence, commit));
    const isVoid = () => entriesOf(carol).some((entry) => entry.void?.sequence === sequence);
    await carol.socket.until(isVoid, 5000, "no void entry");
  });

  it("also when another device of its committer's account vouches for it", async () => {
    const tablet = await withTablet(mallory);
    const { commit, sequence } = await spoil(mallory);
    expect(await acknowledge(tablet, sequence)).toEqual({ kind: "groupDone" });
    for (const member of [bob, carol])
      expect(await member.socket.request(member.refuseFrame(sequence, commit))).toEqual({
        kind: "groupDone",
      });
    await bob.socket.until(
      () => entriesOf(bob).some((entry) => entry.void !== undefined),
      5000,
      "no void entry",
    );
  });

  it("not by two devices of one account", async () => {
    const tablet = await withTablet(bob);
    const { commit, sequence } = await spoil(mallory);
    for (const member of [bob, tablet])
      expect(await member.socket.request(member.refuseFrame(sequence, commit))).toEqual({
        kind: "groupDone",
      });
    await carol.socket.request({ kind: "ping" });
    expect(entriesOf(carol).filter((entry) => entry.void !== undefined)).toEqual([]);
    // Somebody else's word is the second.
    await carol.socket.request(carol.refuseFrame(sequence, commit));
    await carol.socket.until(
      () => entriesOf(carol).some((entry) => entry.void !== undefined),
      5000,
      "no void entry",
    );
  });

  it.each(["at once", "after a restart"])(
    "a removal not by the account that it takes a device from: %s",
    async (when) => {
      const tablet = await withTablet(bob);
      const made = alice.makeCommit({ proposals: [{ kind: "remove", removed: bob.leafIndex }] });
      const commit = made.frame.commit.slice();
      commit[commit.length - 1]! ^= 1;
      const { sequence } = expectKind(
        await alice.socket.request({ ...made.frame, commit }),
        "groupCommitAccepted",
      );
      const seen: Member[] = [tablet, carol, mallory];
      let again: Awaited<ReturnType<typeof startDeliveryService>> | undefined;
      if (when === "after a restart") {
        await service.close();
        again = await restart();
        for (const member of seen) {
          await member.connect(again);
          await member.open(again, sequence - 1);
        }
      }
      for (const member of [tablet, carol])
        expect(await member.socket.request(member.refuseFrame(sequence, commit))).toEqual({
          kind: "groupDone",
        });
      await carol.socket.request({ kind: "ping" });
      expect(entriesOf(carol).filter((entry) => entry.void !== undefined)).toEqual([]);
      await mallory.socket.request(mallory.refuseFrame(sequence, commit));
      await carol.socket.until(
        () => entriesOf(carol).some((entry) => entry.void !== undefined),
        5000,
        "no void entry",
      );
      await again?.close();
    },
  );

  it("not for an older commit, not by its committer, and not by a signature that is not the leaf's", async () => {
    const made = mallory.makeCommit();
    const { commit } = made.frame;
    const { sequence } = expectKind(await mallory.commit(made), "groupCommitAccepted");
    for (const member of [bob, carol]) await member.catchUp(sequence);
    const refusals = [
      await bob.socket.request({ ...bob.refuseFrame(sequence, commit), signature: random(64) }),
      await bob.socket.request({ ...carol.refuseFrame(sequence, commit) }),
    ];
    for (const answer of refusals) expect(answer).toMatchObject({ code: "group/not-allowed" });
    await mallory.socket.request(mallory.refuseFrame(sequence, commit));
    await bob.socket.request(bob.refuseFrame(sequence, commit));
    await carol.socket.request(carol.refuseFrame(1, commit));
    // What she says of other bytes at this place says nothing of these.
    await carol.socket.request(carol.refuseFrame(sequence, random(100)));
    expectKind(await bob.socket.request(bob.say("still here")), "groupSubmitAccepted");
    await carol.catchUp(sequence + 1);
    expect(carol.entries.at(-1)!.application).toBeDefined();
  });

  it("and whoever is banned stays cut off, though it is in the tree again", async () => {
    expectKind(await alice.socket.request(alice.banFrame([bob])), "groupDone");
    const made = alice.makeCommit({ proposals: [{ kind: "remove", removed: bob.leafIndex }] });
    const commit = made.frame.commit.slice();
    commit[commit.length - 1]! ^= 1;
    const { sequence } = expectKind(
      await alice.socket.request({ ...made.frame, commit }),
      "groupCommitAccepted",
    );
    for (const member of [carol, mallory]) await member.socket.request(member.refuseFrame(sequence, commit));
    await carol.socket.until(
      () => entriesOf(carol).some((entry) => entry.void !== undefined),
      5000,
      "no void entry",
    );
    expect(await bob.socket.request(bob.accessFrame(sequence))).toMatchObject({ code: "group/not-a-member" });
    expect(await bob.socket.request(bob.say("let me in"))).toMatchObject({ kind: "rejection" });
  });

  it("and whoever it added is no member any more", async () => {
    const [dora] = await Member.strangers(service, 1);
    const made = alice.makeAdd([dora!]);
    const commit = made.frame.commit.slice();
    commit[commit.length - 1]! ^= 1;
    const { sequence } = expectKind(
      await alice.socket.request({ ...made.frame, commit }),
      "groupCommitAccepted",
    );
    dora!.place = { groupId: alice.groupId, leafIndex: 4 };
    expect(await dora!.open(service, sequence)).toMatchObject({ removed: false });
    for (const member of [bob, carol]) await member.socket.request(member.refuseFrame(sequence, commit));
    await bob.socket.until(
      () => entriesOf(bob).some((entry) => entry.void !== undefined),
      5000,
      "no void entry",
    );
    expect(await dora!.socket.request(dora!.accessFrame(sequence))).toMatchObject({
      code: "group/not-a-member",
    });
    await dora!.socket.request({ kind: "ping" });
    expect(entriesOf(dora!)).toEqual([]);
  });
});

/** The machine's clock, with which a test need not wait for what is over in so long a time. */
function fastForward() {
  let ahead = 0;
  return {
    ...systemClock,
    now: () => Date.now() + ahead,
    passes(delayMs: number) {
      ahead += delayMs;
    },
  };
}

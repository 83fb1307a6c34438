import { inflateRawSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Stores } from "../../src/service/context.ts";
import { expectKind, groupsInUse, Member, startCommunity, treePath } from "../support/community.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { callRaw } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describe("a community lives on one log", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  it("is created, adds a member, who gets its Welcome from its mailbox and the tree by its hash, and both talk", async () => {
    const [alice, bob] = [await Member.register(service), await Member.register(service)];
    await alice.connect(service);
    const creation = alice.found();
    expect(await alice.socket.request(creation)).toEqual({ kind: "groupCreated", lastSequence: 0 });
    // The answer was lost: the same request is answered alike.
    expect(await alice.socket.request(creation)).toEqual({ kind: "groupCreated", lastSequence: 0 });
    expect(await alice.open(service, 0)).toEqual({
      kind: "groupAccessGranted",
      epoch: 0,
      firstSequence: 1,
      lastSequence: 0,
      removed: false,
      agreedSequence: 0,
    });

    const made = alice.makeAdd([bob]);
    const answer = expectKind(await alice.commit(made), "groupCommitAccepted");
    expect(answer).toMatchObject({ sequence: 1, epoch: 1, repeatedCommit: false });

    const mailbox = await TestSocket.device(service.port, bob.device);
    const [envelope] = await mailbox.envelopes(1);
    const { welcome, treeHash, sequence, groupId } = envelope!.welcome!;
    expect([sequence, groupId]).toEqual([1, alice.groupId]);
    const served = await callRaw(service.base, "GET", treePath(treeHash));
    expect(served.status).toBe(200);
    bob.join(welcome, made.keyPackages[0]!, new Uint8Array(inflateRawSync(served.raw)));

    expect(await bob.open(service, sequence)).toMatchObject({ epoch: 1, lastSequence: 1 });
    const said = expectKind(await bob.socket.request(bob.say("hello")), "groupSubmitAccepted");
    expect(said).toMatchObject({ sequence: 2, repeatedSubmit: false });
    await alice.catchUp(2);
    expect(alice.heard).toEqual(["hello"]);
    await bob.catchUp(2);
    expect(
      await alice.socket.request({ kind: "groupAcknowledge", groupId: alice.groupId, throughSequence: 2 }),
    ).toEqual({
      kind: "groupDone",
    });
  });

  it("answers a loser with what it needs, and its turn, so that it succeeds at the next try", async () => {
    const members = [await Member.register(service), ...(await Member.strangers(service, 2))];
    const [alice, bob, carol] = members as [Member, Member, Member];
    await startCommunity(service, members);
    for (const member of [bob, carol]) await member.open(service, 1);

    const won = bob.makeCommit();
    const lost = carol.makeCommit();
    expectKind(await bob.commit(won), "groupCommitAccepted");
    const answer = expectKind(await carol.socket.request(lost.frame), "groupCommitLost");
    expect(answer).toMatchObject({ epoch: 2, place: 0, turn: expect.any(Number), proposals: [] });
    expect(answer.entries.map((entry) => [entry.sequence, entry.commit?.commit])).toEqual([[2, won.message]]);
    carol.discard();
    for (const entry of answer.entries) carol.takeEntry(entry);

    // While Carol has the turn, others wait behind her.
    await alice.catchUp(2);
    const early = alice.makeCommit();
    expect(await alice.socket.request(early.frame)).toMatchObject({
      kind: "groupCommitLost",
      place: 1,
      entries: [],
    });
    const again = carol.makeCommit({}, { turn: answer.turn! });
    expect(await carol.commit(again)).toMatchObject({ kind: "groupCommitAccepted", epoch: 3 });
    const turn = await alice.socket.next("groupTurn");
    expect(turn).toMatchObject({ reason: "line" });
    expect(turn.turn).toBeGreaterThan(answer.turn!);
    await alice.catchUp(3);
    expect(await alice.commit(alice.makeCommit())).toMatchObject({ kind: "groupCommitAccepted", epoch: 4 });
    for (const member of [bob, carol]) {
      await member.catchUp(4);
      expect(member.group.epochAuthenticator()).toEqual(alice.group.epochAuthenticator());
    }
  });

  it("is left by everybody and comes back, again and again, without its tree being built anew", async () => {
    let built = 0;
    const stores = (given: Stores): Stores => {
      const mlsGroups = Object.create(given.mlsGroups) as Stores["mlsGroups"];
      mlsGroups.loadTree = (...question) => {
        built++;
        return given.mlsGroups.loadTree(...question);
      };
      return { ...given, mlsGroups };
    };
    const counting = await startTestService({ stores });
    const [alice, bob] = [await Member.register(counting), (await Member.strangers(counting, 1))[0]!];
    await startCommunity(counting, [alice, bob]);
    built = 0;
    for (let sequence = 1; sequence <= 3; sequence++) {
      await alice.socket.close();
      await expect.poll(() => groupsInUse(counting)).toBe(0);
      await alice.connect(counting);
      await alice.open(counting, sequence);
      expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    }
    expect(built).toBe(0);
    await counting.stop();
  });
});

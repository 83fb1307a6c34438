import { accountId } from "@murmuration/base";
import { BanList, communityContextOf, communityExtensions } from "@murmuration/mls-groups";
import type { ClientBody, ServiceBody } from "@murmuration/wire";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";

/** Carol and Dave were left behind at a migration: the group context expects their accounts. */
describe("a GroupInfo for accounts that a group expects", () => {
  let service: TestService;
  let alice: Member;
  let bob: Member;
  let carol: Member;
  let dave: Member;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());
  beforeEach(async () => {
    alice = await Member.register(service);
    [bob, carol, dave] = (await Member.strangers(service, 3)) as [Member, Member, Member];
    await startCommunity(service, [alice, bob], { expected: [carol.asExpected, dave.asExpected] });
    for (const member of [bob, carol, dave]) await member.connect(service);
  });

  const place = () => ({ groupId: alice.groupId, epoch: 0, leafIndex: 0 });
  const ask = (member: Member, proof: object): Promise<ServiceBody> =>
    member.socket.request({ kind: "groupInfoRequest", groupId: alice.groupId, ...proof } as ClientBody);
  const refused = { code: "group/not-a-member" };
  const connected = async (member: Member): Promise<Member> => {
    await member.connect(service);
    return member;
  };

  it("is given to their devices, which join with it and without a link, one after the other", async () => {
    for (const member of [carol, dave]) {
      const info = expectKind(await ask(member, member.expectedProof(place())), "groupInfoReply");
      const frame = member.joinExternally(info, alice.group.ratchetTree(), alice.groupId);
      const { sequence } = expectKind(await member.socket.request(frame), "groupCommitAccepted");
      member.save(member.group.confirmJoin());
      await alice.catchUp(sequence);
      await member.open(service, sequence);
      // From here on it is a leaf like others, and asks as one.
      expect(await ask(member, member.expectedProof(place()))).toMatchObject(refused);
    }
    expectKind(await dave.socket.request(dave.say("I am late")), "groupSubmitAccepted");
    await carol.socket.until(() => carol.socket.pushed.length > 0, 5000, "nothing came");
    expect(alice.group.memberCount).toBe(4);
  });

  it("is given to no stranger, nor to an account that is not expected", async () => {
    const erin = await connected((await Member.strangers(service, 1))[0]!);
    expect(await ask(erin, erin.expectedProof(place()))).toMatchObject(refused);
    expect(await ask(bob, bob.expectedProof(place()))).toMatchObject(refused);
    // Who saw the proof of somebody else's connection.
    expect(await ask(erin, carol.expectedProof(place()))).toMatchObject(refused);
    for (const epoch of [1, 2]) {
      const elsewhere = carol.expectedProof({ ...place(), epoch });
      expect(await ask(carol, elsewhere)).toMatchObject(refused);
    }
  });

  it("nor to whoever has the name of an expected account under other keys", async () => {
    const mallory = await connected(await carol.impostor(service));
    expect(await ask(mallory, mallory.expectedProof(place()))).toMatchObject(refused);
    // Nor may it join with a GroupInfo that the service should not have given.
    const given = { groupInfo: alice.group.groupInfo() };
    const frame = mallory.joinExternally(given, alice.group.ratchetTree(), alice.groupId);
    expect(await mallory.socket.request(frame)).toMatchObject({ code: "group/commit-invalid" });
  });

  it("nor with a credential that is forged, damaged, or another key's", async () => {
    const mallory = await connected(await carol.impostor(service));
    const { expected: good } = carol.expectedProof(place());
    const { expected: own } = mallory.expectedProof(place());
    const proofs = [
      // Carol's credential beside Mallory's key, whose signature is Mallory's.
      { ...own, credential: good.credential },
      { ...good, credential: own.credential },
      { ...good, signature: random(64) },
      { ...good, credential: random(212) },
      ...[0, 17, 18, 51, 84, 148, 211].map((at) => {
        const credential = good.credential.slice();
        credential[at]! ^= 1;
        return { ...good, credential };
      }),
    ];
    for (const expected of proofs) {
      expect(await ask(mallory, { expected })).toMatchObject(refused);
      expect(await ask(carol, { expected })).toMatchObject(refused);
    }
    expectKind(await ask(carol, { expected: good }), "groupInfoReply");
  });

  it("nor to who is banned, nor any more when an admin took it off the list", async () => {
    const context = communityContextOf(alice.group.context.extensions);
    const banList = BanList.empty.with(alice.groupId, carol.device.accountId);
    const change = async (fields: Partial<typeof context>, list?: BanList) => {
      const extensions = communityExtensions({
        ...communityContextOf(alice.group.context.extensions),
        ...fields,
      });
      const made = alice.makeCommit({ proposals: [{ kind: "group_context_extensions", extensions }] });
      const frame = list === undefined ? made.frame : { ...made.frame, banList: list.encode() };
      expectKind(await alice.socket.request(frame), "groupCommitAccepted");
      alice.merge();
    };
    await change({ banListHash: banList.hash() }, banList);
    expect(await ask(carol, carol.expectedProof(place()))).toMatchObject(refused);
    expectKind(await ask(dave, dave.expectedProof(place())), "groupInfoReply");
    const nobody = { accountId: accountId(random(16)), fingerprint: random(32) };
    await change({ expected: [nobody] });
    expect(await ask(dave, dave.expectedProof(place()))).toMatchObject(refused);
  });
});

import { groupId, submitId } from "@murmuration/base";
import { type ClientBody, encodeClientFrame, limits } from "@murmuration/wire";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LogEntry } from "../../src/ports/mls-groups.ts";
import type { Stores } from "../../src/service/context.ts";
import { expectKind, Link, Member, startCommunity } from "../support/community.ts";
import { random } from "../support/random.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";
import { callRaw } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describe("strangers and groups", () => {
  let service: TestService;
  let alice: Member;
  let bob: Member;
  beforeAll(async () => {
    service = await startTestService();
    [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    await bob.connect(service);
  });
  afterAll(() => service.stop());

  const frames = (): ClientBody[] => {
    const id = alice.groupId;
    const signature = random(64);
    return [
      { kind: "groupAcknowledge", groupId: id, throughSequence: 1 },
      { kind: "groupSubmit", groupId: id, submitId: submitId(random(16)), message: random(100) },
      { kind: "groupPropose", groupId: id, proposal: random(100) },
      {
        kind: "groupBan",
        groupId: id,
        leafIndex: 0,
        orderId: random(16),
        signatureKeys: [random(32)],
        signature,
      },
      { kind: "groupRefuse", groupId: id, sequence: 1, signature, commitHash: random(32) },
    ];
  };

  it("whoever has not opened the group can do nothing in it", async () => {
    const stranger = await TestSocket.anonymous(service.port);
    for (const frame of frames())
      expect(await stranger.request(frame)).toMatchObject({ code: "group/not-open" });
    const commit = bob.makeCommit().frame;
    expect(await stranger.request(commit)).toMatchObject({ code: "group/not-open" });
    bob.discard();
    const release = { kind: "groupTurnRelease", groupId: alice.groupId, turn: 1 } as const;
    expect(await stranger.request(release)).toMatchObject({ code: "group/turn-passed" });
  });

  it("no frame of a group goes over a device's connection, and no other frame is affected", async () => {
    const device = await TestSocket.device(service.port, alice.device);
    const everyFrame: ClientBody[] = [
      ...frames(),
      alice.found(),
      bob.accessFrame(),
      {
        kind: "groupInfoRequest",
        groupId: bob.groupId,
        leaf: { signatureKey: random(32), signature: random(64) },
      },
      { kind: "groupTurnRelease", groupId: bob.groupId, turn: 1 },
    ];
    for (const frame of everyFrame) {
      expect(await device.request(frame)).toMatchObject({ code: "group/needs-anonymous" });
    }
    expect(await device.request({ kind: "ping" })).toEqual({ kind: "pong" });
  });

  it("a signature opens a group on the connection whose challenge it signs, and on no other", async () => {
    const seen = bob.accessFrame();
    expect(await bob.socket.request(seen)).toMatchObject({ kind: "groupAccessGranted" });
    const other = await TestSocket.anonymous(service.port);
    expect(await other.request(seen)).toMatchObject({ code: "group/not-a-member" });
  });

  it("nor one that was made for another service, another group, another leaf or another purpose", async () => {
    const leaf = { groupId: bob.groupId, epoch: Number(bob.group.epoch), leafIndex: bob.leafIndex };
    const wrong = [
      bob.accessFrame(undefined, { signature: bob.signAccess(leaf, bob.socket.challenge, random(33)) }),
      bob.accessFrame(undefined, { signature: bob.signAccess({ ...leaf, groupId: groupId(random(16)) }) }),
      bob.accessFrame(undefined, { signature: bob.signAccess({ ...leaf, epoch: leaf.epoch + 1 }) }),
      bob.accessFrame(undefined, { leafIndex: alice.leafIndex }),
      bob.accessFrame(undefined, { leafIndex: 4_000_000_000 }),
      bob.accessFrame(undefined, { signature: random(64) }),
      bob.accessFrame(undefined, { signature: bob.refuseFrame(1, random(100)).signature }),
    ];
    for (const frame of wrong) {
      expect(await bob.socket.request(frame)).toMatchObject({ code: "group/not-a-member" });
    }
    expect(await bob.socket.request({ ...bob.accessFrame(), groupId: groupId(random(16)) })).toMatchObject({
      code: "group/unknown",
    });
  });

  it("no message is stored but an application message of this group, in an epoch that is near", async () => {
    await bob.open(service);
    const said = bob.say("hello");
    const other = (await Member.strangers(service, 1))[0]!;
    other.found();
    const messages = [
      { message: random(300), code: "wire/invalid-field" },
      { message: bob.makeCommit().message, code: "wire/invalid-field" },
      { message: other.say("elsewhere").message, code: "wire/invalid-field" },
      { message: said.message.subarray(0, 10), code: "wire/invalid-field" },
      { message: withEpoch(said.message, 2n), code: "group/epoch-unknown" },
      { message: withEpoch(said.message, 2n ** 60n), code: "wire/invalid-field" },
    ];
    bob.discard();
    for (const { message, code } of messages) {
      const frame = { ...said, submitId: submitId(random(16)), message };
      expect(await bob.socket.request(frame), code).toMatchObject({ code });
    }
    expect(await bob.socket.request(said)).toMatchObject({
      kind: "groupSubmitAccepted",
      repeatedSubmit: false,
    });
    expect(await bob.socket.request(said)).toMatchObject({
      kind: "groupSubmitAccepted",
      repeatedSubmit: true,
    });
  });

  it("a message may be four epochs behind and no more, none ahead, and none from before a removal", async () => {
    const [carol, dave] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [carol, dave]);
    await carol.socket.until(() => carol.socket.pushed.length > 0, 5000, "no entry");
    while (carol.group.epoch < 6n) expectKind(await carol.commit(carol.makeCommit()), "groupCommitAccepted");
    const { message } = carol.say("from some epoch");
    const send = async (epoch: bigint) => {
      const frame = { submitId: submitId(random(16)), message: withEpoch(message, epoch) };
      const answer = await carol.socket.request({ kind: "groupSubmit", groupId: carol.groupId, ...frame });
      return answer.kind === "rejection" ? answer.code : answer.kind;
    };
    expect([await send(7n), await send(6n), await send(2n), await send(1n)]).toEqual([
      "group/epoch-unknown",
      "groupSubmitAccepted",
      "groupSubmitAccepted",
      "group/epoch-outdated",
    ]);
    const removal = carol.makeCommit({ proposals: [{ kind: "remove", removed: dave.leafIndex }] });
    expectKind(await carol.commit(removal), "groupCommitAccepted");
    expect([await send(7n), await send(6n)]).toEqual(["groupSubmitAccepted", "group/epoch-outdated"]);
  });

  it("a GroupInfo is given to leaves that are or were, and to who holds a link, and to nobody else", async () => {
    const link = new Link();
    const carol = (await Member.strangers(service, 1))[0]!;
    const dave = (await Member.strangers(service, 1))[0]!;
    const owner = await Member.register(service);
    await startCommunity(service, [owner, carol], { links: [link.inContext] });
    await dave.connect(service);
    const id = owner.groupId;
    const place = { groupId: id, epoch: 0, leafIndex: 0 };
    const ask = (member: Member, proof: object) =>
      member.socket.request({ kind: "groupInfoRequest", groupId: id, ...proof } as ClientBody);
    const leafOf = (member: Member) => ({
      leaf: { signatureKey: member.key, signature: member.signAccess(place) },
    });
    await carol.connect(service);
    expect(await ask(carol, leafOf(carol))).toMatchObject({ kind: "groupInfoReply", epoch: 1 });
    expect(await ask(dave, leafOf(dave))).toMatchObject({ code: "group/not-a-member" });
    expect(await ask(dave, leafOf(carol))).toMatchObject({ code: "group/not-a-member" });
    const byLink = (by: Link, signer = by) => ({
      link: { linkId: by.linkId, signature: signer.signAccess(dave, place) },
    });
    expect(await ask(dave, byLink(new Link()))).toMatchObject({ code: "group/not-a-member" });
    expect(await ask(dave, byLink(link, new Link()))).toMatchObject({ code: "group/not-a-member" });
    const info = expectKind(await ask(dave, byLink(link)), "groupInfoReply");

    // Who holds the link joins, and reads from then on.
    const frame = dave.joinExternally(info, owner.group.ratchetTree(), id, { link });
    const stranger = (await Member.strangers(service, 1))[0]!;
    const uninvited = stranger.joinExternally(info, owner.group.ratchetTree(), id, { link: new Link() });
    await stranger.connect(service);
    expect(await stranger.socket.request(uninvited)).toMatchObject({ code: "group/commit-invalid" });
    const accepted = expectKind(await dave.socket.request(frame), "groupCommitAccepted");
    expect(await dave.socket.request({ ...frame })).toMatchObject({ repeatedCommit: true });
    dave.save(dave.group.confirmJoin());
    await dave.open(service, accepted.sequence);
    expectKind(await dave.socket.request(dave.say("I am in")), "groupSubmitAccepted");
    await owner.catchUp(accepted.sequence + 1);
    expect(owner.heard).toEqual(["I am in"]);
  });

  it("settings hold: announcements are the admins', and slow mode is a member's, but not for what was sent already", async () => {
    const owner = await Member.register(service);
    const [carol, dave] = (await Member.strangers(service, 2)) as [Member, Member];
    await startCommunity(service, [owner, carol], { announcementOnly: true });
    await carol.open(service);
    expect(await carol.socket.request(carol.say("me too"))).toMatchObject({ code: "group/not-allowed" });
    expectKind(await owner.socket.request(owner.say("news")), "groupSubmitAccepted");

    const slow = await Member.register(service);
    await startCommunity(service, [slow, dave], { slowModeSeconds: 3600 });
    await dave.open(service);
    const first = dave.say("one");
    expectKind(await dave.socket.request(first), "groupSubmitAccepted");
    expect(await dave.socket.request(first)).toMatchObject({ repeatedSubmit: true });
    expect(await dave.socket.request(dave.say("two"))).toMatchObject({ code: "group/slow-mode" });
    for (const text of ["a", "b"])
      expectKind(await slow.socket.request(slow.say(text)), "groupSubmitAccepted");
  });

  it("slow mode holds for frames that are sent together, and counts only what was stored", async () => {
    const slow = await Member.register(service);
    const [carol] = (await Member.strangers(service, 1)) as [Member];
    await startCommunity(service, [slow, carol], { slowModeSeconds: 3600 });
    await carol.open(service);
    const ahead = carol.say("ahead");
    const view = new DataView(ahead.message.buffer, ahead.message.byteOffset);
    // Version, wire format, and a group id of 16 bytes with its length come before the epoch.
    view.setBigUint64(21, 1000n);
    expect(await carol.socket.request(ahead)).toMatchObject({ code: "group/epoch-unknown" });
    const together = ["one", "two", "three"].map((text) => carol.socket.request(carol.say(text)));
    const answers = await Promise.all(together);
    expect(answers.map((answer) => (answer.kind === "rejection" ? answer.code : answer.kind)).sort()).toEqual(
      ["group/slow-mode", "group/slow-mode", "groupSubmitAccepted"],
    );
  });

  it("a group is created as its GroupInfo says it is, once", async () => {
    const mallory = (await Member.strangers(service, 1))[0]!;
    const socket = await mallory.connect(service);
    const creation = mallory.found();
    const refused = [
      { ...creation, groupInfo: random(200) },
      { ...creation, ratchetTree: random(200) },
      { ...creation, groupId: groupId(random(16)) },
    ];
    for (const frame of refused)
      expect(await socket.request(frame)).toMatchObject({ code: "group/commit-invalid" });
    expectKind(await socket.request(creation), "groupCreated");
    const taken = mallory.found({}, creation.groupId);
    expect(await socket.request(taken)).toMatchObject({ code: "group/exists" });
  });

  it("a tree that nobody has is not there, whatever the name", async () => {
    for (const name of ["A".repeat(43), Buffer.from(random(32)).toString("base64url")]) {
      expect((await callRaw(service.base, "GET", `/v1/trees/${name}`)).rejection?.code).toBe("trees/unknown");
    }
    expect((await callRaw(service.base, "GET", "/v1/trees/abc")).rejection?.code).toBe("http/unknown-route");
  });

  it("rates hold for a leaf and for an address", async () => {
    const rates = { ...unhurried.rates, messagesPerLeaf: { burst: 3, perMinute: 1 } };
    const hurried = await startTestService({
      limits: { rates: { ...rates, groupEntriesPerAddress: limits.rates.groupEntriesPerAddress } },
    });
    const carol = await Member.register(hurried);
    await startCommunity(hurried, [carol]);
    const answers = [];
    for (let i = 0; i < 4; i++) answers.push(await carol.socket.request(carol.say(`${i}`)));
    expect(answers.map((answer) => (answer.kind === "rejection" ? answer.code : answer.kind))).toEqual([
      "groupSubmitAccepted",
      "groupSubmitAccepted",
      "groupSubmitAccepted",
      "rate/limited",
    ]);
    await hurried.stop();
  });

  it("rates hold for a group, whichever of its leaves it is; a ban is taken all the same", async () => {
    const few = { burst: 3, perMinute: 0.01 };
    const rates = { ...unhurried.rates, messagesPerGroup: few, commitsPerGroup: few };
    const hurried = await startTestService({ limits: { rates } });
    const admin = await Member.register(hurried);
    const others = await Member.strangers(hurried, 2);
    await startCommunity(hurried, [admin, ...others]);
    for (const member of others) expectKind(await member.open(hurried, 1), "groupAccessGranted");
    const answers = [];
    for (const member of [admin, ...others, admin])
      answers.push(await member.socket.request(member.say("something")));
    const refused = { kind: "rejection", code: "rate/limited" };
    expect(answers.slice(0, 3).map(({ kind }) => kind)).toEqual(Array(3).fill("groupSubmitAccepted"));
    expect(answers[3]).toMatchObject(refused);
    let commits = 0;
    while (commits < 5 && (await admin.commit(admin.makeCommit())).kind === "groupCommitAccepted") commits++;
    admin.discard();
    expect(commits).toBeLessThan(4);
    expect(await admin.socket.request(admin.makeCommit().frame)).toMatchObject(refused);
    expectKind(await admin.socket.request(admin.banFrame([others[0]!])), "groupDone");
    await hurried.stop();
  });

  it("opening groups and giving turns back counts for an address, also where it succeeds", async () => {
    const few = await startTestService({
      limits: { rates: { ...unhurried.rates, groupAccessesPerAddress: { burst: 4, perMinute: 0.01 } } },
    });
    const carol = await Member.register(few);
    await startCommunity(few, [carol]);
    const release = { kind: "groupTurnRelease", groupId: carol.groupId, turn: 1 } as const;
    const refused = { kind: "rejection", code: "rate/limited" };
    let opened = 0;
    while (opened < 5 && (await carol.socket.request(carol.accessFrame())).kind === "groupAccessGranted")
      opened++;
    expect(opened).toBeLessThan(5);
    expect(await carol.socket.request(carol.accessFrame())).toMatchObject(refused);
    expect(await carol.socket.request(release)).toMatchObject(refused);
    await few.stop();
  });

  it("bytes are counted for an address, whoever stores them: messages, proposals, commits and new groups", async () => {
    const narrow = await startTestService({
      limits: { rates: { ...unhurried.rates, groupBytesPerAddress: { burst: 40_000, perMinute: 1 } } },
    });
    const [carol, dave] = [await Member.register(narrow), (await Member.strangers(narrow, 1))[0]!];
    await startCommunity(narrow, [carol, dave]);
    await dave.open(narrow);
    const founder = (await Member.strangers(narrow, 1))[0]!;
    const other = await founder.connect(narrow);
    // One after the other uses up what is left, however small what it stores.
    const untilRefused = async (store: () => Promise<{ readonly kind: string }>) => {
      for (let stored = 0; stored < 40; stored++) {
        const answer = await store();
        if (answer.kind === "rejection") return answer;
      }
      return "never refused";
    };
    const refused = { code: "rate/limited" };
    expect(await untilRefused(() => dave.socket.request(dave.say("x".repeat(4000))))).toMatchObject(refused);
    expect(await untilRefused(() => dave.socket.request(dave.propose()))).toMatchObject(refused);
    expect(await untilRefused(() => carol.commit(carol.makeCommit()))).toMatchObject(refused);
    carol.discard();
    expect(await untilRefused(() => other.request(founder.found()))).toMatchObject(refused);
    await narrow.stop();
  });

  it("who lost long ago makes the service read no more commits than it is told", async () => {
    let read = 0;
    const stores = (real: Stores): Stores => {
      const { mlsGroups } = real;
      const commitOf: typeof mlsGroups.commitOf = async (id, epoch) => {
        read++;
        const entries = await Object.getPrototypeOf(mlsGroups).commitOf.call(mlsGroups, id, epoch);
        return entries?.map((entry: LogEntry) => ({ ...entry, message: new Uint8Array(1024 * 1024) }));
      };
      return { ...real, mlsGroups: Object.assign(mlsGroups, { commitOf }) };
    };
    const counted = await startTestService({ stores });
    const [carol, dave] = [await Member.register(counted), (await Member.strangers(counted, 1))[0]!];
    await startCommunity(counted, [carol, dave]);
    await dave.open(counted);
    const old = dave.makeCommit().frame;
    for (let i = 0; i < 20; i++) expectKind(await carol.commit(carol.makeCommit()), "groupCommitAccepted");
    read = 0;
    const { entries } = expectKind(await dave.socket.request(old), "groupCommitLost");
    expect(entries.length).toBe(2);
    // One to see whether it was that commit, two that fit, and the one that does not.
    expect(read).toBe(4);
    await counted.stop();
  });

  it("damaged frames of every kind are refused with a code, and nothing in the service breaks", async () => {
    const { next, seed } = seededRandom();
    console.log(`seed ${seed}`);
    const [carol, dave] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [carol, dave]);
    await dave.connect(service);
    const place = { groupId: carol.groupId, epoch: 0, leafIndex: 0 };
    const proof = { signatureKey: dave.key, signature: dave.signAccess(place) };
    const proposal = dave.propose();
    const valid: ClientBody[] = [
      dave.accessFrame(1),
      { kind: "groupInfoRequest", groupId: carol.groupId, leaf: proof },
      carol.makeCommit().frame,
      { ...carol.say("x"), groupId: carol.groupId },
      proposal,
      carol.banFrame([dave]),
      dave.refuseFrame(1, random(100)),
      { kind: "groupAcknowledge", groupId: carol.groupId, throughSequence: 1 },
      { kind: "groupTurnRelease", groupId: carol.groupId, turn: 5 },
      (await Member.strangers(service, 1))[0]!.found(),
    ];
    const encoded = valid.map((body) => encodeClientFrame({ requestId: 1, body }));
    let socket = await TestSocket.anonymous(service.port);
    for (let i = 0; i < 600; i++) {
      const bytes = encoded[i % encoded.length]!.slice();
      for (let n = 0; n < 1 + next() * 3; n++)
        bytes[Math.floor(next() * bytes.length)] = Math.floor(next() * 256);
      socket.sendRaw(next() < 0.2 ? bytes.subarray(0, Math.floor(next() * bytes.length)) : bytes);
      if (i % 20 !== 19) continue;
      await Promise.race([socket.request({ kind: "ping" }).catch(() => undefined), socket.closed]);
      await socket.close();
      socket = await TestSocket.anonymous(service.port);
      // Now and then on a connection that has the group open.
      dave.socket.webSocket.terminate();
      await dave.connect(service);
      if (i % 40 === 39) await dave.socket.request(dave.accessFrame(1));
      socket = i % 40 === 39 ? dave.socket : socket;
    }
    expect(service.logged.filter((line) => line.includes("internal-error"))).toEqual([]);
    await dave.connect(service);
    expect(await dave.socket.request(dave.accessFrame(1))).toMatchObject({ kind: "groupAccessGranted" });
  }, 60_000);

  it("a connection opens as many groups as it may", async () => {
    const few = await startTestService({ limits: { groupsPerConnection: 1 } });
    const carol = await Member.register(few);
    await startCommunity(few, [carol]);
    expectKind(await carol.socket.request(carol.accessFrame()), "groupAccessGranted");
    const first = carol.groupId;
    const creation = carol.found();
    expectKind(await carol.socket.request(creation), "groupCreated");
    expect(carol.groupId).not.toEqual(first);
    expect(await carol.socket.request(carol.accessFrame())).toMatchObject({ code: "group/too-many-open" });
    await few.stop();
  });
});

/** A message that says it is of another epoch. */
function withEpoch(message: Uint8Array, epoch: bigint): Uint8Array<ArrayBuffer> {
  const changed = new Uint8Array(message);
  new DataView(changed.buffer).setBigUint64(4 + 1 + changed[4]!, epoch);
  return changed;
}

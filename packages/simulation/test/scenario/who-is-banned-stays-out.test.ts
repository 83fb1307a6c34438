import { parseGroupId, submitId } from "@murmuration/base";
import { systemEnvironment } from "@murmuration/client-core";
import { communityLeaf, createJoinTicket, encodeJoinTicket, signForService } from "@murmuration/mls-groups";
import { encodeGroupBanTbs, GROUP_BAN_LABEL, type ServiceBody } from "@murmuration/wire";
import { expect, test } from "vitest";
import { parseInviteLink } from "../../../client-core/src/core/invite-link.ts";
import { FrameTap, textsOf, until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";
import { HeldFrames } from "../support/held-frames.ts";
import { commitFrame, crypto, Outlaw } from "../support/outlaw.ts";
import { RawConnection } from "../support/raw-connection.ts";

const random = (length: number) => systemEnvironment.random(length);

test("a ban cuts a member off at once, before anybody has committed its removal", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const dave = await newcomer(world, "Dave");
  const group = await flockOf(alice, bob, carol, dave);
  const bobId = bob.id;
  await group.setRole(dave.id, "admin");
  await dave.stop();
  const [owner, banned] = [new Outlaw(alice, world.origin), new Outlaw(bob, world.origin)];
  await alice.stop();
  await bob.stop();
  const bobs = await banned.enter(group.id, 0);
  await inGroup(carol, group.id)!.send({ text: "Bob may read this" });
  await carol.client.outbox.settled();
  const reads = () => bobs.entries.filter(({ application }) => application !== undefined).length;
  await until(() => reads() > 0, 20_000, "Bob reads");

  // The order alone: no admin's client is there to commit anything.
  const alices = await owner.enter(group.id);
  const { groupId, ownLeaf } = owner.group(group.id);
  const id = parseGroupId(group.id);
  const orderId = random(16);
  const signatureKeys = [banned.identity.signatureKeys.publicKey];
  const tbs = encodeGroupBanTbs({ groupId: id, orderId, signatureKeys });
  const { privateKey } = owner.identity.signatureKeys;
  const signature = signForService(crypto, privateKey, GROUP_BAN_LABEL, tbs);
  expect(groupId).toEqual(id);
  await alices.demand("groupDone", {
    kind: "groupBan",
    groupId: id,
    leafIndex: ownLeaf,
    orderId,
    signatureKeys,
    signature,
  });

  const before = reads();
  await inGroup(carol, group.id)!.send({ text: "Bob may not read this" });
  await carol.client.outbox.settled();
  const message = banned.group(group.id).createApplicationMessage(random(8)).message;
  expect(
    await bobs.refusalOf({ kind: "groupSubmit", groupId: id, submitId: submitId(random(16)), message }),
  ).toBe("group/not-a-member");
  const commit = banned.group(group.id).createCommit();
  expect(
    await bobs.refusalOf(commitFrame(group.id, { commit: commit.message, groupInfo: commit.groupInfo })),
  ).toBe("group/not-a-member");
  const again = await RawConnection.open(world.origin);
  expect(await again.refusalOf(banned.accessFrame(again, group.id, 0))).toBe("group/not-a-member");
  expect(await again.refusalOf(banned.groupInfoFrame(again, group.id))).toBe("group/not-a-member");
  // His leaf is still in the tree: he may ask a friend for what he needs, and come in its place.
  const asked = (body: ServiceBody) => body.kind === "groupTurn" && body.reason === "ban";
  await until(() => alices.pushed.some(asked), 20_000, "the service asks for the removal");
  const turn = alices.pushed.find((body) => body.kind === "groupTurn")!.turn;
  await alices.demand("groupDone", { kind: "groupTurnRelease", groupId: id, turn });
  const resync = await banned.externalCommit(await owner.groupInfo(alices, group.id), communityLeaf);
  expect(await again.refusalOf(commitFrame(group.id, resync))).toBe("group/not-a-member");
  expect(reads()).toBe(before);

  // The service asks the first admin who comes for the removal. It may ask for anybody's: without a ban that the group or
  // Dave himself has made, Dave signs nothing.
  const tap = new FrameTap();
  await dave.start({ wrapTransport: tap.wrapTransport });
  const givenBack = ({ kind }: { readonly kind: string }) => kind === "groupTurnRelease";
  await until(() => tap.sent.some(givenBack), 40_000, "Dave gives the turn back");
  expect(tap.sent.filter(({ kind }) => kind === "groupCommit")).toEqual([]);
  expect(namesIn(carol, group.id)).toHaveLength(4);

  await inGroup(dave, group.id)!.community.ban(bobId);
  await until(() => namesIn(carol, group.id).length === 3, 40_000, "Bob is removed");
  expect(textsOf(carol.client, group.id)).toEqual(["Bob may read this", "Bob may not read this"]);
});

test("a banned account is refused by link, by external commit, as a second device and by an invitation", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  await group.community.setSettings({ addBy: "member" });
  const { url = "" } = await group.community.createLink();
  const link = parseInviteLink(url);
  await until(() => inGroup(carol, group.id)!.community.links().length === 1, 20_000, "Carol has the link");
  const outlaw = new Outlaw(bob, world.origin);

  await group.community.ban(bob.id);
  expect(group.community.isBanned(bob.id)).toBe(true);
  const { messageId } = await inGroup(bob, group.id)!.send({ text: "one more thing" });
  await until(() => inGroup(bob, group.id)?.state === "removed", 20_000, "Bob hears of it");
  expect(inGroup(bob, group.id)!.message({ author: bob.id, messageId })).toMatchObject({
    sendState: "failed",
  });

  // His own client keeps to the rules; nothing of the attempt stays behind.
  await expect(bob.client.conversations.join(url)).rejects.toThrow("community/join-banned");
  await expect(inGroup(bob, group.id)!.community.heal()).rejects.toThrow("conversation/not-active");
  expect(inGroup(bob, group.id)?.state).toBe("removed");
  await expect(inGroup(bob, group.id)!.send({ text: "let me in" })).rejects.toThrow(
    "conversation/not-active",
  );

  // A program that keeps to none gets as far as the service.
  const connection = await RawConnection.open(world.origin);
  expect(await connection.refusalOf(outlaw.groupInfoFrame(connection, group.id))).toBe("group/not-a-member");
  const info = await outlaw.groupInfo(connection, group.id, link);
  const { linkId, seed: linkSeed } = link;
  const signatureKey = outlaw.identity.signatureKeys.publicKey;
  const ticket = createJoinTicket(crypto, { groupId: link.groupId, linkId, linkSeed, signatureKey });
  const byLink = await outlaw.externalCommit(info, {
    ...communityLeaf,
    extensions: [encodeJoinTicket(ticket)],
  });
  expect(await connection.refusalOf(commitFrame(group.id, byLink))).toBe("group/commit-invalid");
  const bare = await outlaw.externalCommit(info, communityLeaf);
  expect(await connection.refusalOf(commitFrame(group.id, bare))).toBe("group/commit-invalid");

  // Another device of the account has a leaf key that nobody has banned.
  const second = world.device({ settings: { mlsThreshold: 3, keyPackageStock: 4 } });
  const secondClient = await second.open();
  const offer = bob.client.linking.offer();
  const request = await secondClient.linking.request(offer);
  await secondClient.linking.finish(await bob.client.linking.approve(request));
  secondClient.connection.start();
  await secondClient.connection.caughtUp();
  await expect(secondClient.conversations.join(url)).rejects.toThrow("community/join-banned");
  const secondOutlaw = new Outlaw(second, world.origin);
  const secondKey = secondOutlaw.identity.signatureKeys.publicKey;
  const own = createJoinTicket(crypto, { groupId: link.groupId, linkId, linkSeed, signatureKey: secondKey });
  const bySecond = await secondOutlaw.externalCommit(info, {
    ...communityLeaf,
    extensions: [encodeJoinTicket(own)],
  });
  expect(await connection.refusalOf(commitFrame(group.id, bySecond))).toBe("group/commit-invalid");

  // Whoever may add others may not add him.
  expect(await inGroup(carol, group.id)!.add([bob.id])).toEqual([
    { accountId: bob.id, code: "community/add-banned" },
  ]);
  expect(namesIn(alice, group.id)).toEqual(["Alice", "Carol"]);

  // The door itself is open to others.
  const dave = await newcomer(world, "Dave");
  await dave.client.conversations.join(url);
  await talkRound([alice, carol, dave], group.id, "without Bob");
});

test("a ban that was asked for is carried out after a restart, by whoever asked for it", async () => {
  await using world = await World.start();
  const link = new HeldFrames();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  await alice.stop();
  await alice.start({ wrapTransport: link.wrapTransport });
  await alice.client.connection.caughtUp();
  link.keep("groupBan");
  const asked = inGroup(alice, group.id)!
    .community.ban(bob.id)
    .catch(() => undefined);
  await until(() => link.keeps, 20_000, "the order is on its way");
  await alice.stop();
  await asked;

  await alice.start({ wrapTransport: (transport) => transport });
  await until(() => namesIn(carol, group.id).length === 2, 40_000, "Bob is removed");
  await until(() => inGroup(alice, group.id)!.community.isBanned(bob.id), 20_000, "Bob is banned");
});

test("when the ban is lifted the account can be added again", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  await group.community.ban(bob.id);
  await bob.stop();
  await bob.start();
  await until(() => inGroup(bob, group.id)?.state === "removed", 20_000, "Bob hears of it");
  await group.send({ text: "while he was out" });
  await allShow([alice, carol], group.id, "while he was out");

  await group.community.unban(bob.id);
  expect(group.community.isBanned(bob.id)).toBe(false);
  expect(await group.add([bob.id])).toEqual([]);

  await until(() => inGroup(bob, group.id)?.state === "active", 20_000, "Bob is back");
  await talkRound([alice, bob, carol], group.id, "all are here");
  expect(textsOf(bob.client, group.id)).not.toContain("while he was out");
});

test("whoever is invited after a ban follows what is committed after that, without a refusal", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const group = await flockOf(alice, bob);
  await group.community.ban(bob.id);
  const [carol, dave, erin] = [
    await newcomer(world, "Carol"),
    await newcomer(world, "Dave"),
    await newcomer(world, "Erin"),
  ];
  expect(await group.add([carol.id, dave.id])).toEqual([]);
  await until(() => [carol, dave].every((device) => inGroup(device, group.id)?.title === "Flock"));

  expect(await group.add([erin.id])).toEqual([]);

  await until(() => inGroup(erin, group.id)?.title === "Flock");
  await talkRound([alice, carol, dave, erin], group.id, "hello");
  for (const { client } of [carol, dave]) expect(client.communityCosts.verifiedLeaves).toBe(3);
});

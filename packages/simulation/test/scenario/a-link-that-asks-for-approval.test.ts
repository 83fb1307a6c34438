import { type Client, type ClientEvent, systemEnvironment } from "@murmuration/client-core";
import { approveJoin, communityLeaf, createJoinTicket, encodeJoinTicket } from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import { parseInviteLink } from "../../../client-core/src/core/invite-link.ts";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";
import { commitFrame, crypto, Outlaw } from "../support/outlaw.ts";
import { RawConnection } from "../support/raw-connection.ts";

type JoinRequested = Extract<ClientEvent, { kind: "join-requested" }>;
const requestsTold = (client: Client): JoinRequested[] =>
  client.events.read(0, 10_000).filter((event) => event.kind === "join-requested");

async function flockWithLink(world: World) {
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const group = await flockOf(alice, bob);
  const { url = "", linkId } = await group.community.createLink({ approval: true });
  const asking = () => group.community.joinRequests().map(({ name }) => name);
  return { alice, bob, group, url, linkId, asking };
}

const waitsFor = (device: SimulatedDevice, url: string, timeoutMs = 300) =>
  expect(device.client.conversations.join(url, { timeoutMs })).rejects.toThrow("link/approval-pending");

test("an admin is told who asks, lets them in, and the join that waited comes about", async () => {
  await using world = await World.start();
  const { alice, bob, group, url, linkId, asking } = await flockWithLink(world);
  const carol = await newcomer(world, "Carol");

  const joining = carol.client.conversations.join(url);
  await until(() => asking().includes("Carol"), 40_000, "Alice has the request");
  expect(requestsTold(alice.client)).toMatchObject([
    { conversationId: group.id, accountId: carol.id, linkId },
  ]);
  // A request opens no conversation, on neither side, and waiting is not being behind.
  expect(alice.client.conversations.get(carol.id)).toBeUndefined();
  expect(carol.client.conversations.list()).toEqual([]);
  await carol.client.connection.caughtUp();

  await group.community.approveJoin(carol.id);
  const joined = await joining;
  expect(joined).toMatchObject({ id: group.id, state: "active" });
  await until(() => [alice, bob].every((device) => namesIn(device, group.id).length === 3));
  expect(group.community.joinRequests()).toEqual([]);
  await expect(group.community.approveJoin(carol.id)).rejects.toThrow("group/no-such-request");
  await talkRound([alice, bob, carol], group.id, "hello");
  expect(carol.client.conversations.list().map(({ id }) => id)).toEqual([group.id]);
});

test("a join goes on by itself when the answer comes after a restart", async () => {
  await using world = await World.start();
  const { alice, bob, group, url, asking } = await flockWithLink(world);
  const carol = await newcomer(world, "Carol");
  const { id } = carol;
  await waitsFor(carol, url);
  await until(() => asking().length === 1);
  await carol.stop();
  await group.community.approveJoin(id);
  await alice.client.outbox.settled();
  await carol.start();
  await carol.client.connection.caughtUp();
  await until(() => inGroup(carol, group.id)?.state === "active", 40_000, "Carol is in");
  await talkRound([alice, bob, carol], group.id, "hello");
});

test("the word of somebody who is no admin any more lets nobody in, and whoever waits on it may ask again", async () => {
  await using world = await World.start();
  const { alice, bob, group, url, asking } = await flockWithLink(world);
  const carol = await newcomer(world, "Carol");
  const { id } = carol;
  await waitsFor(carol, url);
  await until(() => asking().length === 1);
  await carol.stop();
  await group.community.approveJoin(id);
  await group.setRole(bob.id, "owner");
  await until(() =>
    inGroup(bob, group.id)!
      .members()
      .every(({ role }) => role === "owner"),
  );
  await inGroup(bob, group.id)!.setRole(alice.id, "member");
  await alice.client.outbox.settled();

  await carol.start();
  await carol.client.connection.caughtUp();
  await waitsFor(carol, url, 1_500);
  expect(namesIn(bob, group.id)).toEqual(["Alice", "Bob"]);
  await inGroup(bob, group.id)!.setRole(alice.id, "admin");
  await until(() => group.members().some(({ role }) => role === "admin"));
  const joining = carol.client.conversations.join(url);
  await until(() => asking().length === 1, 40_000, "Alice has the request");
  await group.community.approveJoin(id);
  await joining;
  await talkRound([alice, bob, carol], group.id, "hello");
});

test("who is refused is told so, is not shown again, and leaves nothing behind; a link that is revoked lets nobody wait", async () => {
  await using world = await World.start();
  const { alice, group, url, linkId, asking } = await flockWithLink(world);
  const carol = await newcomer(world, "Carol");
  const refused = expect(carol.client.conversations.join(url)).rejects.toThrow("link/refused");
  await until(() => asking().length === 1);
  await group.community.refuseJoin(carol.id);
  await refused;
  expect(asking()).toEqual([]);
  await waitsFor(carol, url, 1_500);
  expect(asking()).toEqual([]);
  expect(requestsTold(alice.client)).toHaveLength(1);
  expect(carol.client.conversations.list()).toEqual([]);

  const dave = await newcomer(world, "Dave");
  await waitsFor(dave, url);
  await until(() => asking().includes("Dave"));
  await group.community.revokeLink(linkId);
  expect(asking()).toEqual([]);
  await expect(group.community.approveJoin(dave.id)).rejects.toThrow("group/no-such-request");
  await expect(dave.client.conversations.join(url)).rejects.toThrow(/^(group|community)\//);
  expect(dave.client.conversations.list()).toEqual([]);
});

test("whoever waits and is invited is in, without an answer", async () => {
  await using world = await World.start();
  const { alice, bob, group, url, asking } = await flockWithLink(world);
  const carol = await newcomer(world, "Carol");
  await waitsFor(carol, url);
  await until(() => asking().length === 1);
  expect(await group.add([carol.id])).toEqual([]);
  await until(() => inGroup(carol, group.id)?.state === "active", 40_000, "Carol is in");
  expect(asking()).toEqual([]);
  await talkRound([alice, bob, carol], group.id, "hello");
});

test("the service lets nobody in without an admin's word, nor on that of a plain member", async () => {
  await using world = await World.start();
  const { alice, bob, group, url } = await flockWithLink(world);
  const carol = await newcomer(world, "Carol");
  await waitsFor(carol, url);
  await until(() => group.community.joinRequests().length === 1);
  await expect(inGroup(bob, group.id)!.community.approveJoin(carol.id)).rejects.toThrow("group/not-an-admin");
  expect(inGroup(bob, group.id)!.community.joinRequests()).toEqual([]);
  const member = new Outlaw(bob, world.origin);
  await carol.stop();
  const outlaw = new Outlaw(carol, world.origin);
  const connection = await RawConnection.open(world.origin);
  const { linkId, seed: linkSeed, groupId } = parseInviteLink(url);
  const info = await outlaw.groupInfo(connection, group.id, { linkId, seed: linkSeed });
  const signatureKey = outlaw.identity.signatureKeys.publicKey;
  const ofBob = approveJoin(member.group(group.id), { linkId, signatureKey });
  const invented = { approver: 0, signature: systemEnvironment.random(64) };
  for (const approval of [undefined, ofBob, invented]) {
    const ticket = createJoinTicket(crypto, { groupId, linkId, linkSeed, signatureKey, approval });
    const commit = await outlaw.externalCommit(info, {
      ...communityLeaf,
      extensions: [encodeJoinTicket(ticket)],
    });
    expect(await connection.refusalOf(commitFrame(group.id, commit))).toBe("group/commit-invalid");
  }
  expect(namesIn(alice, group.id)).toEqual(["Alice", "Bob"]);
});

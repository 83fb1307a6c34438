import { type Bytes, fromBase64Url, type GroupId, groupId, utf8 } from "@murmuration/base";
import type { HttpRequest, Transport } from "@murmuration/client-core";
import { communityLeaf, createJoinTicket, encodeJoinTicket, signForService } from "@murmuration/mls-groups";
import { encodeClientFrame, encodeLeafAccessTbs, GROUP_ACCESS_LABEL } from "@murmuration/wire";
import { expect, test } from "vitest";
import {
  formatInviteLink,
  type InviteLink,
  parseInviteLink,
} from "../../../client-core/src/core/invite-link.ts";
import { type Link, Member } from "../../../delivery-service/test/support/community.ts";
import { scan } from "../../../delivery-service/test/support/leak-scan.ts";
import { FrameTap, textsOf, until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, namesIn, newcomer, showsTwice, talkRound } from "../support/flock.ts";
import { commitFrame, crypto, fetchTree, Outlaw } from "../support/outlaw.ts";
import { RawConnection } from "../support/raw-connection.ts";

/** The same link with other contents, as somebody writes it who has no right to. */
const forged = (url: string, changes: Partial<InviteLink>): string =>
  formatInviteLink("", { ...parseInviteLink(url), ...changes });

const flipped = (bytes: Bytes): Bytes => bytes.map((byte, index) => (index === 0 ? byte ^ 1 : byte));

test("twelve people join by one link at the same time, and everybody hears everybody", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const group = await flockOf(alice);
  const { url = "" } = await group.community.createLink();
  const joiners = await Promise.all(
    Array.from({ length: 12 }, (_, index) => newcomer(world, `Joiner ${index}`)),
  );
  expect(joiners[0]!.client.conversations.describeLink(url)).toEqual({
    conversationId: group.id,
    title: "Flock",
  });

  await Promise.all(joiners.map(({ client }) => client.conversations.join(url)));

  const all = [alice, ...joiners];
  await until(
    () => all.every((device) => inGroup(device, group.id)?.memberCount === 13),
    60_000,
    "everybody knows of everybody",
  );
  await Promise.all(
    joiners.map((device, index) => inGroup(device, group.id)!.send({ text: `hello ${index}` })),
  );
  for (let index = 0; index < joiners.length; index++) await allShow(all, group.id, `hello ${index}`);
  for (const device of all) expect(showsTwice(device, group.id)).toEqual([]);
});

test("a link lets in as many as it says, and again as many when one of them has left", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const [bob, carol, dave] = [
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
    await newcomer(world, "Dave"),
  ];
  const group = await flockOf(alice);
  const { url = "", linkId } = await group.community.createLink({ maxUses: 2 });
  await bob.client.conversations.join(url);
  await carol.client.conversations.join(url);

  await expect(dave.client.conversations.join(url)).rejects.toThrow("community/link-uses");
  // The service counts as well: an external commit made under other rules gets no further.
  const outlaw = new Outlaw(dave, world.origin);
  const connection = await RawConnection.open(world.origin);
  const link = parseInviteLink(url);
  const info = await outlaw.groupInfo(connection, group.id, link);
  const signatureKey = outlaw.identity.signatureKeys.publicKey;
  const { groupId: id, seed: linkSeed } = link;
  const ticket = createJoinTicket(crypto, { groupId: id, linkId: link.linkId, linkSeed, signatureKey });
  const joined = await outlaw.externalCommit(info, {
    ...communityLeaf,
    extensions: [encodeJoinTicket(ticket)],
  });
  expect(await connection.refusalOf(commitFrame(group.id, joined))).toBe("group/commit-invalid");

  // Uses are leaves in the tree: one is free again.
  await group.remove(bob.id);
  await dave.client.conversations.join(url);
  expect(group.community.links()).toMatchObject([{ linkId, maxUses: 2 }]);
  await talkRound([alice, carol, dave], group.id, "hello");
  expect(
    inGroup(alice, group.id)!
      .members()
      .map(({ accountId }) => accountId),
  ).toEqual(
    [alice.id, carol.id, dave.id].sort((a, b) =>
      Buffer.from(a, "base64url").compare(Buffer.from(b, "base64url")),
    ),
  );
});

test("a link that was revoked, or was never made, leads nowhere and leaves nothing behind", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const mallory = await newcomer(world, "Mallory");
  const group = await flockOf(alice);
  const others = await flockOf(mallory);
  const { url = "", linkId } = await group.community.createLink();
  const { url: elsewhere = "" } = await others.community.createLink();
  const { fingerprint } = parseInviteLink(elsewhere);
  const join = (link: string) => bob.client.conversations.join(link);

  // Wrong seed, wrong link, another group's link under this group's name.
  await expect(join(forged(url, { seed: flipped(parseInviteLink(url).seed) }))).rejects.toThrow(
    "group/not-a-member",
  );
  await expect(join(forged(url, { linkId: flipped(parseInviteLink(url).linkId) }))).rejects.toThrow(
    "group/not-a-member",
  );
  await expect(join(forged(elsewhere, { groupId: parseInviteLink(url).groupId }))).rejects.toThrow(
    "group/not-a-member",
  );
  await expect(
    join(forged(url, { groupId: groupId(flipped(parseInviteLink(url).groupId)) })),
  ).rejects.toThrow("group/unknown");
  await expect(join("https://example.org/join#AAAA")).rejects.toThrow("link/malformed");
  // A group in which nobody is whom the link names: somebody passes another group off as this one.
  await expect(join(forged(url, { fingerprint }))).rejects.toThrow("link/not-of-this-group");

  await group.community.revokeLink(linkId);
  await expect(join(url)).rejects.toThrow("group/not-a-member");
  expect(group.community.links()).toEqual([]);
  expect(bob.client.conversations.list()).toEqual([]);
  expect(namesIn(alice, group.id)).toEqual(["Alice"]);

  // Nothing of all that stands in the way of a good link.
  const { url: good = "" } = await group.community.createLink();
  await join(good);
  await talkRound([alice, bob], group.id, "hello");
});

test("what makes a link a secret never reaches the service", async () => {
  await using world = await World.start();
  const requests: Uint8Array[] = [];
  const tap = new FrameTap();
  const wrapTransport = (transport: Transport): Transport => {
    const wrapped = tap.wrapTransport(transport);
    const request = (asked: HttpRequest) => {
      requests.push(utf8(`${asked.method} ${asked.path} ${JSON.stringify(asked.headers ?? {})}`));
      if (asked.body !== undefined) requests.push(asked.body);
      return wrapped.request(asked);
    };
    return Object.assign(Object.create(wrapped) as Transport, { request, connect: wrapped.connect });
  };
  const alice = await newcomer(world, "Alice", { wrapTransport });
  const bob = await newcomer(world, "Bob", { wrapTransport });
  const group = await flockOf(alice);
  const { url = "" } = await group.community.createLink();
  await bob.client.conversations.join(url);
  await talkRound([alice, bob], group.id, "hello");

  const fragment = url.slice(url.indexOf("#") + 1);
  const { seed, linkId } = parseInviteLink(url);
  const frames = tap.sent.map((body) => encodeClientFrame({ requestId: 1, body }));
  const seen = [...frames, ...requests].map((bytes, index) => ({ name: `request ${index}`, bytes }));
  const needles = [
    { name: "seed", bytes: seed },
    { name: "fragment", bytes: utf8(fragment) },
    { name: "fragment's bytes", bytes: fromBase64Url(fragment) },
  ];
  expect(seen.length).toBeGreaterThan(20);
  expect(scan(seen, needles)).toEqual([]);
  // What the service is told of the link is found, and so would the secret be.
  expect(scan(seen, [{ name: "link id", bytes: linkId }])).not.toEqual([]);
  const planted = { name: "planted", bytes: utf8(`GET /join?${Buffer.from(seed).toString("base64url")}`) };
  expect(scan([planted], needles)).toMatchObject([{ needle: "seed" }]);
  expect(textsOf(bob.client, group.id)).toHaveLength(2);
});

const TURN_PATIENCE_MS = 10_000;

/** So many real clients are too many for one machine: these have real identities and the engine, and no database. */
test("200 lightweight clients join by one link at once", async () => {
  const many = 200;
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const group = await flockOf(alice);
  const link = parseInviteLink((await group.community.createLink()).url ?? "");
  const place = { base: world.origin, port: Number(new URL(world.origin).port) };
  const joiners = await Member.strangers(place, many);
  await Promise.all(joiners.map((joiner) => joinByLink(joiner, place, link)));
  await until(
    () => inGroup(alice, group.id)?.memberCount === many + 1,
    120_000,
    "Alice knows of all of them",
  );
  const { messageId } = await group.send({ text: "welcome, all of you" });
  await alice.client.outbox.settled();
  expect(group.message({ author: alice.id, messageId })).toMatchObject({ sendState: "accepted" });
}, 600_000);

/** Joins as often as it takes; whoever loses a race waits for its turn. */
async function joinByLink(
  joiner: Member,
  place: { readonly base: string; readonly port: number },
  link: InviteLink,
) {
  const { groupId: id, linkId, seed: linkSeed } = link;
  const socket = await joiner.connect(place);
  const tbs = encodeLeafAccessTbs({
    service: joiner.trustRoot,
    challenge: socket.challenge,
    groupId: id,
    epoch: 0,
    leafIndex: 0,
  });
  const signature = signForService(crypto, linkSeed, GROUP_ACCESS_LABEL, tbs);
  const ticketFor = (group: GroupId, signatureKey: Bytes) =>
    createJoinTicket(crypto, { groupId: group, linkId, linkSeed, signatureKey });
  for (;;) {
    const info = await socket.request({ kind: "groupInfoRequest", groupId: id, link: { linkId, signature } });
    if (info.kind !== "groupInfoReply") throw new Error(`no GroupInfo: ${info.kind}`);
    const tree = await fetchTree(place.base, info.treeHash);
    const frame = joiner.joinExternally(info, tree, id, { link: { ticketFor } as Link });
    const answer = await socket.request(frame);
    if (answer.kind === "groupCommitAccepted") return;
    // Whoever was too slow for its turn, on a machine with much else to do, has no place for a while and is told nothing.
    if (answer.kind === "groupCommitLost" && answer.place > 0)
      await joiner.nextTurn(TURN_PATIENCE_MS).catch(() => undefined);
  }
}

import { type AccountId, messageId, parseAccountId, parseGroupId, submitId } from "@murmuration/base";
import { systemEnvironment, type TextLine } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { type Content, encodeContent } from "../../../client-core/src/core/content.ts";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";

const random = (length: number) => systemEnvironment.random(length);
const linesOf = (device: SimulatedDevice, group: string): TextLine[] =>
  inGroup(device, group)!
    .history({ limit: 1_000 })
    .filter((line) => line.kind === "message");

test("a newcomer gets the past as it is now, as the word of the admin who tells it, and nobody else gets it twice", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const group = await flockOf(alice, bob);
  const long = "x".repeat(16_000);
  const said: string[] = [];
  const say = async (device: SimulatedDevice, text: string) => {
    said.push(text);
    const { messageId: id } = await inGroup(device, group.id)!.send({ text });
    await allShow([alice, bob], group.id, text);
    return id;
  };
  const first = await say(bob, "first");
  const regretted = await say(bob, "regretted");
  for (const text of [`${long}1`, `${long}2`, `${long}3`]) await say(alice, text);
  await inGroup(bob, group.id)!.edit(first, "the first");
  await inGroup(bob, group.id)!.delete({ author: bob.id, messageId: regretted });
  await group.setExpiry(3_600);
  await until(() => inGroup(bob, group.id)!.expireAfterSeconds === 3_600);
  await say(alice, "this one disappears");
  await group.setExpiry(0);
  await until(() => inGroup(bob, group.id)!.expireAfterSeconds === 0);
  await until(
    () => linesOf(alice, group.id)[0]!.text === "the first" && linesOf(alice, group.id)[1]!.deleted,
  );

  const { url = "" } = await group.community.createLink();
  const carol = await newcomer(world, "Carol");
  await carol.client.conversations.join(url);
  await until(() => inGroup(alice, group.id)!.memberCount === 3);
  await talkRound([alice, bob, carol], group.id, "after");
  const bobs = linesOf(bob, group.id).length;

  await expect(inGroup(bob, group.id)!.community.shareHistory()).rejects.toThrow("group/not-an-admin");
  await expect(group.community.shareHistory(101)).rejects.toThrow("group/bad-count");
  expect(await group.community.shareHistory()).toBe(8);

  const told = () => linesOf(carol, group.id).filter(({ sharedBy }) => sharedBy !== undefined);
  await until(() => told().length === 5, 40_000, "Carol is told");
  expect(told().map(({ text }) => text)).toEqual(["the first", "", `${long}1`, `${long}2`, `${long}3`]);
  expect(told()[0]).toMatchObject({ author: bob.id, messageId: first, edited: true, outgoing: false });
  expect(told()[1]).toMatchObject({ author: bob.id, messageId: regretted, deleted: true });
  expect(new Set(told().map(({ sharedBy }) => sharedBy))).toEqual(new Set([alice.id]));
  const ids = linesOf(carol, group.id).map(({ historyId }) => historyId);
  expect(ids).toEqual([...ids].sort((a, b) => a - b));
  const shown = told().map(({ sentAtMs }) => sentAtMs);
  const [ofBob] = linesOf(bob, group.id);
  expect(Math.abs(shown[0]! - ofBob!.sentAtMs)).toBeLessThan(60_000);

  // What the author says of it later counts for the told line too; and told again it is there once.
  await inGroup(bob, group.id)!.edit(first, "the very first");
  await until(() => told()[0]!.text === "the very first", 40_000, "Bob's edit reaches the told line");
  await group.community.shareHistory();
  await talkRound([alice, bob, carol], group.id, "later");
  expect(told()).toHaveLength(5);
  expect(linesOf(bob, group.id)).toHaveLength(bobs + 3);
  expect(linesOf(bob, group.id).every(({ sharedBy }) => sharedBy === undefined)).toBe(true);
});

test("nobody takes the past from a plain member, and an admin cannot tell somebody what was said in its presence", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const dave = await newcomer(world, "Dave");
  const group = await flockOf(alice, bob, dave);
  await group.setRole(dave.id, "admin");
  const { url = "" } = await group.community.createLink();
  const carol = await newcomer(world, "Carol");
  await carol.client.conversations.join(url);
  await until(() => [bob, dave].every((device) => inGroup(device, group.id)!.memberCount === 4));

  const item = (author: AccountId, text: string, sentAtMs: number) => ({
    accountId: author,
    deviceId: 1,
    messageId: messageId(random(16)),
    sentAtMs,
    edited: false,
    body: { text, attachments: [] },
  });
  const forge = async (liar: SimulatedDevice, items: NonNullable<Content["sharedHistory"]>["items"]) => {
    await liar.stop();
    const outlaw = new Outlaw(liar, world.origin);
    const connection = await outlaw.enter(group.id);
    const groupId = parseGroupId(group.id);
    const content = encodeContent({
      messageId: messageId(random(16)),
      group: { groupId, revision: 0 },
      sharedHistory: { items },
    });
    const { message } = outlaw.group(group.id).createApplicationMessage(content);
    await connection.demand("groupSubmitAccepted", {
      kind: "groupSubmit",
      groupId,
      submitId: submitId(random(16)),
      message,
    });
  };
  const [owner, admin] = [parseAccountId(alice.id), dave.id];
  const long = Date.now() - 86_400_000;
  await forge(bob, [item(owner, "said by a plain member", long)]);
  await forge(dave, [
    item(owner, "told of a time that Carol saw herself", Date.now() + 3_600_000),
    item(owner, "told of the past", long),
  ]);
  await until(() => textsOf(carol.client, group.id).includes("told of the past"), 40_000, "Carol is told");
  await group.send({ text: "is that so?" });
  await allShow([alice, carol], group.id, "is that so?");
  expect(textsOf(carol.client, group.id)).toEqual(["told of the past", "is that so?"]);
  expect(linesOf(carol, group.id)[0]).toMatchObject({ author: alice.id, sharedBy: admin });
  // Alice was there from the beginning.
  expect(textsOf(alice.client, group.id)).toEqual(["is that so?"]);
});

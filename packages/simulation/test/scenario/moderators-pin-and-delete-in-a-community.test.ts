import {
  formatId,
  messageId,
  parseAccountId,
  parseGroupId,
  parseMessageId,
  submitId,
} from "@murmuration/base";
import { systemEnvironment } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { type Content, encodeContent } from "../../../client-core/src/core/content.ts";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, tell } from "../support/bent-creator.ts";
import { allShow, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";

const random = (length: number) => systemEnvironment.random(length);

/** What a member says whose program knows no roles. The device is stopped for it. */
async function forge(
  world: World,
  liar: SimulatedDevice,
  group: string,
  bodies: readonly Partial<Content>[],
): Promise<void> {
  await liar.stop();
  const outlaw = new Outlaw(liar, world.origin);
  const connection = await outlaw.enter(group);
  const groupId = parseGroupId(group);
  const mls = outlaw.group(group);
  for (const body of bodies) {
    const content = encodeContent({
      messageId: messageId(random(16)),
      group: { groupId, revision: 0 },
      ...body,
    });
    const { message } = mls.createApplicationMessage(content);
    const frame = { kind: "groupSubmit", groupId, submitId: submitId(random(16)), message } as const;
    await connection.demand("groupSubmitAccepted", frame);
  }
}

async function threeOfThem(world: World) {
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  await group.setRole(bob.id, "admin");
  await until(() =>
    inGroup(carol, group.id)!
      .members()
      .some(({ role }) => role === "admin"),
  );
  return { alice, bob, carol, group };
}

test("an admin pins and unpins for everybody, a plain member for nobody", async () => {
  await using world = await World.start();
  const { alice, bob, carol, group } = await threeOfThem(world);
  const { messageId: rules } = await group.send({ text: "the rules" });
  const { messageId: map } = await group.send({ text: "the map" });
  await allShow([bob, carol], group.id, "the map");
  const target = { author: alice.id, messageId: rules };
  const pinned = (device: SimulatedDevice) =>
    inGroup(device, group.id)!
      .pins()
      .map(({ text }) => text);
  const all = [alice, bob, carol];
  const nowPinned = (texts: readonly string[], devices = all) =>
    until(
      () => devices.every((device) => JSON.stringify(pinned(device)) === JSON.stringify(texts)),
      40_000,
      `pinned: ${texts}`,
    );

  await inGroup(bob, group.id)!.pin(target);
  await nowPinned(["the rules"]);
  await group.pin({ author: alice.id, messageId: map });
  await nowPinned(["the map", "the rules"]);
  for (const device of all)
    expect(inGroup(device, group.id)!.history().at(-1)).toMatchObject({
      kind: "notice",
      author: alice.id,
      notice: { code: "group/message-pinned", message: { author: alice.id, messageId: map } },
    });
  await expect(inGroup(carol, group.id)!.pin(target)).rejects.toThrow("group/not-an-admin");
  await expect(inGroup(carol, group.id)!.unpin(target)).rejects.toThrow("group/not-an-admin");
  const direct = alice.client.conversations.direct(bob.id);
  await expect(direct.pin(target)).rejects.toThrow("conversation/not-a-community");

  await inGroup(bob, group.id)!.unpin({ author: alice.id, messageId: map });
  await nowPinned(["the rules"]);
  await alice.client.outbox.settled();
  const pin = (id: string, value: boolean) => ({
    pin: {
      target: { accountId: parseAccountId(target.author), messageId: parseMessageId(id) },
      pinned: value,
    },
  });
  await forge(world, carol, group.id, [pin(rules, false), pin(map, true)]);
  await talkRound([alice, bob], group.id, "so it stays");
  await nowPinned(["the rules"], [alice, bob]);
  await group.delete(target);
  await nowPinned([], [alice, bob]);
});

test("an admin deletes the message of a member everywhere, and a plain member cannot", async () => {
  await using world = await World.start();
  const { alice, bob, carol, group } = await threeOfThem(world);
  const { messageId: spam } = await inGroup(carol, group.id)!.send({ text: "buy my seeds" });
  const { messageId: wise } = await group.send({ text: "a wise word" });
  await allShow([alice, bob, carol], group.id, "a wise word");
  await allShow([alice, bob], group.id, "buy my seeds");
  const ofCarol = { author: carol.id, messageId: spam };
  const isGone = (device: SimulatedDevice) => {
    const line = inGroup(device, group.id)!.message(ofCarol);
    return line?.kind === "message" && line.deleted && line.text === "";
  };

  await inGroup(bob, group.id)!.delete(ofCarol);
  await until(() => [alice, bob, carol].every(isGone), 40_000, "the message is gone everywhere");

  const ofAlice = { author: alice.id, messageId: wise };
  await expect(inGroup(carol, group.id)!.delete(ofAlice)).rejects.toThrow("conversation/not-the-author");
  await carol.client.outbox.settled();
  const target = { accountId: parseAccountId(ofAlice.author), messageId: parseMessageId(wise) };
  await forge(world, carol, group.id, [{ delete: { target } }]);
  await talkRound([alice, bob], group.id, "so it stays");
  for (const device of [alice, bob])
    expect(inGroup(device, group.id)!.message(ofAlice)).toMatchObject({
      text: "a wise word",
      deleted: false,
    });
});

test("a member hides nothing from an admin by having said its id to the admin alone before", async () => {
  await using world = await World.start();
  const { alice, bob, carol, group } = await threeOfThem(world);
  const { context } = insidesOf(carol);
  const id = context.newMessageId();
  // Nothing that anybody would see, and a text.
  tell(carol, alice, [{ messageId: id }]);
  tell(carol, bob, [{ messageId: id, text: { text: "good morning", attachments: [] } }]);
  await carol.client.outbox.settled();
  await until(() => textsOf(bob.client, carol.id).includes("good morning"));
  const { newMessageId } = context;
  Object.assign(context, { newMessageId: () => id });
  await inGroup(carol, group.id)!.send({ text: "not for admins" });
  Object.assign(context, { newMessageId });
  await allShow([alice, bob], group.id, "not for admins");
  await inGroup(bob, group.id)!.delete({ author: carol.id, messageId: formatId(id) });
  await until(() =>
    [alice, bob].every((device) => !textsOf(device.client, group.id).includes("not for admins")),
  );
  expect(textsOf(bob.client, carol.id)).toEqual(["good morning"]);
});

import type { Conversation, TextLine } from "@murmuration/client-core";
import { expect, test } from "vitest";
import {
  FrameTap,
  introduce,
  type SimulatedDevice,
  testLimits,
  textsOf,
  until,
  World,
} from "../../src/index.ts";

/** A service whose mailboxes hold little, as after weeks of absence. */
const cramped = (mailboxEnvelopes: number) =>
  World.start({ service: { limits: { ...testLimits, mailboxEnvelopes } } });

const linesOf = (conversation: Conversation | undefined): readonly TextLine[] =>
  (conversation?.history({ limit: 1_000 }) ?? []).filter((line): line is TextLine => line.kind === "message");

const on = (device: SimulatedDevice, id: string) => device.client.conversations.get(id);

test("the others get each message, the sender sees who did not, and who comes back gets all of them once", async () => {
  await using world = await cramped(24);
  const tap = new FrameTap();
  const alice = await world.join("Alice", { wrapTransport: tap.wrapTransport });
  const [bob, carol] = [await world.join("Bob"), await world.join("Carol")];
  await introduce(alice, bob, carol);
  const [bobId, carolId] = [bob.id, carol.id];
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bobId, carolId] });
  await until(() => on(bob, group.id)?.state === "active" && on(carol, group.id)?.state === "active");
  await alice.client.outbox.settled();
  await carol.stop();

  const texts = Array.from({ length: 32 }, (_, i) => `message ${i}`);
  tap.sent.length = 0;
  for (const text of texts) {
    const { messageId } = await group.send({ text });
    await until(() => linesOf(group).find((line) => line.messageId === messageId)?.sendState === "accepted");
  }
  await until(() => textsOf(bob.client, group.id).length === texts.length);
  expect(textsOf(bob.client, group.id)).toEqual(texts);

  const reach = () => linesOf(on(alice, group.id)).map((line) => line.notReached);
  const left = reach().filter((missing) => missing.length > 0);
  expect(left.length).toBeGreaterThan(2);
  expect(left).toEqual(left.map(() => [carolId]));
  // From the first message on that she has no room for: what came before is in her mailbox.
  expect(reach()).toEqual([...Array(texts.length - left.length).fill([]), ...left]);
  // The group was refused as a whole once; after that Carol was left out without asking.
  const toBoth = tap.sent.filter((body) => body.kind === "submitSealed" && body.recipients.length === 2);
  expect(toBoth).toHaveLength(texts.length - left.length + 1);

  // Her copies wait in the database, not in the program.
  await alice.stop();
  await alice.start();
  await alice.client.connection.caughtUp();
  await until(() => alice.client.outbox.waiting === left.length);
  expect(reach().filter((missing) => missing.length > 0)).toEqual(left);
  const changes: string[] = [];
  alice.client.events.on((event) => {
    if (event.kind === "line-changed" && event.change === "send-state") changes.push(event.line!.messageId);
  });

  await carol.start();
  await until(() => textsOf(carol.client, group.id).length === texts.length, 60_000);
  expect(textsOf(carol.client, group.id)).toEqual(texts);
  await until(() => reach().every((missing) => missing.length === 0), 60_000);
  expect(new Set(changes).size).toBe(left.length);
  await on(carol, group.id)!.send({ text: "I am back" });
  await until(() => textsOf(alice.client, group.id).includes("I am back"));
}, 180_000);

test("a message that nobody has room for counts as waiting until somebody has", async () => {
  await using world = await cramped(16);
  const [alice, carol] = [await world.join("Alice"), await world.join("Carol")];
  await introduce(alice, carol);
  const group = await alice.client.conversations.createGroup({ title: "Two birds", members: [carol.id] });
  await until(() => on(carol, group.id)?.state === "active");
  const carolId = carol.id;
  await carol.stop();
  const texts = Array.from({ length: 20 }, (_, i) => `message ${i}`);
  for (const text of texts) await group.send({ text });
  const last = () => linesOf(group).at(-1)!;
  await until(() => last().notReached.length > 0);
  await until(() => linesOf(group)[0]!.sendState === "accepted");
  expect(last()).toMatchObject({ sendState: "waiting", failure: undefined, notReached: [carolId] });
  await carol.start();
  await until(() => linesOf(group).every((line) => line.sendState === "accepted"), 60_000);
  await until(() => textsOf(carol.client, group.id).length === texts.length);
  expect(textsOf(carol.client, group.id)).toEqual(texts);
}, 180_000);

test("more full mailboxes than lanes at a time do not keep a message from anybody else", async () => {
  await using world = await cramped(8);
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  const sleepers: SimulatedDevice[] = [];
  for (let i = 0; i < 18; i++) sleepers.push(await world.join(`Sleeper ${i}`));
  await introduce(alice, bob);
  for (const sleeper of sleepers) {
    await alice.client.contacts.add(sleeper.client.account!.contactCard);
    await sleeper.client.contacts.add(alice.client.account!.contactCard);
  }
  const ids = sleepers.map((sleeper) => sleeper.id);
  const group = await alice.client.conversations.createGroup({ title: "Roost", members: [bob.id, ...ids] });
  await until(() => [bob, ...sleepers].every((device) => on(device, group.id)?.state === "active"));
  for (const sleeper of sleepers) await sleeper.stop();
  for (let i = 0; i < 10; i++) await group.send({ text: `message ${i}` });
  await until(() => textsOf(bob.client, group.id).length === 10);
  await until(() => linesOf(group).at(-1)!.notReached.length === sleepers.length);
  await alice.client.conversations.direct(bob.id).send({ text: "only to you" });
  await until(() => textsOf(bob.client, alice.id).includes("only to you"));
}, 180_000);

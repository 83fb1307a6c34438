import { formatId } from "@murmuration/base";
import { expect, test } from "vitest";
import { FrameTap, introduce, textsOf, until, World } from "../../src/index.ts";

test("a group member confirms to the author and to nobody else, delivered and read", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  const alice = await world.join("Alice");
  const bob = await world.join("Bob", { wrapTransport: tap.wrapTransport });
  const carol = await world.join("Carol");
  await introduce(alice, bob, carol);
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id, carol.id] });
  await until(() => [bob, carol].every((device) => device.client.conversations.get(group.id) !== undefined));
  await bob.client.outbox.settled();
  tap.sent.length = 0;

  await group.send({ text: "who confirms to whom?" });
  await until(() => textsOf(bob.client, group.id).length === 1);
  const onBob = bob.client.conversations.get(group.id)!;
  await onBob.markRead(onBob.history().at(-1)!.historyId);
  await until(() => {
    const line = group.history().find((entry) => entry.kind === "message");
    return line?.kind === "message" && line.deliveredTo.length === 2 && line.readBy.includes(bob.id);
  });
  const recipients = tap.sent.flatMap((body) =>
    body.kind === "submitSealed" ? body.recipients.map((recipient) => formatId(recipient.accountId)) : [],
  );
  expect(recipients.length).toBeGreaterThan(0);
  expect(new Set(recipients)).toEqual(new Set([alice.id]));
  expect(tap.sent.filter((body) => body.kind === "submitSealed" && body.fence !== undefined)).toHaveLength(0);
});

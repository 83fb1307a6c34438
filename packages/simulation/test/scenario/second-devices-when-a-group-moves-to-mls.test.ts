import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, World } from "../../src/index.ts";
import { countOf, hearEachOther, membersOf, on, PATIENCE_MS } from "../support/communities.ts";
import { allMoved, movable, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

/** A second device of somebody's account; it has its own database and connects. */
async function link(world: World, first: SimulatedDevice): Promise<SimulatedDevice> {
  const second = world.device({ name: "second", settings: movable });
  const client = await second.open();
  const request = await client.linking.request(first.client.linking.offer());
  await client.linking.finish(await first.client.linking.approve(request));
  client.connection.start();
  return second;
}

const groupsOf = (device: SimulatedDevice): readonly string[] =>
  device.client.conversations
    .list()
    .filter(({ kind }) => kind === "group")
    .map(({ id }) => id);

/** What one device of an account does to a conversation, the other one shows. */
async function requireSync(
  one: SimulatedDevice,
  other: SimulatedDevice,
  speaker: SimulatedDevice,
  id: string,
) {
  for (const [by, seen] of [
    [one, other],
    [other, one],
  ] as const) {
    const untilMs = on(by, id).mutedUntilMs === undefined ? Number.MAX_SAFE_INTEGER : undefined;
    await on(by, id).setMuted(untilMs);
    await untilIn(
      [by, seen],
      id,
      () => on(seen, id).mutedUntilMs === untilMs,
      "the other device is muted too",
    );
    const { messageId } = await on(speaker, id).send({ text: `read on ${by.path}` });
    const lineOn = (device: SimulatedDevice) => {
      const line = on(device, id).message({ author: speaker.id, messageId });
      return line?.kind === "message" ? line : undefined;
    };
    await untilIn([by, seen], id, () => [by, seen].every((d) => lineOn(d) !== undefined), "both have it");
    await on(by, id).markRead(lineOn(by)!.historyId);
    await untilIn([by, seen], id, () => lineOn(seen)?.read === true, "the other device knows it as read");
  }
}

// The faults that these find: a device that is not in the MLS group because its account is; two conversations on one device,
// under the two ids that the group has; and own devices that talk about one conversation under two names.
test("devices that were linked before and during the move go along, and an account's devices agree", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const tablet = await link(world, bob);
  const laptop = await link(world, alice);
  await untilIn(
    [tablet, laptop],
    id,
    () => [tablet, laptop].every((d) => on(d, id)?.state === "active"),
    "linked",
  );
  const talk = new Talk(id);
  const linked = [alice, laptop, bob, tablet, carol];
  for (const device of linked) await talk.say(device, "before");
  await talk.heardBy(linked);
  await carol.stop();
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => on(alice, id).migration?.readyAccounts === 2, "all but one are ready");
  const phone = await link(world, bob);
  await untilIn([phone], id, () => on(phone, id)?.state === "active", "linked during the move");
  for (const device of [alice, laptop, bob, tablet, phone]) await talk.say(device, "meanwhile");
  await on(alice, id).migrate("finish-now");
  await allMoved([alice, laptop, bob, tablet], id);
  await carol.start();
  const everybody = [...linked, phone];
  await requireMoved(everybody, id, "all devices");
  await talk.heardBy(linked);
  for (const device of everybody) {
    expect(membersOf(device, id)).toHaveLength(3);
    expect(groupsOf(device)).toEqual([id]);
  }
  expect([...textsOf(tablet.client, id)].sort()).toEqual([...textsOf(bob.client, id)].sort());
  await requireSync(bob, tablet, carol, id);
  await requireSync(alice, laptop, carol, id);
}, 120_000);

// Its Welcome comes before it is told of the conversation that the group carries.
test("a device that is linked after the move has the group under the name that its account knows it by", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const everybody = [alice, bob, carol];
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await on(alice, id).migrate("start");
  await requireMoved(everybody, id, "moved");
  // The record keeps the name that the group had when it moved.
  await on(alice, id).setTitle("Cranes");
  await untilIn(everybody, id, () => everybody.every((d) => on(d, id).title === "Cranes"), "the new name");
  await alice.client.outbox.settled();
  const tablet = await link(world, bob);
  await untilIn([tablet], id, () => groupsOf(tablet).length > 0, "the tablet has it");
  await untilIn([tablet], id, () => on(tablet, id)?.protocol === "mls", "by MLS", PATIENCE_MS);
  await hearEachOther([...everybody, tablet], id, "two devices");
  expect(groupsOf(tablet)).toEqual([id]);
  expect(on(tablet, id).title).toBe("Cranes");
  expect(countOf(tablet, id, "moved, member 0"), "a newcomer sees from its join on").toBe(0);
  await requireSync(bob, tablet, carol, id);
}, 120_000);

import { formatId, type GroupId, parseAccountId, parseGroupId } from "@murmuration/base";
import { routePath } from "@murmuration/wire";
import { expect, test } from "vitest";
import { migrationGroupId } from "../../../client-core/src/core/migration/keys.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, writeStep } from "../support/bent-creator.ts";
import { PATIENCE_MS } from "../support/communities.ts";
import { HeldRequests } from "../support/held-requests.ts";
import { LyingRecords } from "../support/lying-records.ts";
import { groupOf, inConversation, stays } from "../support/pairwise-groups.ts";

/** Each of them comes in a batch of its own. */
const WORDS = 40;

/** A community under the name that the group of a coming generation would have: whoever was a member can guess it. */
async function claim(mallory: SimulatedDevice, group: string, generation: number, victim: SimulatedDevice) {
  const wireId = migrationGroupId(parseGroupId(group) as GroupId, generation);
  const { communities } = insidesOf(mallory);
  await communities.create(wireId, { title: "Trap", description: "" }, 0, [parseAccountId(victim.id)]);
  return formatId(wireId);
}

async function birds() {
  const world = await World.start();
  const reads = new LyingRecords();
  const [alice, mallory] = [await world.join("Alice"), await world.join("Mallory")];
  const bob = await world.join("Bob", { wrapTransport: reads.wrapTransport });
  const all = [alice, bob, mallory] as const;
  await introduce(...all);
  return { world, reads, alice, bob, mallory, all, group: await groupOf(...all) };
}

test("a Welcome for a generation that no record knows makes nobody ask for the record without end, nor hold it", async () => {
  const { world, reads, bob, mallory, group } = await birds();
  await using _ = world;
  await claim(mallory, group.id, 2, bob);
  await until(() => reads.reads > 0);
  const before = reads.reads;
  await stays(2_000, () => expect(reads.reads - before).toBeLessThan(10));
  expect(insidesOf(bob).context.mls.welcomes()).toEqual([]);
  expect(bob.client.conversations.list().map(({ title }) => title)).not.toContain("Trap");
}, 60_000);

// The group may have taken it back, and its record can not be read: so the Welcome is kept.
test("a device that was removed asks ever less often for the record that a Welcome is about", async () => {
  const { world, reads, alice, bob, mallory, group } = await birds();
  await using _ = world;
  await inConversation(alice, group.id).remove(bob.id);
  await until(() => inConversation(bob, group.id).state === "removed", PATIENCE_MS, "Bob is out");
  await claim(mallory, group.id, 1, bob);
  await until(() => insidesOf(bob).context.mls.welcomes().length === 1, PATIENCE_MS, "the Welcome is here");
  const before = reads.asked;
  for (let word = 0; word < WORDS; word++) {
    await alice.client.conversations.direct(bob.id).send({ text: `word ${word}` });
    await until(() => textsOf(bob.client, alice.id).includes(`word ${word}`));
  }
  expect(reads.asked - before).toBeLessThan(6);
}, 60_000);

test("a group that claims the name of a coming generation keeps nobody from moving", async () => {
  const { world, alice, bob, mallory, all, group } = await birds();
  await using _ = world;
  // Too far ahead to be recognised: Bob is in it, as in any other.
  const trap = await claim(mallory, group.id, 6, bob);
  await until(() => bob.client.conversations.get(trap) !== undefined);
  for (let generation = 1; generation <= 5; generation++) {
    await writeStep(alice, group.id, () => ({ kind: "migrate-prepare", generation }));
    await writeStep(alice, group.id, () => ({ kind: "migrate-abort", generation }));
  }
  await inConversation(alice, group.id).migrate("start");
  await until(() => all.every((device) => inConversation(device, group.id).protocol === "mls"));
  await inConversation(bob, group.id).send({ text: "moved" });
  await until(() => all.every((device) => textsOf(device.client, group.id).includes("moved")));
  expect(inConversation(bob, group.id).migration?.generation).toBe(7);
  expect(bob.client.conversations.get(trap)?.state).toBe("removed");
}, 60_000);

// What a creator says and what the service says for it come by two ways: either may be first.
test("a Welcome that comes before any word of the move leads in, once the record has named its group", async () => {
  const world = await World.start();
  await using _ = world;
  const saying = new LyingRecords();
  const alice = await world.join("Alice", { wrapTransport: saying.wrapTransport });
  const bob = await world.join("Bob");
  await introduce(alice, bob);
  const group = await groupOf(alice, bob);
  // Nothing that Alice says by herself comes through.
  saying.lieAboutSubmits(() => "swallow");
  await inConversation(alice, group.id).migrate("start");
  await until(
    () => inConversation(alice, group.id).migration?.readyAccounts === 2,
    PATIENCE_MS,
    "Bob is ready",
  );
  const { context } = insidesOf(bob);
  expect(context.mls.group(parseGroupId(group.id))?.state).toBe("active");
  expect(context.meter).toMatchObject({ welcomes: 1, rejoins: 0 });
  expect(context.mls.welcomes()).toEqual([]);
}, 60_000);

// Whoever was a member knows the name that the group will have, and when its maker is about to ask for the record.
test("a Welcome into the very group that one makes oneself leads nowhere", async () => {
  const world = await World.start();
  await using _ = world;
  const held = new HeldRequests();
  const alice = await world.join("Alice", { wrapTransport: held.wrapTransport });
  const [bob, mallory] = [await world.join("Bob"), await world.join("Mallory")];
  await introduce(alice, bob, mallory);
  const group = await groupOf(alice, bob, mallory);
  held.keep(`GET ${routePath("readGroup", { groupId: group.id })}`);
  await claim(mallory, group.id, 1, alice);
  await until(() => held.count > 0, PATIENCE_MS, "the record is asked for, for the Welcome");
  const begun = inConversation(alice, group.id).migrate("start");
  await until(() => inConversation(alice, group.id).migration !== undefined, PATIENCE_MS, "the move begins");
  held.letGo();
  await begun;
  const all = [alice, bob, mallory];
  await until(() => all.every((device) => inConversation(device, group.id).protocol === "mls"), PATIENCE_MS);
  // Its name was taken: the next one is as good.
  expect(inConversation(alice, group.id).migration?.generation).toBe(2);
  expect(insidesOf(alice).context.mls.welcomes()).toEqual([]);
}, 60_000);

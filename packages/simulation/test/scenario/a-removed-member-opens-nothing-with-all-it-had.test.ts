import { expect, test } from "vitest";
import { createInProcessValidator } from "../../../delivery-service/src/adapters/in-process-validator.ts";
import { attack, type Booty } from "../../../mls-groups/test/property/oracle/attacker.ts";
import { leavePathUnblanked, sealToRemovedLeaves } from "../../../mls-groups/test/property/oracle/faults.ts";
import { HoardingStore, type Loot, lootOf } from "../../../mls-groups/test/property/oracle/loot.ts";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";
import { crypto, Outlaw } from "../support/outlaw.ts";
import { RecordedTraffic } from "../support/recorded-traffic.ts";

/** Everything that lies in a device's database now about this group, as an attacker sorts it. */
function copyOf(device: SimulatedDevice, world: World, id: string): Loot {
  const outlaw = new Outlaw(device, world.origin);
  const store = new HoardingStore();
  for (const [key, value] of outlaw.storeOf(id).rows) store.hoard.push({ key, value: value.slice() });
  const loot = lootOf(crypto, store);
  for (const key of outlaw.keyPackageKeys) loot.privateKeys.add(key);
  return loot;
}

interface Attacks {
  /** Epochs from the removal on: what the removed member got out of each, with copies of every moment before. */
  readonly removed: readonly Booty[];
  /** The first of them, attacked by the same routine with what a member who stayed had before. */
  readonly stayed: Booty;
  /** The last epoch before the removal, with what the removed member had just before that. */
  readonly before: Booty;
}

/**
 * A community whose members have all committed loses Dave and goes on: talk, a commit, a newcomer. `plant` puts a fault
 * into everybody, the service included, for the commit that removes him: by Alice, who shares only the root with him.
 */
async function removeDave(plant?: () => () => void): Promise<Attacks> {
  const recorded = new RecordedTraffic();
  await using world = await World.start({
    replacements: () => ({ ...recorded.replacements(), validator: createInProcessValidator() }),
  });
  const [alice, bob, carol, dave] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
    await newcomer(world, "Dave"),
  ];
  const all = [alice, bob, carol, dave];
  const group = await flockOf(alice, bob, carol, dave);
  const { id } = group;
  await group.community.setSettings({ profileBy: "member" });

  const daves = copyOf(dave, world, id);
  for (const [index, member] of all.entries()) {
    const title = `Flock ${index}`;
    await until(() => inGroup(member, id)!.community.settings().profileBy === "member");
    await inGroup(member, id)!.setTitle(title);
    await until(() => all.every((other) => inGroup(other, id)?.title === title), 20_000, title);
    daves.merge(copyOf(dave, world, id));
  }
  const last = copyOf(dave, world, id);
  await talkRound(all, id, "with Dave");
  daves.merge(copyOf(dave, world, id));
  const carols = copyOf(carol, world, id);
  const epochsBefore = recorded.of(id, 0).length;

  const takeOut = plant?.();
  try {
    await group.remove(dave.id);
    await until(() => [alice, bob, carol].every((device) => namesIn(device, id).length === 3));
  } finally {
    takeOut?.();
  }
  await talkRound([alice, bob, carol], id, "without Dave");
  // With the fault the tree is one that nobody could join.
  if (plant === undefined) {
    await group.setTitle("Starlings");
    await talkRound([alice, bob, carol], id, "later");
    const erin = await newcomer(world, "Erin");
    await group.add([erin.id]);
    await until(() => inGroup(erin, id)?.title === "Starlings");
    await talkRound([alice, bob, carol, erin], id, "much later");
  }

  const traffic = recorded.of(id, new Outlaw(alice, world.origin).group(id).tree.leafSlots);
  const upTo = (count: number) => traffic.slice(0, count);
  return {
    removed: traffic
      .slice(epochsBefore)
      .map((_, index) => attack(crypto, daves, upTo(epochsBefore + index + 1))),
    stayed: attack(crypto, carols, upTo(epochsBefore + 1)),
    before: attack(crypto, last, upTo(epochsBefore)),
  };
}

test("with copies of its database and all that the service stored, a removed member opens nothing said after it", async () => {
  const { removed, stayed, before } = await removeDave();

  expect(removed.length).toBeGreaterThanOrEqual(3);
  for (const { authenticator, messages, attempts } of removed) {
    expect(authenticator).toBeUndefined();
    expect(messages).toBe(0);
    expect(attempts).toBeGreaterThan(20);
  }
  // The same routine opens what he may read, and for Carol, who stayed, the first epoch without him.
  expect(before.messages).toBeGreaterThanOrEqual(4);
  expect(stayed.authenticator).toBeDefined();
  expect(stayed.messages).toBeGreaterThanOrEqual(3);
});

test.each([
  { name: "a path that is sealed to the removed leaf as well", plant: sealToRemovedLeaves },
  { name: "a removed member's path that was not blanked", plant: leavePathUnblanked },
])("$name gives the removed member what was said after it", async ({ plant }) => {
  const { removed } = await removeDave(plant);
  expect(removed[0]?.authenticator).toBeDefined();
  expect(removed[0]?.messages).toBeGreaterThanOrEqual(3);
});

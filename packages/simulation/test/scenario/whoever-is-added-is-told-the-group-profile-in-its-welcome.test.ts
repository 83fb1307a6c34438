import { type Environment, systemEnvironment } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, until, World } from "../../src/index.ts";
import { logOf } from "../support/communities.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";

const profileOf = (device: SimulatedDevice, group: string) => {
  const conversation = inGroup(device, group);
  return [conversation?.title, conversation?.community.description];
};

const applicationsIn = (world: World, group: string): number =>
  logOf(world, group).filter(({ kind }) => kind === "application").length;

test("whoever is added has title and description when it enters, and nobody says them for it", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const group = await flockOf(alice, bob);
  await group.community.setDescription("Starlings only");
  await until(() => profileOf(bob, group.id)[1] === "Starlings only");
  await alice.client.outbox.settled();
  const before = applicationsIn(world, group.id);

  const carol = await newcomer(world, "Carol");
  const dave = await newcomer(world, "Dave", { settings: { acceptUnknown: false } });
  await introduce(alice, carol);
  expect(await group.add([carol.id, dave.id])).toEqual([]);
  for (const device of [carol, dave]) {
    await until(() => inGroup(device, group.id) !== undefined, 40_000, "it is in");
    // From the first moment: there is nothing to wait for.
    expect(profileOf(device, group.id)).toEqual(["Flock", "Starlings only"]);
  }
  // Also who is asked first whether it wants to be there sees what it is asked about.
  expect(inGroup(dave, group.id)?.state).toBe("request");
  await alice.client.outbox.settled();
  expect(applicationsIn(world, group.id)).toBe(before);
});

test("whoever is added by a member that does not know the profile itself is told as soon as that one is", async () => {
  await using world = await World.start();
  const tampered = new TamperedLog();
  const hurried: Environment = {
    ...systemEnvironment,
    sleep: (ms, signal) => systemEnvironment.sleep(ms >= 10_000 ? ms / 3 : ms, signal),
  };
  const alice = await newcomer(world, "Alice");
  const { wrapTransport } = tampered;
  const bob = await newcomer(world, "Bob", { environment: hurried, wrapTransport });
  const group = await flockOf(alice, bob);
  await group.community.setSettings({ addBy: "member" });
  await talkRound([alice, bob], group.id, "before");
  const spoilt = tampered.spoilNext();
  await group.setTitle("Murmuration");
  await until(spoilt, 40_000, "what is said of the profile comes");

  const carol = await newcomer(world, "Carol");
  await introduce(bob, carol);
  expect(await inGroup(bob, group.id)!.add([carol.id])).toEqual([]);
  await until(() => inGroup(carol, group.id) !== undefined, 40_000, "Carol is in");
  expect(profileOf(bob, group.id)[0]).toBe("Flock");
  expect(profileOf(carol, group.id)[0]).toBe("");
  await until(() => profileOf(carol, group.id)[0] === "Murmuration", 40_000, "Carol is told");
  expect(profileOf(bob, group.id)[0]).toBe("Murmuration");
});

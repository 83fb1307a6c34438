import { type Client, type Environment, systemEnvironment } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { logOf } from "../support/communities.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";

/**
 * Members wait at random before they answer. Here each draws a place of its own, and its pauses last so much longer that
 * what one says reaches the others in between, also on a busy machine.
 */
function patient(place: number): Environment {
  const drawn = new Uint8Array(4);
  new DataView(drawn.buffer).setUint32(0, Math.floor(((place + 0.5) / 4) * 2 ** 32));
  return {
    ...systemEnvironment,
    random: (length) => (length === 4 ? drawn.slice() : systemEnvironment.random(length)),
    sleep: (ms, signal) => systemEnvironment.sleep(ms <= 100 ? ms * 50 : ms, signal),
  };
}

const applicationsIn = (world: World, group: string): number =>
  logOf(world, group).filter(({ kind }) => kind === "application").length;

const profileOf = (device: SimulatedDevice, group: string) => {
  const conversation = inGroup(device, group);
  return [conversation?.title, conversation?.community.description];
};

/** Counts what is told of a conversation. */
function changesOf(client: Client, group: string): () => number {
  return () =>
    client.events
      .read(0, 10_000)
      .filter((event) => event.kind === "conversation-changed" && event.conversationId === group).length;
}

test("a newcomer by an old link has the present title and description in the end, and few have answered", async () => {
  await using world = await World.start();
  const members: SimulatedDevice[] = [];
  for (const [place, name] of ["Alice", "Bob", "Carol", "Dave"].entries())
    members.push(await newcomer(world, name, { environment: patient(place) }));
  const [alice, ...others] = members as [SimulatedDevice, ...SimulatedDevice[]];
  const group = await flockOf(alice, ...others);
  const { url = "" } = await group.community.createLink();
  await group.setTitle("Murmuration");
  await group.community.setDescription("Starlings only");
  await until(() => members.every((device) => profileOf(device, group.id)[1] === "Starlings only"));
  await alice.client.outbox.settled();

  const erin = await newcomer(world, "Erin");
  const before = applicationsIn(world, group.id);
  const joined = await erin.client.conversations.join(url);
  expect(erin.client.conversations.describeLink(url).title).toBe("Flock");
  const told = changesOf(erin.client, group.id);
  await until(() => profileOf(erin, group.id)[1] === "Starlings only", 40_000, "Erin is told");
  expect(joined.title).toBe("Murmuration");
  expect(told()).toBeGreaterThan(0);

  // Everybody's time to answer has come and gone: one question, and one answer or two.
  await systemEnvironment.sleep(6_000);
  const answers = applicationsIn(world, group.id) - before - 1;
  expect(answers).toBeGreaterThanOrEqual(1);
  expect(answers).toBeLessThanOrEqual(2);
  await talkRound([...members, erin], group.id, "hello");
});

test("where only admins write a newcomer by link cannot ask, and is told by an admin all the same", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const group = await flockOf(alice, bob);
  await group.community.setDescription("Starlings only");
  await group.community.setSettings({ announcementOnly: true });
  const { url = "" } = await group.community.createLink();
  await alice.client.outbox.settled();
  const before = applicationsIn(world, group.id);
  const carol = await newcomer(world, "Carol");
  await carol.client.conversations.join(url);
  await until(() => profileOf(carol, group.id)[1] === "Starlings only", 40_000, "Carol is told");
  expect(applicationsIn(world, group.id)).toBe(before + 1);
  expect(carol.client.outbox.waiting).toBe(0);
});

test("an answer that was due when its member went away is given when it is back", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const group = await flockOf(alice, bob);
  await group.community.setDescription("Starlings only");
  const { url = "" } = await group.community.createLink();
  await until(() => profileOf(bob, group.id)[1] === "Starlings only");
  await alice.stop();
  await bob.stop();
  const carol = await newcomer(world, "Carol");
  await carol.client.conversations.join(url);
  await carol.client.outbox.settled();
  expect(profileOf(carol, group.id)).toEqual(["Flock", ""]);

  // Bob hears the question, and is gone before it is his turn.
  const never: Environment = {
    ...systemEnvironment,
    sleep: (ms, signal) => systemEnvironment.sleep(ms <= 60 ? 3_600_000 : ms, signal),
  };
  await bob.start({ environment: never });
  await bob.client.connection.caughtUp();
  await until(() => inGroup(bob, group.id)?.memberCount === 3);
  await bob.stop();
  await bob.start({ environment: systemEnvironment });
  await until(() => profileOf(carol, group.id)[1] === "Starlings only", 40_000, "Carol is told");
});

// The fault that this finds: what was said of a new profile cannot be read, and the member shows the old one for ever.
test("a member that cannot read what a new profile is asks for it", async () => {
  await using world = await World.start();
  const tampered = new TamperedLog();
  const hurried: Environment = {
    ...systemEnvironment,
    sleep: (ms, signal) => systemEnvironment.sleep(ms >= 10_000 ? ms / 10 : ms, signal),
  };
  const alice = await newcomer(world, "Alice");
  const { wrapTransport } = tampered;
  const bob = await newcomer(world, "Bob", { environment: hurried, wrapTransport });
  const group = await flockOf(alice, bob);
  await talkRound([alice, bob], group.id, "before");
  const spoilt = tampered.spoilNext();
  await group.setTitle("Murmuration");
  await until(spoilt, 40_000, "what is said of the profile comes");
  await group.send({ text: "you cannot know yet" });
  await until(() => textsOf(bob.client, group.id).includes("you cannot know yet"));
  expect(inGroup(bob, group.id)?.title).toBe("Flock");
  await until(() => inGroup(bob, group.id)?.title === "Murmuration", 40_000, "Bob is told");
});

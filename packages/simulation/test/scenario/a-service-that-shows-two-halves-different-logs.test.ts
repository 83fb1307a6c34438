import { parseAccountId, parseGroupId } from "@murmuration/base";
import { afterEach, expect, test, vi } from "vitest";
import { EpochReports } from "../../../client-core/src/shell/communities/epoch-reports.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { agree, countOf, hearEachOther, logOf, on, PATIENCE_MS, small } from "../support/communities.ts";
import { ForkingService, type HeldEnvelope } from "../support/forking-service.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

const NAMES = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi"] as const;

/** What a person is asked about the group, oldest first. */
const asked = ({ client }: SimulatedDevice) =>
  client.events.read(0, 10_000).flatMap((event) => (event.kind === "decision-needed" ? [event] : []));

const codesOf = (device: SimulatedDevice) => asked(device).map(({ code }) => code);

const evidenceOf = (event: ReturnType<typeof asked>[number] | undefined) => event?.evidence;

const said = (device: SimulatedDevice, text: string) =>
  device.client.conversations.list().some(({ id }) => textsOf(device.client, id).includes(text));

/** Writes to one account, pairwise and sealed. */
const writeTo = async (from: SimulatedDevice, to: SimulatedDevice, text: string): Promise<void> => {
  await from.client.conversations.direct(to.id).send({ text });
  await from.client.outbox.settled();
};

/** Eight members, four in the east, four in the west; Alice of the east and Erin of the west may change the title. */
async function scene(world: World, service: ForkingService) {
  const members: SimulatedDevice[] = [];
  for (const name of NAMES) {
    const device: SimulatedDevice = world.device({
      name,
      settings: small,
      wrapTransport: service.wayOf(() => device.client.account?.accountId ?? ""),
    });
    await (await device.open()).register({ name });
    device.client.connection.start();
    await device.client.connection.caughtUp();
    members.push(device);
  }
  await introduce(...members);
  const [east, west] = [members.slice(0, 4), members.slice(4)];
  service.assign(
    "first",
    east.map(({ id }) => id),
  );
  service.assign(
    "second",
    west.map(({ id }) => id),
  );
  const [alice, bob, carol, dave] = east as [
    SimulatedDevice,
    SimulatedDevice,
    SimulatedDevice,
    SimulatedDevice,
  ];
  const [erin, frank] = west as [SimulatedDevice, SimulatedDevice];
  const group = await alice.client.conversations.createGroup({
    title: "Flock",
    members: members.slice(1).map(({ id }) => id),
  });
  const { id } = group;
  await until(() => members.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS, "all are in");
  await group.setRole(erin.id, "admin");
  await agree(members, id, "before");
  await hearEachOther(members, id, "before");
  return { members, east, west, alice, bob, carol, dave, erin, frank, id };
}

/** Each half goes two epochs on: with the second commit the first can be taken back no more. */
async function goOn(
  { alice, erin, east, west, id }: Awaited<ReturnType<typeof scene>>,
  halves: readonly (readonly SimulatedDevice[])[],
  when = "",
): Promise<void> {
  // At the same moment, in the same epoch: one log would have let one of the two win.
  await Promise.all([
    on(alice, id).setTitle(`Flock of the east${when}`),
    on(erin, id).setTitle(`Flock of the west${when}`),
  ]);
  for (const half of halves) await agree(half, id, "after the first commit");
  await Promise.all([on(alice, id).setTitle(`The east${when}`), on(erin, id).setTitle(`The west${when}`)]);
  for (const half of halves) await agree(half, id, "after the second commit");
  for (const half of halves) {
    const what = half.length === east.length + west.length ? "together" : half === east ? "east" : "west";
    await hearEachOther(half, id, what + when);
  }
}

/** The service can tell who writes to whom at most by addresses and mailboxes: nothing of what is said is in there. */
function requireSealed(envelopes: readonly HeldEnvelope[], id: string, texts: readonly string[]): void {
  const known = (bytes: Uint8Array) => Buffer.from(bytes);
  const secrets = [...texts.map((text) => Buffer.from(text)), known(parseGroupId(id))];
  for (const { submit, to } of envelopes) {
    const ciphertexts = submit.recipients.flatMap(({ devices }) =>
      devices.map(({ ciphertext }) => ciphertext),
    );
    const bytes = Buffer.concat(ciphertexts);
    expect(secrets.filter((secret) => bytes.includes(secret))).toEqual([]);
    // The search finds what the service does know.
    const recipients = Buffer.concat(submit.recipients.map(({ accountId }) => accountId));
    expect(recipients.includes(known(parseAccountId(to)))).toBe(true);
  }
}

/** The whole lie, and how it comes out. */
async function story(world: World, service: ForkingService, patienceMs = PATIENCE_MS): Promise<void> {
  const cast = await scene(world, service);
  const { members, east, west, alice, bob, carol, erin, frank, id } = cast;
  const [forkedAt] = [logOf(world, id).filter(({ kind }) => kind === "commit").length];
  service.holdMail();
  await service.fork();
  for (const device of members) await device.client.connection.caughtUp();
  await goOn(cast, [east, west]);

  // Two valid commits lead from one epoch, each in a log that its half takes for the only one.
  const logs = [logOf(world, id), logOf({ serviceDirectory: service.secondDirectory }, id)];
  for (const log of logs) {
    const commits = log.filter(({ kind }) => kind === "commit").map(({ leadsFrom }) => leadsFrom);
    expect(commits.slice(forkedAt, forkedAt + 2)).toEqual([forkedAt, forkedAt + 1]);
    expect(log.filter(({ kind }) => kind === "void")).toEqual([]);
  }
  expect(new Set(east.map((device) => on(device, id).title))).toEqual(new Set(["The east"]));
  expect(new Set(west.map((device) => on(device, id).title))).toEqual(new Set(["The west"]));
  for (const device of east) expect(countOf(device, id, "west, member 0")).toBe(0);

  // Mail between the halves is dropped, behind their backs: each of them believes that it was accepted.
  const texts = ["are you still there?", "hello?", "why so quiet?", "say something"];
  await writeTo(bob, erin, texts[0]!);
  await writeTo(erin, bob, texts[1]!);
  await writeTo(frank, bob, texts[2]!);
  await writeTo(erin, bob, texts[3]!);
  expect(service.held.length).toBeGreaterThanOrEqual(4);
  requireSealed(service.held, id, texts);
  expect(members.flatMap(codesOf)).toEqual([]);

  // One envelope gets through, and not the first. Whoever opens it knows.
  const toBob = service.held.filter(({ to }) => to === bob.id);
  const fromErin = toBob.filter(({ from }) => from === erin.id);
  await service.deliver([fromErin.at(-1)!]);
  await until(() => codesOf(bob).length > 0, patienceMs, "Bob is told");
  expect(said(bob, texts[3]!)).toBe(true);
  const [first] = asked(bob);
  expect(first).toMatchObject({ code: "group/disputed", conversationId: id, accountId: erin.id });
  const evidence = evidenceOf(first)!;
  expect(evidence.epoch).toBeGreaterThan(forkedAt);
  expect(evidence.ours).toMatch(/^[0-9a-f]{64}$/);
  expect(evidence.theirs).toMatch(/^[0-9a-f]{64}$/);
  expect(evidence.theirs).not.toBe(evidence.ours);
  // It is one account's word: Bob goes on.
  expect(on(bob, id).community.standing).toBe("following");
  await on(bob, id).send({ text: "Erin says something strange" });
  await until(() => countOf(carol, id, "Erin says something strange") === 1, PATIENCE_MS, "Carol hears Bob");

  // A second account says the same. From here on Bob says nothing that only half of the group would hear.
  await service.deliver(toBob.filter(({ from }) => from === frank.id).slice(-1));
  await until(() => codesOf(bob).includes("group/forked"), patienceMs, "Bob has the word of two");
  expect(asked(bob).at(-1)).toMatchObject({ code: "group/forked", accountId: frank.id });
  expect(evidenceOf(asked(bob).at(-1))).toEqual(evidence);
  const before = logOf(world, id).length;
  await expect(on(bob, id).send({ text: "to whom?" })).rejects.toThrow("group/forked");
  await bob.stop();
  await bob.start();
  await bob.client.connection.caughtUp();
  await expect(on(bob, id).send({ text: "to whom?" })).rejects.toThrow("group/forked");
  expect(logOf(world, id).length).toBe(before);
  expect(on(bob, id).community.standing).toBe("forked");

  // The rest comes late, in the wrong order and with holes; then mail goes its way. Erin gets the mirror of what Bob has.
  service.passMail();
  await service.deliver([...service.held].reverse().filter((_, index) => index % 2 === 0));
  for (const [index, device] of east.entries()) {
    await writeTo(device, west[index]!, "what is the title of our group?");
    await writeTo(device, west[(index + 1) % 4]!, "and what do you see?");
  }
  await until(
    () => members.every((device) => codesOf(device).includes("group/forked")),
    patienceMs,
    "all know",
  );
  expect(evidenceOf(asked(erin)[0])).toEqual({
    epoch: evidence.epoch,
    ours: evidence.theirs,
    theirs: evidence.ours,
  });
  await expect(on(erin, id).send({ text: "to whom?" })).rejects.toThrow("group/forked");

  // The operator is found out, and shows everybody one log again. Each person decides to follow it.
  await service.mend();
  await until(
    () => members.every(({ client }) => client.connection.state === "connected"),
    PATIENCE_MS,
    "all are back",
  );
  for (const device of members) await on(device, id).community.heal();
  await agree(members, id, "after the lie");
  await hearEachOther(members, id, "healed");
  expect(on(erin, id).title).toBe("The east");
  expect(new Set(members.map((device) => on(device, id).community.standing))).toEqual(new Set(["following"]));
  expect(members.every((device) => !said(device, "to whom?"))).toBe(true);
  // What was heard in one half stays where it was heard.
  expect(countOf(alice, id, "east, member 1")).toBe(1);
  expect(countOf(erin, id, "west, member 1")).toBe(1);
}

// The fault that this finds: a service that splits a community, lets each half decide and talk by itself, and is believed.
test("a service that shows two halves different logs is found out by the first envelope that passes between them", async () => {
  await using world = await World.start();
  await using service = new ForkingService(world);
  await story(world, service);
}, 240_000);

test("where there is one log nobody is told of a fork, however the mail is dropped and reordered", async () => {
  await using world = await World.start();
  await using service = new ForkingService(world);
  const cast = await scene(world, service);
  const { members, east, west, id } = cast;
  service.holdMail();
  await goOn(cast, [members]);
  for (const [index, device] of east.entries()) {
    await writeTo(device, west[index]!, "one log");
    await writeTo(west[index]!, device, "the same here");
  }
  service.passMail();
  await service.deliver([...service.held].reverse().filter((_, index) => index % 3 > 0));
  for (const [index, device] of east.entries()) {
    await writeTo(device, west[(index + 1) % 4]!, "still one");
    await writeTo(west[index]!, device, "indeed");
  }
  await until(
    () => east.every((device) => said(device, "indeed")) && west.every((device) => said(device, "still one")),
    PATIENCE_MS,
    "the mail is there",
  );
  await hearEachOther(members, id, "in the end");
  expect(members.flatMap(codesOf)).toEqual([]);
}, 240_000);

test("who follows the service while it goes on with the lie is told of it again", async () => {
  await using world = await World.start();
  await using service = new ForkingService(world);
  const cast = await scene(world, service);
  const { members, east, west, bob, erin, frank, id } = cast;
  service.holdMail();
  await service.fork();
  for (const device of members) await device.client.connection.caughtUp();
  await goOn(cast, [east, west]);
  service.passMail();
  for (const device of [erin, frank]) await writeTo(device, bob, "what do you see?");
  await until(() => codesOf(bob).includes("group/forked"), PATIENCE_MS, "Bob is told");
  const before = asked(bob).length;

  // What members report by themselves comes at moments of their own: not before he has seen what he is to be told of.
  service.holdMail();
  await on(bob, id).community.heal();
  await hearEachOther(east, id, "believing again");
  expect(asked(bob)).toHaveLength(before);
  // Each half reaches epochs that Bob knows from the log that he follows now.
  for (const when of [", later", ", later still"]) await goOn(cast, [east, west], when);
  service.passMail();
  for (const device of [erin, frank]) await writeTo(device, bob, "and now?");
  await until(() => codesOf(bob).lastIndexOf("group/forked") >= before, PATIENCE_MS, "Bob is told again");
  await expect(on(bob, id).send({ text: "to whom?" })).rejects.toThrow("group/forked");
}, 240_000);

test.each([
  ["who compares nothing", "receive", (): void => undefined],
  ["who says nothing beside its messages", "toTell", (): readonly never[] => []],
] as const)(
  "canary: %s is told nothing, and the story fails",
  async (_, method, fault) => {
    vi.spyOn(EpochReports.prototype, method).mockImplementation(fault as never);
    await using world = await World.start();
    await using service = new ForkingService(world);
    await expect(story(world, service, 3_000)).rejects.toThrow("still not so after 3000 ms: Bob is told");
  },
  240_000,
);

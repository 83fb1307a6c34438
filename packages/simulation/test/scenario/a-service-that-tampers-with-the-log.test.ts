import { cpSync, rmSync } from "node:fs";
import { parseGroupId } from "@murmuration/base";
import type { GroupEntries } from "@murmuration/wire";
import { afterEach, expect, test, vi } from "vitest";
import { Refeeder } from "../../../client-core/src/shell/communities/refeeder.ts";
import { type SimulatedDevice, seededRandom, textsOf, until, World } from "../../src/index.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { allShow, flockOf, inGroup, newcomer, showsTwice, talkRound } from "../support/flock.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

const texts = Array.from({ length: 40 }, (_, index) => `message ${index}`);
const all = [...texts, "the end"];

test("pages that are withheld, repeated, reordered and replayed are shown once, in order, without a gap", async () => {
  const random = seededRandom();
  await using world = await World.start();
  const tampered = new TamperedLog();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", tampered);
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  const did = { withheld: 0, repeated: 0, reordered: 0, replayed: 0, reversed: 0 };

  let held: GroupEntries | undefined;
  tampered.begin((page) => {
    const before = held === undefined ? [] : [held];
    held = undefined;
    switch (random.below(8)) {
      case 0:
        did.withheld++;
        return before;
      case 1:
        did.repeated++;
        return [page, page, ...before];
      case 2:
        did.reordered++;
        held = page;
        return before;
      case 3:
        did.replayed++;
        return [...tampered.sent.slice(-5), ...before];
      case 4:
        did.reversed++;
        return [{ ...page, entries: [...page.entries].reverse() }, ...before];
      default:
        return [page, ...before];
    }
  });
  // Whatever Bob shows, at any moment, is how Alice's log begins.
  const passedOver: string[] = [];
  bob.client.events.on(() => {
    const shown = textsOf(bob.client, group.id);
    if (shown.some((text, index) => text !== all[index])) passedOver.push(shown.join());
  });
  for (const [index, text] of texts.entries()) {
    await group.send({ text });
    if (index % 10 === 5) await group.setTitle(`Flock ${index}`);
  }
  await alice.client.outbox.settled();
  await allShow([alice, carol], group.id, texts.at(-1)!);
  tampered.end();
  await group.send({ text: "the end" });

  await allShow([bob], group.id, "the end");
  expect(textsOf(bob.client, group.id), `seed ${random.seed}`).toEqual(all);
  expect(passedOver, `seed ${random.seed}`).toEqual([]);
  expect(inGroup(bob, group.id)?.title).toBe("Flock 35");
  expect(
    Object.values(did).reduce((sum, times) => sum + times),
    JSON.stringify(did),
  ).toBeGreaterThan(10);
  // He did not have to leave and come back for it.
  expect(bob.client.communityCosts.verifiedLeaves).toBe(3);
});

test("what was shown once is not shown again under another number", async () => {
  await using world = await World.start();
  const tampered = new TamperedLog();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", tampered);
  const group = await flockOf(alice, bob);
  await talkRound([alice, bob, alice], group.id, "hello");
  const old = tampered.sent
    .flatMap(({ entries }) => entries)
    .filter(({ application }) => application !== undefined);

  // The same messages and commits once more, in the places of the next ones; then as after a restart, from the beginning.
  let { lastSequence } = tampered.sent.at(-1)!;
  const again = old.map((entry) => ({ ...entry, sequence: ++lastSequence }));
  tampered.inject({ groupId: parseGroupId(group.id), entries: again, lastSequence });
  for (const page of tampered.sent) tampered.inject(page);
  await bob.stop();
  await bob.start();
  await bob.client.connection.caughtUp();
  await inGroup(bob, group.id)!.send({ text: "still here" });
  await allShow([alice, bob], group.id, "still here");

  expect(showsTwice(bob, group.id)).toEqual([]);
  expect(showsTwice(alice, group.id)).toEqual([]);
});

test("a service that was set back, and that nobody brings forward, is found out: nothing is said to it before a person has decided", async () => {
  vi.spyOn(Refeeder.prototype as unknown as { feed(): Promise<boolean> }, "feed").mockResolvedValue(false);
  await using world = await World.start();
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob")];
  const members = [alice, bob] as const;
  const group = await flockOf(...members);
  const copy = `${world.directory}/copy`;
  await talkRound(members, group.id, "one");
  await world.stopService();
  cpSync(world.serviceDirectory, copy, { recursive: true });
  await world.startService();
  await talkRound(members, group.id, "two");
  await group.setTitle("Starlings");
  await until(() => inGroup(bob, group.id)?.title === "Starlings");
  await world.stopService();
  const { messageId } = await group.send({ text: "three" });
  rmSync(world.serviceDirectory, { recursive: true });
  cpSync(copy, world.serviceDirectory, { recursive: true });
  await world.startService();

  const isAsked = ({ client }: SimulatedDevice) =>
    client.events
      .read(0, 1_000)
      .filter((event) => event.kind === "decision-needed" && event.code === "group/service-behind").length ===
    1;
  await until(() => members.every(isAsked), 30_000, "both are asked, once");
  await group.send({ text: "four" });
  expect(alice.client.outbox.waiting).toBe(2);
  expect(group.message({ author: alice.id, messageId })).toMatchObject({ sendState: "waiting" });

  // What waited is said in the group that they have decided for.
  await inGroup(bob, group.id)!.community.heal();
  await inGroup(alice, group.id)!.community.heal();
  await allShow([bob], group.id, "four");
  await talkRound(members, group.id, "five");
  for (const member of members) {
    expect(textsOf(member.client, group.id)).toEqual([
      "one 0",
      "one 1",
      "two 0",
      "two 1",
      "three",
      "four",
      "five 0",
      "five 1",
    ]);
  }
});

test("another group's entries are shown in neither", async () => {
  await using world = await World.start();
  const tampered = new TamperedLog();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", tampered);
  const flock = await flockOf(alice, bob);
  const herd = await flockOf(alice, bob);
  const flockId = parseGroupId(flock.id);
  const swapped: string[] = [];
  await flock.send({ text: "before" });
  await until(() => textsOf(bob.client, flock.id).includes("before"));

  // Everything of the herd comes as the flock's, first under its own numbers, then under the next ones of the flock.
  tampered.begin((page) => {
    if (Buffer.from(page.groupId).equals(flockId)) return [page];
    const next = tampered.sent
      .filter(({ groupId }) => Buffer.from(groupId).equals(flockId))
      .at(-1)!.lastSequence;
    const entries = page.entries.map((entry, index) => ({ ...entry, sequence: next + 1 + index }));
    swapped.push(...entries.map(({ sequence }) => `${sequence}`));
    return [
      { ...page, groupId: flockId },
      { groupId: flockId, entries, lastSequence: next + entries.length },
    ];
  });
  await herd.send({ text: "for the herd" });
  await until(() => swapped.length > 0, 20_000, "something is swapped");
  await alice.client.outbox.settled();
  tampered.end();
  await flock.send({ text: "for the flock" });
  await herd.send({ text: "more for the herd" });

  await allShow([bob], herd.id, "more for the herd");
  expect(textsOf(bob.client, herd.id)).toEqual(["for the herd", "more for the herd"]);
  // What stood in the flock's places is there in the end.
  await allShow([bob], flock.id, "for the flock");
  await talkRound([alice, bob], flock.id, "later");
  expect(textsOf(bob.client, flock.id)).toEqual(["before", "for the flock", "later 0", "later 1"]);
});

import type { Replacements } from "@murmuration/delivery-service";
import { communityLeaf, type Group } from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import { FrameTap, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { flockOf, inGroup, namesIn, newcomer, showsTwice, talkRound } from "../support/flock.ts";
import { lawlessValidator } from "../support/lawless-validator.ts";
import { commitFrame, Outlaw, opens } from "../support/outlaw.ts";
import { RawConnection } from "../support/raw-connection.ts";
import { storedEpoch, storedLog } from "../support/service-rows.ts";

/** A service that keeps to RFC 9420 and to no rule of communities. */
const lawless = (): Replacements => ({ validator: lawlessValidator() });
/** One that keeps what it took, whatever members say. */
const stubborn = (): Replacements => ({
  ...lawless(),
  stores: (stores) => {
    const mlsGroups = Object.create(stores.mlsGroups) as typeof stores.mlsGroups;
    return { ...stores, mlsGroups: Object.assign(mlsGroups, { voidCommit: async () => undefined }) };
  },
});

/** Three members, each with a tap on what it tells the service. */
async function threeMembers(world: World) {
  const taps = [new FrameTap(), new FrameTap(), new FrameTap()] as const;
  const members = [
    await newcomer(world, "Alice", taps[0]),
    await newcomer(world, "Bob", taps[1]),
    await newcomer(world, "Carol", taps[2]),
  ] as const;
  const group = await flockOf(...members);
  await talkRound(members, group.id, "before");
  return { members, taps, group };
}

/** The service itself hands out what a stranger needs, and takes his commit. Returns its number and his group. */
async function comesIn(stranger: SimulatedDevice, world: World, id: string): Promise<[number, Group]> {
  const outlaw = new Outlaw(stranger, world.origin);
  const connection = await RawConnection.open(world.origin);
  const joined = await outlaw.externalCommit(storedEpoch(world, id), communityLeaf);
  const { sequence } = await connection.demand("groupCommitAccepted", commitFrame(id, joined));
  joined.group.confirmJoin();
  return [sequence, joined.group];
}

const hasRefused = (sequence: number) => (tap: FrameTap) =>
  tap.sent.some((frame) => frame.kind === "groupRefuse" && frame.sequence === sequence);

const messagesBehind = (world: World, id: string, after: number) =>
  storedLog(world, id).filter(({ kind, sequence }) => kind === "application" && sequence > after);

test("members refuse whom the service lets in without a ticket, say so, and go on without him", async () => {
  await using world = await World.start({ replacements: lawless });
  const { members, taps, group } = await threeMembers(world);
  const mallory = await newcomer(world, "Mallory");

  const [sequence, strangers] = await comesIn(mallory, world, group.id);

  await until(() => taps.every(hasRefused(sequence)), 20_000, "everybody refuses");
  await until(() => storedLog(world, group.id).some(({ voids }) => voids === sequence), 20_000, "it is void");
  await talkRound(members, group.id, "after");
  for (const member of members) {
    expect(namesIn(member, group.id)).toEqual(["Alice", "Bob", "Carol"]);
    expect(showsTwice(member, group.id)).toEqual([]);
    expect(textsOf(member.client, group.id)).toHaveLength(6);
  }
  const said = messagesBehind(world, group.id, sequence);
  expect(said.length).toBeGreaterThanOrEqual(3);
  expect(said.filter(({ message }) => opens(strangers, message))).toEqual([]);
});

test("where the service keeps the stranger in, members say nothing that he could read, and a person is asked", async () => {
  await using world = await World.start({ replacements: stubborn });
  const { members, group } = await threeMembers(world);
  const [alice] = members;
  const mallory = await newcomer(world, "Mallory");

  const [sequence, strangers] = await comesIn(mallory, world, group.id);

  const asked = ({ client }: SimulatedDevice) =>
    client.events
      .read(0, 1_000)
      .some(
        ({ kind, ...event }) =>
          kind === "decision-needed" && "code" in event && event.code === "group/forked",
      );
  await inGroup(alice, group.id)!.send({ text: "is he gone?" });
  await until(() => members.every(asked), 40_000, "everybody is asked");
  expect(alice.client.outbox.waiting).toBe(1);
  expect(messagesBehind(world, group.id, sequence)).toEqual([]);
  for (const member of members) expect(namesIn(member, group.id)).toEqual(["Alice", "Bob", "Carol"]);

  // Alice decides to follow the service. He is in that group, and was able to read all along.
  await inGroup(alice, group.id)!.community.heal();
  await alice.client.outbox.settled();
  for (const { kind, message } of storedLog(world, group.id).slice(sequence)) {
    if (kind !== "commit") continue;
    const received = strangers.receive(message);
    if (received.kind === "commit") strangers.merge(received.commit, { nowMs: 0 });
  }
  expect(messagesBehind(world, group.id, sequence).some(({ message }) => opens(strangers, message))).toBe(
    true,
  );
});

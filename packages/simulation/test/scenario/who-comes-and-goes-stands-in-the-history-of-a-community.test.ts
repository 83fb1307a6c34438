import type { Notice } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, namesIn, newcomer } from "../support/flock.ts";

/** Who came and went, line by line as this device shows it: who did it, what, and to whom. */
function comingsAndGoings(
  device: SimulatedDevice,
  id: string,
  names: ReadonlyMap<string, string>,
): readonly string[] {
  const nameOf = (account: string) => names.get(account) ?? account;
  const whom = (notice: Notice): readonly string[] => {
    if ("accounts" in notice) return notice.accounts.map(nameOf).toSorted();
    return "account" in notice ? [nameOf(notice.account)] : [];
  };
  const lines = inGroup(device, id)!.history({ limit: 1_000 });
  return lines.flatMap((line) =>
    line.kind === "notice" && line.notice.code.startsWith("group/member")
      ? [`${nameOf(line.author)}: ${line.notice.code} ${whom(line.notice).join(" and ")}`]
      : [],
  );
}

test("who is added, comes by a link, leaves, or is removed stands once in the history of those who were there", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const [dave, erin, frank, grace] = [
    await newcomer(world, "Dave"),
    await newcomer(world, "Erin"),
    await newcomer(world, "Frank"),
    await newcomer(world, "Grace"),
  ];
  const everybody = { alice, bob, carol, dave, erin, frank, grace };
  const names = new Map(Object.entries(everybody).map(([name, device]) => [device.id, name]));
  const group = await flockOf(alice, bob, carol);
  await introduce(alice, dave, erin, frank);
  const { id } = group;
  const shows = (device: SimulatedDevice) => comingsAndGoings(device, id, names);
  /** Waits until these have the group with this many in it. */
  const are = (count: number, ...devices: readonly SimulatedDevice[]) =>
    until(() => devices.every((device) => namesIn(device, id).length === count), 40_000, `${count} are in`);

  await group.add([dave.id]);
  await are(4, alice, bob, carol, dave);
  await group.add([erin.id, frank.id]);
  await are(6, alice, bob, carol, dave, erin, frank);
  const { url = "" } = await group.community.createLink();
  await grace.client.conversations.join(url);
  await are(7, alice, bob, carol, dave, erin, frank, grace);
  await inGroup(carol, id)!.leave();
  await are(6, alice, bob, dave, erin, frank, grace);
  await group.remove(dave.id);
  await are(5, alice, bob, erin, frank, grace);
  await until(() => inGroup(dave, id)?.state === "removed", 40_000, "Dave hears of it");
  await group.send({ text: "five of us" });
  await allShow([alice, bob, erin, frank, grace], id, "five of us");

  const lines = [
    "alice: group/member-added dave",
    "alice: group/members-added erin and frank",
    "grace: group/member-joined grace",
    // Whoever gets to it commits that she leaves; that she asked to go makes it a leaving.
    expect.stringMatching(/^\w+: group\/member-left carol$/),
    "alice: group/member-removed dave",
  ];
  expect(shows(alice)).toEqual(["alice: group/members-added bob and carol", ...lines]);
  expect(shows(bob)).toEqual(lines);
  // Whoever came later sees from its join on, and whoever was out sees nothing of what came then.
  expect(shows(dave)).toEqual(lines.slice(1, 4));
  for (const device of [erin, frank]) expect(shows(device)).toEqual(lines.slice(2));
  expect(shows(grace)).toEqual(lines.slice(3));
  expect(shows(carol)).toEqual(lines.slice(0, 3));
});

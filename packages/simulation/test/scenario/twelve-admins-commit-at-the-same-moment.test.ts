import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, until, World } from "../../src/index.ts";
import { agree, hearEachOther, logOf, membersOf, on, PATIENCE_MS, small } from "../support/communities.ts";

/** Refused submits of one client until its commit is through: it waits for its turn and does not try again and again. */
const MOST_REFUSED = 5;

/** A community of this many, all of them admins but the first, who owns it. */
async function admins(world: World, count: number) {
  const devices: SimulatedDevice[] = [];
  for (let n = 0; n < count; n++) devices.push(await world.join(`Admin ${n}`, { settings: small }));
  const [owner, ...others] = devices as [SimulatedDevice, ...SimulatedDevice[]];
  await introduce(owner, others[0]!);
  const members = others.map((device) => device.id);
  const { id } = await owner.client.conversations.createGroup({ title: "Flock", members });
  await until(() => devices.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  for (const member of members) await on(owner, id).setRole(member, "admin");
  await agree(devices, id);
  await Promise.all(devices.map((device) => device.client.outbox.settled()));
  return { devices, owner, others, id };
}

const refused = (device: SimulatedDevice) => device.client.communityCosts.refusedSubmits;

function commitsSince(world: World, id: string, after: number) {
  const commits = logOf(world, id).filter(({ kind, sequence }) => kind === "commit" && sequence > after);
  return commits.map(({ leadsFrom }) => leadsFrom);
}

// The fault that this finds: losers that try again without waiting for their turn, or give up; and a change that is made
// on top of an epoch that is gone and takes another one back.
test("twelve admins change a community at the same moment: each change takes place, each in an epoch of its own", async () => {
  await using world = await World.start();
  const { devices, owner, others, id } = await admins(world, 12);
  const newcomers = [
    await world.join("Newcomer 0", { settings: small }),
    await world.join("Newcomer 1", { settings: small }),
  ];
  const before = logOf(world, id).at(-1)!.sequence;
  const refusedBefore = devices.map(refused);

  await Promise.all(
    devices.map(async (device, n) => {
      const group = on(device, id);
      if (n === 0) await group.setRole(others[10]!.id, "owner");
      else if (n === 1) await group.setExpiry(3600);
      else if (n === 2) await group.community.setSettings({ joinsPerMinute: 7 });
      else if (n === 3) await group.setTitle("Murmuration");
      else if (n === 4) expect(await group.add([newcomers[0]!.id])).toEqual([]);
      else if (n === 5) expect(await group.add([newcomers[1]!.id])).toEqual([]);
      else await group.community.createLink();
    }),
  );
  const everybody = [...devices, ...newcomers];
  await until(() => everybody.every((device) => on(device, id)?.title === "Murmuration"), PATIENCE_MS);
  await agree(everybody, id);
  for (const device of everybody) {
    expect(on(device, id).expireAfterSeconds).toBe(3600);
    expect(on(device, id).community.settings().joinsPerMinute).toBe(7);
    expect(on(device, id).community.links()).toHaveLength(6);
    expect(membersOf(device, id)).toHaveLength(14);
    expect(membersOf(device, id)).toContain(`${others[10]!.id}/owner`);
  }
  const tries = devices.map((device, n) => refused(device) - refusedBefore[n]!);
  console.log(`refused submits of each: ${tries.join(", ")}`);
  expect(Math.max(...tries)).toBeLessThanOrEqual(MOST_REFUSED);
  expect(
    tries.reduce((sum, n) => sum + n, 0),
    "they did race",
  ).toBeGreaterThan(0);
  const epochs = commitsSince(world, id, before);
  expect(epochs.length).toBeGreaterThanOrEqual(12);
  expect(epochs).toEqual(epochs.map((_, index) => epochs[0]! + index));
  await hearEachOther(everybody, id, "in one epoch");
  expect(owner.client.outbox.waiting).toBe(0);
}, 180_000);

// The fault that this finds: a member that enters anew and does not wait for its turn uses up its tries in a moment, and
// stays outside until it happens to connect again.
test("three members enter anew while five others change the group: all of it takes place", async () => {
  await using world = await World.start();
  const { devices, id } = await admins(world, 8);
  const before = logOf(world, id).at(-1)!.sequence;
  await Promise.all(
    devices.map(async (device, n) => {
      if (n >= 5) await on(device, id).community.heal();
      else await on(device, id).community.createLink();
    }),
  );
  await agree(devices, id);
  for (const device of devices) expect(on(device, id).community.links()).toHaveLength(5);
  expect(commitsSince(world, id, before).length).toBeGreaterThanOrEqual(8);
  await hearEachOther(devices, id, "in one epoch");
}, 180_000);

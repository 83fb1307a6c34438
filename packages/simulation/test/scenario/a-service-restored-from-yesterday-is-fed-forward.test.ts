import { cpSync, rmSync } from "node:fs";
import { RejectionError } from "@murmuration/base";
import type { Replacements } from "@murmuration/delivery-service";
import { afterEach, expect, test, vi } from "vitest";
import { Refeeder } from "../../../client-core/src/shell/communities/refeeder.ts";
import { ShiftedClock, type SimulatedDevice, until, World } from "../../src/index.ts";
import {
  agree,
  countOf,
  flock,
  hearEachOther,
  logOf,
  on,
  PATIENCE_MS,
  requireNoneTwice,
} from "../support/communities.ts";
import { askedOfForks } from "../support/refusals.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

/** The service stops, and what it has is copied; `restore` puts the copy in the place of what it has then. */
async function backup(world: World): Promise<{ restore(): Promise<void> }> {
  const copy = `${world.directory}/yesterday`;
  await world.stopService();
  cpSync(world.serviceDirectory, copy, { recursive: true });
  await world.startService();
  return {
    async restore() {
      await world.stopService();
      rmSync(world.serviceDirectory, { recursive: true });
      cpSync(copy, world.serviceDirectory, { recursive: true });
      await world.startService();
    },
  };
}

const heard = (devices: readonly SimulatedDevice[], id: string, ...texts: readonly string[]) =>
  until(
    () => devices.every((device) => texts.every((text) => countOf(device, id, text) > 0)),
    PATIENCE_MS,
    `everybody hears: ${texts.join(", ")}`,
  );

const isBehind = (device: SimulatedDevice): boolean =>
  device.client.events
    .read(0, 10_000)
    .some((event) => event.kind === "decision-needed" && event.code === "group/service-behind");

/**
 * Alice, Bob, Carol and Mallory are a community. After the backup Carol and Mallory are away; Mallory is removed, the
 * title changes, Erin comes, and the three who are there talk.
 */
async function scene(world: World) {
  const [alice, bob, carol, mallory, erin] = await flock(world, "Alice", "Bob", "Carol", "Mallory", "Erin");
  const first = [alice, bob, carol, mallory];
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: first.slice(1).map((device) => device.id),
  });
  await until(() => first.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await hearEachOther(first, id, "before the backup");
  const ids = { mallory: mallory.id, erin: erin.id };
  const { restore } = await backup(world);
  for (const device of [...first, erin]) await device.client.connection.caughtUp();
  await carol.stop();
  await mallory.stop();

  await on(bob, id).send({ text: "Bob, after the backup" });
  await heard([alice, bob], id, "Bob, after the backup");
  await on(alice, id).remove(ids.mallory);
  await on(alice, id).setTitle("Murmuration");
  await on(alice, id).add([ids.erin]);
  const here = [alice, bob, erin];
  await until(
    () => here.every((device) => on(device, id)?.title === "Murmuration"),
    PATIENCE_MS,
    "the title",
  );
  await hearEachOther(here, id, "after the backup");
  for (const device of here) await device.client.outbox.settled();
  return { alice, bob, carol, mallory, erin, id, ids, here, restore };
}

const AFTER = [0, 1, 2].map((member) => `after the backup, member ${member}`);

/** Within what time the canary finds that nobody feeds the service, ms. */
const CANARY_MS = 8_000;

/** What must be true once the service has come back with yesterday's copy, and everybody with it. */
async function story(world: World, patienceMs = PATIENCE_MS): Promise<void> {
  const { alice, bob, carol, mallory, erin, id, here, restore } = await scene(world);
  const epochs = logOf(world, id).filter(({ kind }) => kind === "commit").length;
  await restore();
  await agree(here, id, "after the restoration", patienceMs);
  await hearEachOther(here, id, "after the restoration", patienceMs);
  expect(logOf(world, id).filter(({ kind }) => kind === "commit").length).toBeGreaterThanOrEqual(epochs);

  // Who was away finds what was said after the backup, though the service had lost it.
  await carol.start();
  await heard([carol], id, "Bob, after the backup");
  await heard([carol], id, "after the restoration, member 0", "after the restoration, member 2");
  await agree([alice, bob, carol, erin], id);
  await hearEachOther([alice, bob, carol, erin], id, "in the end");
  for (const device of [alice, bob, carol, erin]) requireNoneTwice(device, id);
  for (const device of here) for (const text of AFTER) expect(countOf(device, id, text)).toBe(1);

  await mallory.start();
  await until(() => on(mallory, id).state === "removed", PATIENCE_MS, "Mallory is out");
  await expect(on(mallory, id).send({ text: "let me in" })).rejects.toThrow("conversation/not-active");
  expect(countOf(mallory, id, "in the end, member 0")).toBe(0);

  // The KeyPackage by which Erin came is in the copy once more. She has replaced all of them.
  const title = "With fresh KeyPackages";
  const second = await alice.client.conversations.createGroup({ title, members: [erin.id], protocol: "mls" });
  await until(() => on(erin, second.id)?.title === title, PATIENCE_MS, "Erin is in the second group");

  // One commit for each epoch, and no gap in the log.
  const log = logOf(world, id);
  const leads = log.filter(({ kind }) => kind === "commit").map(({ leadsFrom }) => leadsFrom);
  expect(leads).toEqual(leads.map((_, epoch) => epoch));
  expect(log.map(({ sequence }) => sequence)).toEqual(log.map((_, index) => index + 1));
}

// The faults that these find: a community that goes on at yesterday's epoch, with who was removed since; one that goes on
// nowhere; and messages that were accepted and that whoever was away never gets.
test("a service restored from yesterday's copy is fed forward: nobody who was removed is back, and nothing is lost or doubled", async () => {
  await using world = await World.start();
  await story(world);
}, 180_000);

test("canary: where nobody feeds it the same story fails", async () => {
  vi.spyOn(Refeeder.prototype as unknown as { feed(): Promise<boolean> }, "feed").mockResolvedValue(false);
  await using world = await World.start();
  await expect(story(world, CANARY_MS)).rejects.toThrow("still not so");
}, 180_000);

test("also where the service has no room for it at first, and lets nobody store so much: whoever feeds tries again", async () => {
  const refused: string[] = [];
  const replacements = (): Replacements => ({
    stores: (stores) => {
      const mlsGroups = Object.create(stores.mlsGroups) as typeof stores.mlsGroups;
      mlsGroups.refeed = async (append) => {
        const code = ["group/busy", "rate/limited"][refused.length];
        if (code === undefined) return stores.mlsGroups.refeed(append);
        refused.push(code);
        throw new RejectionError(code);
      };
      return { ...stores, mlsGroups };
    },
  });
  await using world = await World.start({ replacements });
  await story(world);
  expect(refused).toEqual(["group/busy", "rate/limited"]);
}, 180_000);

test("who was added since has not what the service lacks: it waits, says so, and goes on when somebody comes who has", async () => {
  await using world = await World.start();
  const { alice, bob, erin, id, restore } = await scene(world);
  await alice.stop();
  await bob.stop();
  await restore();
  const before = logOf(world, id);
  await on(erin, id).send({ text: "is anybody here?" });
  await until(() => isBehind(erin), PATIENCE_MS, "Erin is told that the service is behind");
  expect(logOf(world, id)).toEqual(before);
  expect(on(erin, id).state).toBe("active");
  expect(erin.client.outbox.waiting).toBe(1);

  await bob.start();
  await heard([bob, erin], id, "is anybody here?");
  await alice.start();
  await hearEachOther([alice, bob, erin], id, "together again");
  for (const device of [alice, bob, erin]) requireNoneTwice(device, id);
}, 180_000);

// The fault that this finds: a join that was in time is judged by the time at which it was fed again.
test("who was away follows somebody who came in time by a link that has expired when the service is fed", async () => {
  const clock = new ShiftedClock();
  await using world = await World.start({ serviceClock: clock });
  const [alice, bob, carol, dave] = await flock(world, "Alice", "Bob", "Carol", "Dave");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  const { url = "" } = await on(alice, id).community.createLink({ expiresInSeconds: 3_600 });
  await hearEachOther([alice, bob, carol], id, "before the backup");
  const { restore } = await backup(world);
  for (const device of [alice, bob, carol, dave]) await device.client.connection.caughtUp();
  await carol.stop();
  await on(alice, id).setTitle("Murmuration");
  await dave.client.conversations.join(url);
  await hearEachOther([alice, bob, dave], id, "after the backup");

  clock.offsetMs = 2 * 3_600_000;
  await restore();
  await agree([alice, bob, dave], id, "after the restoration");
  await hearEachOther([alice, bob, dave], id, "after the restoration");
  await carol.start();
  await agree([alice, bob, carol, dave], id, "in the end");
  await hearEachOther([alice, bob, carol, dave], id, "in the end");
  expect(askedOfForks(carol)).toBe(0);
}, 180_000);

test("who knows nothing of it and talks to the restored service in its old epoch is heard by those who were further", async () => {
  await using world = await World.start();
  const { alice, bob, carol, erin, id, restore } = await scene(world);
  for (const device of [alice, bob, erin]) await device.stop();
  await restore();
  await carol.start();
  await on(carol, id).send({ text: "Carol, in the old epoch" });
  await carol.client.outbox.settled();
  await carol.stop();
  for (const device of [alice, bob, erin]) await device.start();
  await hearEachOther([alice, bob, erin], id, "in the new one");
  await carol.start();
  await heard(
    [alice, bob, carol, erin],
    id,
    "Carol, in the old epoch",
    "Bob, after the backup",
    ...AFTER.slice(0, 2),
  );
  await agree([alice, bob, carol, erin], id);
  for (const device of [alice, bob, carol, erin]) requireNoneTwice(device, id);
}, 180_000);

test("where only messages were lost the log is read again from where it parts, and what is missing is sent again", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await hearEachOther([alice, bob, carol], id, "before the backup");
  const { restore } = await backup(world);
  for (const device of [alice, bob, carol]) await device.client.connection.caughtUp();
  await carol.stop();
  const texts = [1, 2, 3].map((n) => `after the backup ${n}`);
  for (const text of texts) await on(alice, id).send({ text });
  await heard([alice, bob], id, ...texts);
  await alice.client.outbox.settled();
  await alice.stop();
  await restore();
  // Bob alone: as many entries as were lost, so that no number shows it to Alice.
  for (const n of [1, 2, 3, 4]) await on(bob, id).send({ text: `while Alice was away ${n}` });
  await bob.client.outbox.settled();
  await alice.start();
  await carol.start();
  const more = [1, 2, 3, 4].map((n) => `while Alice was away ${n}`);
  await heard([alice, bob, carol], id, ...texts, ...more);
  await hearEachOther([alice, bob, carol], id, "in the end");
  for (const device of [alice, bob, carol]) requireNoneTwice(device, id);
}, 180_000);

test.each([
  ["fewer", 1],
  ["more", 8],
])(
  "where the service went on to %s epochs with others, nobody follows it there: people have to decide",
  async (_, commits) => {
    await using world = await World.start();
    const { alice, bob, mallory, erin, id, ids, restore } = await scene(world);
    for (const device of [alice, bob, erin]) await device.stop();
    await restore();
    // Mallory, who was removed since, comes first and makes a past of its own.
    await mallory.start();
    await mallory.client.connection.caughtUp();
    for (let n = 0; n < commits; n++) await on(mallory, id).community.heal();
    const other = logOf(world, id);
    for (const device of [alice, bob]) await device.start();
    await on(alice, id).send({ text: "not into that one" });
    await until(() => [alice, bob].every(isBehind), PATIENCE_MS, "they are told");
    expect(logOf(world, id)).toEqual(other);
    expect(alice.client.outbox.waiting).toBe(1);
    for (const device of [alice, bob]) {
      const members = on(device, id).members();
      expect(members.map(({ accountId }) => accountId)).not.toContain(ids.mallory);
      expect(members).toHaveLength(4);
    }
  },
  180_000,
);

// The fault that this finds: a community that the copy does not have at all, and that its members wait for in vain.
test("a community that was made since the copy is made again by whoever made it, with all that happened in it", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const members = [bob.id, carol.id];
  const elder = await alice.client.conversations.createGroup({ title: "Elders", members });
  await until(() => [bob, carol].every((device) => on(device, elder.id)?.title === "Elders"), PATIENCE_MS);
  const { restore } = await backup(world);
  await hearEachOther([alice, bob, carol], elder.id, "the service is back");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members,
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await on(alice, id).setTitle("Murmuration");
  await hearEachOther([alice, bob, carol], id, "after the backup");
  await carol.stop();
  await on(bob, id).send({ text: "Bob, after the backup" });
  await heard([alice, bob], id, "Bob, after the backup");
  for (const device of [alice, bob]) await device.client.outbox.settled();
  await alice.stop();

  await restore();
  await on(bob, id).send({ text: "is anybody here?" });
  await until(() => isBehind(bob), PATIENCE_MS, "Bob is told that the service is behind");
  await alice.start();
  await carol.start();
  const everybody = [alice, bob, carol];
  await heard(everybody, id, "Bob, after the backup", "is anybody here?");
  await hearEachOther(everybody, id, "in the end");
  for (const device of everybody) {
    requireNoneTwice(device, id);
    expect(on(device, id).title).toBe("Murmuration");
  }
}, 180_000);

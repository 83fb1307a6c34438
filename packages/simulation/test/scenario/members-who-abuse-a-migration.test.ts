import { parseGroupId } from "@murmuration/base";
import { expect, test } from "vitest";
import type { Content } from "../../../client-core/src/core/content.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, tell } from "../support/bent-creator.ts";
import { LyingRecords } from "../support/lying-records.ts";
import { groupOf, inConversation, stays } from "../support/pairwise-groups.ts";

const count = (device: SimulatedDevice, table: string): number =>
  insidesOf(device).context.storage.get(`SELECT count(*) AS n FROM ${table}`)?.["n"] as number;

async function birds() {
  const world = await World.start();
  const [alice, bob, mallory, stranger] = [
    await world.join("Alice"),
    await world.join("Bob"),
    await world.join("Mallory"),
    await world.join("Stranger"),
  ];
  await introduce(alice, bob, mallory, stranger);
  const group = await groupOf(alice, bob, mallory);
  return { world, alice, bob, mallory, stranger, all: [alice, bob, mallory], group };
}

test("secrets and readiness from strangers, of unknown groups and of huge numbers change nothing and fill nothing", async () => {
  const { world, bob, mallory, stranger, all, group } = await birds();
  await using _ = world;
  const groupId = parseGroupId(group.id);
  const huge = 0xffff_ffff;
  const secret = new Uint8Array(32).fill(1);
  const bodies = (revision: number): Partial<Content>[] => [
    { group: { groupId, revision }, migrationSecret: { generation: 1, round: huge, secret } },
    { group: { groupId, revision }, migrationSecret: { generation: huge, round: 1, secret } },
    {
      group: { groupId, revision },
      migrationReady: { generation: huge, epoch: 2 ** 40, authenticator: secret },
    },
  ];
  for (const from of [stranger, mallory]) tell(from, bob, [...bodies(1), ...bodies(2 ** 40)]);
  tell(
    stranger,
    bob,
    Array.from({ length: 200 }, () => bodies(2 ** 40)[0]!),
  );
  tell(stranger, bob, [{ text: { text: "done", attachments: [] } as never }]);
  await until(() => textsOf(bob.client, stranger.id).length === 1, 40_000);
  expect(count(bob, "migration_secret")).toBe(0);
  expect(count(bob, "migration_ready")).toBe(0);
  expect(count(bob, "migration")).toBe(0);
  expect(count(bob, "held")).toBeLessThanOrEqual(70);
  // The group moves as ever.
  await group.migrate("start");
  await until(() => all.every((device) => inConversation(device, group.id).protocol === "mls"));
  await inConversation(bob, group.id).send({ text: "unharmed" });
  await until(() => all.every((device) => textsOf(device.client, group.id).includes("unharmed")));
}, 90_000);

test("a member that announces what it never said holds up its own words alone, and not many of them", async () => {
  const { world, alice, bob, mallory, all, group } = await birds();
  await using _ = world;
  await inConversation(mallory, group.id).send({ text: "first" });
  await until(() => all.every((device) => textsOf(device.client, group.id).includes("first")));
  const { context } = insidesOf(mallory);
  context.storage.run("UPDATE group_state SET sent = ?", [2 ** 40]);
  await group.migrate("start");
  await until(() => all.every((device) => inConversation(device, group.id).protocol === "mls"));
  await inConversation(mallory, group.id).send({ text: "out of the void" });
  await inConversation(alice, group.id).send({ text: "on we go" });
  await until(() => textsOf(bob.client, group.id).includes("on we go"));
  expect(textsOf(bob.client, group.id)).not.toContain("out of the void");
  for (let said = 0; said < 520; said++)
    await inConversation(mallory, group.id).send({ text: `flood ${said}` });
  // What is more than is held is shown at once; what is held comes a minute later.
  await until(() => textsOf(bob.client, group.id).includes("flood 519"), 40_000);
  expect(count(bob, "held")).toBeLessThanOrEqual(500);
  await inConversation(alice, group.id).send({ text: "still here" });
  await until(() => textsOf(bob.client, group.id).includes("still here"));
}, 120_000);

test("a device is not ready that names another epoch than the creator is in, whether that is here or still to come", async () => {
  await using world = await World.start();
  const lies = new LyingRecords();
  const [alice, bob, dave] = [await world.join("Alice"), await world.join("Bob"), await world.join("Dave")];
  const mallory = await world.join("Mallory", { wrapTransport: lies.wrapTransport });
  await introduce(alice, bob, dave, mallory);
  const group = await groupOf(alice, bob, mallory);
  const groupId = parseGroupId(group.id);
  const { mls } = insidesOf(alice).context;
  const epoch = () => mls.newestEpoch(groupId)?.epoch ?? 0;
  const notReady = () =>
    (inConversation(alice, group.id).migration?.notReady ?? []).map(({ accountId }) => accountId);
  /** What Mallory's client says of itself, and that Alice has read it. */
  const claim = async (of: number, authenticator: Uint8Array<ArrayBuffer>, word: string) => {
    tell(mallory, alice, [
      { group: { groupId, revision: 1 }, migrationReady: { generation: 1, epoch: of, authenticator } },
      { text: { text: word, attachments: [] } as never },
    ]);
    await until(() => textsOf(alice.client, mallory.id).includes(word));
  };
  const wrong = new Uint8Array(32).fill(7);

  // Mallory never gets the Welcome: all that comes of it is what it says.
  lies.isMailKept = true;
  await group.migrate("start");
  await until(() => notReady().join() === mallory.id, 40_000, "only Mallory is waited for");
  await claim(epoch(), wrong, "of an epoch that is here");
  expect(notReady()).toEqual([mallory.id]);

  const next = epoch() + 1;
  await claim(next, wrong, "of one that is to come");
  await group.add([dave.id]);
  await until(() => epoch() === next && notReady().join() === mallory.id, 40_000, "Dave is in and ready");
  await stays(500, () =>
    expect(inConversation(alice, group.id).migration).toMatchObject({ state: "preparing" }),
  );
  expect(notReady()).toEqual([mallory.id]);

  // The right one would have counted.
  await claim(next, mls.epochHash(groupId, next)!, "of the very epoch");
  await until(() => inConversation(alice, group.id).migration?.state !== "preparing");
  lies.isMailKept = false;
  (mallory.client as unknown as { link: { interrupt(): void } }).link.interrupt();
  const all = [alice, bob, dave, mallory];
  await until(() => all.every((device) => inConversation(device, group.id)?.protocol === "mls"), 40_000);
}, 120_000);

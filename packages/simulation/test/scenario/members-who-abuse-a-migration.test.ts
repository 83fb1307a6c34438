import { parseGroupId } from "@murmuration/base";
import { expect, test } from "vitest";
import type { Content } from "../../../client-core/src/core/content.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, tell } from "../support/bent-creator.ts";
import { groupOf, inConversation } from "../support/pairwise-groups.ts";

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

import { randomBytes } from "node:crypto";
import { formatId, type GroupId, groupId, parseGroupId } from "@murmuration/base";
import { routePath } from "@murmuration/wire";
import { expect, test } from "vitest";
import type { Content } from "../../../client-core/src/core/content.ts";
import { migrationGroupId } from "../../../client-core/src/core/migration/keys.ts";
import { encodeMigrationPskId } from "../../../client-core/src/core/migration/psk-id.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, tell } from "../support/bent-creator.ts";
import { PATIENCE_MS } from "../support/communities.ts";
import { HeldRequests } from "../support/held-requests.ts";
import { LyingRecords } from "../support/lying-records.ts";
import { allMoved, movers, pairwiseGroup, requireMoved } from "../support/moves.ts";
import { groupOf, inConversation, stays } from "../support/pairwise-groups.ts";
import { storedLog } from "../support/service-rows.ts";

/** No creator draws so many secrets. */
const ROUND = 99;

const random = (length: number) => new Uint8Array(randomBytes(length));

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

/** A commit of the group that a conversation moves to, or has moved to, under a key that nobody else has. */
async function commitUnderOwnKey(admin: SimulatedDevice, id: string): Promise<void> {
  const conversation = parseGroupId(id) as GroupId;
  const { communities, context } = insidesOf(admin);
  const { generation } = context.migration.record(conversation);
  context.transaction(() => context.migration.putSecret(conversation, generation, ROUND, random(32)));
  await communities.committer.commit(conversation, (group) => {
    const named = {
      groupId: groupId(new Uint8Array(group.groupId)),
      generation,
      round: ROUND,
      rosterHash: random(32),
    };
    const psk = { kind: "external", pskId: encodeMigrationPskId(named), pskNonce: random(32) } as const;
    return { options: { proposals: [{ kind: "psk", psk }], cached: "none", path: "always" } };
  });
}

const voids = (world: World, id: string): number =>
  storedLog(world, formatId(migrationGroupId(parseGroupId(id) as GroupId, 1))).filter(
    (entry) => entry.voids !== undefined,
  ).length;

const rejoins = (devices: readonly SimulatedDevice[]): number =>
  devices.reduce((sum, { client }) => sum + client.communityCosts.rejoins, 0);

test("an admin that commits under a key of its own, in a group that has moved, drives nobody out of it", async () => {
  const { world, alice, bob, mallory, all, group } = await birds();
  await using _ = world;
  await group.setRole(mallory.id, "admin");
  await group.migrate("start");
  await allMoved(all, group.id);
  await requireMoved(all, group.id, "all are in");

  await commitUnderOwnKey(mallory, group.id);
  await until(() => voids(world, group.id) === 1, PATIENCE_MS, "the commit is void");
  await requireMoved([alice, bob], group.id, "on we go");
  expect(rejoins([alice, bob])).toBe(0);
}, 120_000);

// It comes between the switching commit and the word of the record: all of them take it for one whose key is on its way.
test.each([
  { how: "by the word of others", isMailKept: false },
  // Step by step the others go to the end meanwhile: it reads of the switch and of the end at once.
  { how: "by a look at the record, when the move is over", isMailKept: true },
])(
  "an admin that commits under a key of its own in the moment of the switch leaves nobody deaf who hears of the switch $how",
  async ({ isMailKept }) => {
    const world = await World.start();
    await using _ = world;
    const held = new HeldRequests();
    const mail = new LyingRecords();
    const [alice] = await movers(world, ["Alice"], { wrapTransport: held.wrapTransport });
    const [bob] = await movers(world, ["Bob"], { wrapTransport: mail.wrapTransport });
    const [carol, mallory] = await movers(world, ["Carol", "Mallory"]);
    const honest = [alice, bob, carol];
    await introduce(...honest, mallory);
    const group = await pairwiseGroup(alice, [bob, carol, mallory]);
    await group.setRole(mallory.id, "admin");
    await group.migrate("start");
    const stateOf = (device: SimulatedDevice) => inConversation(device, group.id).migration?.state;
    await until(() => stateOf(bob) === "ready", PATIENCE_MS, "all are ready");
    held.keep(`PUT ${routePath("writeGroup", { groupId: group.id })}`);
    await until(() => held.count > 0, PATIENCE_MS, "the word of the switch is kept");

    await commitUnderOwnKey(mallory, group.id);
    // It does not find the switch, and would begin another generation.
    await mallory.stop();
    const isDeaf = (device: SimulatedDevice) =>
      insidesOf(device).communities.isStandingStill(parseGroupId(group.id) as GroupId);
    await until(() => honest.every(isDeaf), PATIENCE_MS, "the log stands still");
    mail.isMailKept = isMailKept;
    held.letGo();
    await allMoved(honest, group.id);
    await until(() => voids(world, group.id) === 1, PATIENCE_MS, "the commit is void");
    await requireMoved(honest, group.id, "on we go");
    expect(rejoins(honest)).toBe(0);
  },
  120_000,
);

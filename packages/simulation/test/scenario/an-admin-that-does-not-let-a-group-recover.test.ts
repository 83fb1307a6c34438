import { parseGroupId } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import { expect, test } from "vitest";
import type { Content } from "../../../client-core/src/core/content.ts";
import { createChange } from "../../../client-core/src/core/group-change.ts";
import { introduce, type SimulatedDevice, testLimits, textsOf, until, World } from "../../src/index.ts";
import {
  generationOf,
  insidesOf,
  insistOnSwitch,
  pretendStep,
  tell,
  untilGeneration,
  writeStep,
} from "../support/bent-creator.ts";
import { membersOf, on } from "../support/communities.ts";
import { LyingRecords } from "../support/lying-records.ts";
import { allMoved, movers, pairwiseGroup, requireMoved, untilIn } from "../support/moves.ts";
import { decisions, groupOf, inConversation, stays } from "../support/pairwise-groups.ts";

const MLS_WITHIN_MS = 30_000;
const LEASE_MS = 5_000;

/** A group in MLS, whose members look often whether somebody goes on. */
async function birds() {
  const world = await World.start({ service: { limits: { ...testLimits, migrationLeaseMs: LEASE_MS } } });
  const [alice, bob, mallory] = [
    await world.join("Alice"),
    await world.join("Bob"),
    await world.join("Mallory"),
  ];
  const all = [alice, bob, mallory] as const;
  await introduce(...all);
  const group = await groupOf(...all);
  await group.setRole(mallory.id, "admin");
  await until(() =>
    inConversation(mallory, group.id)
      .members()
      .some(({ role }) => role === "admin"),
  );
  await group.migrate("start");
  await inMls(all, group.id);
  return { world, alice, bob, mallory, all, group };
}

const inMls = (devices: readonly SimulatedDevice[], id: string) =>
  until(() => devices.every((device) => inConversation(device, id).protocol === "mls"), MLS_WITHIN_MS, "mls");

const recover = (device: SimulatedDevice, id: string) =>
  writeStep(device, id, ({ migration }) => ({
    kind: "migrate-recover",
    generation: migration.generation + 1,
  }));

/** The same step, well signed, and in no record. */
function recoveryBy(device: SimulatedDevice, id: string): Partial<Content> {
  const { context } = insidesOf(device);
  const group = parseGroupId(id);
  const { hash, revision } = context.conversations.group(group)!;
  const { encoded } = createChange(
    {
      groupId: group,
      revision: revision + 1,
      previousHash: hash,
      author: context.own,
      authorDeviceList: context.engine.local()!.deviceList,
      atMs: context.now(),
      action: { kind: "migrate-recover", generation: context.migration.record(group).generation + 1 },
    },
    (label, content) => context.engine.signWithDeviceKey(label, content),
  );
  return { group: { groupId: group, revision }, groupChange: { change: encoded } };
}

/** Keeps its lease, and does nothing with it. */
function neverGoesOn(device: SimulatedDevice, id: string): void {
  const { context, migrations } = insidesOf(device);
  const group = parseGroupId(id);
  Object.assign(migrations.preparer, { advance: async () => false });
  const renewing = setInterval(() => {
    const { lease: leaseToken } = context.migration.own(group);
    const { generation } = context.migration.record(group);
    const groupKey = context.conversations.group(group)?.groupKey;
    if (leaseToken === undefined || groupKey === undefined) return;
    context.api.renewLease(group, groupKey, { generation, leaseToken }).catch(() => clearInterval(renewing));
  }, 1_000);
}

/** Whether the lease of another one is over is looked at all the time, and not once a minute. */
function looksOften(device: SimulatedDevice, id: string): void {
  const { context, migrations } = insidesOf(device);
  const looking = setInterval(() => {
    if (context.closing.signal.aborted) clearInterval(looking);
    migrations.lookAtMs.set(id, 0);
  }, 500);
}

test("an admin that takes a group back and never goes on is removed by its owner, and the group goes on", async () => {
  const { world, alice, bob, mallory, group } = await birds();
  await using _ = world;
  await group.send({ text: "before" });
  await until(() => textsOf(bob.client, group.id).includes("before"));
  neverGoesOn(mallory, group.id);
  looksOften(alice, group.id);
  await recover(mallory, group.id);
  await untilGeneration(2, group.id, alice, bob);
  await inConversation(bob, group.id).send({ text: "while nobody could hear it" });
  await stays(3_000, () =>
    expect(textsOf(alice.client, group.id)).not.toContain("while nobody could hear it"),
  );

  await group.remove(mallory.id);
  await inMls([alice, bob], group.id);
  await until(() => textsOf(alice.client, group.id).includes("while nobody could hear it"), MLS_WITHIN_MS);
  await group.send({ text: "without Mallory" });
  await until(() => textsOf(bob.client, group.id).includes("without Mallory"));
  expect(inConversation(bob, group.id).memberCount).toBe(2);
  expect(textsOf(mallory.client, group.id)).not.toContain("without Mallory");
}, 240_000);

test("an admin who was removed after the switch brings nobody out of the MLS group", async () => {
  const { world, alice, bob, mallory, group } = await birds();
  await using _ = world;
  const { context } = insidesOf(mallory);
  const held = insidesOf(mallory).context.conversations.members(Buffer.from(group.id, "base64url"));
  await group.remove(mallory.id);
  await until(() => [alice, bob].every((device) => inConversation(device, group.id).memberCount === 2));
  await until(() => inConversation(mallory, group.id).state === "removed");
  // A client that lies to itself writes the step with the access key that it still has.
  context.transaction(() => {
    for (const member of held) context.conversations.putMember(Buffer.from(group.id, "base64url"), member);
  });
  // Its word alone alarms nobody: what is not in the record nobody follows.
  tell(mallory, bob, [
    recoveryBy(mallory, group.id),
    { text: { text: "said so", attachments: [] } as never },
  ]);
  await until(() => textsOf(bob.client, mallory.id).includes("said so"));
  expect(decisions(bob, "migration/recovery-refused")).toBe(0);
  expect(insidesOf(bob).context.held.subjects("group")).toEqual([]);
  await recover(mallory, group.id);
  for (const device of [alice, bob])
    await insidesOf(device).groups.refresh(Buffer.from(group.id, "base64url"));
  await group.send({ text: "still here" });
  await until(() => textsOf(bob.client, group.id).includes("still here"));
  for (const device of [alice, bob]) {
    expect(inConversation(device, group.id).protocol).toBe("mls");
    expect(inConversation(device, group.id).migration?.generation).toBe(1);
    // Whoever has not gone over follows that record: a person is told, once, however often it is looked at.
    await insidesOf(device).groups.refresh(Buffer.from(group.id, "base64url"));
    expect(decisions(device, "migration/recovery-refused")).toBe(1);
  }
}, 120_000);

/** A group that has gone over to MLS, but for Carol, an admin, who has its log and has heard no word of the switch. */
async function allButCarol(world: World) {
  const mail = new LyingRecords();
  const [alice, bob, dave] = await movers(world, ["Alice", "Bob", "Dave"]);
  const [carol] = await movers(world, ["Carol"], { wrapTransport: mail.wrapTransport });
  await introduce(alice, bob, carol, dave);
  const { id } = await pairwiseGroup(alice, [bob, carol, dave]);
  for (const admin of [bob, carol]) await on(alice, id).setRole(admin.id, "admin");
  const { context, groups, migrations } = insidesOf(carol);
  Object.assign(migrations, { noticed: () => {} });
  migrations.lookAtMs.set(`switch ${id}`, Number.POSITIVE_INFINITY);
  await on(alice, id).migrate("start");
  await untilIn([carol], id, () => on(carol, id).migration?.state === "ready", "all are ready");
  mail.isMailKept = true;
  await allMoved([alice, bob, dave], id);
  const hear = async () => {
    const { cursor } = insidesOf(alice).context.mls.group(parseGroupId(id))!;
    const isThere = () => context.mls.group(parseGroupId(id))!.cursor >= cursor;
    await untilIn([carol], id, isThere, "Carol has the log");
    await groups.refresh(parseGroupId(id));
    mail.isMailKept = false;
  };
  return { alice, bob, carol, dave, id, hear };
}

// The fault that it finds: whoever had gone over never follows the record again.
test("an admin that has not gone over removes somebody, while the group recovers, who has left over MLS: all go on", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, hear } = await allButCarol(world);
  await on(dave, id).leave();
  await untilIn([bob], id, () => on(bob, id).memberCount === 3, "Dave has left");
  const { preparer } = insidesOf(bob).migrations;
  Object.assign(preparer, { advance: async () => false });
  await recover(bob, id);
  await hear();
  expect(on(carol, id).migration?.state).toBe("recovering");
  await on(carol, id).remove(dave.id);
  Reflect.deleteProperty(preparer, "advance");
  const all = [alice, bob, carol];
  await requireMoved(all, id, "on we go");
  for (const device of all) expect(on(device, id).memberCount).toBe(3);
}, 120_000);

// The fault that it finds: it takes the roles of the group that was given up for those of the record, and refuses the next one.
test("whoever hears of a switch and of its recovery at once goes by the record alone", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, hear } = await allButCarol(world);
  const all = [alice, bob, carol, dave];
  await on(alice, id).setRole(dave.id, "owner");
  await untilIn(
    [bob],
    id,
    () => membersOf(bob, id).includes(`${dave.id}/owner`),
    "Dave is an owner over MLS",
  );
  const { preparer } = insidesOf(bob).migrations;
  Object.assign(preparer, { advance: async () => false });
  await recover(bob, id);
  await hear();
  expect(membersOf(carol, id)).toContain(`${dave.id}/member`);
  Reflect.deleteProperty(preparer, "advance");
  await requireMoved(all, id, "on we go");
  expect(decisions(carol, "migration/roster-mismatch")).toBe(0);
  expect(generationOf(carol, id)).toBe(2);
}, 120_000);

// The fault that it finds: it asks for that lease for ever, and takes no step.
test("an owner that takes a group back goes on when somebody has written the record forward, and the lease is nobody's", async () => {
  await using world = await World.start({
    service: { limits: { ...testLimits, migrationLeaseMs: LEASE_MS } },
  });
  const all = await movers(world, ["Alice", "Bob", "Carol"]);
  const [alice, bob, carol] = all;
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await on(alice, id).migrate("start");
  await requireMoved(all, id, "all are in");
  const { context, migrations } = insidesOf(alice);
  Object.assign(migrations.preparer, { advance: async () => false });
  await recover(alice, id);
  context.transaction(() =>
    context.migration.setOwn(parseGroupId(id), { lease: new Uint8Array(limits.leaseTokenBytes) }),
  );
  // It was renewed, for the generation before, not long ago.
  migrations.preparer.renewedAtMs.clear();
  Reflect.deleteProperty(migrations.preparer, "advance");
  migrations.wake();
  await untilGeneration(2, id, ...all);
  await requireMoved(all, id, "on we go");
}, 120_000);

test("a creator that names a switch which there is not keeps nobody for ever: a person is told, and begins anew", async () => {
  await using world = await World.start();
  const [alice, bob, mallory] = [
    await world.join("Alice"),
    await world.join("Bob"),
    await world.join("Mallory"),
  ];
  await introduce(alice, bob, mallory);
  const group = await groupOf(alice, bob, mallory);
  await group.setRole(mallory.id, "admin");
  await until(() =>
    inConversation(mallory, group.id)
      .members()
      .some(({ role }) => role === "admin"),
  );
  pretendStep(mallory, "migrate-switch", (action) => ({ ...action, epoch: 99 }));
  insistOnSwitch(mallory);
  await inConversation(mallory, group.id).migrate("start");
  await until(() =>
    [alice, bob].every((device) => inConversation(device, group.id).migration?.state === "switching"),
  );
  await inConversation(bob, group.id).send({ text: "anybody?" });
  await stays(1_000, () => expect(decisions(alice, "migration/switch-not-found")).toBe(0));
  await expect(group.migrate("start")).rejects.toThrow("migration/already-switched");
  // A minute is over.
  insidesOf(alice).migrations.lookAtMs.set(`behind ${group.id}`, 0);
  await until(() => decisions(alice, "migration/switch-not-found") === 1);
  await group.migrate("start");
  await inMls([alice, bob, mallory], group.id);
  await until(() => textsOf(alice.client, group.id).includes("anybody?"));
}, 120_000);

import { groupId, parseAccountId, parseGroupId } from "@murmuration/base";
import type { CommunityContext } from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import type { SwitchPoint } from "../../../client-core/src/core/group-change.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import {
  followBlindly,
  generationOf,
  insidesOf,
  insistOnSwitch,
  pretendContext,
  pretendGhost,
  pretendStep,
  untilGeneration,
} from "../support/bent-creator.ts";
import { membersOf, on } from "../support/communities.ts";
import {
  allMoved,
  movable,
  movers,
  pairwiseGroup,
  Talk,
  untilIn,
  withoutKeyPackages,
} from "../support/moves.ts";
import { decisions, groupOf, inConversation } from "../support/pairwise-groups.ts";

async function birds() {
  const world = await World.start();
  const [alice, bob, mallory, ghost] = [
    await world.join("Alice"),
    await world.join("Bob"),
    await world.join("Mallory"),
    await world.join("Ghost"),
  ];
  await introduce(alice, bob, mallory);
  await introduce(mallory, ghost);
  const group = await groupOf(alice, bob, mallory);
  await group.setRole(mallory.id, "admin");
  await until(() =>
    inConversation(mallory, group.id)
      .members()
      .some(({ role }) => role === "admin"),
  );
  return { world, alice, bob, mallory, ghost, group };
}

test("a creator that brings a ghost along is refused by everybody, and the group moves without it", async () => {
  const { world, alice, bob, mallory, ghost, group } = await birds();
  await using _ = world;
  pretendGhost(mallory, ghost);
  insistOnSwitch(mallory);
  await inConversation(mallory, group.id).migrate("start");
  const honest = [alice, bob];
  await until(() => honest.every((device) => decisions(device, "migration/roster-mismatch") > 0));
  // What is said while nobody can speak comes later.
  await inConversation(bob, group.id).send({ text: "said to nobody else" });

  await until(() => honest.every((device) => inConversation(device, group.id).protocol === "mls"), 40_000);
  const all = [...honest, mallory];
  expect(generationOf(bob, group.id)).toBe(2);
  await inConversation(alice, group.id).send({ text: "hello again" });
  await until(() =>
    all.every(
      (device) =>
        textsOf(device.client, group.id).filter(
          (text) => text === "said to nobody else" || text === "hello again",
        ).length === 2,
    ),
  );
  for (const device of all)
    expect(
      inConversation(device, group.id)
        .members()
        .map((member) => member.accountId)
        .sort(),
    ).toEqual(all.map(({ id }) => id).sort());
  for (const conversation of ghost.client.conversations.list())
    expect(textsOf(ghost.client, conversation.id)).toEqual([]);
}, 120_000);

test("members who did not look at the roster would talk in a group that the ghost is in", async () => {
  const { world, alice, bob, mallory, ghost, group } = await birds();
  await using _ = world;
  pretendGhost(mallory, ghost);
  insistOnSwitch(mallory);
  for (const device of [alice, bob, mallory]) followBlindly(device);
  await inConversation(mallory, group.id).migrate("start");
  const honest = [alice, bob];
  await until(() => honest.every((device) => inConversation(device, group.id).protocol === "mls"), 40_000);
  // Nobody is asked anything, and the ghost has a leaf where they talk.
  for (const device of honest) expect(decisions(device, "migration/roster-mismatch")).toBe(0);
  expect(inConversation(bob, group.id).memberCount).toBe(4);
}, 120_000);

type Bend = (mallory: SimulatedDevice, ghost: SimulatedDevice) => void;

const context =
  (change: (honest: CommunityContext, ghost: SimulatedDevice) => Partial<CommunityContext>): Bend =>
  (mallory, ghost) =>
    pretendContext(mallory, (honest) => ({ ...honest, ...change(honest, ghost) }));

const switchChange =
  (change: Partial<SwitchPoint>): Bend =>
  (mallory) =>
    pretendStep(mallory, "migrate-switch", (action) => ({ ...action, ...change }));

const bends: readonly { readonly name: string; readonly bend: Bend }[] = [
  {
    name: "makes itself an owner",
    bend: context(({ roleHolders }) => ({
      roleHolders: roleHolders.map((holder) => ({ ...holder, role: "owner" as const })),
    })),
  },
  {
    name: "gives a role to somebody who has no leaf yet",
    bend: context(({ roleHolders }, ghost) => ({
      roleHolders: [...roleHolders, { accountId: parseAccountId(ghost.id), role: "owner" as const }],
    })),
  },
  {
    name: "expects somebody whom the record does not know",
    bend: context((_, ghost) => ({
      expected: [{ accountId: parseAccountId(ghost.id), fingerprint: new Uint8Array(32) }],
    })),
  },
  {
    name: "leaves a link open",
    bend: context(() => ({
      links: [
        {
          linkId: new Uint8Array(16),
          publicKey: new Uint8Array(32),
          maxUses: 0,
          approval: false,
          expiresAtMs: 0,
        },
      ],
    })),
  },
  { name: "lets every member add others", bend: context(() => ({ addBy: "member" })) },
  { name: "lets every member change the profile", bend: context(() => ({ profileBy: "member" })) },
  { name: "silences everybody", bend: context(() => ({ announcementOnly: true })) },
  { name: "slows everybody down", bend: context(() => ({ slowModeSeconds: 3600 })) },
  { name: "holds up newcomers", bend: context(() => ({ joinsPerMinute: 1 })) },
  { name: "names another generation", bend: context(() => ({ generation: 7 })) },
  { name: "names another roster in the record", bend: switchChange({ rosterHash: new Uint8Array(32) }) },
  {
    name: "names another authenticator in the record",
    bend: switchChange({ authenticator: new Uint8Array(32) }),
  },
];

test.each(bends)(
  "a creator that $name is refused, and the group moves as its record says",
  async ({ bend }) => {
    const { world, alice, bob, mallory, ghost, group } = await birds();
    await using _ = world;
    insistOnSwitch(mallory);
    bend(mallory, ghost);
    await inConversation(mallory, group.id).migrate("start");
    const honest = [alice, bob];
    await until(() => honest.some((device) => decisions(device, "migration/roster-mismatch") > 0));
    await inConversation(bob, group.id).send({ text: "hello" });
    const all = [...honest, mallory];
    await until(() => all.every((device) => textsOf(device.client, group.id).includes("hello")), 40_000);
    expect(generationOf(bob, group.id)).toBe(2);
    const { addBy, announcementOnly, slowModeSeconds } = inConversation(alice, group.id).community.settings();
    expect({ addBy, announcementOnly, slowModeSeconds }).toEqual({
      addBy: "admin",
      announcementOnly: false,
      slowModeSeconds: 0,
    });
    expect(
      inConversation(bob, group.id)
        .members()
        .map(({ role }) => role)
        .sort(),
    ).toEqual(["admin", "member", "owner"]);
  },
  120_000,
);

// The fault that it finds: whoever could not see what the switch was keeps the roles that its creator had made up, and refuses the
// sound group that takes the place of that one, for good.
test("whoever came in from outside behind a creator that had made itself an owner follows the others out of that group again", async () => {
  await using world = await World.start();
  const [alice, bob, mallory] = await movers(world, ["Alice", "Bob", "Mallory"]);
  const dave = await world.join("Dave", { settings: movable, wrapTransport: withoutKeyPackages });
  await introduce(alice, bob, mallory, dave);
  const { id } = await pairwiseGroup(alice, [bob, mallory, dave]);
  await on(alice, id).setRole(mallory.id, "admin");
  await untilIn([mallory, dave], id, () => membersOf(dave, id).join().includes("admin"), "an admin");
  await dave.stop();
  insistOnSwitch(mallory);
  bends[0]!.bend(mallory, dave);
  await on(mallory, id).migrate("start");
  await untilIn([mallory], id, () => on(mallory, id).migration?.readyAccounts === 3, "three are ready");
  await alice.stop();
  await bob.stop();
  await on(mallory, id).migrate("finish-now");
  await untilIn([mallory], id, () => on(mallory, id).migration?.state === "switching", "the switch");
  // One epoch on nobody sees any more what the switch was.
  await insidesOf(mallory).communities.committer.commit(groupId(parseGroupId(id)), () => ({ options: {} }));
  await dave.start({ wrapTransport: (transport) => transport });
  await allMoved([dave], id);
  expect(membersOf(dave, id)).toContain(`${mallory.id}/owner`);

  await alice.start();
  await bob.start();
  const all = [alice, bob, dave];
  await untilGeneration(2, id, ...all);
  await allMoved(all, id);
  const talk = new Talk(id);
  for (const device of all) await talk.say(device, "out of it");
  await talk.heardBy(all);
  for (const device of all) expect(membersOf(device, id)).toContain(`${mallory.id}/admin`);
}, 120_000);

import { accountId, parseAccountId } from "@murmuration/base";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { generationOf, insidesOf, insistOnSwitch, pretendMembers } from "../support/bent-creator.ts";
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

function addGhost(mallory: SimulatedDevice, ghost: SimulatedDevice): void {
  const account = parseAccountId(ghost.id);
  const identityKey = insidesOf(ghost).context.engine.local()!.accountIdentityKey;
  pretendMembers(mallory, (real) =>
    new Map(real).set(ghost.id, {
      account: accountId(account),
      role: "member",
      invited: false,
      identityKey,
      profileKey: undefined,
      name: "",
    }),
  );
  insistOnSwitch(mallory);
}

test("a creator that brings a ghost along is refused by everybody, and the group moves without it", async () => {
  const { world, alice, bob, mallory, ghost, group } = await birds();
  await using _ = world;
  addGhost(mallory, ghost);
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

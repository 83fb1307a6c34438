import { type GroupId, parseAccountId, parseGroupId } from "@murmuration/base";
import type { Socket, Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { encodeContent } from "../../../client-core/src/core/content.ts";
import { lanes } from "../../../client-core/src/shell/lanes.ts";
import {
  type DeviceOptions,
  introduce,
  type SimulatedDevice,
  textsOf,
  until,
  World,
} from "../../src/index.ts";
import { generationOf, insidesOf, insistOnSwitch, pretendGhost } from "../support/bent-creator.ts";
import { decisions, groupOf, inConversation } from "../support/pairwise-groups.ts";

async function birds(bobs: DeviceOptions = {}) {
  const world = await World.start();
  const [alice, bob, carol, mallory, ghost] = [
    await world.join("Alice"),
    await world.join("Bob", bobs),
    await world.join("Carol"),
    await world.join("Mallory"),
    await world.join("Ghost"),
  ];
  await introduce(alice, bob, carol, mallory);
  await introduce(mallory, ghost);
  const group = await groupOf(alice, bob, carol, mallory);
  await group.setRole(mallory.id, "admin");
  await until(() =>
    inConversation(mallory, group.id)
      .members()
      .some(({ role }) => role === "admin"),
  );
  return { world, honest: [alice, bob, carol], alice, bob, carol, mallory, ghost, group };
}

/** Draws a secret as ever, and sends these members another one, or none. Returns what tells it to those who have not got it. */
function missend(mallory: SimulatedDevice, to: readonly SimulatedDevice[]): () => void {
  const { context, migrations } = insidesOf(mallory);
  const { preparer } = migrations;
  const kept: (() => void)[] = [];
  const draw = preparer.drawSecret.bind(preparer);
  preparer.drawSecret = (id) => {
    const { outbox } = context;
    const append = outbox.append.bind(outbox);
    const exclude = context.conversations.memberAccounts(id);
    outbox.append = (row) => {
      if (row.target.kind !== "group") return append(row);
      kept.push(() => append(row));
      return append({ ...row, exclude });
    };
    draw(id);
    outbox.append = append;
    const { round } = context.migration.own(id);
    const { generation } = context.migration.record(id);
    context.transaction(() => {
      for (const { id: name } of to) {
        const account = parseAccountId(name);
        const messageId = context.newMessageId();
        append({
          lane: lanes.account(account),
          target: { kind: "account", account },
          messageId,
          content: encodeContent({
            messageId,
            group: { groupId: id, revision: context.conversations.group(id)?.revision ?? 0 },
            migrationSecret: { generation, round, secret: new Uint8Array(32).fill(7) },
          }),
          confirm: false,
          createdAtMs: context.now(),
        });
      }
    });
    for (const { id: name } of to) migrations.effects.wake(lanes.account(parseAccountId(name)));
  };
  return () => {
    context.transaction(() => {
      for (const tell of kept) tell();
    });
    for (const group of context.conversations.groups()) migrations.effects.wake(lanes.group(group));
  };
}

/** Counts how often a device asks the service to open a group. */
class Openings {
  count = 0;

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: async (...given: Parameters<Transport["connect"]>): Promise<Socket> => {
        const socket = await transport.connect(...given);
        const send: Socket["send"] = (frame) => {
          if (frame.body.kind === "groupAccess") this.count++;
          socket.send(frame);
        };
        return Object.assign(Object.create(socket) as Socket, { send, close: () => socket.close() });
      },
    });
}

const everybodyHas = (devices: readonly SimulatedDevice[], id: string, text: string) =>
  until(
    () => devices.every(({ client }) => textsOf(client, id).filter((other) => other === text).length === 1),
    60_000,
    text,
  );

test("whoever is not told the secret comes in from outside, and nothing is lost", async () => {
  const openings = new Openings();
  const { world, honest, bob, mallory, group } = await birds(openings);
  await using _ = world;
  missend(mallory, []);
  await inConversation(mallory, group.id).migrate("start");
  await until(() => honest.every((device) => inConversation(device, group.id).protocol === "mls"), 20_000);
  await inConversation(bob, group.id).send({ text: "here we are" });
  await everybodyHas([...honest, mallory], group.id, "here we are");
  expect(generationOf(bob, group.id)).toBe(1);
  // With its Welcome and with its new leaf; while it waited for the secret there was nothing to ask for.
  expect(openings.count).toBe(2);
}, 120_000);

test("a secret that comes when the switch has long been there is taken, and whoever waited for it keeps its leaf", async () => {
  const openings = new Openings();
  const { world, honest, bob, mallory, group } = await birds(openings);
  await using _ = world;
  const tellAtLast = missend(mallory, []);
  await inConversation(mallory, group.id).migrate("start");
  const communities = honest.map((device) => insidesOf(device).communities);
  await until(() => communities.every((one) => one.isStandingStill(parseGroupId(group.id) as GroupId)));
  tellAtLast();
  await until(() => honest.every((device) => inConversation(device, group.id).protocol === "mls"), 20_000);
  await inConversation(bob, group.id).send({ text: "here we are" });
  await everybodyHas([...honest, mallory], group.id, "here we are");
  for (const device of honest) {
    const { migration } = insidesOf(device).context;
    expect(migration.own(parseGroupId(group.id)).reached).toBeDefined();
  }
  // With its Welcome, and with the secret.
  expect(openings.count).toBe(2);
}, 120_000);

test("who is removed and added anew while it waits for the secret comes in all the same", async () => {
  const { world, bob, mallory, group } = await birds();
  await using _ = world;
  missend(mallory, []);
  await inConversation(mallory, group.id).migrate("start");
  await until(() => insidesOf(bob).communities.isStandingStill(parseGroupId(group.id) as GroupId));
  await until(() => inConversation(mallory, group.id).protocol === "mls");
  await inConversation(mallory, group.id).remove(bob.id);
  await inConversation(mallory, group.id).add([bob.id]);
  await until(() => inConversation(bob, group.id).protocol === "mls", 20_000);
  await inConversation(bob, group.id).send({ text: "here I am" });
  await everybodyHas([bob, mallory], group.id, "here I am");
}, 120_000);

test("a creator that keeps the secret, so that all come in from outside, does not get its ghost past the door", async () => {
  const { world, honest, bob, mallory, ghost, group } = await birds();
  await using _ = world;
  pretendGhost(mallory, ghost);
  insistOnSwitch(mallory);
  missend(mallory, []);
  await inConversation(mallory, group.id).migrate("start");
  await until(() => honest.some((device) => decisions(device, "migration/roster-mismatch") > 0), 60_000);
  await inConversation(bob, group.id).send({ text: "not for ghosts" });
  await everybodyHas([...honest, mallory], group.id, "not for ghosts");
  for (const device of honest) {
    expect(generationOf(device, group.id)).toBe(2);
    expect(inConversation(device, group.id).memberCount).toBe(4);
  }
}, 120_000);

test("members who get another secret than the others do not follow, and the group is whole in the end", async () => {
  const { world, honest, alice, bob, carol, mallory, group } = await birds();
  await using _ = world;
  missend(mallory, [bob, carol]);
  await inConversation(mallory, group.id).migrate("start");
  await until(
    () =>
      [alice, bob, carol].every(
        (device) => inConversation(device, group.id).migration?.state !== "preparing",
      ),
    60_000,
  );
  await inConversation(bob, group.id).send({ text: "from Bob" });
  await inConversation(alice, group.id).send({ text: "from Alice" });
  await everybodyHas([...honest, mallory], group.id, "from Bob");
  await everybodyHas([...honest, mallory], group.id, "from Alice");
}, 180_000);

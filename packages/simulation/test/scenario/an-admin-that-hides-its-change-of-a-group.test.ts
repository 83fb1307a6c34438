import { type Bytes, messageId } from "@murmuration/base";
import { routePath } from "@murmuration/wire";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, tell } from "../support/bent-creator.ts";
import { HeldRequests } from "../support/held-requests.ts";
import { groupOf, inConversation } from "../support/pairwise-groups.ts";

const added = ({ client }: SimulatedDevice, group: string, account: string): number =>
  client.conversations
    .get(group)!
    .history()
    .filter(
      (line) =>
        line.kind === "notice" &&
        line.notice.code === "group/member-added" &&
        line.notice.account === account,
    ).length;

// Whoever makes a change knows its hash before anybody else does, and a line of it is named by that.
test("an admin hides the line of its own change behind no message that it says before", async () => {
  await using world = await World.start();
  const held = new HeldRequests();
  const [alice, bob, eve] = [await world.join("Alice"), await world.join("Bob"), await world.join("Eve")];
  const mallory = await world.join("Mallory", { wrapTransport: held.wrapTransport });
  await introduce(alice, bob, mallory);
  await introduce(mallory, eve);
  const group = await groupOf(alice, bob, mallory);
  await group.setRole(mallory.id, "admin");
  await until(() =>
    inConversation(mallory, group.id)
      .members()
      .some(({ accountId, role }) => accountId === mallory.id && role === "admin"),
  );

  const { groups } = insidesOf(mallory);
  const prepare = groups.prepare.bind(groups);
  groups.prepare = (id, action): Bytes => {
    const hash = prepare(id, action);
    const name = messageId(hash.slice(0, 16));
    for (const other of [alice, bob])
      tell(mallory, other, [{ messageId: name, text: { text: "nice weather", attachments: [] } }]);
    return hash;
  };
  held.keep(`PUT ${routePath("writeGroup", { groupId: group.id })}`);
  const adding = inConversation(mallory, group.id).add([eve.id]);
  await until(() => [alice, bob].every(({ client }) => textsOf(client, mallory.id).includes("nice weather")));
  held.letGo();
  await adding;
  await until(() => [alice, bob].every((device) => inConversation(device, group.id).memberCount === 4));
  for (const device of [alice, bob]) {
    expect(added(device, group.id, eve.id)).toBe(1);
    expect(textsOf(device.client, mallory.id)).toEqual(["nice weather"]);
  }
});

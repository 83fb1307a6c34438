import { randomBytes } from "node:crypto";
import { formatId, type GroupId, groupId, parseAccountId } from "@murmuration/base";
import { expect, test } from "vitest";
import type { ClientParts } from "../../../client-core/src/client/parts.ts";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { agree, countOf, flock, hearEachOther, logOf, on, PATIENCE_MS } from "../support/communities.ts";

const partsOf = (device: SimulatedDevice): ClientParts =>
  (device.client.conversations as unknown as { readonly parts: ClientParts }).parts;

/** Alice has the group as the conversation `own`; everybody else knows it as `wire` only. */
async function scene(world: World) {
  const [alice, bob, carol, dave] = await flock(world, "Alice", "Bob", "Carol", "Dave");
  const [ownId, wireId] = [groupId(bytes()), groupId(bytes())] as [GroupId, GroupId];
  const profile = { title: "Flock", description: "" };
  const members = [bob.id, carol.id].map(parseAccountId);
  await partsOf(alice).communities.create(ownId, profile, 0, members, { wireId });
  const [own, wire] = [formatId(ownId), formatId(wireId)];
  await until(() => [bob, carol].every((device) => on(device, wire)?.title === "Flock"), PATIENCE_MS);
  const has = (device: SimulatedDevice, text: string) =>
    until(() => countOf(device, device === alice ? own : wire, text) === 1, PATIENCE_MS, `"${text}"`);
  return { alice, bob, carol, dave, own, wire, has };
}

const bytes = () => new Uint8Array(randomBytes(16));

test("a community goes by its conversation's id inside the client and by its group's id everywhere else, through its whole life", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, own, wire, has } = await scene(world);
  expect(alice.client.conversations.get(wire)).toBeUndefined();
  expect(bob.client.conversations.get(own)).toBeUndefined();
  expect(logOf(world, own)).toEqual([]);
  expect(logOf(world, wire).length).toBeGreaterThan(0);

  await on(alice, own).send({ text: "one" });
  await has(bob, "one");
  await on(bob, wire).send({ text: "two" });
  await Promise.all([alice, carol].map((device) => has(device, "two")));

  // A newcomer by Welcome, another title, a ban that the group's id goes into, a member that goes.
  await on(alice, own).setTitle("Murmuration");
  expect(await on(alice, own).add([dave.id])).toEqual([]);
  await until(() => [bob, dave].every((device) => on(device, wire)?.title === "Murmuration"), PATIENCE_MS);
  await on(alice, own).community.ban(carol.id);
  await until(() => on(bob, wire).members().length === 3, PATIENCE_MS);
  expect(on(alice, own).community.isBanned(carol.id)).toBe(true);
  await on(alice, own).setRole(bob.id, "admin");
  await until(
    () =>
      on(bob, wire)
        .members()
        .some(({ role }) => role === "admin"),
    PATIENCE_MS,
  );
  expect(on(bob, wire).community.isBanned(carol.id)).toBe(true);

  // Restart, with something said on both sides meanwhile.
  await alice.stop();
  await on(bob, wire).send({ text: "three" });
  await alice.start();
  await on(alice, own).send({ text: "four" });
  await has(alice, "three");
  await has(dave, "four");

  // Back from outside, with a new leaf in the place of the old one.
  await on(alice, own).community.heal();
  await on(alice, own).send({ text: "five" });
  await Promise.all([bob, dave].map((device) => has(device, "five")));
  await on(bob, wire).send({ text: "six" });
  await has(alice, "six");
  await on(alice, own).remove(dave.id);
  await until(() => on(dave, wire)?.state === "removed", PATIENCE_MS);
  const said = ["one", "two", "three", "four", "five", "six"];
  expect([...textsOf(alice.client, own)].sort()).toEqual(said.sort());
});

test("an invite link names the group: others come by it, and whoever has the conversation is led back to it", async () => {
  await using world = await World.start();
  const { alice, bob, dave, own, wire } = await scene(world);
  const open = await on(alice, own).community.createLink();
  expect(bob.client.conversations.describeLink(open.url!)).toEqual({ conversationId: wire, title: "Flock" });
  expect(alice.client.conversations.describeLink(open.url!).conversationId).toBe(own);
  expect((await alice.client.conversations.join(open.url!)).id).toBe(own);

  const asks = await on(alice, own).community.createLink({ approval: true });
  const joining = dave.client.conversations.join(asks.url!);
  await until(() => on(alice, own).community.joinRequests().length === 1, PATIENCE_MS, "a request");
  await on(alice, own).community.approveJoin(dave.id);
  expect((await joining).id).toBe(wire);
  await agree([bob, dave], wire);
  await hearEachOther([bob, dave], wire, "hello");
  await until(() => countOf(alice, own, "hello, member 1") === 1, PATIENCE_MS);
});

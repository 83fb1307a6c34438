import { type GroupId, parseGroupId, toBase64Url } from "@murmuration/base";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, tell, writeStep } from "../support/bent-creator.ts";
import { Outlaw, opens } from "../support/outlaw.ts";
import { groupOf, inConversation } from "../support/pairwise-groups.ts";
import { storedLog } from "../support/service-rows.ts";

/** Everything in a device's database, table by table, for whoever has its key. */
function cells(device: SimulatedDevice): { readonly table: string; readonly value: Uint8Array }[] {
  const { storage } = insidesOf(device).context;
  const tables = storage.all("SELECT name FROM sqlite_master WHERE type = 'table'");
  return tables.flatMap(({ name }) =>
    storage.all(`SELECT * FROM ${String(name)}`).flatMap((row) =>
      Object.values(row)
        .filter((value) => value instanceof Uint8Array)
        .map((value) => ({ table: String(name), value: value as Uint8Array })),
    ),
  );
}

const tablesWith = (device: SimulatedDevice, secret: Uint8Array): string[] => [
  ...new Set(
    cells(device)
      .filter(({ value }) => Buffer.from(value).includes(Buffer.from(secret)))
      .map(({ table }) => table),
  ),
];

test("a member removed while its group was prepared opens nothing said in MLS, and is heard by nobody", async () => {
  await using world = await World.start();
  const [alice, bob, carol, dave] = [
    await world.join("Alice"),
    await world.join("Bob"),
    await world.join("Carol"),
    await world.join("Dave"),
  ];
  await introduce(alice, bob, carol, dave);
  const group = await groupOf(alice, bob, carol, dave);
  const id = parseGroupId(group.id) as GroupId;
  await group.setRole(dave.id, "admin");
  await inConversation(dave, group.id).send({ text: "hello" });
  await until(() => textsOf(bob.client, group.id).includes("hello"));

  // Carol is away, so that the others wait for her.
  await carol.stop();
  await group.migrate("start");
  const { context } = insidesOf(dave);
  await until(() => context.mls.group(id)?.state === "active");
  await until(() => context.migration.secret(id, 1, 1) !== undefined);
  const secret = context.migration.secret(id, 1, 1)!;
  expect(tablesWith(dave, secret)).toContain("migration_secret");
  const wireId = toBase64Url(context.mls.wireIdOf(id));
  const held = context.conversations.members(id);
  const booty = new Outlaw(dave, world.origin);

  await group.remove(dave.id);
  await group.migrate("finish-now");
  await until(() => [alice, bob].every((device) => inConversation(device, group.id).protocol === "mls"));
  await group.send({ text: "among ourselves" });
  await carol.start();
  const stayed = [alice, bob, carol];
  await until(() => stayed.every((device) => textsOf(device.client, group.id).includes("among ourselves")));

  // With his leaf, his keys and whatever the service has: he opens nothing.
  const said = storedLog(world, wireId).filter(({ kind }) => kind === "application");
  expect(said.length).toBeGreaterThan(0);
  const davesGroup = booty.group(group.id);
  expect(said.filter(({ message }) => opens(davesGroup, message))).toEqual([]);
  // The same routine opens something for whoever stayed.
  const bobs = new Outlaw(bob, world.origin);
  await alice.client.conversations.get(group.id)!.send({ text: "for Bob" });
  await until(() => textsOf(bob.client, group.id).includes("for Bob"));
  const last = storedLog(world, wireId).findLast(({ kind }) => kind === "application")!;
  expect(opens(bobs.group(group.id), last.message)).toBe(true);

  // A client that lies to itself about the removal writes steps, and speaks under numbers that it had used or not.
  context.transaction(() => {
    for (const member of held) context.conversations.putMember(id, member);
    context.storage.run("UPDATE conversation SET state = 'active' WHERE id = ?", [id]);
  });
  const step = writeStep(dave, group.id, ({ migration }) => ({
    kind: "migrate-abort",
    generation: migration.generation,
  }));
  await expect(step).rejects.toThrow(/access-denied|not-possible|chain/u);
  for (const counter of [1, 2, 0, 2 ** 40])
    tell(dave, bob, [
      {
        group: { groupId: id, revision: 3, ...(counter === 0 ? {} : { counter }) },
        text: { text: `Dave says ${counter}`, attachments: [] } as never,
      },
    ]);
  tell(dave, bob, [{ text: { text: "to Bob alone", attachments: [] } as never }]);
  await until(() => textsOf(bob.client, dave.id).includes("to Bob alone"));
  expect(textsOf(bob.client, group.id).filter((text) => text.startsWith("Dave says"))).toEqual([]);

  // He is expected by nobody.
  context.transaction(() => context.mls.expectGroup(id, context.mls.wireIdOf(id)));
  await expect(
    (insidesOf(dave).communities as unknown as { joinExpected(id: GroupId): Promise<void> }).joinExpected(id),
  ).rejects.toThrow("group/not-a-member");
  expect(inConversation(bob, group.id).memberCount).toBe(3);
}, 120_000);

test("whoever takes a device after the switch finds no secret of it", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [await world.join("Alice"), await world.join("Bob"), await world.join("Carol")];
  const all = [alice, bob, carol];
  await introduce(...all);
  const group = await groupOf(alice, bob, carol);
  const id = parseGroupId(group.id);
  await carol.stop();
  await group.migrate("start");
  const { migration } = insidesOf(bob).context;
  await until(() => migration.secret(id, 1, 1) !== undefined);
  const secret = migration.secret(id, 1, 1)!;
  // What is looked for is there before.
  for (const device of [alice, bob]) expect(tablesWith(device, secret)).toContain("migration_secret");
  await carol.start();
  await until(() => all.every((device) => inConversation(device, group.id).protocol === "mls"));
  await alice.client.outbox.settled({ timeoutMs: 10_000 });
  for (const device of all) expect(tablesWith(device, secret)).toEqual([]);
}, 60_000);

import { cpSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import type { ClientSettings } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, textsOf, until, World, type WorldOptions } from "../../src/index.ts";
import { commitsIn } from "../support/communities.ts";
import { flockOf, newcomer, talkRound } from "../support/flock.ts";

test("a recipient restored from an old copy of its database uses no message key twice and goes on", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const [aliceId, bobId] = [alice.id, bob.id];
  const say = async (from: typeof alice, to: string, text: string) => {
    await from.client.conversations.direct(to).send({ text });
    await from.client.outbox.settled();
  };
  await say(alice, bobId, "a1");
  await until(() => textsOf(bob.client, aliceId).length === 1);
  await say(bob, aliceId, "b1");
  await until(() => textsOf(alice.client, bobId).length === 2);

  await bob.stop();
  const restore = bob.saveCopy();
  await bob.start();
  for (const n of [2, 3, 4]) {
    await say(alice, bobId, `a${n}`);
    await until(() => textsOf(bob.client, aliceId).includes(`a${n}`));
    await say(bob, aliceId, `b${n}`);
    await until(() => textsOf(alice.client, bobId).includes(`b${n}`));
  }
  await bob.stop();
  restore();
  await bob.start();
  await bob.client.connection.caughtUp();
  expect(textsOf(bob.client, aliceId)).toEqual(["a1", "b1"]);

  // Both directions work again, and what was there before is not doubled.
  await say(bob, aliceId, "after the copy");
  await until(() => textsOf(alice.client, bobId).includes("after the copy"));
  await say(alice, bobId, "a5");
  await until(() => textsOf(bob.client, aliceId).includes("a5"));
  const seen = textsOf(alice.client, bobId);
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen).toEqual(expect.arrayContaining(["b2", "b3", "b4", "after the copy"]));
});

/** A service that is restored from an old copy, and in whose mailboxes Alice's message to Bob is not any more. */
async function restored(
  settings: Partial<ClientSettings>,
  { aliceIsFirst }: { readonly aliceIsFirst: boolean },
): Promise<void> {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice", { settings }), await world.join("Bob")];
  await introduce(alice, bob);
  const [aliceId, bobId] = [alice.id, bob.id];
  await alice.client.conversations.direct(bobId).send({ text: "first" });
  await until(() => textsOf(bob.client, aliceId).length === 1);
  await bob.client.conversations.direct(aliceId).send({ text: "second" });
  await until(() => textsOf(alice.client, bobId).length === 2);
  await Promise.all([alice.client.outbox.settled(), bob.client.outbox.settled()]);

  await world.stopService();
  const copy = `${world.directory}/service-copy`;
  cpSync(world.serviceDirectory, copy, { recursive: true });
  await world.startService();
  await alice.client.connection.caughtUp();
  // Alice hears something, so that she can tell later that the service has forgotten it; then Bob goes offline.
  await bob.client.connection.caughtUp();
  await bob.client.conversations.direct(aliceId).send({ text: "third" });
  await until(() => textsOf(alice.client, bobId).includes("third"));
  await bob.client.outbox.settled();
  await bob.stop();
  await alice.client.conversations.direct(bobId).send({ text: "lost by the service" });
  await alice.client.outbox.settled();

  await world.stopService();
  rmSync(world.serviceDirectory, { recursive: true });
  cpSync(copy, world.serviceDirectory, { recursive: true });
  // As docs/operations.md says.
  const database = new DatabaseSync(`${world.serviceDirectory}/delivery-service.sqlite`);
  database.exec("UPDATE mailbox_store SET store_id = randomblob(16)");
  database.close();
  await world.startService();
  if (aliceIsFirst) await alice.client.connection.caughtUp();
  await bob.start();
  await until(() => textsOf(bob.client, aliceId).includes("lost by the service"));
  expect(textsOf(bob.client, aliceId).filter((text) => text === "lost by the service")).toHaveLength(1);
  expect(textsOf(alice.client, bobId).filter((text) => text === "third")).toHaveLength(1);
}

// By numbers alone neither could tell: what the other has sent to it again meanwhile takes those that it has seen.
test("a service restored as another store of mailboxes is fed again: what lacks a receipt is sent once more", () =>
  restored({}, { aliceIsFirst: true }));

test("a service restored as another store of mailboxes tells that also to whoever comes back later than others", () =>
  restored({ reconnectMinMs: 3_000, reconnectMaxMs: 3_000 }, { aliceIsFirst: false }));

test("mailboxes that lack the newest are another store's: that is sent again, and no device takes itself for an old copy", async () => {
  let isLosing = false;
  const replacements: WorldOptions["replacements"] = () => ({
    stores: (stores) => {
      const mailboxes = Object.assign(Object.create(stores.mailboxes) as typeof stores.mailboxes, {
        append: (append: Parameters<typeof stores.mailboxes.append>[0]) =>
          isLosing ? Promise.resolve({ kind: "stored" }) : stores.mailboxes.append(append),
      });
      return { ...stores, mailboxes };
    },
  });
  await using world = await World.start({ replacements });
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob")];
  const carol = await newcomer(world, "Carol");
  const [aliceId, bobId] = [alice.id, bob.id];
  const everybody = [alice, bob, carol];
  const group = await flockOf(alice, bob, carol);
  await talkRound(everybody, group.id, "before");
  for (const device of everybody) await device.client.outbox.settled();

  await bob.stop();
  isLosing = true;
  await alice.client.conversations.direct(bobId).send({ text: "lost by the service" });
  await alice.client.outbox.settled();
  await world.stopService();
  isLosing = false;
  const database = new DatabaseSync(`${world.serviceDirectory}/delivery-service.sqlite`);
  database.exec("UPDATE mailbox_store SET store_id = randomblob(16)");
  database.close();
  await world.startService();
  await bob.start();
  await until(() => textsOf(bob.client, aliceId).includes("lost by the service"));

  // Carol's mailbox is empty, and has given out numbers that she does not know in the store that it is in now.
  const commits = commitsIn(world, group.id);
  for (const device of everybody) {
    await device.client.connection.caughtUp();
    await device.stop();
    await device.start();
    await device.client.connection.caughtUp();
  }
  await talkRound(everybody, group.id, "after");
  expect(commitsIn(world, group.id)).toBe(commits);
  expect(textsOf(bob.client, aliceId).filter((text) => text === "lost by the service")).toHaveLength(1);
}, 60_000);

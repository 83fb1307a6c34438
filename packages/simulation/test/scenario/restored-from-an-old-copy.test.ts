import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { parseAccountId, toHex } from "@murmuration/base";
import { expect, test } from "vitest";
import { query } from "../../../delivery-service/test/support/database.ts";
import {
  introduce,
  type SimulatedDevice,
  testLimits,
  textsOf,
  until,
  World,
  type WorldOptions,
} from "../../src/index.ts";
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

interface Trio {
  readonly alice: SimulatedDevice;
  readonly bob: SimulatedDevice;
  readonly carol: SimulatedDevice;
  /** Of their accounts, also while they are away. */
  readonly ids: Record<"alice" | "bob" | "carol", string>;
}

/**
 * A service that is set back, and in whose mailboxes Alice's message to Bob is not any more. Bob was away all the while: what
 * he has of the service is older than the copy. Alice comes back after him.
 */
async function restored(
  { copiedWhileItRuns }: { readonly copiedWhileItRuns: boolean },
  meanwhile: (trio: Trio) => Promise<void>,
  beforeAlice: (trio: Trio) => Promise<void>,
  afterwards: (trio: Trio) => Promise<void>,
): Promise<void> {
  const pingIntervalMs = 500;
  await using world = await World.start({ service: { limits: { ...testLimits, pingIntervalMs } } });
  const [alice, bob, carol] = [await world.join("Alice"), await world.join("Bob"), await world.join("Carol")];
  await introduce(alice, bob, carol);
  const trio = { alice, bob, carol, ids: { alice: alice.id, bob: bob.id, carol: carol.id } };
  const { ids } = trio;
  await bob.stop();
  await Promise.all([alice.client.outbox.settled(), carol.client.outbox.settled()]);

  const copy = `${world.directory}/service-copy`;
  mkdirSync(copy);
  const file = "delivery-service.sqlite";
  if (!copiedWhileItRuns) await world.stopService();
  const database = new DatabaseSync(join(world.serviceDirectory, file), { readOnly: true });
  await backup(database, join(copy, file));
  database.close();
  if (!copiedWhileItRuns) await world.startService();
  await alice.client.connection.caughtUp();
  await meanwhile(trio);
  await say(alice, ids.bob, "lost by the service");
  // A mark is good for two seconds, and comes with the answer to the next sign of life.
  await delay(3_000);
  await Promise.all([alice.stop(), carol.stop()]);

  await world.stopService();
  rmSync(world.serviceDirectory, { recursive: true });
  cpSync(copy, world.serviceDirectory, { recursive: true });
  await world.startService();
  await bob.start();
  await bob.client.connection.caughtUp();
  await beforeAlice(trio);
  await alice.start();
  await until(() => textsOf(bob.client, ids.alice).includes("lost by the service"));
  expect(textsOf(bob.client, ids.alice).filter((text) => text === "lost by the service")).toHaveLength(1);
  await afterwards(trio);
}

const say = async (from: SimulatedDevice, to: string, text: string) => {
  await from.client.conversations.direct(to).send({ text });
  await from.client.outbox.settled();
};
const nothing = async () => undefined;

test("a service that was set back is fed again by whoever has only sent: what lacks a receipt is sent once more", () =>
  restored({ copiedWhileItRuns: false }, nothing, nothing, nothing));

test("a service whose copy was made while it ran is fed again likewise", () =>
  restored({ copiedWhileItRuns: true }, nothing, nothing, nothing));

// By the numbers of its mailbox alone Alice's device could not tell: Bob's message has the number of Carol's.
test("what takes a number in a mailbox that its device has seen before is received all the same", async () => {
  const said = [1, 2, 3, 4].map((n) => `after the restore ${n}`);
  await restored(
    { copiedWhileItRuns: false },
    async ({ alice, carol, ids }) => {
      await say(carol, ids.alice, "third");
      await until(() => textsOf(alice.client, ids.carol).includes("third"));
    },
    async ({ bob, ids }) => {
      for (const text of said) await say(bob, ids.alice, text);
    },
    async ({ alice, ids }) => {
      await until(() => textsOf(alice.client, ids.bob).includes(said.at(-1)!));
      const heard = textsOf(alice.client, ids.bob).filter((text) => said.includes(text));
      expect([...heard].sort()).toEqual(said);
      expect(textsOf(alice.client, ids.carol).filter((text) => text === "third")).toHaveLength(1);
    },
  );
});

// The fault that this finds: a prekey that was handed out after the copy is handed out again, and its private key is gone.
test("a device that sees its service set back leaves none of the prekeys there that the copy has", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice", { settings: { preKeyStock: 100 } });
  const carol = await world.join("Carol");
  const [aliceId, carolId] = [alice.id, carol.id];
  const file = join(world.serviceDirectory, "delivery-service.sqlite");
  const stored = () => {
    const owner = `account_id = x'${toHex(parseAccountId(aliceId))}'`;
    const oneTime = query(file, `SELECT public_key AS key FROM one_time_keys WHERE ${owner}`);
    const others = query(file, `SELECT signed_key, last_resort_key FROM key_sets WHERE ${owner}`);
    return new Set(
      [...oneTime, ...others].flatMap((row) => Object.values(row)).map((key) => toHex(key as Uint8Array)),
    );
  };
  const copy = `${world.directory}/service-copy`;
  await world.stopService();
  cpSync(world.serviceDirectory, copy, { recursive: true });
  const before = stored();
  await world.startService();
  await carol.client.connection.caughtUp();
  await say(carol, aliceId, "takes prekeys");
  await until(() => textsOf(alice.client, carolId).includes("takes prekeys"));
  await alice.client.outbox.settled();
  await world.stopService();
  rmSync(world.serviceDirectory, { recursive: true });
  cpSync(copy, world.serviceDirectory, { recursive: true });
  await world.startService();

  await until(() => [...stored()].every((key) => !before.has(key)));
  const dave = await world.join("Dave");
  await say(dave, aliceId, "takes others");
  await until(() => textsOf(alice.client, dave.id).includes("takes others"));
  expect(stored().size).toBeGreaterThan(100);
});

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

import type { Storage } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";

async function pair(world: World): Promise<[SimulatedDevice, SimulatedDevice, () => Storage]> {
  let opened: Storage | undefined;
  const alice = await world.join("Alice");
  const bob = await world.join("Bob", {
    wrapStorage: (storage) => {
      opened = storage;
      return storage;
    },
  });
  await introduce(alice, bob);
  await alice.client.conversations.direct(bob.id).send({ text: "one" });
  await until(() => textsOf(bob.client, alice.id).length === 1);
  await bob.client.conversations.direct(alice.id).send({ text: "two" });
  await until(() => textsOf(alice.client, bob.id).length === 2);
  await Promise.all([alice.client.outbox.settled(), bob.client.outbox.settled()]);
  return [alice, bob, () => opened!];
}

test("a recipient that has lost its session asks again, and gets the same message once", async () => {
  await using world = await World.start();
  const [alice, bob, database] = await pair(world);
  database().exec("DELETE FROM pairwise WHERE tbl = 'session'");
  await alice.client.conversations.direct(bob.id).send({ text: "three" });
  await until(() => textsOf(bob.client, alice.id).includes("three"));
  await alice.client.conversations.direct(bob.id).send({ text: "four" });
  await until(() => textsOf(bob.client, alice.id).includes("four"));
  expect(textsOf(bob.client, alice.id)).toEqual(["one", "two", "three", "four"]);
});

test("a message that can never be decrypted ends as a visible line, after three requests", async () => {
  await using world = await World.start();
  const [alice, bob, database] = await pair(world);
  // Without sessions, and without any key for new ones, whatever comes stays closed.
  const cripple = () => {
    database().exec(
      "DELETE FROM pairwise WHERE tbl IN ('session', 'pre-key', 'signed-pre-key', 'kyber-pre-key')",
    );
  };
  cripple();
  const spoil = setInterval(cripple, 1);
  try {
    await alice.client.conversations.direct(bob.id).send({ text: "never" });
    await until(() => {
      const lines = bob.client.conversations.get(alice.id)?.history() ?? [];
      return lines.some((line) => line.kind === "notice" && line.notice.code === "conversation/message-lost");
    });
  } finally {
    clearInterval(spoil);
  }
  expect(textsOf(bob.client, alice.id)).not.toContain("never");
});

test("a peer that asks for a message that was not meant for it gets an empty one", async () => {
  await using world = await World.start();
  let database: Storage | undefined;
  const alice = await world.join("Alice", {
    wrapStorage: (storage) => {
      database = storage;
      return storage;
    },
  });
  let bobsDatabase: Storage | undefined;
  const bob = await world.join("Bob", {
    wrapStorage: (storage) => {
      bobsDatabase = storage;
      return storage;
    },
  });
  const carol = await world.join("Carol");
  await introduce(alice, bob, carol);
  const [aliceId, bobId] = [alice.id, bob.id];
  const say = async (to: string, text: string) => {
    const { messageId } = await alice.client.conversations.direct(to).send({ text });
    await alice.client.outbox.settled();
    return new Uint8Array(Buffer.from(messageId, "base64url"));
  };
  await say(bobId, "hello");
  await until(() => textsOf(bob.client, aliceId).length === 1);
  await bob.client.outbox.settled();
  await bob.stop();
  const forCarol = await say(carol.id, "for Carol's eyes");
  const forBob = await say(bobId, "for Bob");
  // As if Bob had guessed the reference of Carol's message: what he asks for now is hers.
  const { reference } = database!.get("SELECT reference FROM outbox WHERE message_id = ?", [forBob])!;
  database!.run("UPDATE outbox SET reference = 1 WHERE message_id = ?", [forBob]);
  database!.run("UPDATE outbox SET reference = ? WHERE message_id = ?", [reference!, forCarol]);

  await bob.open();
  bobsDatabase!.exec("DELETE FROM pairwise WHERE tbl = 'session'");
  bob.client.connection.start();
  const answers = () =>
    database!.all("SELECT state FROM outbox WHERE target_kind = 'device' AND reference = ?", [reference!]);
  await until(() => answers().some((row) => row["state"] === "accepted"));
  await bob.client.connection.caughtUp();
  expect(textsOf(bob.client, aliceId)).toEqual(["hello"]);
});

test("whoever can send the sender nothing sealed asks without a seal", async () => {
  await using world = await World.start();
  const [alice, bob, database] = await pair(world);
  database().exec("DELETE FROM pairwise WHERE tbl = 'session'");
  database().exec("UPDATE contact SET access_key = NULL");
  await alice.client.conversations.direct(bob.id).send({ text: "three" });
  await until(() => textsOf(bob.client, alice.id).includes("three"));
});

test("a request for which the certificate has run out before it left goes without a seal", async () => {
  await using world = await World.start();
  const [alice, bob, database] = await pair(world);
  database().exec(
    `CREATE TRIGGER too_late AFTER INSERT ON outbox_part
       WHEN NEW.mode = 'sealed' AND (SELECT target_kind FROM outbox WHERE id = NEW.outbox_id) = 'device'
       BEGIN UPDATE outbox_part SET certificate_until = 1 WHERE id = NEW.id; END`,
  );
  database().exec("DELETE FROM pairwise WHERE tbl = 'session'");
  await alice.client.conversations.direct(bob.id).send({ text: "three" });
  await until(() => textsOf(bob.client, alice.id).includes("three"));
  await bob.client.outbox.settled();
});

import { parseAccountId } from "@murmuration/base";
import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";
import { insidesOf } from "../support/bent-creator.ts";
import { groupOf } from "../support/pairwise-groups.ts";

test("a member whose access key is gone when a message is about to leave costs the others no seal", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [await world.join("Alice"), await world.join("Bob"), await world.join("Carol")];
  await introduce(alice, bob, carol);
  const group = await groupOf(alice, bob, carol);
  await group.send({ text: "one" });
  await until(() => [bob, carol].every(({ client }) => textsOf(client, group.id).includes("one")));
  await alice.client.outbox.settled();

  const { contacts, storage } = insidesOf(alice).context;
  const keyOf = (id: string) => contacts.accessKey(parseAccountId(id));
  // Encrypted with a seal for both, and then the service refuses Carol's key in another lane.
  storage.exec(
    `CREATE TRIGGER refused AFTER INSERT ON outbox_part WHEN NEW.mode = 'sealed'
       BEGIN UPDATE contact SET access_key = NULL WHERE hex(account) = '${Buffer.from(parseAccountId(carol.id)).toString("hex").toUpperCase()}'; END`,
  );
  await group.send({ text: "two" });
  await until(() => [bob, carol].every(({ client }) => textsOf(client, group.id).includes("two")));
  expect([keyOf(carol.id), keyOf(bob.id)]).toEqual([undefined, expect.any(Uint8Array)]);
});

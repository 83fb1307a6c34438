import { expect, test } from "vitest";
import { Harness } from "../../src/harness.ts";

test("a member that was offline for the whole conversation reads it from a restarted service, with everybody else gone", async () => {
  await using harness = await Harness.start();
  const [alice, bob, carol] = await Promise.all([
    harness.joinProcess("Alice"),
    harness.joinProcess("Bob"),
    harness.joinProcess("Carol"),
  ]);
  for (const client of [alice, bob, carol]) {
    for (const other of [alice, bob, carol]) {
      if (other !== client) await client.addContact(other.contactCard);
    }
  }
  await carol.kill();

  // Carol has not even heard of the group.
  const group = await alice.createGroup("birds", [bob.id, carol.id]);
  await bob.awaitActive(group);
  const texts: string[] = [];
  for (let turn = 0; turn < 12; turn++) {
    texts.push(`turn ${turn}`);
    const [speaker, listener] = turn % 2 === 0 ? [alice, bob] : [bob, alice];
    await speaker.send(group, `turn ${turn}`);
    await listener.awaitTexts(group, texts);
  }
  await alice.settled();
  await bob.settled();
  await Promise.all([alice.close(), bob.close()]);
  await harness.killService();
  await harness.startService();

  await carol.start();
  await carol.awaitTexts(group, texts);
  await carol.caughtUp();
  const read = await carol.texts(group);
  expect([...read].sort()).toEqual([...texts].sort());
  // Each speaker's messages are in the order in which they were sent.
  for (const parity of [0, 1]) {
    const mine = (text: string) => Number(text.split(" ")[1]) % 2 === parity;
    expect(read.filter(mine)).toEqual(texts.filter(mine));
  }
  await carol.send(group, "I am back");
  await carol.settled();
  await alice.start();
  await alice.awaitTexts(group, ["I am back"]);
});

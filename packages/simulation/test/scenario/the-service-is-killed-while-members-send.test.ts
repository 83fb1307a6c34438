import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { Harness } from "../../src/harness.ts";
import { seededRandom } from "../../src/seeded-random.ts";
import { introduce, textsOf, until } from "../../src/world.ts";

test("the service is killed while members send: each message is once in every history", async () => {
  const random = seededRandom();
  console.log(`SEED=${random.seed}`);
  await using harness = await Harness.start();
  const [alice, bob, carol] = [
    await harness.join("Alice"),
    await harness.join("Bob"),
    await harness.join("Carol"),
  ];
  const devices = [alice, bob, carol];
  await introduce(...devices);
  const { id } = await alice.client.conversations.createGroup({
    title: "birds",
    members: [bob.id, carol.id],
  });
  await until(() => devices.every(({ client }) => client.conversations.get(id)?.memberCount === 3));

  const sent: string[] = [];
  let killsInFlight = 0;
  const processes = new Set([harness.servicePid]);
  for (let round = 0; round < 4; round++) {
    for (let index = 0; index < 12; index++) {
      const text = `round ${round}, message ${index}`;
      sent.push(text);
      await devices[random.below(3)]!.client.conversations.get(id)!.send({ text });
    }
    await delay(random.below(15));
    if (devices.some(({ client }) => client.outbox.waiting > 0)) killsInFlight++;
    await harness.killService();
    // What is sent to a dead service waits.
    sent.push(`into the dark ${round}`);
    await bob.client.conversations.get(id)!.send({ text: `into the dark ${round}` });
    await delay(random.below(200));
    await harness.startService();
    processes.add(harness.servicePid);
  }
  for (const { client } of devices) await client.outbox.settled();
  for (const { client } of devices) {
    await until(() => textsOf(client, id).length >= sent.length, 10_000, "every message everywhere");
    await client.connection.caughtUp();
    expect([...textsOf(client, id)].sort()).toEqual([...sent].sort());
  }
  expect(processes.size).toBe(5);
  expect(killsInFlight, "kills with messages under way").toBeGreaterThan(0);
});

import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { type ClientProcess, Harness } from "../../src/harness.ts";
import { ProcessEnded } from "../../src/processes.ts";
import { seededRandom } from "../../src/seeded-random.ts";

/** Sends without waiting; resolves with whether the client confirmed that the message is persisted. */
async function persisted(client: ClientProcess, to: string, text: string): Promise<boolean> {
  try {
    await client.send(to, text);
    return true;
  } catch (error) {
    if (error instanceof ProcessEnded) return false;
    throw error;
  }
}

const times = (texts: readonly string[], text: string) => texts.filter((line) => line === text).length;

test("client processes are killed between and during sends: what was persisted arrives once, nothing twice", async () => {
  const random = seededRandom();
  console.log(`SEED=${random.seed}`);
  await using harness = await Harness.start();
  const alice = await harness.joinProcess("Alice");
  const bob = await harness.joinProcess("Bob");
  await alice.addContact(bob.contactCard);
  await bob.addContact(alice.contactCard);

  const certain: string[] = [];
  const tried: string[] = [];
  for (let round = 0; round < 6; round++) {
    const texts = Array.from({ length: 5 }, (_, index) => `round ${round}, message ${index}`);
    tried.push(...texts);
    const sending = texts.map((text) => persisted(alice, bob.id, text));
    // Every other round the kill comes while messages are being written.
    if (round % 2 === 0) await Promise.all(sending);
    else await delay(random.below(12));
    const victim = round % 3 === 2 ? bob : alice;
    await victim.kill();
    if (victim === bob) await delay(random.below(100));
    const results = await Promise.all(sending);
    certain.push(...texts.filter((_, index) => results[index]));
    await victim.start();
  }
  await alice.settled();
  await bob.awaitTexts(alice.id, certain);
  await bob.caughtUp();
  const own = await alice.texts(bob.id);
  await bob.awaitTexts(alice.id, own);
  const received = await bob.texts(alice.id);
  for (const text of certain) expect(times(own, text), `${text} in the sender's history`).toBe(1);
  for (const text of tried) expect(times(received, text), text).toBe(times(own, text));
  expect(Math.max(...tried.map((text) => times(received, text)))).toBe(1);
  expect(received.length).toBe(own.length);
});

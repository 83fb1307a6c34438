import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Direction, type FaultProxy, startFaultProxy } from "../../src/fault-proxy.ts";
import { Harness } from "../../src/harness.ts";
import { type SeededRandom, seededRandom } from "../../src/seeded-random.ts";
import { introduce, type SimulatedDevice, textsOf, until } from "../../src/world.ts";

const MEMBERS = 4;
const MESSAGES = 40;
const DIRECTIONS: readonly Direction[] = ["to-service", "to-client", "both"];

/** Strikes again and again until told to stop; then the network is whole, except for what is half-open. */
async function misbehave(proxy: FaultProxy, random: SeededRandom, stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    const kind = random.below(5);
    if (kind < 2) proxy.cut(0.4);
    else if (kind === 2) proxy.halfOpen(DIRECTIONS[random.below(3)]!, 0.5);
    else if (kind === 3) proxy.refuse();
    else proxy.shape({ delayMs: random.below(60), jitterMs: 40, bytesPerSecond: 30_000 });
    await delay(60 + random.below(250));
    proxy.heal();
    await delay(random.below(300));
  }
}

test("messages survive a network that cuts and half-opens at random: each is once in every history", async () => {
  const random = seededRandom();
  console.log(`SEED=${random.seed}`);
  // Silence is noticed within two seconds on both sides, instead of a minute.
  await using harness = await Harness.start({ limits: { pingIntervalMs: 1_000, silenceTimeoutMs: 2_000 } });
  await using proxy = await startFaultProxy({ target: harness.port, random });
  const settings = { requestTimeoutMs: 1_500 };
  const devices: SimulatedDevice[] = [];
  for (let index = 0; index < MEMBERS; index++) {
    devices.push(await harness.join(`member ${index}`, { origin: proxy.origin, settings }));
  }
  await introduce(...devices);
  const [first, ...others] = devices as [SimulatedDevice, ...SimulatedDevice[]];
  const { id } = await first.client.conversations.createGroup({
    title: "storm",
    members: others.map((device) => device.id),
  });
  await until(() => devices.every(({ client }) => client.conversations.get(id)?.memberCount === MEMBERS));

  const calm = new AbortController();
  const storm = misbehave(proxy, random, calm.signal);
  const sent: string[] = [];
  for (let index = 0; index < MESSAGES; index++) {
    const { client } = devices[random.below(MEMBERS)]!;
    sent.push(`message ${index}`);
    await client.conversations.get(id)!.send({ text: `message ${index}` });
    await delay(random.below(160));
  }
  // Which faults a short run draws is chance: the storm goes on until each kind has hit somebody.
  const { counts } = proxy;
  await until(
    () => counts.cut > 3 && counts.halfOpened > 1 && counts.swallowedBytes > 0,
    15_000,
    "every kind of fault",
  );
  calm.abort();
  await storm;

  for (const { client } of devices) await client.outbox.settled({ timeoutMs: 15_000 });
  for (const { client } of devices) {
    await until(() => textsOf(client, id).length >= MESSAGES, 10_000, "every message everywhere");
    await client.connection.caughtUp();
    expect([...textsOf(client, id)].sort()).toEqual([...sent].sort());
  }
  console.log(JSON.stringify(proxy.counts));
  // Void unless the faults hit connections with bytes on them.
  expect(proxy.counts.cut).toBeGreaterThan(3);
  expect(proxy.counts.halfOpened).toBeGreaterThan(1);
  expect(proxy.counts.swallowedBytes).toBeGreaterThan(0);
});

import { setTimeout as delay } from "node:timers/promises";
import { UnavailableError } from "@murmuration/base";
import { expect, test } from "vitest";
import { Harness } from "../../src/harness.ts";
import { seededRandom } from "../../src/seeded-random.ts";
import { introduce, type SimulatedDevice, textsOf, until } from "../../src/world.ts";
import { agree, hearEachOther, logOf, on, PATIENCE_MS, small } from "../support/communities.ts";

const SENDERS = 5;
const ROUNDS = 4;

/** Asks again until the service is there to say yes: the commit that was under way may be through by then. */
async function insist(work: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      await delay(100);
    }
  }
}

// The fault that this finds: a service that answers before it has stored, or stores a message or commit twice when it is
// sent again; and a member that encrypts anew what the service has already.
test("the service is killed while five members of a community send and one commits: nothing is lost, nothing doubled", async () => {
  const random = seededRandom();
  console.log(`SEED=${random.seed}`);
  await using harness = await Harness.start();
  const devices: SimulatedDevice[] = [];
  for (let member = 0; member <= SENDERS; member++)
    devices.push(await harness.join(`Member ${member}`, { settings: small }));
  await introduce(...devices);
  const [admin, ...senders] = devices as [SimulatedDevice, ...SimulatedDevice[]];
  const members = senders.map((device) => device.id);
  const { id } = await admin.client.conversations.createGroup({ title: "Flock", members });
  await until(() => devices.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);

  const sent: string[] = [];
  let underWay = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const sending = senders.map(async (device, member) => {
      for (let n = 0; n < 3; n++) {
        const text = `round ${round}, member ${member}, message ${n}`;
        sent.push(text);
        await on(device, id).send({ text });
        await delay(random.below(20));
      }
    });
    const committing = insist(() => on(admin, id).setExpiry(3600 + round));
    await delay(random.below(60));
    if (devices.some(({ client }) => client.outbox.waiting > 0)) underWay++;
    await harness.killService();
    await delay(random.below(150));
    await harness.startService();
    await Promise.all([...sending, committing]);
  }
  for (const { client } of devices) await client.outbox.settled({ timeoutMs: PATIENCE_MS });
  for (const device of devices) {
    await until(
      () => textsOf(device.client, id).length >= sent.length,
      PATIENCE_MS,
      "every message everywhere",
    );
    expect([...textsOf(device.client, id)].sort()).toEqual([...sent].sort());
    await until(() => on(device, id).expireAfterSeconds === 3600 + ROUNDS - 1, PATIENCE_MS, "every commit");
  }
  await agree(devices, id);
  await hearEachOther(devices, id, "after the last kill");
  expect(underWay, "kills with messages under way").toBeGreaterThan(0);

  // One commit for each epoch, and no gap in the log.
  const log = logOf({ serviceDirectory: `${harness.directory}/service` }, id);
  const epochs = log.filter(({ kind }) => kind === "commit").map(({ leadsFrom }) => leadsFrom);
  expect(epochs).toEqual(epochs.map((_, epoch) => epoch));
  expect(log.map(({ sequence }) => sequence)).toEqual(log.map((_, index) => index + 1));
}, 180_000);

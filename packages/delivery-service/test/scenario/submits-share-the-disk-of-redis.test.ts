import { accountId, type DeviceAddress, type DeviceId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { RedisClient } from "../../src/adapters/redis-client.ts";
import { RedisMailboxStore } from "../../src/adapters/redis-mailboxes.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import { random } from "../support/random.ts";

const SUBMITS = 400;

// The fault that this finds: a write of the node for each submit, and with it a flush of Redis's file for each. With
// `appendfsync always` Redis flushes once for all that it has read in one turn of its loop.
describe.skipIf(inject("cluster") === undefined)("submits that come together", { timeout: 60_000 }, () => {
  let redis: LocalRedis;
  let client: RedisClient;
  let mailboxes: RedisMailboxStore;
  const owners: DeviceAddress[] = Array.from({ length: SUBMITS }, () => ({
    accountId: accountId(random(16)),
    deviceId: 1 as DeviceId,
  }));

  beforeEach(async () => {
    redis = await startLocalRedis();
    client = await RedisClient.open({ url: redis.url });
    mailboxes = new RedisMailboxStore(client);
    await Promise.all(owners.map((owner) => mailboxes.open(owner, 1)));
  });
  afterEach(async () => {
    await client.close();
    await redis.dispose();
  });

  const submit = (recipient: DeviceAddress) =>
    mailboxes.append({
      submitHash: random(32),
      envelopes: [{ recipient, ciphertext: random(500), source: undefined }],
      acceptedAtMs: 1,
      limits: { maxEnvelopes: 1_000, maxBytes: 1_000_000 },
    });

  /** How often Redis read from its connections meanwhile: it flushes its file no oftener than that. */
  const readsDuring = async (work: () => Promise<unknown>): Promise<number> => {
    const reads = async () =>
      Number(/total_reads_processed:(\d+)/.exec(String(await client.call("INFO", "stats")))?.[1]);
    const before = await reads();
    await work();
    return (await reads()) - before;
  };

  it("share what Redis writes to its disk; one after the other each has its own", async () => {
    const together = await readsDuring(async () => {
      const outcomes = await Promise.all(owners.map(submit));
      for (const outcome of outcomes) expect(outcome).toEqual({ kind: "stored" });
    });
    const oneByOne = await readsDuring(async () => {
      for (const owner of owners) expect(await submit(owner)).toEqual({ kind: "stored" });
    });
    console.log(`reads of Redis for ${SUBMITS} submits: ${together} together, ${oneByOne} one by one`);
    expect(oneByOne).toBeGreaterThanOrEqual(SUBMITS);
    expect(together).toBeLessThan(SUBMITS / 3);
  });
});

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { toHex } from "@murmuration/base";
import { expect, test } from "vitest";
import { Harness } from "../../src/index.ts";
import { WorkerProcess } from "../../src/processes.ts";
import type { MessageCost } from "../support/group-sender-worker.ts";

const MEMBERS = 255;
const OTHERS = MEMBERS - 1;
/** The first ones find code that is not compiled yet; the collector's turns fall into some of the others. */
const ROUNDS = 32;
const LIMIT_MS = 100;
/** What libsignal alone takes on the machine that the limit was set for. A slower one is held to the ratio only. */
const REFERENCE_FLOOR_MS = 57;
const LIMIT_RATIO = 1.75;

const best = (values: readonly number[]): number => Math.min(...values);
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

test("one message to 255 single-device members costs the sender under 100 ms CPU and a fixed number of statements", async () => {
  await using world = await Harness.start();
  const sender = new WorkerProcess(new URL("../support/group-sender-worker.ts", import.meta.url));
  const floorMs: number[] = [];
  const costs: MessageCost[] = [];
  try {
    const path = join(world.directory, "sender.db");
    await sender.request("open", { path, key: toHex(randomBytes(32)), origin: world.origin });
    for (let left = OTHERS; left > 0; left -= 16) {
      await sender.request("addMembers", { count: Math.min(16, left) });
    }
    await sender.request("createGroup");
    await sender.request("prepareFloor");
    // In turns, so that whatever else the machine does meets both alike.
    for (let round = 0; round < ROUNDS; round++) {
      floorMs.push(await sender.request<number>("floor"));
      costs.push(await sender.request<MessageCost>("send", { text: `message ${round}` }));
    }
  } finally {
    await sender.close();
  }

  for (const { sessionWrites, submits } of costs) {
    expect(submits[0]).toEqual({ recipients: OTHERS, devices: OTHERS, fenced: true });
    expect(sessionWrites).toBe(OTHERS);
  }
  // Nothing but the sessions is asked for, or written, once for each member. The median, because a client that lost
  // its connection on a busy machine, or looks after its prekeys, asks for other things in the same moment.
  const typical = (count: "otherWrites" | "queries" | "transactions") =>
    median(costs.map((cost) => cost[count]));
  expect([typical("otherWrites"), typical("queries"), typical("transactions")]).toEqual([11, 32, 3]);
  expect(median(costs.map((cost) => cost.submits.length))).toBe(1);

  const cpuMs = costs.map((cost) => cost.cpuMs);
  const ratio = best(cpuMs) / best(floorMs);
  console.log(
    `CPU of the sender for one message to ${MEMBERS} members: best ${best(cpuMs).toFixed(1)} ms, median ` +
      `${median(cpuMs).toFixed(1)}; libsignal alone: best ${best(floorMs).toFixed(1)}, median ` +
      `${median(floorMs).toFixed(1)}; ratio of the best ${ratio.toFixed(2)}`,
  );
  expect(ratio).toBeLessThan(LIMIT_RATIO);
  if (best(floorMs) <= REFERENCE_FLOOR_MS) expect(best(cpuMs)).toBeLessThan(LIMIT_MS);
}, 300_000);

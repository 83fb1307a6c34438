import { describe, expect, test } from "vitest";
import { percentile } from "../../src/delivery/fan-out.ts";
import { type FanoutResult, missedBars, type StormResult } from "../../src/delivery/report.ts";
import { Tally } from "../../src/delivery/tally.ts";
import { shares } from "../../src/delivery/workers.ts";

const good: FanoutResult = {
  server: "murmuration, ws",
  version: "0",
  subscribers: 1000,
  messageBytes: 400,
  latency: {
    messagesPerSecond: 10,
    messages: 300,
    deliveries: 300_000,
    lost: 0,
    doubled: 0,
    p50Ms: 20,
    p99Ms: 250,
    mostMs: 260,
    serverCpuUsPerDelivery: 15,
  },
  throughput: {
    inFlight: 16,
    seconds: 5,
    deliveries: 1_000_000,
    lost: 0,
    doubled: 0,
    deliveriesPerSecond: 200_000,
    serverCpuSeconds: 4,
    deliveriesPerSecondPerCore: 250_000,
    messagesPerFrame: 8,
  },
  residentBytesPerSubscriber: 30_000,
};

const calm: StormResult = {
  devices: 5000,
  connections: 10_000,
  communities: 5,
  envelopesEach: 10,
  entriesEach: 10,
  caughtUp: 5000,
  lost: 0,
  repeated: 3,
  retries: 1,
  p50Seconds: 10,
  lastSeconds: 30,
  serviceCpuSeconds: 10,
};

describe("the bars of the delivery benchmark", () => {
  test("are met at the bound, and by what was not measured", () => {
    expect(missedBars({ fanout: [good], storm: calm })).toEqual([]);
    expect(missedBars({ fanout: [], storm: undefined })).toEqual([]);
  });

  test("are missed by what is slower, lost or doubled, a sentence each", () => {
    const slow = { ...good, latency: { ...good.latency, p99Ms: 251, lost: 1 } };
    const late = { ...calm, lastSeconds: 30.1, lost: 2 };
    expect(missedBars({ fanout: [slow], storm: late })).toEqual([
      "murmuration, ws: p99 to the last of 1000 members is 251 ms, the bar 250 ms",
      "murmuration, ws: 1 deliveries lost, 0 doubled; the bar is none",
      "reconnect: of 5000 devices the last had caught up after 30.1 s, the bar is all within 30 s",
      "reconnect: 2 messages lost, the bar is none",
    ]);
    const stuck = { ...calm, caughtUp: 4999, lastSeconds: null };
    expect(missedBars({ fanout: [], storm: stuck })).toEqual([
      "reconnect: of 5000 devices only 4999 had caught up, the bar is all within 30 s",
    ]);
  });

  test("are missed by a latency that could not be measured, and never by another server", () => {
    const unknown = { ...good, latency: { ...good.latency, p99Ms: Number.NaN } };
    expect(missedBars({ fanout: [unknown], storm: undefined })).toHaveLength(1);
    const other = { ...unknown, server: "mosquitto" } as const;
    expect(missedBars({ fanout: [other], storm: undefined })).toEqual([]);
  });
});

describe("a tally of what came", () => {
  test("counts what is left out and what comes again, and knows when everybody has a number", () => {
    const tally = new Tally(2);
    const complete: number[] = [];
    tally.onComplete = (through) => complete.push(through);
    expect(tally.took(0, [1, 2], 10)).toBe(2);
    tally.took(1, [1], 11);
    tally.took(1, [1, 3], 12);
    tally.took(0, [3], 13);
    expect(complete).toEqual([1]);
    const { completedAtMs, ...counts } = tally.received();
    expect(counts).toEqual({ deliveries: 5, frames: 4, skipped: 1, doubled: 1 });
    expect([completedAtMs[1], completedAtMs[2], completedAtMs[3]]).toEqual([11, undefined, 13]);
  });

  test("takes the least value that a part of all does not exceed", () => {
    const values = Array.from({ length: 200 }, (_, i) => i + 1);
    expect([0.5, 0.99, 1].map((part) => percentile(values, part))).toEqual([100, 198, 200]);
    expect(percentile([], 0.5)).toBeNaN();
  });

  test("shares work among processes in order, without a rest", () => {
    expect(shares([1, 2, 3, 4, 5], 3)).toEqual([[1], [2, 3], [4, 5]]);
  });
});

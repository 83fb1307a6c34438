import { describe, expect, it } from "vitest";
import { parseRange } from "../../src/core/byte-range.ts";
import { dayOf, toMinute } from "../../src/core/days.ts";
import { planRetention, retention } from "../../src/core/retention.ts";

describe("byte range", () => {
  it.each([
    [undefined, 0, 1000, false],
    ["bytes=0-0", 0, 1, true],
    ["bytes=10-19", 10, 20, true],
    ["bytes=990-", 990, 1000, true],
    ["bytes=990-5000", 990, 1000, true],
    ["bytes=-100", 900, 1000, true],
    ["bytes=-5000", 0, 1000, true],
  ])("%s of 1000 bytes", (header, from, to, partial) => {
    expect(parseRange(header, 1000)).toEqual({ from, to, partial });
  });

  it.each(["bytes=1000-", "bytes=20-10", "bytes=-", "bytes=-0", "bytes=a-b", "bytes=0-1,5-6", "items=0-1"])(
    "refuses %s",
    (header) => {
      expect(() => parseRange(header, 1000)).toThrow("blob/bad-range");
    },
  );
});

describe("coarse times", () => {
  it("keeps the day of a visit and the minute of an arrival", () => {
    expect(dayOf(86_399_999)).toBe(0);
    expect(dayOf(86_400_000)).toBe(1);
    expect(toMinute(119_999)).toBe(60_000);
    expect(toMinute(120_000)).toBe(120_000);
  });
});

describe("retention plan", () => {
  it("names each job once, with the cut of the schedule", () => {
    const now = 1_000 * 86_400_000 + 5;
    const plan = planRetention(now);
    expect(new Set(plan.map((job) => job.name)).size).toBe(plan.length);
    expect(plan).toContainEqual({ name: "envelopes", beforeMs: now - 30 * 86_400_000 });
    expect(plan).toContainEqual({ name: "key-packages", beforeMs: now });
    expect(plan).toContainEqual({ name: "group-entries", beforeMs: now - 30 * 86_400_000 });
    expect(plan).toContainEqual({ name: "idle-mls-groups", beforeDay: 1_000 - 400 });
    expect(plan).toContainEqual({ name: "idle-devices", beforeDay: 1_000 - retention.idleDeviceDays });
  });
});

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { DiskProbe } from "../../src/delivery/disk-probe.ts";

test("the probe of a disk tells how long its writes took, and ends", async () => {
  const directory = mkdtempSync(join(tmpdir(), "murmuration-probe-"));
  try {
    const startedMs = performance.now();
    const probe = new DiskProbe(directory);
    await delay(1_000);
    const { writes, p50Ms, p99Ms, mostMs } = await probe.stop();
    expect(writes).toBeGreaterThan(1);
    expect(writes).toBeLessThanOrEqual(1 + (performance.now() - startedMs) / 100);
    expect(p50Ms).toBeGreaterThan(0);
    expect(p99Ms).toBeGreaterThanOrEqual(p50Ms);
    expect(mostMs).toBeGreaterThanOrEqual(p99Ms);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("a probe of a directory that is not there says so when it is stopped", async () => {
  const probe = new DiskProbe(join(tmpdir(), "murmuration-no-such-directory"));
  await delay(300);
  await expect(probe.stop()).rejects.toThrow("ENOENT");
});

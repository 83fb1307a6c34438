import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import {
  clusterUrls,
  engineSettings,
  scratchNames,
  whyNoCluster,
} from "@murmuration/delivery-service/local-engines";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findPeer } from "../../src/delivery/peers.ts";
import type { DeliveryReport } from "../../src/delivery/report.ts";

const root = resolve(import.meta.dirname, "../../..");
const flags = ["--conditions=@murmuration/source", "--experimental-strip-types"];
const urls = clusterUrls();
const noCluster = await whyNoCluster(urls);
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bench-delivery-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function bench(
  argv: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((done) => {
    const env = { ...process.env, ...environment };
    const child = spawn(process.execPath, [...flags, "bench/src/main.ts", ...argv], { cwd: root, env });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (data) => {
      stdout += data;
    });
    child.stderr.on("data", (data) => {
      stderr += data;
    });
    child.on("close", (code) => done({ code, stdout, stderr }));
  });
}

describe("the delivery benchmark", () => {
  test("measures every section on the real service, loses nothing, and says which bars are missed", async () => {
    const json = join(folder, "delivery.json");
    const { code, stdout, stderr } = await bench(["delivery", "--quick", "--seed", "test", "--json", json]);
    const report = JSON.parse(readFileSync(json, "utf8")) as DeliveryReport;
    // Times are the machine's, which runs other tests beside this one; what was delivered is not.
    expect(code, stderr).toBe(report.missed.length === 0 ? 0 : 1);
    expect(report).toMatchObject({ benchmark: "delivery", seed: "test", quick: true, partial: false });

    const servers = report.fanout.map(({ server }) => server);
    const installed = (["mosquitto", "nats-server"] as const).filter((name) => findPeer(name) !== undefined);
    expect(servers).toEqual(expect.arrayContaining(["murmuration, ws", ...installed]));
    for (const { server, disk, latency, throughput, subscribers } of report.fanout) {
      // Only a server that waits for the disk is told how long the disk took.
      expect(disk === undefined).toBe(!server.startsWith("murmuration"));
      expect(disk?.writes).not.toBe(0);
      expect(latency).toMatchObject({ lost: 0, doubled: 0, deliveries: latency.messages * subscribers });
      expect(throughput).toMatchObject({ lost: 0, doubled: 0 });
      expect(throughput.deliveries % subscribers).toBe(0);
      expect(latency.p50Ms).toBeGreaterThan(0);
      expect(latency.p99Ms).toBeGreaterThanOrEqual(latency.p50Ms);
    }
    for (const { appendsPerSecond } of report.appends) expect(appendsPerSecond).toBeGreaterThan(0);
    expect(report.storm).toMatchObject({ devices: 40, caughtUp: 40, lost: 0 });
    expect(report.memory.map(({ kind }) => kind)).toEqual(["reader of a group"]);
    expect(report.memory[0]!.heapBytesPerConnection).toBeGreaterThan(0);
    // A server that is not there has a reason and no figure.
    const expected = ["murmuration, uWebSockets.js", "mosquitto", "nats-server"];
    const leftOut = report.leftOut.map(({ what }) => what);
    expect([...servers, ...leftOut].sort()).toEqual(["murmuration, ws", ...expected].sort());
    for (const line of [...servers, ...leftOut, 'seed "test"', ...report.missed])
      expect(stdout).toContain(line);
  });

  test.skipIf(noCluster !== undefined)(
    "measures the same on PostgreSQL and Redis, says what they answered of their durability, and leaves nothing there",
    async () => {
      const before = await scratchNames(urls, "bench");
      const json = join(folder, "cluster.json");
      const sections = ["--only", "fanout,appends,storm"];
      const { stderr } = await bench([
        "delivery",
        "--quick",
        "--store",
        "cluster",
        ...sections,
        "--json",
        json,
      ]);
      const report = JSON.parse(readFileSync(json, "utf8")) as DeliveryReport;
      expect(report.store, stderr).toMatchObject({ name: "cluster", engines: await engineSettings(urls) });
      expect(report.store.durability).toMatch(/synchronous_commit=on.*appendfsync=always/);
      for (const { latency, throughput } of report.fanout) {
        expect(latency).toMatchObject({ lost: 0, doubled: 0, deliveries: latency.messages * 24 });
        expect(throughput).toMatchObject({ lost: 0, doubled: 0 });
      }
      for (const { appendsPerSecond } of report.appends) expect(appendsPerSecond).toBeGreaterThan(0);
      expect(report.storm).toMatchObject({ devices: 40, caughtUp: 40, lost: 0 });
      expect(await scratchNames(urls, "bench")).toEqual(before);
    },
  );

  test("ends with the way to PostgreSQL and Redis where they do not answer", async () => {
    const nowhere = { MURMURATION_REDIS_URL: "redis://127.0.0.1:1" };
    const { code, stderr } = await bench(["delivery", "--quick", "--store", "cluster"], nowhere);
    expect([code, stderr.trim().split("\n").at(-1)]).toEqual([
      2,
      "--store cluster needs PostgreSQL and Redis, and Redis does not answer: npm run services -- --install",
    ]);
  });

  test.each([
    [["delivery", "--only", "fan"], '--only takes names of fanout, peers, appends, storm, memory, not "fan"'],
    [["delivery", "--store", "paper"], "--store takes embedded or cluster"],
    [["delivery", "--members", "1"], '--members takes whole numbers from 2 to 10000, not "1"'],
  ])("ends with exit code 2 and one sentence when called with %j", async (argv, sentence) => {
    const { code, stderr } = await bench(argv);
    expect([code, stderr.trim().split("\n").at(-1)]).toEqual([2, sentence]);
  });
});

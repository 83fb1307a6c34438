import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type MlsReport, operations } from "../../src/mls/rows.ts";
import { MlsBenchmark, parseMlsOptions } from "../../src/mls/run.ts";

const root = resolve(import.meta.dirname, "../../..");
const flags = ["--conditions=@murmuration/source", "--experimental-strip-types"];
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bench-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function bench(argv: readonly string[], interruptAfter?: RegExp): Promise<Ended> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [...flags, "bench/src/main.ts", ...argv], { cwd: root });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (data) => {
      stdout += data;
      if (interruptAfter?.test(stdout)) setTimeout(() => child.kill("SIGINT"), 6_000);
    });
    child.stderr.on("data", (data) => {
      stderr += data;
    });
    child.on("close", (code) => done({ code, stdout, stderr }));
  });
}

describe("growing one group", () => {
  test("reaches the size by commits alone, and says what each kind of operation cost", async () => {
    const json = join(folder, "grow.json");
    const { code, stdout } = await bench(["grow", "--members", "300", "--json", json]);
    expect(code, stdout).toBe(0);
    const report = JSON.parse(readFileSync(json, "utf8"));
    const operations = report.rows.map(({ operation }: { operation: string }) => operation);
    for (const operation of [
      "grow-add",
      "warm-up-create",
      "commit-process",
      "remove-create",
      "join",
      "load",
    ]) {
      expect(operations).toContain(operation);
    }
    // No commit on the way carried a ciphertext for everybody, and none does afterwards.
    expect(report.meanPathCost).toBeLessThan(80);
    expect(report.commits).toBeGreaterThan(20);
  });
});

describe("the benchmark", () => {
  test.each([
    [["mls", "--sizes", "3"], '--sizes takes whole numbers from 8 to 65536, not "3"'],
    [["fan-out"], '"fan-out" is none of: all, delivery, fanout, mls, grow, compare, report, readme'],
    [["grow", "--members", "7"], '--members takes whole numbers from 16 to 65536, not "7"'],
    [["compare", "one.json"], "expected <A.json> <B.json>"],
    [["report"], "expected <FILE.json>"],
    [["report", "nowhere.json"], "nowhere.json is not a readable JSON file"],
    [["readme", "package.json"], "package.json is not a report of the whole benchmark"],
  ])("ends with exit code 2 and one sentence when called with %j", async (argv, sentence) => {
    const { code, stderr } = await bench(argv);
    expect(code).toBe(2);
    expect(stderr.trim().split("\n").at(-1)).toBe(sentence);
  });

  test("saves what it has, marked as partial, when it is interrupted", async () => {
    const path = join(folder, "partial.json");
    const argv = ["mls", "--sizes", "8,4000", "--full", "--only", "ts-mls", "--json", path];
    const { code, stdout } = await bench(argv, /members/);
    expect(code).toBe(130);
    expect(stdout).toContain("this report is partial");
    expect(existsSync(path)).toBe(true);
    expect((JSON.parse(readFileSync(path, "utf8")) as MlsReport).partial).toBe(true);
  });

  test("measures every operation and puts exact counts and the floor beside the times", async () => {
    const argv = ["--sizes", "9", "--quick"];
    const options = { ...parseMlsOptions(argv), warmUp: false };
    const benchmark = new MlsBenchmark(options, "2026-01-01T00:00:00.000Z");
    await benchmark.run();
    const { rows, partial } = benchmark.report(false);
    expect(partial).toBe(false);
    for (const name of ["murmuration", "ts-mls", "ts-mls-native"] as const) {
      const own = rows.filter(({ implementation }) => implementation === name);
      // The pool is our engine's alone.
      const expected = operations.filter((each) => name === "murmuration" || !each.endsWith("-pooled"));
      expect(own.map(({ operation }) => operation)).toEqual(expected);
      for (const row of own) expect(row.medianMs, row.operation).toBeGreaterThan(0);
    }
    const floor = rows.filter(({ implementation }) => implementation === "floor");
    expect(floor.map(({ operation }) => operation)).toEqual(operations.filter((each) => each !== "load"));
    const verified = rows.find((row) => row.operation === "join-warm" && row.implementation === "ts-mls");
    expect(verified?.counts).toMatchObject({ verify: 10, hpkeOpen: 1 });
    const join = (operation: string) =>
      rows.find((row) => row.operation === operation && row.implementation === "murmuration");
    // The pool changes who does the work, and nothing of the work.
    for (const operation of ["join-cold", "join-warm"]) {
      expect(join(`${operation}-pooled`)?.counts).toEqual(join(operation)?.counts);
      expect(join(`${operation}-pooled`)?.bytes).toBe(join(operation)?.bytes);
    }
  });

  test("cuts an operation at its limit, kills the process, and goes on with the next", async () => {
    const options = {
      ...parseMlsOptions(["--sizes", "900", "--quick", "--only", "ts-mls", "--full"]),
      // Long enough for the small ones where the machine is busy, and far from enough for 900 Adds.
      operationLimitMs: 1_500,
      warmUp: false,
    };
    const benchmark = new MlsBenchmark(options, "2026-01-01T00:00:00.000Z");
    await benchmark.run();
    const { rows } = benchmark.report(false);
    const row = (operation: string) => rows.find((each) => each.operation === operation);
    expect(row("bulk-add")).toMatchObject({ medianMs: null, cut: expect.stringContaining("> 1.5 s") });
    expect(row("key-package")?.medianMs).toBeGreaterThan(0);
  });
});

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FanoutReport, protocols, type Report } from "../../src/report/schema.ts";

const root = resolve(import.meta.dirname, "../../..");
const flags = ["--conditions=@murmuration/source", "--experimental-strip-types"];
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bench-report-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `interruptAfterMs`: after its first word, since a process that has yet to start knows no interrupt. */
function bench(argv: readonly string[], interruptAfterMs?: number): Promise<Ended> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [...flags, "bench/src/main.ts", ...argv], { cwd: root });
    let [stdout, stderr] = ["", ""];
    let isToBeInterrupted = interruptAfterMs !== undefined;
    const said = (): void => {
      if (isToBeInterrupted) setTimeout(() => child.kill("SIGINT"), interruptAfterMs);
      isToBeInterrupted = false;
    };
    child.stdout.on("data", (data) => {
      stdout += data;
      said();
    });
    child.stderr.on("data", (data) => {
      stderr += data;
      said();
    });
    child.on("close", (code) => done({ code, stdout, stderr }));
  });
}

const load = <T>(name: string): T => JSON.parse(readFileSync(join(folder, name), "utf8")) as T;

describe("the fan-out", () => {
  test("has a row for every protocol, size and payload, and the same bytes in every run", async () => {
    const argv = ["fanout", "--members", "2,9", "--payload", "32,256", "--quick", "--json"];
    for (const name of ["a.json", "b.json"]) {
      const { code, stderr } = await bench([...argv, join(folder, name)]);
      expect(code, stderr).toBe(0);
    }
    const { partial, rows } = load<FanoutReport>("a.json");
    expect(partial).toBe(false);
    const cells = protocols.flatMap((protocol) =>
      [2, 9].flatMap((members) => [32, 256].map((payloadBytes) => ({ protocol, members, payloadBytes }))),
    );
    expect(rows).toMatchObject(cells);
    for (const row of rows) {
      expect(Object.keys(row).sort()).toEqual([
        "dsCpuUs",
        "egressBytes",
        "members",
        "payloadBytes",
        "protocol",
        "receiverBytes",
        "receiverCpuUs",
        "senderBytes",
        "senderCpuUs",
        "storedBytes",
      ]);
      expect(row.egressBytes).toBe(row.receiverBytes * (row.members - 1));
    }
    const bytesOf = (report: FanoutReport) =>
      report.rows.map(({ egressBytes, senderBytes, storedBytes }) => [senderBytes, storedBytes, egressBytes]);
    expect(bytesOf(load("b.json"))).toEqual(bytesOf(load("a.json")));
    const compared = await bench(["compare", join(folder, "a.json"), join(folder, "a.json")]);
    expect(compared.code, compared.stdout).toBe(0);
  }, 120_000);
});

describe("the whole report", () => {
  test("of small groups has every section", async () => {
    const path = join(folder, "report.json");
    const sizes = [
      "--members",
      "8",
      "--payload",
      "256",
      "--membership",
      "8",
      "--sizes",
      "8",
      "--only",
      "murmuration",
    ];
    const { code, stderr, stdout } = await bench([...sizes, "--quick", "--no-vectors", "--json", path]);
    expect(code, stderr + stdout).toBe(0);
    const report = load<Report>("report.json");
    expect(report).toMatchObject({ benchmark: "report", partial: false });
    for (const name of ["fanout", "membership", "mls", "counts", "daily"] as const) {
      expect(report[name], name).toBeDefined();
    }
    expect(report.daily!.rows.map(({ profile }) => profile)).toEqual(Array(5).fill("family"));
    expect(report.counts).toMatchObject({ equalsFixture: true, differences: [] });
    expect(report.peers.map(({ measured, name }) => [name, measured])).toEqual([
      ["ts-mls", false],
      ["@wireapp/core-crypto", false],
    ]);
    const membership = report.membership!.rows.filter(({ protocol }) => protocol === "mls-warm");
    expect(membership.map(({ operation }) => operation).sort()).toEqual(
      expect.arrayContaining(["add-1", "add-k", "join", "rejoin", "remove-1", "self-update"]),
    );
    const moved = report.membership!.rows.find(({ operation }) => operation === "migrate");
    expect(moved).toMatchObject({ protocol: "mls-cold", members: 8, changed: 7 });
  }, 120_000);

  test("is saved as partial when it is interrupted", async () => {
    const path = join(folder, "partial.json");
    const { code, stderr } = await bench(["--members", "8,3000", "--no-vectors", "--json", path], 1_000);
    expect(code, stderr).toBe(130);
    expect(load<Report>("partial.json").partial).toBe(true);
  }, 60_000);
});

test.each([
  [["fanout", "--members", "1"], '--members takes whole numbers from 2 to 20000, not "1"'],
  [["fanout", "--payload", "0"], '--payload takes whole numbers from 1 to 16384, not "0"'],
  [["--churn-per-day", "few"], '--churn-per-day takes a number from 0 to 1e9, not "few"'],
  [["--nonsense"], "unknown option --nonsense"],
])("exit code 2 and one sentence for %j", async (argv, sentence) => {
  const { code, stderr } = await bench(argv);
  expect(code).toBe(2);
  expect(stderr.trim()).toBe(sentence);
});

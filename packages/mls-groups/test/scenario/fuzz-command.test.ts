import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../../../..");

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      "--conditions=@murmuration/source",
      "--experimental-strip-types",
      "--disable-warning=ExperimentalWarning",
      join(root, "tools/fuzz.ts"),
      ...args,
    ],
    { encoding: "utf8", timeout: 60_000 },
  );
  return { status, lines: stdout.split("\n").filter((line) => line !== ""), stderr };
}

describe("npm run fuzz", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "fuzz-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("goes on where the last run of its seed ended, and closes with the counts", () => {
    const first = run("--seconds", "1", "--seed", "3", "--folder", folder);
    expect(first.lines[0]).toBe("seed 3, from input 0 on, for 1 s");
    expect([first.status, first.stderr]).toEqual([0, ""]);
    const [, inputs] = /^(\d+) passed, 0 failed$/.exec(first.lines.at(-1)!) ?? [];
    expect(readdirSync(folder)).toEqual(["progress-3.json"]);
    expect(JSON.parse(readFileSync(join(folder, "progress-3.json"), "utf8"))).toMatchObject({
      seed: 3,
      inputs: Number(inputs),
    });
    const second = run("--seconds", "1", "--folder", folder);
    expect(second.lines[0]).toBe(`seed 3, from input ${inputs} on, for 1 s`);
  });

  it("replays a saved input", () => {
    const file = join(folder, "finding.json");
    const input = { target: "decode Proposal", seed: 1, number: 0, what: "", input: "0003000000" };
    writeFileSync(file, JSON.stringify(input));
    const { status, lines } = run("--replay", file);
    expect([status, lines]).toEqual([0, ["decode Proposal: coder/truncated", "1 passed, 0 failed"]]);
  });

  it.each([[["--seconds"]], [["--seed", "x"]], [["--replay", "no such file"]], [["help"]]])(
    "wrong usage %j exits 2 with one sentence",
    (args: string[]) => {
      const { status, lines, stderr } = run(...args);
      expect([status, lines]).toEqual([2, []]);
      expect(stderr).toMatch(/^Usage: .*\.\n$/);
    },
  );
});

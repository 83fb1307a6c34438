import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { seededRandom } from "../../src/seeded-random.ts";

const root = resolve(import.meta.dirname, "../../../..");
const flags = ["--conditions=@murmuration/source", "--experimental-strip-types"];

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...flags, "--disable-warning=ExperimentalWarning", join(root, "tools/canaries.ts"), ...args],
    { encoding: "utf8", timeout: 1_800_000, cwd: root },
  );
  return { status, lines: stdout.split("\n").filter((line) => line !== ""), stderr };
}

describe("npm run canaries", () => {
  const { seed } = seededRandom();
  const isSlow = process.env["SLOW"] === "1";

  test(`a story passes as the product is and fails in a wrong version: one of them, or all with SLOW=1 (SEED=${seed})`, () => {
    const { lines, status } = run(...(isSlow ? [] : ["--count", "1"]), "--seed", String(seed));
    expect(lines.filter((line) => line.startsWith("FAILED"))).toEqual([]);
    const [, count] = /^(\d+) of \d+ canaries, seed \d+$/.exec(lines[0] ?? "") ?? [];
    expect([status, lines.at(-1)]).toEqual([0, `${count} passed, 0 failed`]);
  }, 1_800_000);

  test.each([
    [["--count", "0"]],
    [["--count"]],
    [["--seed", "-1"]],
    [["all"]],
    [["--only", "no such canary"]],
  ])("wrong usage %j exits 2 with one sentence", (args: string[]) => {
    const { lines, status, stderr } = run(...args);
    expect([status, lines]).toEqual([2, []]);
    expect(stderr).toMatch(/^[^\n]+\.\n$/);
  });
});

import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../../../..");

/** The runner starts Vitest itself, so nothing of the Vitest that runs this test may reach it. */
function run(...args: string[]) {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|NODE_OPTIONS|TEST$)/.test(name),
  );
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      "--conditions=@murmuration/source",
      "--experimental-strip-types",
      "--disable-warning=ExperimentalWarning",
      join(root, "tools/mutants.ts"),
      ...args,
    ],
    { encoding: "utf8", timeout: 300_000, cwd: root, env: Object.fromEntries(inherited) },
  );
  return { status, lines: stdout.split("\n").filter((line) => line !== ""), stderr };
}

describe("npm run mutants", () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const sample = process.env["SLOW"] === "1" ? [] : ["--rules", "8"];

  it(`without its rule a named test fails, for a sample of the rules and with both canaries noticed (seed ${seed})`, () => {
    const { status, lines } = run(...sample, "--seed", String(seed));
    expect(lines.filter((line) => line.startsWith("FAILED"))).toEqual([]);
    expect(lines).toContain("canary/cannot-fail: noticed");
    expect(lines).toContain("canary/no-test: noticed");
    const [, count] = /^(\d+) of \d+ rules, seed \d+$/.exec(lines[0] ?? "") ?? [];
    expect([status, lines.at(-1)]).toEqual([0, `${count} passed, 0 failed`]);
  }, 300_000);

  it.each([[["--rules", "0"]], [["--rules"]], [["--seed", "-1"]], [["all"]]])(
    "wrong usage %j exits 2 with one sentence",
    (args: string[]) => {
      const { status, lines, stderr } = run(...args);
      expect([status, lines]).toEqual([2, []]);
      expect(stderr).toMatch(/^Usage: .*\.\n$/);
    },
  );
});

/**
 * `npm run mutants -- [--rules N] [--seed S]`: switches each validation rule of packages/mls-groups off in turn and
 * requires that a test whose title begins with the rule's id then fails. Closes with `N passed, N failed`: a rule
 * without such a test, or whose tests all pass without it, has failed. `--rules` takes a sample that the seed chooses.
 * Exit 0 when every rule passed, 1 when one failed or a canary went unnoticed, 2 on wrong usage.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { startVitest, type TestCase } from "vitest/node";
import { rules } from "../packages/mls-groups/src/rules.ts";

const USAGE = "Usage: npm run mutants -- [--rules N] [--seed S], N from 1 and S from 0 to 4294967295.";
const root = resolve(import.meta.dirname, "..");
const tests = join(root, "packages/mls-groups/test");

/** Rules that do not exist: the first has a test that cannot fail, the second has no test. */
const canaries = { "canary/cannot-fail": "survived", "canary/no-test": "no test" } as const;

class WrongUsage extends Error {}

interface Arguments {
  readonly count: number;
  readonly seed: number;
}

function parseArguments(args: readonly string[]): Arguments {
  const given = new Map<string, number>();
  for (let i = 0; i < args.length; i += 2) {
    const [name, value] = [args[i]!, args[i + 1] ?? ""];
    if (!["--rules", "--seed"].includes(name) || given.has(name) || !/^\d{1,10}$/.test(value)) {
      throw new WrongUsage(USAGE);
    }
    given.set(name, Number(value));
  }
  const count = given.get("--rules") ?? Number.POSITIVE_INFINITY;
  const seed = given.get("--seed") ?? Math.floor(Math.random() * 2 ** 32);
  if (count < 1 || seed >= 2 ** 32) throw new WrongUsage(USAGE);
  return { count, seed };
}

/** Rules in an order that the seed decides (Fisher and Yates, with mulberry32). */
function shuffled(ids: readonly string[], seed: number): string[] {
  let state = seed;
  const below = (limit: number): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
  const out = [...ids];
  for (let i = out.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

/** Test files that name one of the rules: no other file has to be loaded. */
function filesNaming(ids: readonly string[]): string[] {
  return readdirSync(tests, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => join(tests, file))
    .filter((file) => {
      const text = readFileSync(file, "utf8");
      return ids.some((id) => text.includes(id));
    });
}

/** Runs the named tests of these rules in one go, each with its rule off, and returns whether each passed. */
async function runNamedTests(ids: readonly string[]): Promise<{ title: string; passed: boolean }[]> {
  const escaped = ids.map((id) => id.replace(/[^a-z]/g, "\\$&"));
  const vitest = await startVitest(
    "test",
    [],
    {
      config: false,
      root,
      watch: false,
      include: [...filesNaming(ids), join(tests, "mutants/canary.ts")],
      setupFiles: [join(tests, "mutants/setup.ts")],
      testNamePattern: new RegExp(`(?:^| )(?:${escaped.join("|")})[: ]`),
      env: { MURMURATION_MUTANTS: ids.join(","), NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
      pool: "forks",
      maxWorkers: 2,
      testTimeout: 60_000,
      reporters: [{}],
    },
    conditions,
  );
  const found: TestCase[] = vitest.state.getTestModules().flatMap((m) => [...m.children.allTests()]);
  const broken = vitest.state.getTestModules().filter((m) => m.errors().length > 0);
  for (const module of broken) process.stdout.write(`cannot be loaded: ${module.relativeModuleId}\n`);
  await vitest.close();
  return found
    .filter((test) => test.result().state !== "skipped")
    .map((test) => ({ title: test.name, passed: test.result().state === "passed" }));
}

const names = ["@murmuration/source", "node", "import", "module", "default"];
const conditions = { resolve: { conditions: names }, ssr: { resolve: { conditions: names } } };

type Verdict = "killed" | "survived" | "no test";

function judge(id: string, results: readonly { title: string; passed: boolean }[]): Verdict {
  const named = results.filter(({ title }) => title.split(/[: ]/, 1)[0] === id);
  if (named.length === 0) return "no test";
  return named.every(({ passed }) => passed) ? "survived" : "killed";
}

const explanation: Record<Exclude<Verdict, "killed">, string> = {
  survived: "its named tests pass without it",
  "no test": "no test's title begins with it",
};

async function main(): Promise<number> {
  const { count, seed } = parseArguments(process.argv.slice(2));
  const ids = shuffled(Object.keys(rules), seed).slice(0, count);
  process.stdout.write(`${ids.length} of ${Object.keys(rules).length} rules, seed ${seed}\n`);
  const results = await runNamedTests([...ids, ...Object.keys(canaries)]);
  let failed = 0;
  for (const id of ids) {
    const verdict = judge(id, results);
    if (verdict === "killed") continue;
    failed++;
    process.stdout.write(`FAILED ${id}: ${explanation[verdict]}\n`);
  }
  for (const [id, expected] of Object.entries(canaries)) {
    const noticed = judge(id, results) === expected;
    if (!noticed) failed++;
    process.stdout.write(`${id}: ${noticed ? "noticed" : "NOT NOTICED, this report is void"}\n`);
  }
  process.stdout.write(`${ids.length - Math.min(failed, ids.length)} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

try {
  // Vitest sets an exit code of its own, for tests that are meant to fail here.
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof WrongUsage)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}

/**
 * `npm run canaries -- [--only TEXT] [--count N] [--seed S]`: for each canary of tools/canaries/canaries.ts its story is run
 * twice, as the product is, where it has to pass, and in the wrong version, where it has to fail. Closes with
 * `N passed, N failed`; exit 0 when all passed, 1 when one failed, 2 on wrong usage. `--count` takes a sample that the seed
 * chooses, `--only` those whose names have TEXT in them. Some ten seconds each.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Canary, canaries } from "./canaries/canaries.ts";

const USAGE =
  "Usage: npm run canaries -- [--only TEXT] [--count N] [--seed S], N from 1 and S from 0 to 4294967295.";
const root = resolve(import.meta.dirname, "..");
/** For how long a story waits for something: in the wrong version it may never come. */
const PATIENCE_MS = 12_000;
/**
 * How long a story may take. In the wrong version whoever waits for what the product does not do any more may wait in the
 * product, for longer than that; as the product is it may be slow for all that the machine does besides.
 */
const LIMIT_MS = { wrong: 60_000, right: 300_000 };

class WrongUsage extends Error {}

function chosen(args: readonly string[]): { readonly seed: number; readonly picked: readonly Canary[] } {
  const given = new Map<string, string>();
  for (let i = 0; i < args.length; i += 2) {
    const [name, value] = [args[i]!, args[i + 1]];
    const isKnown = ["--only", "--count", "--seed"].includes(name) && !given.has(name);
    if (!isKnown || value === undefined || (name !== "--only" && !/^\d{1,10}$/.test(value)))
      throw new WrongUsage(USAGE);
    given.set(name, value);
  }
  const count = Number(given.get("--count") ?? canaries.length);
  const seed = Number(given.get("--seed") ?? Math.floor(Math.random() * 2 ** 32));
  if (count < 1 || seed >= 2 ** 32) throw new WrongUsage(USAGE);
  const named = canaries.filter(({ name }) => name.includes(given.get("--only") ?? ""));
  if (named.length === 0) throw new WrongUsage(`No canary has "${given.get("--only")}" in its name.`);
  const first = seed % named.length;
  return { seed, picked: [...named.slice(first), ...named.slice(0, first)].slice(0, count) };
}

interface Ran {
  readonly passed: number;
  readonly failed: number;
  /** What was said by the first test that failed. */
  readonly failure: string;
  /** How many of the sources that were to be put into the wrong version were never loaded. */
  readonly wrong: number;
}

/** Runs the story, in the wrong version where one is named. */
async function run({ edits, story }: Canary, canary: string | undefined, folder: string): Promise<Ran> {
  const [report, log] = [join(folder, "report.json"), join(folder, "log")];
  for (const file of [report, log]) rmSync(file, { force: true });
  // Nothing of a Vitest that runs this may reach the one that is started here.
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|NODE_OPTIONS|TEST$)/.test(name),
  );
  const hook = `--import=${new URL("./canaries/node-hook.ts", import.meta.url).href}`;
  const options = ["--disable-warning=ExperimentalWarning", "--experimental-strip-types", hook];
  const env = {
    ...Object.fromEntries(inherited),
    MURMURATION_CANARY_LOG: log,
    NODE_OPTIONS: options.join(" "),
    ...(canary === undefined ? {} : { MURMURATION_CANARY: canary, PATIENCE_MS: String(PATIENCE_MS) }),
  };
  const pattern = story.title.replace(/[^\w ]/g, ".");
  const args = ["run", story.file, "-t", pattern, "--config", "tools/canaries/vitest.config.ts"];
  const child = spawn(
    process.execPath,
    ["node_modules/vitest/vitest.mjs", ...args, "--reporter=json", `--outputFile=${report}`],
    { cwd: root, env, stdio: ["ignore", "pipe", "pipe"], detached: true },
  );
  const end = () => {
    // With all that it has started; it may have ended by itself.
    try {
      process.kill(-child.pid!, "SIGKILL");
    } catch {}
  };
  process.once("exit", end);
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data: Buffer) => {
      said = `${said}${data.toString()}`.slice(-4_000);
    });
  let isOver = false;
  const limitMs = canary === undefined ? LIMIT_MS.right : LIMIT_MS.wrong;
  const timer = setTimeout(() => {
    isOver = true;
    end();
  }, limitMs);
  await new Promise((done) => child.on("exit", done));
  clearTimeout(timer);
  end();
  process.off("exit", end);
  const touched = existsSync(log) ? new Set(readFileSync(log, "utf8").trim().split("\n")).size : 0;
  const wrong = canary === undefined ? 0 : new Set(edits.map(({ file }) => file)).size - touched;
  if (isOver) return { passed: 0, failed: 1, failure: `no end after ${limitMs} ms`, wrong };
  if (!existsSync(report)) throw new Error(`${story.file} could not be run: ${said}`);
  const { testResults, numFailedTests, numPassedTests } = JSON.parse(readFileSync(report, "utf8")) as {
    readonly numPassedTests: number;
    readonly numFailedTests: number;
    readonly testResults: readonly {
      readonly message: string;
      readonly assertionResults: readonly { readonly failureMessages?: readonly string[] }[];
    }[];
  };
  const messages = testResults.flatMap(({ assertionResults, message }) => [
    ...assertionResults.flatMap(({ failureMessages }) => failureMessages ?? []),
    message,
  ]);
  return {
    passed: numPassedTests,
    failed: numFailedTests,
    failure: (messages.find((one) => one !== "") ?? "").split("\n", 1)[0]!.slice(0, 160),
    wrong,
  };
}

/** Why a canary is worth nothing; undefined where its story notices it. Second: what the story said. */
async function judge(canary: Canary, folder: string): Promise<readonly [string | undefined, string]> {
  const right = await run(canary, undefined, folder);
  if (right.passed === 0 || right.failed > 0)
    return [`its story does not pass by itself (${right.passed} passed): ${right.failure}`, ""];
  const wrong = await run(canary, canary.name, folder);
  if (wrong.wrong > 0) return [`the story does not load all that is wrong`, ""];
  if (wrong.failed === 0) return ["its story passes", ""];
  return [undefined, wrong.failure];
}

async function main(): Promise<number> {
  const { picked, seed } = chosen(process.argv.slice(2));
  process.stdout.write(`${picked.length} of ${canaries.length} canaries, seed ${seed}\n`);
  const folder = mkdtempSync(join(tmpdir(), "canaries-"));
  let failed = 0;
  try {
    for (const canary of picked) {
      const [why, said] = await judge(canary, folder);
      if (why !== undefined) failed++;
      const verdict =
        why === undefined ? `noticed: ${canary.name} (${said})` : `FAILED ${canary.name}: ${why}`;
      process.stdout.write(`${verdict}\n`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  process.stdout.write(`${picked.length - failed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof WrongUsage)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}

/**
 * `npm run fuzz -- [--seconds S] [--seed S] [--folder FOLDER]`: feeds mutated structures, messages, trees, Welcomes and
 * stored rows to packages/mls-groups, and looks for errors of the wrong kind, inputs that never end, memory that grows,
 * and refused messages that change the group. A run goes on where the last one of its seed ended. What it finds is
 * saved in the folder (default .cache/fuzz); `--replay FILE` runs one such input again.
 * Closes with `N passed, N failed`, in inputs. Exit 1 when something failed, 2 on wrong usage.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { fromHex } from "@murmuration/base";
import {
  attempt,
  type Finding,
  freshProgress,
  type Progress,
} from "../packages/mls-groups/test/fuzz/fuzzer.ts";
import { makeTargets } from "../packages/mls-groups/test/fuzz/targets.ts";
import { watch } from "../packages/mls-groups/test/fuzz/watchdog.ts";

const USAGE =
  "Usage: npm run fuzz -- [--seconds S] [--seed S] [--folder FOLDER] or --replay FILE, S from 0 to 4294967295.";
const root = resolve(import.meta.dirname, "..");

/** An input that has not returned after this never will. */
const HANG_MS = 15_000;
const ENOUGH = 20;
const worker = new URL("../packages/mls-groups/test/fuzz/worker.ts", import.meta.url);

class WrongUsage extends Error {}

interface Arguments {
  readonly seconds: number;
  readonly seed: number | undefined;
  readonly folder: string;
  readonly replay: string | undefined;
}

function parseArguments(args: readonly string[]): Arguments {
  const given = new Map<string, string>();
  for (let i = 0; i < args.length; i += 2) {
    const [name, value] = [args[i]!, args[i + 1]];
    const known = ["--seconds", "--seed", "--folder", "--replay"].includes(name);
    if (!known || value === undefined || given.has(name)) throw new WrongUsage(USAGE);
    given.set(name, value);
  }
  const replay = given.get("--replay");
  if (replay !== undefined && (given.size > 1 || !existsSync(replay))) throw new WrongUsage(USAGE);
  return {
    seconds: number(given.get("--seconds")) ?? 60,
    seed: number(given.get("--seed")),
    folder: given.get("--folder") ?? join(root, ".cache/fuzz"),
    replay,
  };
}

function number(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,10}$/.test(text) || Number(text) >= 2 ** 32) throw new WrongUsage(USAGE);
  return Number(text);
}

/** The progress of the seed; without one, of the run that ended last, or of a new seed. */
function loadProgress({ seed, folder }: Arguments): Progress {
  const states = readdirSync(folder).filter((file) => /^progress-\d+\.json$/.test(file));
  const latest = states
    .map((file) => ({ file, time: statSync(join(folder, file)).mtimeMs }))
    .sort((a, b) => b.time - a.time)[0]?.file;
  const file = seed === undefined ? latest : states.find((name) => name === `progress-${seed}.json`);
  if (file !== undefined) return JSON.parse(readFileSync(join(folder, file), "utf8")) as Progress;
  return freshProgress(seed ?? Math.floor(Math.random() * 2 ** 32));
}

function saveProgress(folder: string, progress: Progress): void {
  const target = join(folder, `progress-${progress.seed}.json`);
  writeFileSync(`${target}.partial`, JSON.stringify(progress));
  renameSync(`${target}.partial`, target);
}

class Findings {
  readonly #folder: string;
  readonly #seen = new Set<string>();
  count = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  add(finding: Finding): void {
    this.count++;
    const kind = `${finding.target} ${finding.what}`;
    if (this.#seen.has(kind)) return;
    this.#seen.add(kind);
    const file = join(this.#folder, `finding-${finding.seed}-${finding.number}.json`);
    writeFileSync(file, JSON.stringify(finding, undefined, 2));
    say(`FAILED ${finding.target}, input ${finding.number}: ${finding.what}`);
    say(`       again: npm run fuzz -- --replay ${file}`);
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function fuzz(args: Arguments): Promise<number> {
  mkdirSync(args.folder, { recursive: true });
  const start = loadProgress(args);
  say(`seed ${start.seed}, from input ${start.inputs} on, for ${args.seconds} s`);
  const findings = new Findings(args.folder);
  const inputs = await watch(worker, start, args.seconds * 1000, {
    hangMs: HANG_MS,
    // Findings after which a run ends: the same fault many times over says nothing new.
    enough: () => findings.count >= ENOUGH,
    found: (finding) => findings.add(finding),
    reached: (progress) => saveProgress(args.folder, progress),
  });
  say(`${Math.max(0, inputs - start.inputs - findings.count)} passed, ${findings.count} failed`);
  return findings.count === 0 ? 0 : 1;
}

function replay(file: string): number {
  const finding = JSON.parse(readFileSync(file, "utf8")) as Finding;
  const target = makeTargets(finding.seed).find(({ name }) => name === finding.target);
  if (target === undefined)
    throw new WrongUsage(`The file names no target that there is: ${finding.target}.`);
  const { code, wrong } = attempt(target, fromHex(finding.input));
  say(wrong === undefined ? `${finding.target}: ${code}` : `FAILED ${finding.target}: ${wrong}`);
  say(wrong === undefined ? "1 passed, 0 failed" : "0 passed, 1 failed");
  return wrong === undefined ? 0 : 1;
}

try {
  const args = parseArguments(process.argv.slice(2));
  process.exitCode = args.replay === undefined ? await fuzz(args) : replay(args.replay);
} catch (error) {
  if (!(error instanceof WrongUsage)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}

/** `npm run chaos`: kills nodes and engines of a cluster under load, and counts what was lost, doubled or forked. */
import { randomInt } from "node:crypto";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { isVoid } from "./evidence.ts";
import { runChaos } from "./run.ts";
import { type ChaosReport, firstFaults } from "./verdict.ts";

const HELP = `npm run chaos [-- OPTIONS]

Starts PostgreSQL, Redis and two nodes of its own, lets sixteen real clients talk and change their groups, and kills one of
the four with SIGKILL again and again. When everything is up again it checks that nothing that was accepted is lost or
doubled, that no epoch has two commits, and that all members agree. Closes with "N passed, N failed".

  --seed S       0 to 4294967295; the same seed gives the same schedule. Default: drawn, and printed
  --minutes M    how long the load lasts; default 3, for a release 30
  --every N      seconds between two kills; default 20
  --json FILE    writes the counts there
  --help         this text

Exit: 0 all passed; 1 a check failed; 2 wrong usage, or void: unless one kill hit a commit and another one a fan-out; 3 it
could not be run, such as where PostgreSQL or Redis is not installed: npm run services -- --install`;

class WrongUsage extends Error {}

function readArguments() {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      minutes: { type: "string", default: "3" },
      every: { type: "string", default: "20" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  return {
    help: values.help,
    json: values.json,
    seed: values.seed === undefined ? randomInt(2 ** 32) : number(values.seed, "--seed", 0, 2 ** 32 - 1),
    minutes: number(values.minutes, "--minutes", 0.2, 1_440),
    everySeconds: number(values.every, "--every", 5, 3_600),
  };
}

function number(text: string, option: string, least: number, most: number): number {
  const value = /^\d{1,10}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most && (option !== "--seed" || Number.isInteger(value))) return value;
  throw new WrongUsage(`${option} takes a number from ${least} to ${most}.`);
}

async function main(): Promise<number> {
  let given: ReturnType<typeof readArguments>;
  try {
    given = readArguments();
  } catch (error) {
    console.error((error as Error).message);
    return 2;
  }
  if (given.help) {
    console.log(HELP);
    return 0;
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(3);
      stop.abort();
    });
  }
  console.log(`chaos --seed ${given.seed} --minutes ${given.minutes} --every ${given.everySeconds}`);
  let report: ChaosReport;
  try {
    report = await runChaos(given, (line) => console.log(line), stop.signal);
  } catch (error) {
    console.error(`the run could not be finished: ${(error as Error).message}`);
    return 3;
  }
  return conclude(report, given.json);
}

function conclude(report: ChaosReport, json: string | undefined): number {
  const { checks, ...counts } = report;
  const failed = checks.filter(({ faults }) => faults.length > 0);
  const { commits, fanOuts, kills } = report.hits;
  const provesNothing = isVoid(report.hits);
  for (const check of checks) {
    console.log(`${check.faults.length === 0 ? "passed" : "FAILED"}: ${check.name}`);
    for (const fault of firstFaults(check)) console.log(`    ${fault}`);
  }
  console.log(JSON.stringify(counts, undefined, 2));
  if (json !== undefined) {
    const verdict = { passed: checks.length - failed.length, failed: failed.length, void: provesNothing };
    const shown = checks.map((check) => ({ name: check.name, faults: firstFaults(check) }));
    writeFileSync(json, `${JSON.stringify({ ...counts, ...verdict, checks: shown })}\n`);
  }
  if (provesNothing) {
    const hit = `${kills} kills hit something: ${commits} a commit under way, ${fanOuts} a fan-out`;
    console.log(`void: ${hit}; one has to hit a commit and another one a fan-out`);
  }
  console.log(`${checks.length - failed.length} passed, ${failed.length} failed`);
  if (failed.length > 0) return 1;
  return provesNothing ? 2 : 0;
}

process.exit(await main());

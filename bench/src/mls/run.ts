/** The `mls` sub-command: every implementation, every operation, interleaved in one run. */
import { parseArguments, parseSizes, usage } from "../arguments.ts";
import { describeMachine, packageVersion } from "../machine.ts";
import { Progress } from "../progress.ts";
import { writeReport } from "../write-report.ts";
import { SizeCollector } from "./collect.ts";
import { type Budget, defaultBudget, estimateSeconds } from "./estimate.ts";
import { measurable } from "./implementations.ts";
import { compareWithOpenssl, measureOpenssl } from "./openssl-speed.ts";
import { leastCosts, measurePrimitives, type PrimitiveCosts } from "./primitives.ts";
import type { ImplementationName, MemoryRow, MlsReport, PrimitiveCost, Row } from "./rows.ts";
import { printReport } from "./table.ts";
import { type Unit, unitOperations, units } from "./units.ts";
import { type UnitOutcome, WorkerProcess } from "./worker-process.ts";

/** Peers stop here unless --full is given. */
const PEER_LIMIT = 1_000;
const OPERATION_LIMIT_MS = 120_000;
/** Where the floor is measured anew, so that it meets the same weather as what it is compared with. */
const FLOOR_AFTER: readonly Unit[] = ["bulk-add", "join-warm-pooled", "commit-cold", "application", "store"];
const DEFAULT_SIZES = "64,256,1000";
const MOST_MEMBERS = 65_536;

export interface MlsOptions {
  readonly sizes: readonly number[];
  readonly json: string | undefined;
  readonly full: boolean;
  readonly seed: string;
  readonly implementations: readonly ImplementationName[];
  readonly budget: Budget;
  readonly openssl: boolean;
  readonly operationLimitMs: number;
  /** Whether code is compiled before anything is measured; only tests of this program do without. */
  readonly warmUp: boolean;
}

export const mlsHelp = `murmuration bench mls: cost of MLS operations by group size
  --sizes 64,256,1000    members, from 8 to ${MOST_MEMBERS}
  --json FILE            also write the report as JSON
  --full                 peers go on beyond ${PEER_LIMIT} members
  --only NAME,NAME       of: ${measurable.join(", ")}
  --seed TEXT            seed of keys and groups
  --quick                few runs of each operation, and no openssl speed`;

export function parseMlsOptions(argv: readonly string[]): MlsOptions {
  const { values, switches } = parseArguments(argv, {
    values: ["sizes", "json", "seed", "only"],
    switches: ["full", "quick"],
    positional: [],
  });
  const chosen = values.get("only")?.split(",") ?? measurable;
  const unknown = chosen.find((name) => !measurable.includes(name));
  if (unknown !== undefined) throw usage(`--only takes ${measurable.join(", ")}, not "${unknown}"`);
  return {
    sizes: parseSizes(values.get("sizes") ?? DEFAULT_SIZES, "sizes", 8, MOST_MEMBERS),
    json: values.get("json"),
    full: switches.has("full"),
    seed: values.get("seed") ?? "murmuration",
    implementations: chosen as ImplementationName[],
    budget: switches.has("quick") ? { leastRuns: 2, mostRuns: 3, unitMs: 500 } : defaultBudget,
    openssl: !switches.has("quick"),
    operationLimitMs: OPERATION_LIMIT_MS,
    warmUp: true,
  };
}

/** ts-mls over its own crypto differs from ts-mls over node:crypto by a factor that 256 members show. */
const SLOW_PEER_LIMIT = 256;

function takesPart(name: ImplementationName, members: number, full: boolean): boolean {
  if (full || name === "murmuration") return true;
  return members <= (name === "ts-mls" ? SLOW_PEER_LIMIT : PEER_LIMIT);
}

export class MlsBenchmark {
  private readonly options: MlsOptions;
  private readonly workers: readonly WorkerProcess[];
  private readonly startedAt: string;
  private readonly rows: Row[] = [];
  private readonly memory: MemoryRow[] = [];
  private readonly floorVoid: string[] = [];
  private primitives: PrimitiveCost[] = [];
  /** Of the size that is being measured: before it, in between, and after it. */
  private costs: PrimitiveCosts[] = [];
  private current: SizeCollector | undefined;

  constructor(options: MlsOptions, startedAt: string) {
    this.options = options;
    this.startedAt = startedAt;
    this.workers = options.implementations.map(
      (name) => new WorkerProcess(name, options.seed, options.operationLimitMs, options.warmUp),
    );
  }

  estimateSeconds(): number {
    const { sizes, implementations, full, budget, operationLimitMs } = this.options;
    const plan = sizes.flatMap((members) =>
      implementations.filter((name) => takesPart(name, members, full)).map((name) => ({ name, members })),
    );
    return estimateSeconds(plan, budget, operationLimitMs);
  }

  /** Compiles the code of each implementation, one after the other; {@link run} does it when each has its first turn. */
  async start(): Promise<void> {
    for (const worker of this.workers) await worker.start();
  }

  async run(): Promise<void> {
    const { sizes } = this.options;
    const progress = new Progress(sizes.length * (units.length + 1) + 1);
    try {
      progress.show("primitives, beside openssl speed");
      await this.measureFloor();
      progress.step();
      for (const members of sizes) await this.runSize(members, progress);
    } finally {
      progress.clear();
      this.stop();
    }
  }

  /** The primitives beside OpenSSL; once more where one looks slow, since something else may have been running. */
  private async measureFloor(): Promise<void> {
    let here = measurePrimitives();
    let openssl = this.options.openssl ? await measureOpenssl() : {};
    let compared = compareWithOpenssl(here, openssl);
    for (let again = 0; again < 2 && compared.tooSlow.length > 0; again++) {
      here = leastCosts(here, measurePrimitives());
      openssl = leastCosts(openssl, await measureOpenssl());
      compared = compareWithOpenssl(here, openssl);
    }
    this.costs = [here];
    this.primitives = compared.primitives;
    this.floorVoid.push(...compared.tooSlow);
  }

  private async runSize(members: number, progress: Progress): Promise<void> {
    const collector = new SizeCollector(members);
    this.current = collector;
    const present = this.workers.filter(({ name }) => takesPart(name, members, this.options.full));
    // What was measured at an earlier size met other weather.
    this.costs = this.costs.slice(-1);
    for (const unit of units) {
      await this.runUnit(unit, members, present, collector, progress);
      if (FLOOR_AFTER.includes(unit)) this.costs.push(measurePrimitives());
      progress.step();
    }
    for (const worker of present) {
      progress.show(`${members} members, memory, ${worker.name}`);
      const outcome = await worker.run("memory", members);
      if (outcome.kind === "memory") this.keepMemory(worker.name, members, outcome.bytes);
    }
    progress.step();
    this.keep(collector);
    this.current = undefined;
  }

  /** Rounds: each implementation once in turn, until each has had its runs or its time. */
  private async runUnit(
    unit: Unit,
    members: number,
    present: readonly WorkerProcess[],
    collector: SizeCollector,
    progress: Progress,
  ): Promise<void> {
    const { leastRuns, mostRuns, unitMs } = this.options.budget;
    const state = new Map(present.map((worker) => [worker, { runs: 0, usedMs: 0 }]));
    while (state.size > 0) {
      for (const [worker, used] of state) {
        progress.show(`${members} members, ${unit}, ${worker.name}, run ${used.runs + 1}`);
        const start = performance.now();
        const outcome = await worker.run(unit, members);
        if (outcome.kind === "samples") collector.add(worker.name, outcome.samples);
        else this.noteFailure(unit, worker.name, outcome, collector);
        used.runs++;
        used.usedMs += performance.now() - start;
        const enough = used.runs >= leastRuns && used.usedMs >= unitMs;
        if (outcome.kind !== "samples" || enough || used.runs >= mostRuns) state.delete(worker);
      }
    }
  }

  private noteFailure(
    unit: Unit,
    name: ImplementationName,
    outcome: UnitOutcome,
    collector: SizeCollector,
  ): void {
    const limit = `> ${this.options.operationLimitMs / 1000} s`;
    for (const operation of unitOperations[unit]) {
      if (outcome.kind === "samples" || outcome.kind === "memory") continue;
      if (outcome.kind === "failed") collector.cut(name, operation, `failed: ${outcome.reason}`);
      else if (operation !== outcome.operation) collector.cut(name, operation, "not reached");
      else collector.cut(name, operation, outcome.phase === "measuring" ? limit : `preparing ${limit}`);
    }
  }

  private keepMemory(implementation: ImplementationName, members: number, bytes: number): void {
    const bytesPerMember = Math.round(bytes / members);
    this.memory.push({ members, implementation, bytesPerGroup: bytes, bytesPerMember });
  }

  private keep(collector: SizeCollector): void {
    const found = collector.rows(this.options.implementations, this.costs, this.floorVoid.length === 0);
    this.rows.push(...found.rows);
    this.floorVoid.push(...found.contradictions);
  }

  report(partial: boolean): MlsReport {
    if (partial && this.current !== undefined) {
      this.keep(this.current);
      this.current = undefined;
    }
    return {
      benchmark: "mls",
      startedAt: this.startedAt,
      machine: describeMachine(),
      versions: {
        node: process.versions.node,
        openssl: process.versions.openssl,
        "ts-mls": packageVersion("ts-mls"),
        murmuration: packageVersion("@murmuration/mls-groups"),
      },
      primitives: this.primitives,
      floorVoid: this.floorVoid,
      partial,
      rows: this.rows,
      memory: this.memory,
    };
  }

  stop(): void {
    for (const worker of this.workers) worker.stop();
  }
}

/** Runs the sub-command and returns the exit code: 1 when the floor contradicts what was counted, 130 after an interrupt. */
export async function runMls(argv: readonly string[]): Promise<number> {
  const options = parseMlsOptions(argv);
  const benchmark = new MlsBenchmark(options, new Date().toISOString());
  const seconds = benchmark.estimateSeconds();
  const peers = options.full ? "all implementations" : `peers up to ${PEER_LIMIT} members`;
  console.log(`mls: ${options.sizes.join(", ")} members, ${peers}; about ${duration(seconds)}.`);
  let interrupted = false;
  const finish = (partial: boolean): void => {
    const report = benchmark.report(partial);
    printReport(report);
    if (options.json !== undefined) writeReport(options.json, report);
  };
  process.once("SIGINT", () => {
    interrupted = true;
    benchmark.stop();
    finish(true);
    process.exit(130);
  });
  await benchmark.run();
  if (interrupted) return 130;
  finish(false);
  return benchmark.report(false).floorVoid.some((reason) => reason.includes("claims")) ? 1 : 0;
}

function duration(seconds: number): string {
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} minutes`;
}

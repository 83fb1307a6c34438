/** `npm run bench` without a sub-command: every section, into one report. */
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArguments, parseSizes, usage } from "../arguments.ts";
import { countsSection } from "../counts/fixture.ts";
import { defaultRuns, FanoutBenchmark, type FanoutPlan, WARM_UP_MEMBERS } from "../fanout/measure.ts";
import { FanoutProcesses } from "../fanout/processes.ts";
import {
  DEFAULT_FANOUT_MEMBERS,
  DEFAULT_PAYLOADS,
  MOST_FANOUT_MEMBERS,
  MOST_PAYLOAD,
} from "../fanout/run.ts";
import { printFanout } from "../fanout/table.ts";
import { describeMachine, MachineSpeed, packageVersions } from "../machine.ts";
import { MembershipBenchmark, recipientsFor } from "../membership/measure.ts";
import { printMembership } from "../membership/table.ts";
import { MlsBenchmark, parseMlsOptions } from "../mls/run.ts";
import { printReport } from "../mls/table.ts";
import { Progress } from "../progress.ts";
import { writeReport } from "../write-report.ts";
import { dailySection, PROFILE_PAYLOAD, printDaily, profilesOf } from "./daily.ts";
import { growthSection } from "./growth.ts";
import { writePage } from "./page-file.ts";
import { findPeers } from "./peers.ts";
import { REPORT_SCHEMA, type Report, type ReportOptions } from "./schema.ts";
import { VectorRun } from "./vectors.ts";

/** 16 and 256 show the growth, 1,000 is where peers stop. */
const DEFAULT_MLS_SIZES = "16,256,1000";
/** Slow operations of peers once, everything else twice: the section has a minute. */
const MLS_BUDGET = { leastRuns: 1, mostRuns: 2, unitMs: 300 };
const DEFAULT_MEMBERSHIP_SIZES = "8,200,256,5000";
/** The club of the daily totals, and a sixteenth of the largest group. */
const EXTRA_CELLS = [200, 625].map((members) => ({ members, payloadBytes: [PROFILE_PAYLOAD] }));
const DEFAULT_JSON = resolve(fileURLToPath(import.meta.url), "../../../out/report.json");

export const reportHelp = `murmuration bench: all sections, into bench/out/report.json and report.html
  --members ${DEFAULT_FANOUT_MEMBERS}    of the fan-out, from 2 to ${MOST_FANOUT_MEMBERS}
  --payload ${DEFAULT_PAYLOADS}    bytes, from 1 to ${MOST_PAYLOAD}
  --membership ${DEFAULT_MEMBERSHIP_SIZES}    members of the groups that change, from 8 to ${MOST_FANOUT_MEMBERS}
  --sizes ${DEFAULT_MLS_SIZES}    of the MLS groups, from 8 to 65536
  --messages-per-day N    of all members together, instead of each profile's own
  --churn-per-day N       members that join and as many that leave, instead of each profile's own
  --only NAME,NAME        implementations of MLS, as in mls
  --full                  peers go on beyond 1,000 members, ts-mls over its own crypto beyond 256
  --quick                 few runs of each
  --no-vectors            without the official test vectors
  --json FILE             where the report goes
  --seed TEXT             seed of keys and groups`;

interface RunOptions {
  /** What the report repeats. */
  readonly report: ReportOptions;
  readonly membershipSizes: readonly number[];
  /** Sizes beside the stated ones that daily totals and growth are computed from. */
  readonly extraCells: FanoutPlan["cells"];
  readonly only: string | undefined;
  readonly vectors: boolean;
  readonly json: string;
  readonly quick: boolean;
  readonly seed: string;
}

function parseReportOptions(argv: readonly string[]): RunOptions {
  const { switches, values } = parseArguments(argv, {
    values: [
      "members",
      "payload",
      "membership",
      "sizes",
      "only",
      "messages-per-day",
      "churn-per-day",
      "json",
      "seed",
    ],
    switches: ["full", "quick", "no-vectors"],
    positional: [],
  });
  const list = (flag: string, otherwise: string, least: number, most: number) => {
    const sizes = parseSizes(values.get(flag) ?? otherwise, flag, least, most);
    return [...new Set(sizes)].sort((a, b) => a - b);
  };
  // Refused now and not when its turn comes.
  if (values.has("only")) parseMlsOptions(["--only", values.get("only")!]);
  const report = {
    members: list("members", DEFAULT_FANOUT_MEMBERS, 2, MOST_FANOUT_MEMBERS),
    payloadBytes: list("payload", DEFAULT_PAYLOADS, 1, MOST_PAYLOAD),
    mlsSizes: list("sizes", DEFAULT_MLS_SIZES, 8, 65_536),
    messagesPerDay: rate(values.get("messages-per-day"), "messages-per-day"),
    churnPerDay: rate(values.get("churn-per-day"), "churn-per-day"),
    full: switches.has("full"),
  };
  return {
    report,
    extraCells: values.has("members") || values.has("payload") ? [] : EXTRA_CELLS,
    membershipSizes: list("membership", DEFAULT_MEMBERSHIP_SIZES, 8, MOST_FANOUT_MEMBERS),
    only: values.get("only"),
    vectors: !switches.has("no-vectors"),
    quick: switches.has("quick"),
    json: values.get("json") ?? DEFAULT_JSON,
    seed: values.get("seed") ?? "murmuration",
  };
}

function rate(text: string | undefined, flag: string): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!/^\d+(?:\.\d+)?$/.test(text) || value > 1e9)
    throw usage(`--${flag} takes a number from 0 to 1e9, not "${text}"`);
  return value;
}

type Sections = { -readonly [K in "counts" | "mls" | "vectors"]?: Report[K] };

/** One run: its sections as far as they are, and how to stop what is under way. */
class ReportRun {
  private readonly options: RunOptions;
  private readonly startedAt = new Date();
  private readonly sections: Sections = {};
  private readonly processes: FanoutProcesses;
  private readonly fanout: FanoutBenchmark;
  private readonly vectors = new VectorRun();
  private readonly speed = new MachineSpeed();
  private readonly progress: Progress;
  private readonly membership: MembershipBenchmark;
  private mls: MlsBenchmark | undefined;

  constructor(options: RunOptions) {
    this.options = options;
    const { members, payloadBytes } = options.report;
    this.progress = new Progress(
      members.length + options.extraCells.length + options.membershipSizes.length + 3,
    );
    const show = (what: string): void => this.progress.show(what);
    this.processes = new FanoutProcesses(options.seed, show);
    this.fanout = new FanoutBenchmark(
      {
        cells: [...members.map((count) => ({ members: count, payloadBytes })), ...options.extraCells].sort(
          (a, b) => a.members - b.members,
        ),
        runs: options.quick ? () => 1 : defaultRuns,
        warmUp: !options.quick,
      },
      this.processes,
      show,
    );
    const sizes = options.membershipSizes;
    this.membership = new MembershipBenchmark(this.processes, sizes, options.quick, show);
  }

  async run(): Promise<void> {
    const { members } = this.options.report;
    await this.processes.open(
      Math.max(...members, WARM_UP_MEMBERS, ...this.options.membershipSizes.map(recipientsFor)),
    );
    this.progress.show("counting operations");
    this.sections.counts = countsSection();
    this.progress.step();
    this.speed.take();
    await this.fanout.run(() => this.progress.step());
    this.speed.take();
    await this.membership.run(() => this.progress.step());
    this.speed.take();
    this.processes.stop();
    await this.runMls();
  }

  private async runMls(): Promise<void> {
    const { only, seed } = this.options;
    const { full, mlsSizes } = this.options.report;
    const flags = [
      "--sizes",
      mlsSizes.join(","),
      "--seed",
      seed,
      "--quick",
      ...(full ? ["--full"] : []),
      ...(only === undefined ? [] : ["--only", only]),
    ];
    const mlsOptions = { ...parseMlsOptions(flags), budget: MLS_BUDGET };
    this.mls = new MlsBenchmark(mlsOptions, new Date().toISOString());
    if (full)
      console.log(
        `MLS by all implementations: about ${Math.round(this.mls.estimateSeconds() / 60)} minutes.`,
      );
    this.progress.show("official vectors, while the code of the MLS implementations is compiled");
    // Neither is measured, so one may take the other's core.
    const [vectors] = await Promise.all([
      this.options.vectors ? this.vectors.run() : undefined,
      this.mls.start(),
    ]);
    if (vectors !== undefined) this.sections.vectors = vectors;
    this.progress.clear();
    await this.mls.run();
    this.sections.mls = this.mls.report(false);
  }

  stop(): void {
    this.progress.clear();
    this.vectors.stop();
    this.processes.stop();
    this.mls?.stop();
  }

  async report(partial: boolean): Promise<Report> {
    const fanout = this.fanout.section();
    const mls = this.sections.mls ?? this.mls?.report(true);
    const membership = this.membership.section();
    const growth = growthSection(fanout, mls);
    const { churnPerDay, messagesPerDay } = this.options.report;
    const profiles = profilesOf(messagesPerDay, churnPerDay);
    const daily = dailySection(profiles, fanout, membership);
    return {
      benchmark: "report",
      schema: REPORT_SCHEMA,
      startedAt: this.startedAt.toISOString(),
      durationSeconds: Math.round((Date.now() - this.startedAt.getTime()) / 100) / 10,
      seed: this.options.seed,
      partial,
      options: this.options.report,
      machine: describeMachine(),
      versions: packageVersions(),
      primitivesUs: this.speed.primitivesUs(),
      peers: await findPeers(mls),
      ...(fanout.rows.length === 0 ? {} : { fanout }),
      ...(membership.rows.length === 0 ? {} : { membership }),
      ...(mls === undefined ? {} : { mls }),
      ...(growth === undefined ? {} : { growth }),
      ...(daily.rows.length === 0 ? {} : { daily }),
      ...(this.sections.counts === undefined ? {} : { counts: this.sections.counts }),
      ...(this.sections.vectors === undefined ? {} : { vectors: this.sections.vectors }),
    };
  }
}

/** Runs everything and returns the exit code: 1 when a vector failed or a count is not the reviewed one, 130 after an interrupt. */
export async function runReport(argv: readonly string[]): Promise<number> {
  const options = parseReportOptions(argv);
  console.log(`bench: ${options.report.members.join(", ")} members; under five minutes on two idle cores.`);
  const run = new ReportRun(options);
  let interrupted: Promise<void> | undefined;
  const finish = async (partial: boolean): Promise<Report> => {
    const report = await run.report(partial);
    // The figures first: no fault of the page may lose them.
    writeReport(options.json, report);
    console.log(`page: ${writePage(report, options.json)}`);
    return report;
  };
  process.once("SIGINT", () => {
    run.stop();
    interrupted = finish(true).then(() => {
      console.log(`interrupted; what was measured is in ${options.json}`);
      process.exit(130);
    });
  });
  try {
    await run.run();
  } catch (error) {
    // Processes that an interrupt ended fail, and the report is being written.
    if (interrupted === undefined) throw error;
  } finally {
    run.stop();
  }
  if (interrupted !== undefined) {
    await interrupted;
    return 130;
  }
  const report = await finish(false);
  if (report.fanout !== undefined) printFanout(report.fanout);
  if (report.membership !== undefined) printMembership(report.membership);
  if (report.daily !== undefined) printDaily(report.daily);
  if (report.mls !== undefined) printReport(report.mls);
  const { failed, passed } = report.vectors ?? { failed: 0, passed: 0 };
  for (const difference of report.counts!.differences) console.log(`counts: ${difference}`);
  console.log(`\nvectors: ${passed} passed, ${failed} failed. ${report.durationSeconds} s. ${options.json}`);
  return failed === 0 && report.counts!.differences.length === 0 ? 0 : 1;
}

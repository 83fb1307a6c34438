/** The `fanout` sub-command. */
import { parseArguments, parseSizes } from "../arguments.ts";
import { describeMachine, MachineSpeed, packageVersions } from "../machine.ts";
import { Progress } from "../progress.ts";
import { type FanoutReport, type FanoutSection, REPORT_SCHEMA } from "../report/schema.ts";
import { writeReport } from "../write-report.ts";
import { defaultRuns, FanoutBenchmark, type FanoutPlan, WARM_UP_MEMBERS } from "./measure.ts";
import { FanoutProcesses } from "./processes.ts";
import { printFanout } from "./table.ts";

export const MOST_FANOUT_MEMBERS = 20_000;
export const MOST_PAYLOAD = 16_384;
export const DEFAULT_FANOUT_MEMBERS = "2,8,32,128,255,256,1000,5000,10000";
export const DEFAULT_PAYLOADS = "32,256,1024";

export const fanoutHelp = `murmuration bench fanout: one message to a group, by member count, payload and protocol
  --members ${DEFAULT_FANOUT_MEMBERS}    from 2 to ${MOST_FANOUT_MEMBERS}
  --payload ${DEFAULT_PAYLOADS}    bytes, from 1 to ${MOST_PAYLOAD}
  --json FILE    also write the report as JSON
  --seed TEXT    seed of keys and groups
  --quick        one run of each, and no warm-up`;

export interface FanoutOptions {
  readonly members: readonly number[];
  readonly payloadBytes: readonly number[];
  readonly json: string | undefined;
  readonly seed: string;
  readonly quick: boolean;
}

function parseFanoutOptions(argv: readonly string[]): FanoutOptions {
  const { values, switches } = parseArguments(argv, {
    values: ["members", "payload", "json", "seed"],
    switches: ["quick"],
    positional: [],
  });
  const list = (flag: string, otherwise: string, least: number, most: number) => {
    const sizes = parseSizes(values.get(flag) ?? otherwise, flag, least, most);
    return [...new Set(sizes)].sort((a, b) => a - b);
  };
  return {
    members: list("members", DEFAULT_FANOUT_MEMBERS, 2, MOST_FANOUT_MEMBERS),
    payloadBytes: list("payload", DEFAULT_PAYLOADS, 1, MOST_PAYLOAD),
    json: values.get("json"),
    seed: values.get("seed") ?? "murmuration",
    quick: switches.has("quick"),
  };
}

function planOf({ members, payloadBytes, quick }: FanoutOptions): FanoutPlan {
  return {
    cells: members.map((count) => ({ members: count, payloadBytes })),
    runs: quick ? () => 1 : defaultRuns,
    warmUp: !quick,
  };
}

/** Runs the sub-command and returns the exit code, 130 after an interrupt. */
export async function runFanout(argv: readonly string[]): Promise<number> {
  const options = parseFanoutOptions(argv);
  const startedAt = new Date();
  const progress = new Progress(options.members.length + 2);
  const show = (what: string): void => progress.show(what);
  const speed = new MachineSpeed();
  const processes = new FanoutProcesses(options.seed, show);
  const benchmark = new FanoutBenchmark(planOf(options), processes, show);
  console.log(`fanout: ${options.members.join(", ")} members, ${options.payloadBytes.join(", ")} bytes.`);
  const finish = (partial: boolean): void => {
    progress.clear();
    const section = benchmark.section();
    printFanout(section);
    if (options.json !== undefined) writeReport(options.json, reportOf(section, startedAt, partial, speed));
  };
  let interrupted = false;
  process.once("SIGINT", () => {
    interrupted = true;
    processes.stop();
    finish(true);
    process.exit(130);
  });
  try {
    await processes.open(Math.max(...options.members, WARM_UP_MEMBERS) - 1);
    progress.step();
    speed.take();
    await benchmark.run(() => progress.step());
    speed.take();
  } catch (error) {
    // Processes that an interrupt ended fail; the handler has said what there is.
    if (!interrupted) throw error;
  } finally {
    progress.clear();
    processes.stop();
  }
  if (interrupted) return 130;
  finish(false);
  return 0;
}

function reportOf(
  section: FanoutSection,
  startedAt: Date,
  partial: boolean,
  speed: MachineSpeed,
): FanoutReport {
  return {
    benchmark: "fanout",
    schema: REPORT_SCHEMA,
    startedAt: startedAt.toISOString(),
    durationSeconds: Math.round((Date.now() - startedAt.getTime()) / 100) / 10,
    partial,
    machine: describeMachine(),
    versions: packageVersions(),
    primitivesUs: speed.primitivesUs(),
    ...section,
  };
}

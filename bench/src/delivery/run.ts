/** The `delivery` sub-command: the service as a process, with real sockets, beside other servers. */
import { parseArguments, parseSizes, usage } from "../arguments.ts";
import { describeMachine, MachineSpeed, packageVersion } from "../machine.ts";
import { Progress } from "../progress.ts";
import { writeReport } from "../write-report.ts";
import { measureAppends } from "./appends.ts";
import { measureMemory } from "./memory.ts";
import { findPeer, measurePeer, type PeerName, peers } from "./peers.ts";
import { type Plan, planOf, quickPlan } from "./plan.ts";
import { openFilesLimit } from "./process-figures.ts";
import { type DeliveryReport, missedBars, printDelivery, type Sections } from "./report.ts";
import type { ServiceOptions } from "./service.ts";
import { measureServiceFanOut } from "./service-fan-out.ts";
import type { Sockets } from "./service-worker.ts";
import { describeStore, type Store, type StoreReport, stores } from "./store.ts";
import { measureStorm } from "./storm.ts";
import { Running } from "./workers.ts";

const sectionNames = ["fanout", "peers", "appends", "storm", "memory"] as const;
type SectionName = (typeof sectionNames)[number];

/** Files that a service has open beside its connections, with room to spare. */
const OTHER_FILES = 500;

export const deliveryHelp = `murmuration bench delivery: the service as a process, with real sockets, beside mosquitto and nats-server
  --members 1000      of the group whose fan-out is measured, from 2 to 10000
  --devices 5000      that come back at once, from 2 to 20000
  --idle 2000         connections whose memory is measured, from 2 to 20000
  --only NAMES        of ${sectionNames.join(",")}
  --store embedded    of the service; or cluster: PostgreSQL and Redis, see npm run services
  --json FILE         also write the report as JSON
  --seed TEXT         seed of keys, groups and accounts
  --quick             a small slice of everything, in seconds
  --profile DIR       also write CPU profiles of the service there
Ends with exit code 1 when a bar is missed, a line for each.`;

interface DeliveryOptions {
  readonly plan: Plan;
  readonly only: ReadonlySet<SectionName>;
  readonly store: Store;
  readonly json: string | undefined;
  readonly seed: string;
  readonly quick: boolean;
  readonly profile: string | undefined;
}

function parseDeliveryOptions(argv: readonly string[]): DeliveryOptions {
  const { values, switches } = parseArguments(argv, {
    values: ["members", "devices", "idle", "only", "store", "json", "seed", "profile"],
    switches: ["quick"],
    positional: [],
  });
  const size = (flag: string, otherwise: number, most: number) =>
    parseSizes(values.get(flag) ?? String(otherwise), flag, 2, most)[0]!;
  const sizes = [
    size("members", 1000, 10_000),
    size("devices", 5000, 20_000),
    size("idle", 2000, 20_000),
  ] as const;
  const quick = switches.has("quick");
  const store = values.get("store") ?? "embedded";
  if (!stores.includes(store as Store)) throw usage(`--store takes ${stores.join(" or ")}`);
  const only = values.get("only")?.split(",") ?? sectionNames;
  const unknown = only.find((name) => !sectionNames.includes(name as SectionName));
  if (unknown !== undefined)
    throw usage(`--only takes names of ${sectionNames.join(", ")}, not "${unknown}"`);
  return {
    plan: quick ? quickPlan : planOf(...sizes),
    only: new Set(only as SectionName[]),
    store: store as Store,
    json: values.get("json"),
    seed: values.get("seed") ?? "murmuration",
    quick,
    profile: values.get("profile"),
  };
}

/** The sections one after the other; what is there so far can be asked for at any time. */
class DeliveryBenchmark {
  readonly running = new Running();
  readonly speed = new MachineSpeed();
  readonly progress: Progress;
  private readonly options: DeliveryOptions;
  private readonly store: StoreReport;
  private readonly sections: {
    -readonly [K in keyof Sections]: Sections[K] extends readonly (infer T)[] ? T[] : Sections[K];
  } = {
    fanout: [],
    appends: [],
    storm: undefined,
    memory: [],
    leftOut: [],
  };

  constructor(options: DeliveryOptions, store: StoreReport) {
    this.options = options;
    this.store = store;
    this.progress = new Progress(options.only.size);
  }

  async run(): Promise<void> {
    const { only, plan, quick, seed } = this.options;
    const show = (what: string) => this.progress.show(what);
    if (!quick) this.speed.take();
    if (only.has("fanout")) {
      for (const sockets of ["ws", "uws"] as const) await this.fanOut(sockets);
      this.progress.step();
    }
    if (only.has("peers")) {
      for (const name of Object.keys(peers) as PeerName[]) await this.peer(name);
      this.progress.step();
    }
    if (only.has("appends")) {
      show("appends");
      this.sections.appends.push(...(await measureAppends(seed, plan, this.service("ws"), this.running)));
      this.progress.step();
    }
    if (only.has("storm")) {
      await this.storm(show);
      this.progress.step();
    }
    if (only.has("memory")) {
      show("memory of idle connections");
      this.sections.memory.push(...(await measureMemory(seed, plan, this.service("ws"), this.running)));
      this.progress.step();
    }
    if (!quick) this.speed.take();
  }

  report(startedAt: Date, partial: boolean): DeliveryReport {
    const { quick, seed } = this.options;
    return {
      benchmark: "delivery",
      schema: 1,
      startedAt: startedAt.toISOString(),
      durationSeconds: Math.round((Date.now() - startedAt.getTime()) / 100) / 10,
      seed,
      quick,
      partial,
      store: this.store,
      machine: describeMachine(),
      versions: {
        node: process.versions.node,
        murmuration: packageVersion("@murmuration/delivery-service"),
        mqtt: packageVersion("mqtt"),
        nats: packageVersion("@nats-io/transport-node"),
      },
      primitivesUs: this.speed.primitivesUs(),
      ...this.sections,
      missed: missedBars(this.sections),
    };
  }

  private service(sockets: Sockets): ServiceOptions {
    const { profile, store } = this.options;
    return { profile, sockets, store };
  }

  private leaveOut(what: string, why: unknown): void {
    this.sections.leftOut.push({
      what,
      why: why instanceof Error ? why.message.split("\n")[0]! : String(why),
    });
  }

  private async fanOut(sockets: Sockets): Promise<void> {
    const { plan, seed } = this.options;
    this.progress.show(`fan-out, ${sockets}`);
    const measure = () => measureServiceFanOut(seed, plan, this.service(sockets), this.running);
    // Whoever has no uWebSockets.js has no figure of it; ws is always there.
    if (sockets === "ws") this.sections.fanout.push(await measure());
    else {
      await measure().then(
        (result) => this.sections.fanout.push(result),
        (error: Error) => this.leaveOut("murmuration, uWebSockets.js", firstLine(error)),
      );
    }
  }

  private async peer(name: PeerName): Promise<void> {
    const path = findPeer(name);
    if (path === undefined) {
      this.leaveOut(name, `not installed; apt-get install ${name}`);
      return;
    }
    this.progress.show(`fan-out, ${name}`);
    const messageBytes = this.sections.fanout[0]?.messageBytes ?? this.options.plan.payloadBytes;
    this.sections.fanout.push(await measurePeer(name, path, messageBytes, this.options.plan, this.running));
  }

  /** Two connections a device: where files are too few there are fewer devices, and the report says so. */
  private async storm(show: (what: string) => void): Promise<void> {
    const { plan, seed } = this.options;
    const most = Math.floor((openFilesLimit() - OTHER_FILES) / 2);
    const { devices } = plan.storm;
    const fewer = { ...plan, storm: { ...plan.storm, devices: Math.min(devices, most) } };
    if (most < devices) {
      this.leaveOut(
        `${devices - most} of ${devices} devices`,
        `${openFilesLimit()} open files a process (ulimit -Hn)`,
      );
    }
    this.sections.storm = await measureStorm(seed, fewer, this.service("ws"), this.running, show);
  }
}

/** Of an error in another process, without the names of both. */
const firstLine = ({ message }: Error): string =>
  message.split("\n")[0]!.replace(/^the service: (\w*Error: )?/, "");

/** Runs the sub-command and returns the exit code: 1 where a bar is missed, 130 after an interrupt. */
export async function runDelivery(argv: readonly string[]): Promise<number> {
  const options = parseDeliveryOptions(argv);
  const startedAt = new Date();
  const benchmark = new DeliveryBenchmark(options, await describeStore(options.store));
  console.log(`delivery: ${[...options.only].join(", ")}; store "${options.store}"; seed "${options.seed}".`);
  const finish = (partial: boolean): DeliveryReport => {
    benchmark.progress.clear();
    const report = benchmark.report(startedAt, partial);
    printDelivery(report);
    if (options.json !== undefined) writeReport(options.json, report);
    return report;
  };
  process.once("SIGINT", () => {
    finish(true);
    benchmark.running.stopAll().finally(() => process.exit(130));
  });
  try {
    await benchmark.run();
  } finally {
    benchmark.progress.clear();
    await benchmark.running.stopAll();
  }
  return finish(false).missed.length === 0 ? 0 : 1;
}

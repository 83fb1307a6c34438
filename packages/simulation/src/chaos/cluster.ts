/** A cluster of its own: PostgreSQL, Redis and two nodes as operators run them. Each can be killed and started again. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { configKeys } from "@murmuration/delivery-service";
import {
  type LocalPostgres,
  type LocalRedis,
  startLocalPostgres,
  startLocalRedis,
} from "@murmuration/delivery-service/local-engines";
import type { Target } from "./plan.ts";

const NODE_ENTRY = fileURLToPath(
  new URL("./serve-main.ts", import.meta.resolve("@murmuration/delivery-service")),
);
const START_MS = 30_000;

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

export class Cluster {
  /** Logs of nodes and databases of clients; goes with the cluster. */
  readonly directory: string;
  readonly nodes: readonly [ChaosNode, ChaosNode];
  readonly postgres: LocalPostgres;
  private readonly redis: LocalRedis;
  private isDisposed = false;

  private constructor(directory: string, postgres: LocalPostgres, redis: LocalRedis) {
    this.directory = directory;
    this.postgres = postgres;
    this.redis = redis;
    const environment = nodeEnvironment(postgres.url, redis.url);
    const node = (name: string) => new ChaosNode(join(directory, `${name}.log`), environment);
    this.nodes = [node("node-a"), node("node-b")];
  }

  static async start(): Promise<Cluster> {
    const postgres = await startLocalPostgres();
    let redis: LocalRedis;
    try {
      redis = await startLocalRedis();
    } catch (error) {
      await postgres.dispose();
      throw error;
    }
    const cluster = new Cluster(mkdtempSync(join(tmpdir(), "murmuration-chaos-")), postgres, redis);
    try {
      for (const node of cluster.nodes) await node.start();
    } catch (error) {
      await cluster.dispose();
      throw error;
    }
    return cluster;
  }

  /** SIGKILL. Resolves when the process is gone. */
  kill(target: Target): Promise<void> {
    return this.part(target).kill();
  }

  /** Starts it on the port and the data that it had. */
  async start(target: Target): Promise<void> {
    if (this.isDisposed) throw new Error("the cluster is gone");
    await this.part(target).start();
    if (this.isDisposed) await this.part(target).kill();
  }

  private part(target: Target): { kill(): Promise<void>; start(): Promise<void> } {
    if (target === "redis") return this.redis;
    return target === "postgres" ? this.postgres : this.nodes[target === "node A" ? 0 : 1];
  }

  /** Ends every process and deletes every file. */
  async dispose(): Promise<void> {
    this.isDisposed = true;
    await Promise.all(this.nodes.map((node) => node.kill()));
    await Promise.all([this.postgres.dispose(), this.redis.dispose()]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Configured by the environment alone. All clients come from one address, so no rate holds them up. */
export function nodeEnvironment(postgresUrl: string, redisUrl: string): NodeJS.ProcessEnv {
  const variable = (key: string) =>
    `MURMURATION_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
  const rates = Object.keys(configKeys).filter((key) => key.startsWith("rate"));
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  return {
    PATH,
    NODE_COMPILE_CACHE,
    MURMURATION_STORE: "cluster",
    MURMURATION_POSTGRES_URL: postgresUrl,
    MURMURATION_REDIS_URL: redisUrl,
    MURMURATION_LOG_LEVEL: "info",
    ...Object.fromEntries(rates.map((key) => [variable(key), "1000000000/1000000000"])),
  };
}

interface LogLine {
  readonly level: number;
  readonly event: string;
  readonly code?: string;
  readonly place?: string;
}

/** A node as a process of its own. It keeps its port. */
export class ChaosNode {
  private readonly logPath: string;
  private readonly environment: NodeJS.ProcessEnv;
  private child: ChildProcess | undefined;
  private listeningPort = 0;
  private mayEnd = false;
  private ready = false;
  /** How often it ended though nobody had killed it. */
  ends = 0;

  constructor(logPath: string, environment: NodeJS.ProcessEnv) {
    this.logPath = logPath;
    this.environment = environment;
  }

  get port(): number {
    return this.listeningPort;
  }

  get isReady(): boolean {
    return this.ready;
  }

  async start(): Promise<void> {
    const log = openSync(this.logPath, "a");
    const child = fork(NODE_ENTRY, [], {
      env: { ...this.environment, MURMURATION_PORT: String(this.listeningPort) },
      execArgv: [
        "--conditions=@murmuration/source",
        "--experimental-strip-types",
        "--disable-warning=ExperimentalWarning",
      ],
      stdio: ["ignore", log, log, "ipc"],
    });
    closeSync(log);
    this.child = child;
    this.mayEnd = false;
    living.add(child);
    const ended = once(child, "exit").then(() => this.end(child));
    const timeout = AbortSignal.timeout(START_MS);
    const listening = once(child, "message", { signal: timeout });
    await Promise.race([listening, ended.then(() => Promise.reject(new Error(this.tail())))]);
    this.listeningPort = ((await listening)[0] as { readonly port: number }).port;
    this.ready = true;
  }

  private end(child: ChildProcess): void {
    living.delete(child);
    if (child !== this.child) return;
    this.ready = false;
    if (!this.mayEnd) this.ends++;
  }

  async kill(): Promise<void> {
    const { child } = this;
    this.ready = false;
    this.mayEnd = true;
    if (child === undefined || !living.has(child)) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  /** SIGTERM, as whoever installs a release sends it. Resolves with the exit code when the process is gone. */
  async drain(): Promise<number | null> {
    const { child } = this;
    if (child === undefined || !living.has(child)) throw new Error("the node is not running");
    this.ready = false;
    this.mayEnd = true;
    const gone = once(child, "exit");
    child.kill("SIGTERM");
    return (await gone)[0] as number | null;
  }

  /** How often it wrote which warnings and errors, by level, event, code and place. */
  logged(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const line of this.log().split("\n")) {
      if (!/"level":[45]0/.test(line)) continue;
      const { level, event, code = "", place = "" } = JSON.parse(line) as LogLine;
      const name = `${level === 40 ? "warn" : "error"} ${event} ${code} ${place}`.trim();
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  }

  private tail(): string {
    return `a node ended while it was started: ${this.log().slice(-2_000)}`;
  }

  private log(): string {
    return readFileSync(this.logPath, "utf8");
  }
}

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Limits } from "@murmuration/wire";

const TEST_ENTRY = fileURLToPath(new URL("./serve.ts", import.meta.url));
const OPERATORS_ENTRY = fileURLToPath(new URL("../../src/serve-main.ts", import.meta.url));

/** A delivery service in a process of its own. */
export interface ServiceProcess {
  readonly port: number;
  readonly base: string;
  readonly pid: number;
  /** What it has written to its standard output and error: its log. */
  output(): string;
  /** SIGKILL: no handler runs, nothing is flushed. */
  kill(): Promise<void>;
  /** Resolves when it has ended, by whatever cause. */
  readonly ended: Promise<unknown>;
  /** SIGTERM, then waits for the end. Resolves with the exit code. */
  terminate(): Promise<number | null>;
}

/**
 * `dieAt`: a method of the store of MLS groups; when it has something to do the process is killed instead. `sockets`:
 * see DeliveryServiceConfig.
 */
export function startServiceProcess(
  dataDirectory: string,
  limits: Partial<Limits> = {},
  dieAt = "",
  sockets = "auto",
): Promise<ServiceProcess> {
  return start(TEST_ENTRY, [dataDirectory, JSON.stringify(limits), dieAt, sockets], process.env);
}

/** The service as an operator runs it, configured by the environment alone. */
export function startNode(environment: Readonly<Record<string, string>>): Promise<ServiceProcess> {
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  return start(OPERATORS_ENTRY, [], { PATH, NODE_COMPILE_CACHE, MURMURATION_PORT: "0", ...environment });
}

async function start(
  entry: string,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<ServiceProcess> {
  const child: ChildProcess = fork(entry, argv, {
    env,
    execArgv: [
      "--conditions=@murmuration/source",
      "--experimental-strip-types",
      "--disable-warning=ExperimentalWarning",
    ],
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  let output = "";
  child.stdout!.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr!.on("data", (chunk) => {
    output += chunk;
  });
  const ended = once(child, "exit");
  const port = await Promise.race([
    once(child, "message").then(([message]) => (message as { port: number }).port),
    ended.then(() => Promise.reject(new Error(`the service did not start: ${output}`))),
  ]);
  return {
    port,
    base: `http://127.0.0.1:${port}`,
    pid: child.pid!,
    output: () => output,
    ended,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
    async terminate() {
      child.kill("SIGTERM");
      await ended;
      return child.exitCode;
    },
  };
}

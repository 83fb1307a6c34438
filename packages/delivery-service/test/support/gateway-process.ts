import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { fileURLToPath } from "node:url";

const ENTRY = fileURLToPath(new URL("../../../push-gateway/src/serve-main.ts", import.meta.url));

/** A push gateway in a process of its own, behind a proxy that keeps every byte of its interface. */
export interface GatewayProcess {
  /** Of the proxy. */
  readonly base: string;
  /** What went to the gateway, and what came from it. */
  readonly recorded: { readonly to: Buffer[]; readonly from: Buffer[] };
  /** What it has written to its standard output and error: its log. */
  output(): string;
  /** SIGTERM, then waits for the end. Resolves with the exit code. */
  terminate(): Promise<number | null>;
}

/** Starts the gateway with these settings (without their prefix), at a port if need be, and waits until it listens. */
export async function startGatewayProcess(
  settings: Readonly<Record<string, string>>,
  atPort = 0,
): Promise<GatewayProcess> {
  const named = Object.entries({ PORT: "0", ...settings }).map(([key, value]) => [
    `MURMURATION_PUSH_${key}`,
    value,
  ]);
  const child: ChildProcess = fork(ENTRY, [], {
    execArgv: [
      "--conditions=@murmuration/source",
      "--experimental-strip-types",
      "--disable-warning=ExperimentalWarning",
    ],
    env: { ...process.env, ...Object.fromEntries(named) },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  let output = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const ended = once(child, "exit");
  const port = await Promise.race([
    once(child, "message").then(([message]) => (message as { port: number }).port),
    ended.then(() => Promise.reject(new Error(`the gateway did not start: ${output}`))),
  ]);
  const proxy = await startRecordingProxy(port, atPort);
  return {
    base: `http://127.0.0.1:${proxy.port}`,
    recorded: proxy.recorded,
    output: () => output,
    async terminate() {
      proxy.close();
      child.kill("SIGTERM");
      await ended;
      return child.exitCode;
    },
  };
}

async function startRecordingProxy(target: number, atPort: number) {
  const recorded = { to: [] as Buffer[], from: [] as Buffer[] };
  const sockets = new Set<Socket>();
  const server = createServer((inner) => {
    const outer = connect(target, "127.0.0.1");
    for (const [socket, other, kept] of [
      [inner, outer, recorded.to],
      [outer, inner, recorded.from],
    ] as const) {
      sockets.add(socket);
      socket.on("data", (chunk) => {
        kept.push(chunk);
        other.write(chunk);
      });
      socket.on("end", () => other.end());
      socket.on("error", () => other.destroy());
    }
  });
  server.listen(atPort, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    recorded,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** mosquitto and nats-server beside ours, on the same fan-out. They are programs of the distribution, or left out. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { accessSync, chmodSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { connect as connectNats } from "@nats-io/transport-node";
import { connectAsync as connectMqtt } from "mqtt";
import { FanOut, type Publisher } from "./fan-out.ts";
import type { Plan } from "./plan.ts";
import { cpuSeconds, residentBytes } from "./process-figures.ts";
import type { SubscribersTask } from "./reader-worker.ts";
import type { FanoutResult } from "./report.ts";
import { numberedMessage, TOPIC } from "./topic-clients.ts";
import { cutAll, type Running, shares } from "./workers.ts";

export type PeerName = "mosquitto" | "nats-server";

interface Peer {
  readonly versionArguments: readonly string[];
  readonly version: RegExp;
  readonly arguments: (port: number, directory: string) => readonly string[];
  readonly publisher: (port: number, messageBytes: number) => Promise<Publisher>;
}

const STARTS_WITHIN_MS = 10_000;

export const peers: Readonly<Record<PeerName, Peer>> = {
  mosquitto: {
    versionArguments: ["-h"],
    version: /version (\S+)/,
    arguments(port, directory) {
      const path = join(directory, "mosquitto.conf");
      // Without Nagle's algorithm, as ours; no limit that would drop what a slow reader has not taken yet.
      const lines = [
        `listener ${port} 127.0.0.1`,
        "allow_anonymous true",
        "persistence false",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "log_dest none",
      ];
      writeFileSync(path, `${lines.join("\n")}\n`);
      // It gives up root's rights.
      chmodSync(directory, 0o755);
      return ["-c", path];
    },
    async publisher(port, messageBytes) {
      const client = await connectMqtt(`mqtt://127.0.0.1:${port}`, {
        reconnectPeriod: 0,
        clientId: "publisher",
      });
      let number = 0;
      return {
        async publish() {
          const own = ++number;
          await client.publishAsync(TOPIC, numberedMessage(own, messageBytes), { qos: 0 });
          return own;
        },
        close: () => client.endAsync(true),
      };
    },
  },
  "nats-server": {
    versionArguments: ["--version"],
    version: /\bv(\d\S*)/,
    arguments: (port) => ["-a", "127.0.0.1", "-p", String(port)],
    async publisher(port, messageBytes) {
      const client = await connectNats({ servers: `127.0.0.1:${port}`, reconnect: false });
      let number = 0;
      return {
        async publish() {
          const own = ++number;
          client.publish(TOPIC, numberedMessage(own, messageBytes));
          return own;
        },
        close: () => client.close(),
      };
    },
  },
};

/** Path of an installed server; undefined where there is none. */
export function findPeer(name: PeerName): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export async function measurePeer(
  name: PeerName,
  path: string,
  messageBytes: number,
  plan: Plan,
  running: Running,
): Promise<FanoutResult> {
  const peer = peers[name];
  const directory = mkdtempSync(join(tmpdir(), "murmuration-bench-"));
  const port = await freePort();
  const child = spawn(path, peer.arguments(port, directory), { stdio: "ignore" });
  const stop = running.add(() => {
    child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  });
  const links = running.readers(plan.processes);
  try {
    await accepts(port, child);
    const pid = child.pid!;
    const before = residentBytes(pid);
    const counts = shares(Array.from({ length: plan.members }), links.length).map(({ length }) => length);
    await Promise.all(
      links.map((link, i) => {
        const task: SubscribersTask = { server: name, port, name: `reader-${i}`, count: counts[i]! };
        return link.request("subscribers", task);
      }),
    );
    const after = residentBytes(pid);
    const publisher = await peer.publisher(port, messageBytes);
    const fanOut = new FanOut(links, plan.members, publisher, () => cpuSeconds(pid));
    const latency = await fanOut.latency(plan.fanout);
    const throughput = await fanOut.throughput(plan.fanout);
    await publisher.close();
    return {
      server: name,
      version: versionOf(name, path),
      subscribers: plan.members,
      messageBytes,
      latency,
      throughput,
      residentBytesPerSubscriber: (after - before) / plan.members,
    };
  } finally {
    await cutAll(links);
    stop();
  }
}

function versionOf(name: PeerName, path: string): string {
  const { versionArguments, version } = peers[name];
  const { stdout, stderr } = spawnSync(path, versionArguments, { encoding: "utf8" });
  return version.exec(`${stdout}${stderr}`)?.[1] ?? "unknown";
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function accepts(port: number, child: ChildProcess): Promise<void> {
  const until = Date.now() + STARTS_WITHIN_MS;
  while (Date.now() < until && child.exitCode === null) {
    const socket = connectTcp(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    } finally {
      socket.destroy();
    }
  }
  throw new Error(`${child.spawnfile} does not accept connections`);
}

/**
 * `npm run uws`: the uWebSockets.js adapter under its suites, and beside ws in a fan-out, in a Debian 13 that is made
 * for it: the binaries of uWebSockets.js for Node 22 and newer need glibc 2.38. Exit 0 when every test passed, 1 when
 * one failed or it cannot run here, 2 on wrong usage.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { arch, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { FanOut } from "./uws-fan-out.ts";

const HELP = `npm run uws [-- OPTIONS]

Makes a Debian 13 with debootstrap, puts uWebSockets.js and this project into it, runs the suites of the SocketServer
port there, and measures on ws and on uWebSockets.js a fan-out of bare frames, and the one of the delivery service (as
"npm run bench -- delivery --only fanout" does). Needs root, Linux, debootstrap, npm, and a mirror of
Debian in /etc/apt. Nothing of what it loads comes into the project.

  --root DIR        where the root is made, or was made before (murmuration-debian-13 in the temporary directory)
  --connections N   of the fan-out (10000, from 1000 to 20000)
  --rounds N        of the fan-out (10)
  --no-tests        measures only
  --json            the report as JSON on standard output; everything else is on standard error
  --help            this text`;

const SUITE = "trixie";
const PROJECT = resolve(import.meta.dirname, "..");
const SUITES = [
  "contract/open-socket-server",
  "contract/socket-server",
  "adversary/bad-frames",
  "scenario/ten-thousand-connections",
  "scenario/a-slow-reader",
  "scenario/connections-come-and-go",
].map((path) => `packages/delivery-service/test/${path}`);
/** Vite would put its bundled configuration into the project, which cannot be written there. */
const VITEST = ["node_modules/vitest/vitest.mjs", "run", "--configLoader", "runner"];
const REPETITIONS = 3;
const NODE_OPTIONS = [
  "--conditions=@murmuration/source",
  "--experimental-strip-types",
  "--disable-warning=ExperimentalWarning",
];

const official = { repository: "https://github.com/uNetworking/uWebSockets.js", tag: "v20.57.0" };

/** Somebody else's publication, for where the official one cannot be reached. Never for production. */
const republication = {
  name: "@btc-vision/uwebsockets.js",
  version: "20.57.0",
  integrity:
    "sha512-SuPpEjSKZ7P58L/27BXXsrGsMwLmPupfYny8oJsOmFZ4+zX7Ca97nBPtZ3ngKbfeDZzTyi7rXri74INGerhugg==",
};

interface Origin {
  readonly from: string;
  readonly integrity: string;
  /** What is known about its being the same as what the authors published. */
  readonly equality: string;
}

/** What the delivery benchmark says of one implementation: one message to 1,000 members. */
interface ServiceFanOut {
  readonly server: string;
  readonly latency: { readonly p50Ms: number; readonly p99Ms: number };
  readonly throughput: {
    readonly deliveriesPerSecond: number;
    readonly deliveriesPerSecondPerCore: number;
    readonly messagesPerFrame: number;
  };
  readonly residentBytesPerSubscriber: number;
}

interface Report {
  readonly debian: string;
  readonly glibc: string;
  readonly node: string;
  readonly uWebSockets: Origin;
  readonly tests?: { readonly passed: number; readonly failed: number; readonly skipped: number };
  readonly fanOut: {
    readonly ws: FanOut;
    readonly uws: FanOut;
    /** uws over ws. */
    readonly deliveriesRatio: number;
    readonly memoryRatio: number;
  };
  readonly service: readonly ServiceFanOut[];
}

class CannotRun extends Error {}
class WrongUsage extends Error {}

/** Paths of this machine mean nothing in the root. */
const environment = { ...process.env, NODE_EXTRA_CA_CERTS: undefined };

const say = (line: string) => console.error(line);

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  return execFileSync(command, args, {
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
  });
}

function succeeds(command: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: "ignore", timeout: 30_000 });
    return true;
  } catch {
    return false;
  }
}

function checkMachine(): void {
  if (process.platform !== "linux") throw new CannotRun("a root of Debian needs Linux");
  if (process.getuid?.() !== 0) throw new CannotRun("chroot needs root");
  if (!succeeds("debootstrap", "--version")) throw new CannotRun("debootstrap is not installed");
  if (!succeeds("unshare", "--mount", "true")) throw new CannotRun("mount namespaces are not permitted here");
}

/** The mirror of Debian's archive that apt uses on this machine. */
function mirror(): string {
  const parts = readdirSync("/etc/apt/sources.list.d", { withFileTypes: true });
  const files = parts.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const texts = ["/etc/apt/sources.list", ...files]
    .filter(existsSync)
    .map((path) => readFileSync(path, "utf8"));
  const uris = texts.flatMap((text) =>
    [...text.matchAll(/^(?:URIs:|deb\s+(?:\[[^\]]*\]\s+)?)\s*(https?:\S+)/gm)].map((match) => match[1]!),
  );
  const found = uris.find((uri) => /\/debian\/?$/.test(uri));
  if (found === undefined) throw new CannotRun("/etc/apt names no mirror of Debian");
  return found;
}

/** A minimal Debian 13 in `root`, whose marker says that debootstrap came to its end. */
function makeRoot(root: string): void {
  const marker = join(root, ".made-by-murmuration");
  if (existsSync(marker)) return;
  if (existsSync(root) && readdirSync(root).length > 0) {
    throw new CannotRun(`${root} is neither empty nor a root that this command has made`);
  }
  say(`debootstrap of Debian 13 into ${root}`);
  mkdirSync(root, { recursive: true });
  run("debootstrap", ["--variant=minbase", SUITE, root, mirror()]);
  for (const directory of ["workspace/murmuration", "workspace/node_modules"]) {
    mkdirSync(join(root, directory), { recursive: true });
  }
  writeFileSync(marker, "");
}

/** Installs uWebSockets.js beside the place where the project will be: whoever imports it there finds it. */
function installUws(workspace: string): Origin {
  const reached = succeeds(
    "git",
    "ls-remote",
    "--exit-code",
    official.repository,
    `refs/tags/${official.tag}`,
  );
  const wanted = reached
    ? `github:${new URL(official.repository).pathname.slice(1)}#${official.tag}`
    : `npm:${republication.name}@${republication.version}`;
  const manifest = { name: "uws-workspace", private: true, dependencies: { "uWebSockets.js": wanted } };
  const path = join(workspace, "package.json");
  const text = JSON.stringify(manifest, null, 2);
  const lockPath = join(workspace, "package-lock.json");
  if (!existsSync(lockPath) || readFileSync(path, "utf8") !== text) {
    say(`installing ${wanted}`);
    rmSync(join(workspace, "node_modules"), { recursive: true, force: true });
    rmSync(lockPath, { force: true });
    writeFileSync(path, text);
    const quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
    run("npm", ["install", "--prefix", workspace, ...quietly]);
  }
  const lock = JSON.parse(readFileSync(lockPath, "utf8")) as {
    packages: Record<string, { integrity?: string; resolved?: string }>;
  };
  const { integrity, resolved } = lock.packages["node_modules/uWebSockets.js"] ?? {};
  if (reached) {
    return { from: wanted, integrity: integrity ?? resolved ?? "", equality: "the authors' own tag" };
  }
  if (integrity !== republication.integrity) {
    rmSync(lockPath);
    throw new CannotRun(`${wanted} is not what it was: its integrity is ${integrity}`);
  }
  return {
    from: `${wanted}, because ${official.repository} cannot be reached`,
    integrity,
    equality:
      "unproven, and not to be expected: it has functions (setIdleTimeout, setResponseTimeout) that the authors' source has not",
  };
}

/** Mounts vanish with the last process of the namespace: nothing of the project is ever left inside the root. */
const ENTER = `
root=$1; project=$2; shift 2
mount --bind "$project" "$root/workspace/murmuration"
mount -o remount,bind,ro "$root/workspace/murmuration"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
exec chroot "$root" /bin/sh -c 'cd /workspace/murmuration && exec "$@"' sh "$@"
`;

function enter(root: string, ...command: readonly string[]): [string, string[]] {
  const inside = ["--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh", root, PROJECT, ...command];
  return ["unshare", inside];
}

/** Node 24 is a dependency of the project: it works in any Linux. */
const NODE = `node_modules/node-linux-${arch()}/bin/node`;

function inRoot(root: string, ...args: readonly string[]): string {
  const [command, inside] = enter(root, NODE, ...args);
  return run(command, inside, environment);
}

async function test(root: string): Promise<NonNullable<Report["tests"]>> {
  const [command, inside] = enter(root, NODE, ...VITEST, ...SUITES);
  const child = spawn(command, inside, { env: environment, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    process.stderr.write(text);
  });
  await new Promise((done) => child.once("close", done));
  const closing = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/m.exec(output);
  if (closing === null) throw new CannotRun("the suites did not come to their end");
  return { passed: Number(closing[1]), failed: Number(closing[2]), skipped: Number(closing[3] ?? 0) };
}

/** The run in the middle of several, by deliveries; ws and uws take turns, so that a noisy minute meets both. */
function measure(root: string, connections: number, rounds: number): Report["fanOut"] {
  const runs: Record<"ws" | "uws", FanOut[]> = { ws: [], uws: [] };
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    for (const implementation of ["ws", "uws"] as const) {
      const args = [implementation, String(connections), String(rounds)];
      const line = inRoot(root, ...NODE_OPTIONS, "tools/uws-fan-out.ts", ...args);
      runs[implementation].push(JSON.parse(line) as FanOut);
      say(`fan-out ${line.trim()}`);
    }
  }
  const middle = (of: readonly FanOut[]) =>
    of.toSorted((a, b) => a.deliveriesPerCoreSecond - b.deliveriesPerCoreSecond)[of.length >> 1]!;
  const [ws, uws] = [middle(runs.ws), middle(runs.uws)];
  const ratio = (a: number, b: number) => Math.round((a / b) * 100) / 100;
  return {
    ws,
    uws,
    deliveriesRatio: ratio(uws.deliveriesPerCoreSecond, ws.deliveriesPerCoreSecond),
    memoryRatio: ratio(uws.bytesPerIdleConnection, ws.bytesPerIdleConnection),
  };
}

/** The delivery service on both, by the benchmark that measures it elsewhere. */
function measureService(root: string): readonly ServiceFanOut[] {
  const file = "/tmp/delivery.json";
  const bench = ["bench/src/main.ts", "delivery", "--only", "fanout", "--json", file];
  // A bar that is missed is in the report.
  const keep = `"$@" >&2 || true; cat ${file}`;
  const [command, inside] = enter(root, "sh", "-c", keep, "sh", NODE, ...NODE_OPTIONS, ...bench);
  const { fanout } = JSON.parse(run(command, inside, environment)) as { fanout: readonly ServiceFanOut[] };
  if (fanout.length !== 2) throw new CannotRun("the delivery benchmark did not measure both");
  return fanout;
}

function show({ debian, glibc, node, uWebSockets, tests, fanOut, service }: Report): string {
  const row = (name: string, { deliveriesPerCoreSecond, bytesPerIdleConnection }: FanOut) =>
    `  ${name.padEnd(6)}${String(deliveriesPerCoreSecond).padStart(9)} deliveries per second of a core, ${String(bytesPerIdleConnection).padStart(6)} bytes per idle connection`;
  return [
    `Debian ${debian}, glibc ${glibc}, Node ${node}`,
    `uWebSockets.js: ${uWebSockets.from}`,
    `  integrity ${uWebSockets.integrity}`,
    `  equality with upstream: ${uWebSockets.equality}`,
    `fan-out of ${fanOut.ws.frameBytes} bytes to ${fanOut.ws.connections} connections:`,
    row("ws", fanOut.ws),
    row("uws", fanOut.uws),
    `  ratio ${fanOut.deliveriesRatio} in deliveries, ${fanOut.memoryRatio} in memory`,
    "the delivery service, one message to 1,000 members:",
    ...service.map(
      ({ server, latency, throughput, residentBytesPerSubscriber }) =>
        `  ${server.padEnd(28)} p99 ${Math.round(latency.p99Ms)} ms, ${Math.round(throughput.deliveriesPerSecond)} deliveries per second, ${Math.round(throughput.deliveriesPerSecondPerCore)} of a core, ${throughput.messagesPerFrame.toFixed(1)} in a frame, ${Math.round(residentBytesPerSubscriber)} bytes resident for each`,
    ),
    ...(tests === undefined
      ? []
      : [`${tests.passed} passed, ${tests.failed} failed, ${tests.skipped} skipped`]),
  ].join("\n");
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      root: { type: "string", default: join(tmpdir(), "murmuration-debian-13") },
      connections: { type: "string", default: "10000" },
      rounds: { type: "string", default: "10" },
      "no-tests": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const [connections, rounds] = [Number(values.connections), Number(values.rounds)];
  if (!(connections >= 1_000 && connections <= 20_000 && rounds >= 1)) throw new WrongUsage(HELP);
  checkMachine();
  const root = resolve(values.root);
  makeRoot(root);
  const uWebSockets = installUws(join(root, "workspace"));
  const loads = inRoot(root, "-p", 'require("/workspace/node_modules/uWebSockets.js") && process.version');
  const tests = values["no-tests"] ? undefined : await test(root);
  const report: Report = {
    debian: readFileSync(join(root, "etc/debian_version"), "utf8").trim(),
    glibc: inRoot(root, "-p", "process.report.getReport().header.glibcVersionRuntime").trim(),
    node: loads.trim(),
    uWebSockets,
    ...(tests !== undefined && { tests }),
    fanOut: measure(root, connections, rounds),
    service: measureService(root),
  };
  console.log(values.json ? JSON.stringify(report, null, 2) : show(report));
  if (tests !== undefined && tests.failed > 0) process.exitCode = 1;
}

main().catch((error: unknown) => {
  const isUsage = error instanceof WrongUsage || (error instanceof TypeError && "code" in error);
  const line = error instanceof Error ? error.message : String(error);
  say(error instanceof CannotRun ? `npm run uws cannot run here: ${line}` : line);
  process.exitCode = isUsage ? 2 : 1;
});

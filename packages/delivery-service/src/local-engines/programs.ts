import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Where Debian and others put PostgreSQL's programs, newest version first. */
const POSTGRES_ROOTS = ["/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql"];

/** The directory with initdb and postgres, or undefined where PostgreSQL is not installed. */
export function postgresPrograms(): string | undefined {
  for (const root of POSTGRES_ROOTS) {
    if (!existsSync(root)) continue;
    const versions = readdirSync(root).sort((a, b) => Number.parseFloat(b) - Number.parseFloat(a));
    for (const path of [...versions.map((version) => join(root, version, "bin")), join(root, "bin")]) {
      if (existsSync(join(path, "initdb"))) return path;
    }
  }
  return undefined;
}

/** The path of redis-server, or undefined where Redis is not installed. */
export function redisProgram(): string | undefined {
  const places = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];
  return places.map((place) => join(place, "redis-server")).find((path) => existsSync(path));
}

/** Whether a PostgreSQL and a Redis of one's own can be started on this machine. */
export const enginesAreInstalled = (): boolean =>
  postgresPrograms() !== undefined && redisProgram() !== undefined;

/** PostgreSQL refuses to run as root: then it runs as the user `postgres`. Empty for everybody else. */
export function asPostgres(): readonly string[] {
  if (process.getuid?.() !== 0) return [];
  return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
}

/** Who owns PostgreSQL's files; undefined for this user. */
export function postgresOwner(): { readonly uid: number; readonly gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

/** Runs a program to its end. Rejects with what it printed when it fails. */
export function run(command: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", "pipe"], env });
    let printed = "";
    const note = (chunk: Buffer) => {
      printed = (printed + chunk.toString()).slice(-4_000);
    };
    child.stdout.on("data", note);
    child.stderr.on("data", note);
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${command[0]} ended with ${code}: ${printed}`));
    });
  });
}

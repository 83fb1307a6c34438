/** PostgreSQL and Redis on their standard ports, for development and the cluster's tests. */
import { spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { createDatabaseDirectory, postgresCommand } from "./postgres.ts";
import { answers, untilAnswers } from "./probe.ts";
import { postgresOwner, postgresPrograms, redisProgram, run } from "./programs.ts";
import { redisCommand } from "./redis.ts";

/** Where the engines of a cluster answer. */
export interface ClusterUrls {
  readonly postgres: string;
  readonly redis: string;
}

const POSTGRES_PORT = 5432;
const REDIS_PORT = 6379;
/** Of 200 ms each, for engines that were started. */
const READY_TRIES = 75;
const FOLDER = join(tmpdir(), `murmuration-services-${process.getuid?.() ?? 0}`);

/** The URLs out of the environment (MURMURATION_POSTGRES_URL, MURMURATION_REDIS_URL), or those of `npm run services`. */
export function clusterUrls(environment: NodeJS.ProcessEnv = process.env): ClusterUrls {
  return {
    postgres:
      environment["MURMURATION_POSTGRES_URL"] ||
      `postgres://murmuration:murmuration@127.0.0.1:${POSTGRES_PORT}/postgres`,
    redis: environment["MURMURATION_REDIS_URL"] || `redis://127.0.0.1:${REDIS_PORT}`,
  };
}

/** Why the engines cannot be used, or undefined when both answer. */
export async function whyNoCluster(urls: ClusterUrls): Promise<string | undefined> {
  const redis = new URL(urls.redis);
  if (!(await answers(Number(redis.port || REDIS_PORT), redis.hostname))) return "Redis does not answer";
  const client = new pg.Client({ connectionString: urls.postgres, connectionTimeoutMillis: 2_000 });
  try {
    await client.connect();
    return undefined;
  } catch (error) {
    const isWrong = error instanceof pg.DatabaseError;
    return isWrong ? "PostgreSQL answers and refuses the URL's user" : "PostgreSQL does not answer";
  } finally {
    await client.end().catch(() => {});
  }
}

/** Installs what is missing from the distribution's packages. Needs root and apt. */
export async function installServices(say: (line: string) => void): Promise<void> {
  const missing = [
    ...(postgresPrograms() === undefined ? ["postgresql"] : []),
    ...(redisProgram() === undefined ? ["redis-server"] : []),
  ];
  if (missing.length === 0) return;
  if (!existsSync("/usr/bin/apt-get") || process.getuid?.() !== 0) {
    throw new Error(`cannot install ${missing.join(" and ")} here: that takes root and apt-get`);
  }
  say(`installing ${missing.join(" and ")}`);
  // The packages' own start scripts stay quiet: the servers of this script have their own data.
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  await run(["apt-get", "-q", "update"], env);
  await run(["apt-get", "-qy", "install", "--no-install-recommends", ...missing], env);
}

/** Starts what does not answer yet and leaves it running. Rejects with a sentence that says what to do. */
export async function startServices(say: (line: string) => void): Promise<ClusterUrls> {
  const urls = clusterUrls();
  if ((await whyNoCluster(urls)) === undefined) {
    say("both answer already");
    return urls;
  }
  mkdirSync(FOLDER, { recursive: true, mode: 0o711 });
  if (await answers(REDIS_PORT)) say("using the Redis that answers");
  else await startRedis();
  if (await answers(POSTGRES_PORT)) say("using the PostgreSQL that answers");
  else await startPostgres();
  // PostgreSQL takes connections a moment before it lets anybody in.
  let why = await whyNoCluster(urls);
  for (let tries = 0; why !== undefined && tries < READY_TRIES; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    why = await whyNoCluster(urls);
  }
  if (why !== undefined) {
    throw new Error(
      `${why}: set MURMURATION_POSTGRES_URL and MURMURATION_REDIS_URL to engines that may be used`,
    );
  }
  return urls;
}

/** Ends what {@link startServices} started, by id. With `forget` their data go as well. */
export async function stopServices(forget: boolean): Promise<number> {
  let ended = 0;
  for (const name of ["postgres", "redis"]) {
    const file = join(FOLDER, `${name}.pid`);
    if (!existsSync(file)) continue;
    const pid = Number(readFileSync(file, "utf8"));
    rmSync(file);
    if (!isOurs(pid, name)) continue;
    process.kill(pid, "SIGINT");
    for (let tries = 0; tries < 100 && isOurs(pid, name); tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    ended++;
  }
  if (forget) rmSync(FOLDER, { recursive: true, force: true });
  return ended;
}

/** Whether the process with this id is the server that was started: ids are given out again. */
function isOurs(pid: number, name: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(name);
  } catch {
    return false;
  }
}

async function startPostgres(): Promise<void> {
  const programs = postgresPrograms();
  if (programs === undefined) throw new Error("PostgreSQL is not installed: npm run services -- --install");
  const directory = join(FOLDER, "postgres");
  if (!existsSync(join(directory, "data"))) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    await createDatabaseDirectory(programs, directory);
  }
  await startDetached("postgres", postgresCommand(programs, directory, POSTGRES_PORT), POSTGRES_PORT);
}

async function startRedis(): Promise<void> {
  const program = redisProgram();
  if (program === undefined) throw new Error("Redis is not installed: npm run services -- --install");
  const directory = join(FOLDER, "redis");
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  await startDetached("redis", redisCommand(program, directory, REDIS_PORT), REDIS_PORT);
}

async function startDetached(name: string, command: readonly string[], port: number): Promise<void> {
  const log = join(FOLDER, `${name}.log`);
  const output = openSync(log, "a", 0o600);
  const owner = postgresOwner();
  if (owner !== undefined && name === "postgres") chownSync(log, owner.uid, owner.gid);
  const child = spawn(command[0]!, command.slice(1), { detached: true, stdio: ["ignore", output, output] });
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(`${name} cannot be started: ${error.message}`));
    child.once("exit", (code) => resolve(`${name} ended with ${code}; its log is ${log}`));
  });
  await untilAnswers(port, 20_000, ended);
  writeFileSync(join(FOLDER, `${name}.pid`), String(child.pid));
  child.unref();
}

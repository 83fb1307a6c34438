import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort } from "./probe.ts";
import { asPostgres, postgresOwner, postgresPrograms, run } from "./programs.ts";
import { ServerProcess } from "./server-process.ts";

export interface LocalPostgres {
  readonly url: string;
  /** Starts it again after a kill, on the same port and data. */
  start(): Promise<void>;
  /** SIGKILL to the postmaster; its other processes end when they notice. */
  kill(): Promise<void>;
  /** SIGSTOP and SIGCONT of the postmaster: nobody new is let in meanwhile. */
  freeze(): void;
  thaw(): void;
  /** Runs a statement over a connection of its own: to look at what was left there. */
  query(text: string): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /**
   * Starts another one, with a copy of these data, that follows this one: from then on a write is answered here once it is
   * on the disks of both (`synchronous_standby_names`). Takes about three seconds.
   */
  startReplica(): Promise<LocalReplica>;
  /** Ends it and deletes its data. */
  dispose(): Promise<void>;
}

export interface LocalReplica extends LocalPostgres {
  /** It follows no longer and takes writes, which nobody else keeps. Resolves when it does. */
  promote(): Promise<void>;
}

const USER = "murmuration";
const PASSWORD = "murmuration";

/**
 * Starts a PostgreSQL of its own on a free port of this machine, durable as in production (fsync, synchronous_commit).
 * Rejects with a sentence where PostgreSQL is not installed. Takes about two seconds.
 */
export async function startLocalPostgres(): Promise<LocalPostgres> {
  const programs = postgresPrograms();
  if (programs === undefined) throw new Error("PostgreSQL is not installed: npm run services -- --install");
  return startOn(programs, (directory) => createDatabaseDirectory(programs, directory));
}

/** Starts one on the data that `create` puts into a directory. Nothing is left of it where that fails. */
async function startOn(
  programs: string,
  create: (directory: string) => Promise<void>,
): Promise<LocalReplica> {
  const directory = mkdtempSync(join(tmpdir(), "murmuration-postgres-"));
  const port = await freePort();
  try {
    await create(directory);
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  const server = new ServerProcess(postgresCommand(programs, directory, port), port);
  const url = `postgres://${USER}:${PASSWORD}@127.0.0.1:${port}/postgres`;
  const start = async () => {
    await server.start();
    await untilItLetsIn(url);
  };
  const dispose = async () => {
    await server.stop("SIGINT");
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    url,
    start,
    kill: () => server.kill(),
    freeze: () => server.freeze(),
    thaw: () => server.thaw(),
    query: (text) => query(url, text),
    startReplica: async () => {
      const replica = await startOn(programs, (copy) => copyData(programs, port, copy));
      try {
        await waitForIt(url);
      } catch (error) {
        await replica.dispose();
        throw error;
      }
      return replica;
    },
    promote: async () => {
      await query(url, "SELECT pg_promote()");
    },
    dispose,
  };
}

/** Copies the data of a running one, with what the copy needs to follow it. */
async function copyData(programs: string, port: number, directory: string): Promise<void> {
  const owner = postgresOwner();
  if (owner !== undefined) chownSync(directory, owner.uid, owner.gid);
  const command = [
    join(programs, "pg_basebackup"),
    `--pgdata=${join(directory, "data")}`,
    "--host=127.0.0.1",
    `--port=${port}`,
    `--username=${USER}`,
    "--write-recovery-conf",
    "--checkpoint=fast",
    "--no-sync",
  ];
  await run([...asPostgres(), ...command], { ...process.env, PGPASSWORD: PASSWORD });
}

/** Makes a running one answer writes only when whoever follows it has them on its disk. */
async function waitForIt(url: string): Promise<void> {
  // Not before somebody follows: until then each write would wait.
  await query(url, "ALTER SYSTEM SET synchronous_standby_names = '*'");
  await query(url, "SELECT pg_reload_conf()");
  const until = Date.now() + 10_000;
  for (;;) {
    const [follower] = await query(url, "SELECT sync_state FROM pg_stat_replication");
    if (follower?.["sync_state"] === "sync") return;
    if (Date.now() > until) throw new Error("the replica does not follow");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function query(url: string, text: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

/** After a kill it answers "starting up" for as long as it replays its log. */
async function untilItLetsIn(url: string): Promise<void> {
  for (;;) {
    const client = new pg.Client({ connectionString: url });
    try {
      await client.connect();
      return;
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.code !== "57P03") throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    } finally {
      await client.end().catch(() => {});
    }
  }
}

/** Makes the files of a database whose superuser is `murmuration`. */
export async function createDatabaseDirectory(programs: string, directory: string): Promise<void> {
  const owner = postgresOwner();
  const passwordFile = join(directory, "password");
  writeFileSync(passwordFile, PASSWORD, { mode: 0o600 });
  if (owner !== undefined)
    for (const path of [directory, passwordFile]) chownSync(path, owner.uid, owner.gid);
  await run([
    ...asPostgres(),
    join(programs, "initdb"),
    `--pgdata=${join(directory, "data")}`,
    `--username=${USER}`,
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
  ]);
  rmSync(passwordFile);
}

/** The command that runs such a database in the foreground, on this machine's loopback only. */
export function postgresCommand(programs: string, directory: string, port: number): readonly string[] {
  const settings = {
    listen_addresses: "127.0.0.1",
    port,
    unix_socket_directories: "",
    max_connections: 200,
    shared_buffers: "128MB",
    fsync: "on",
    synchronous_commit: "on",
    // What is deleted leaves the log of changes soon.
    max_wal_size: "256MB",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  return [...asPostgres(), join(programs, "postgres"), "-D", join(directory, "data"), ...flags];
}

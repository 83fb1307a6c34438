/** What is known of a store's schema: none yet, or that of this or another version of the service. */
export interface SchemaFacts {
  /** 0 where nothing is there yet. */
  readonly steps: number;
  readonly known: number;
}

/** Of the process and its machine. */
export interface MachineFacts {
  /** Files and connections that this process may have open; undefined where the system does not say. */
  readonly openFiles: number | undefined;
  readonly maxConnections: number;
  /** Free and all bytes of each disk that the engines' data are on, as far as this machine can see them. */
  readonly disks: readonly { readonly of: string; readonly freeBytes: number; readonly totalBytes: number }[];
}

export interface PostgresFacts {
  /** 160002 for 16.2. */
  readonly version: number;
  readonly settings: Readonly<Record<"fsync" | "synchronous_commit" | "full_page_writes", string>>;
  /** Connections that others may still open, and that this node will open at most. */
  readonly freeConnections: number;
  readonly wantedConnections: number;
  readonly schema: SchemaFacts;
  /** By how much its clock is ahead of this machine's. */
  readonly clockAheadMs: number;
}

export interface RedisFacts {
  readonly version: string;
  /** Undefined where it does not tell. */
  readonly settings: Readonly<
    Record<
      "appendonly" | "appendfsync" | "no-appendfsync-on-rewrite" | "maxmemory-policy",
      string | undefined
    >
  >;
  /** Whether its last write to the append-only file succeeded. */
  readonly lastWriteOk: boolean;
  readonly clockAheadMs: number;
}

/** Why an engine could not be asked. */
export type Unreachable = "no-answer" | "refused";

export interface Facts {
  readonly machine: MachineFacts;
  readonly sqlite?: SchemaFacts | undefined;
  readonly postgres?: PostgresFacts | Unreachable | undefined;
  readonly redis?: RedisFacts | Unreachable | undefined;
}

export interface Finding {
  /** Stable: `redis/appendfsync`. */
  readonly check: string;
  readonly status: "ok" | "warn" | "fail";
  /** What was found, in a few words. */
  readonly found: string;
  /** What to do; empty where nothing is to be done. */
  readonly fix: string;
}

const OLDEST_POSTGRES = 14;
const OLDEST_REDIS = 7;
const CLOCK_WARN_MS = 1_000;
const CLOCK_FAIL_MS = 10_000;
/** Files of a process that are no connections of clients: the store, engines, the runtime. */
const OTHER_FILES = 256;
const GIB = 1024 ** 3;
const DISK_WARN_BYTES = 5 * GIB;
const DISK_FAIL_BYTES = 0.5 * GIB;

/** What an operator has to know before a node is started on these engines, most important first for each engine. */
export function diagnose({ machine, sqlite, postgres, redis }: Facts): readonly Finding[] {
  return [
    openFiles(machine),
    ...machine.disks.map(disk),
    ...(sqlite === undefined ? [] : [schema("sqlite/schema", sqlite)]),
    ...(postgres === undefined ? [] : ofPostgres(postgres)),
    ...(redis === undefined ? [] : ofRedis(redis)),
  ];
}

function ofPostgres(facts: PostgresFacts | Unreachable): readonly Finding[] {
  if (typeof facts === "string") return [unreachable("postgresql/reachable", facts, "postgresUrl")];
  const { version, settings, freeConnections, wantedConnections, clockAheadMs } = facts;
  const major = Math.floor(version / 10_000);
  return [
    ok("postgresql/reachable", "answers"),
    judge(
      "postgresql/version",
      major >= OLDEST_POSTGRES ? "ok" : "fail",
      String(major),
      `Use PostgreSQL ${OLDEST_POSTGRES} or newer.`,
    ),
    judge(
      "postgresql/fsync",
      settings.fsync === "on" ? "ok" : "fail",
      settings.fsync,
      "ALTER SYSTEM SET fsync = on; then SELECT pg_reload_conf(). Without it a power cut destroys the database.",
    ),
    judge(
      "postgresql/full_page_writes",
      settings.full_page_writes === "on" ? "ok" : "fail",
      settings.full_page_writes,
      "ALTER SYSTEM SET full_page_writes = on; then SELECT pg_reload_conf(). Without it a power cut can tear pages.",
    ),
    // The service sets it for its own sessions; a pooler in between may lose that.
    judge(
      "postgresql/synchronous_commit",
      settings.synchronous_commit === "off" ? "warn" : "ok",
      settings.synchronous_commit,
      "ALTER SYSTEM SET synchronous_commit = on; nodes set it for their sessions, which a connection pooler may drop.",
    ),
    schema("postgresql/schema", facts.schema),
    judge(
      "postgresql/connections",
      freeConnections >= wantedConnections ? "ok" : "warn",
      `${freeConnections} free, ${wantedConnections} wanted`,
      "Raise max_connections, or lower postgresWriters and postgresReaders.",
    ),
    clock("postgresql/clock", clockAheadMs),
  ];
}

function ofRedis(facts: RedisFacts | Unreachable): readonly Finding[] {
  if (typeof facts === "string") return [unreachable("redis/reachable", facts, "redisUrl")];
  const { version, settings, lastWriteOk, clockAheadMs } = facts;
  const wanted = (name: keyof RedisFacts["settings"], value: string, otherwise: string) => {
    const found = settings[name];
    const fix =
      found === undefined
        ? "Let the user of redisUrl run CONFIG GET (ACL SETUSER NAME +config|get). A node does not start where it may not."
        : `Set ${name} ${value} in redis.conf, or CONFIG SET ${name} ${value} and CONFIG REWRITE. ${otherwise}`;
    return judge(`redis/${name}`, found === value ? "ok" : "fail", found ?? "it does not tell", fix);
  };
  return [
    ok("redis/reachable", "answers"),
    judge(
      "redis/version",
      Number.parseInt(version, 10) >= OLDEST_REDIS ? "ok" : "fail",
      version,
      `Use Redis ${OLDEST_REDIS} or newer.`,
    ),
    wanted("appendonly", "yes", "Without it mailboxes are gone after a restart."),
    wanted("appendfsync", "always", "Otherwise a crash loses envelopes that were accepted."),
    wanted(
      "no-appendfsync-on-rewrite",
      "no",
      "Otherwise a crash loses envelopes while the file is rewritten.",
    ),
    wanted("maxmemory-policy", "noeviction", "Otherwise Redis drops mailboxes when its memory is full."),
    judge(
      "redis/last-write",
      lastWriteOk ? "ok" : "fail",
      lastWriteOk ? "on the disk" : "failed",
      "Redis cannot write its append-only file: look at its log and its disk.",
    ),
    clock("redis/clock", clockAheadMs),
  ];
}

function openFiles({ openFiles: limit, maxConnections }: MachineFacts): Finding {
  const check = "machine/open-files";
  if (limit === undefined) return ok(check, "the system does not tell");
  const status = limit < maxConnections ? "fail" : limit < maxConnections + OTHER_FILES ? "warn" : "ok";
  const fix = `Raise the limit (LimitNOFILE in a systemd unit, ulimits in compose) to ${maxConnections + OTHER_FILES}, or lower maxConnections.`;
  return judge(check, status, `${limit} for ${maxConnections} connections`, fix);
}

function disk({ of, freeBytes, totalBytes }: MachineFacts["disks"][number]): Finding {
  const status = freeBytes < DISK_FAIL_BYTES ? "fail" : freeBytes < DISK_WARN_BYTES ? "warn" : "ok";
  const found = `${(freeBytes / GIB).toFixed(1)} GiB of ${(totalBytes / GIB).toFixed(1)} free`;
  return judge(`machine/disk-of-${of}`, status, found, "Make room: a full disk refuses every message.");
}

function schema(check: string, { steps, known }: SchemaFacts): Finding {
  if (steps > known) {
    return judge(
      check,
      "fail",
      `step ${steps}, known are ${known}`,
      "A newer version was here: run that version, or restore a backup of before.",
    );
  }
  if (steps === known) return ok(check, `step ${steps}`);
  const found = steps === 0 ? "empty" : `step ${steps} of ${known}`;
  return ok(check, `${found}; made up to date when a node starts`);
}

function clock(check: string, aheadMs: number): Finding {
  const off = Math.abs(aheadMs);
  const status = off > CLOCK_FAIL_MS ? "fail" : off > CLOCK_WARN_MS ? "warn" : "ok";
  const found = `${(off / 1000).toFixed(1)} s ${aheadMs < 0 ? "behind" : "ahead"}`;
  return judge(check, status, found, "Run a time service (chrony, systemd-timesyncd) on both machines.");
}

function unreachable(check: string, why: Unreachable, key: string): Finding {
  return why === "no-answer"
    ? judge(check, "fail", "no answer", `Start it, check ${key}, and what the network lets through.`)
    : judge(check, "fail", "refuses", `It answers and refuses: check user, password and database in ${key}.`);
}

function judge(check: string, status: Finding["status"], found: string, fix: string): Finding {
  return { check, status, found, fix: status === "ok" ? "" : fix };
}

function ok(check: string, found: string): Finding {
  return { check, status: "ok", found, fix: "" };
}

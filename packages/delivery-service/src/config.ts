import { UsageError, utf8 } from "@murmuration/base";
import { type Limits, limits, type Rate } from "@murmuration/wire";
import type { SocketsKind } from "./adapters/open-socket-server.ts";
import {
  type ConfigKey,
  type ConfigKeyName,
  type ConfigValues,
  configKeys,
  environmentName,
  rateKey,
} from "./config-keys.ts";
import type { ServiceTiming } from "./service/context.ts";

/** Where everything is kept. */
export type EngineConfig =
  | { readonly kind: "embedded" }
  | {
      readonly kind: "cluster";
      readonly postgres: {
        readonly url: string;
        readonly schema: string;
        readonly writers: number;
        readonly readers: number;
      };
      readonly redis: { readonly url: string; readonly prefix: string };
      /** Nodes that share the engines. */
      readonly nodes: number;
    };

/** Everything an operator decides. */
export interface DeliveryServiceConfig {
  readonly engines: EngineConfig;
  /** Directory of the embedded store; created when absent. */
  readonly dataDirectory: string;
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  readonly registration:
    | { readonly kind: "open" }
    | { readonly kind: "invite"; readonly codes: readonly Uint8Array[] };
  readonly logLevel: ConfigValues["logLevel"];
  /** What serves the sockets. */
  readonly sockets: SocketsKind;
  /** TCP connections at a time, of all kinds. Keep it below the limit of open files. */
  readonly maxConnections: number;
  /** Proxies in front whose X-Forwarded-For is believed. */
  readonly trustedProxies: number;
  /** Memory for the trees of groups in use, bytes. About 1.5 KB a member; what does not fit is loaded again. */
  readonly validatorBytes: number;
  /** Where devices are woken; undefined where nobody is. */
  readonly pushGateway: { readonly url: string; readonly secret: string } | undefined;
  readonly limits: Limits;
  readonly timing: ServiceTiming;
}

const MIB = 1024 * 1024;

export const defaultTiming: ServiceTiming = {
  certificateLifetimeMs: 24 * 3_600_000,
  slowReaderMs: 10_000,
  reconnectAfterMs: 1_000,
  missedSignalsMs: 30_000,
  drainTimeoutMs: 10_000,
};

/** A configuration with defaults for what `given` leaves out: what tests and other programs start from. */
export function createConfig(
  given: Pick<DeliveryServiceConfig, "dataDirectory"> & Partial<DeliveryServiceConfig>,
): DeliveryServiceConfig {
  return {
    engines: { kind: "embedded" },
    host: "127.0.0.1",
    port: 0,
    registration: { kind: "open" },
    logLevel: "info",
    sockets: "auto",
    maxConnections: 16_000,
    trustedProxies: 0,
    validatorBytes: 256 * MIB,
    pushGateway: undefined,
    limits,
    timing: defaultTiming,
    ...given,
  };
}

/** Where values come from; each overrides those before it. */
export interface ConfigSources {
  /** The parsed configuration file. */
  readonly file?: unknown;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Options of a command by key; undefined where one was not given. */
  readonly options?: Readonly<Partial<Record<ConfigKeyName, string | undefined>>>;
  /** Reads a file that holds a secret. */
  readonly readSecret?: (path: string) => string;
}

/**
 * The configuration of a service process. Throws UsageError `config/invalid`, `config/unknown-key` or `config/missing`
 * with a sentence that names the key, the kind of what was given and what the key takes; never a value.
 */
export function resolveConfig(sources: ConfigSources): DeliveryServiceConfig {
  const values: ConfigValues = {
    ...defaults(),
    ...fromFile(sources),
    ...fromEnvironment(sources),
    ...fromOptions(sources),
  };
  return {
    engines: enginesOf(values),
    dataDirectory: values.data,
    host: values.host,
    port: values.port,
    registration: registrationOf(values),
    logLevel: values.logLevel,
    sockets: values.sockets,
    maxConnections: values.maxConnections,
    trustedProxies: values.trustedProxies,
    validatorBytes: values.validatorMib * MIB,
    pushGateway: pushGatewayOf(values),
    limits: {
      ...limits,
      connectionsPerAddress: values.connectionsPerAddress,
      unidentifiedConnections: values.unidentifiedConnections,
      mailboxEnvelopes: values.mailboxEnvelopes,
      rates: ratesOf(values),
    },
    timing: {
      certificateLifetimeMs: values.certificateHours * 3_600_000,
      slowReaderMs: values.slowReaderSeconds * 1_000,
      reconnectAfterMs: values.reconnectSeconds * 1_000,
      missedSignalsMs: defaultTiming.missedSignalsMs,
      drainTimeoutMs: values.drainSeconds * 1_000,
    },
  };
}

type Given = { -readonly [K in ConfigKeyName]?: ConfigValues[K] };

const known = Object.entries<ConfigKey<unknown>>(configKeys as never);
const FILE = "File";
/** Of the command line's clients. */
const OTHERS = ["MURMURATION_HOME", "MURMURATION_SERVER"];

function defaults(): ConfigValues {
  return Object.fromEntries(known.map(([name, { fallback }]) => [name, fallback])) as ConfigValues;
}

function fromFile({ file, readSecret }: ConfigSources): Given {
  if (file === undefined) return {};
  if (typeof file !== "object" || file === null || Array.isArray(file)) {
    throw invalid("The configuration file", "one JSON object", file);
  }
  const rest = new Map<string, unknown>(Object.entries(file));
  const where = (key: string) => `"${key}" in the configuration file`;
  const given = collect(
    (key) => take(rest, key),
    where,
    readSecret,
    ({ kind }, value) => kind.fromJson(value),
  );
  for (const key of rest.keys()) {
    throw new UsageError(
      "config/unknown-key",
      `The configuration file has no key "${printable(key)}"${suggestion(key, (name) => name)}`,
    );
  }
  return given;
}

function fromEnvironment({ environment = {}, readSecret }: ConfigSources): Given {
  const rest = new Map(
    Object.entries(environment).filter(([name, value]) => name.startsWith("MURMURATION_") && value),
  );
  const given = collect(
    (key) => take(rest, environmentName(key)),
    environmentName,
    readSecret,
    ({ kind }, value) => kind.fromText(String(value)),
  );
  for (const name of rest.keys()) {
    // Container platforms and the client add variables of their own: only what looks like a slip is one.
    const nearest = nearestOf(name, environmentName, 2);
    if (nearest === undefined || OTHERS.includes(name)) continue;
    throw new UsageError("config/unknown-key", `There is no variable ${name}. Is ${nearest} meant?`);
  }
  return given;
}

function fromOptions({ options = {} }: ConfigSources): Given {
  return collect(
    (key) => options[key as ConfigKeyName],
    (key) => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
    undefined,
    ({ kind }, value) => kind.fromText(String(value)),
  );
}

/** The values that one source gives, each checked. */
function collect(
  find: (key: string) => unknown,
  where: (key: string) => string,
  readSecret: ConfigSources["readSecret"],
  parse: (key: ConfigKey<unknown>, value: unknown) => unknown,
): Given {
  const given: Record<string, unknown> = {};
  for (const [name, key] of known) {
    const value = find(name);
    const path = key.secret && readSecret !== undefined ? find(name + FILE) : undefined;
    if (value === undefined && path === undefined) continue;
    if (value !== undefined && path !== undefined) {
      throw new UsageError(
        "config/invalid",
        `Only one of ${where(name)} and ${where(name + FILE)} can be given.`,
      );
    }
    given[name] =
      path === undefined
        ? parse(key, value)
        : key.kind.fromText(secretFrom(path, where(name + FILE), readSecret!));
    if (given[name] !== undefined) continue;
    if (path !== undefined) throw invalid(`The file that ${where(name + FILE)} names`, key.kind.takes, "");
    throw invalid(where(name), key.kind.takes, value);
  }
  return given as Given;
}

function secretFrom(path: unknown, where: string, readSecret: (path: string) => string): string {
  if (typeof path !== "string") throw invalid(where, "the path of a file", path);
  try {
    return readSecret(path).trim();
  } catch {
    throw new UsageError("config/invalid", `The file that ${where} names cannot be read.`);
  }
}

function enginesOf(values: ConfigValues): EngineConfig {
  if (values.store === "embedded") return { kind: "embedded" };
  for (const key of ["postgresUrl", "redisUrl"] as const) {
    if (values[key] !== "") continue;
    const name = environmentName(key);
    throw new UsageError(
      "config/missing",
      `"${key}" is needed where "store" is cluster: set it in the file, as ${name}, or name a file with it in ${name}_FILE.`,
    );
  }
  return {
    kind: "cluster",
    postgres: {
      url: values.postgresUrl,
      schema: values.postgresSchema,
      writers: values.postgresWriters,
      readers: values.postgresReaders,
    },
    redis: { url: values.redisUrl, prefix: values.redisPrefix },
    nodes: values.nodes,
  };
}

function registrationOf({ registration, inviteCodes }: ConfigValues): DeliveryServiceConfig["registration"] {
  if (registration === "open") return { kind: "open" };
  if (inviteCodes.length === 0) {
    throw new UsageError(
      "config/missing",
      '"inviteCodes" is needed where "registration" is invite: list at least one.',
    );
  }
  return { kind: "invite", codes: inviteCodes.map(utf8) };
}

function pushGatewayOf({ pushGateway, pushSecret }: ConfigValues): DeliveryServiceConfig["pushGateway"] {
  if (pushGateway === "") return undefined;
  if (pushSecret === "") {
    throw new UsageError(
      "config/missing",
      '"pushSecret" is needed where "pushGateway" is set: the secret that the gateway was given as well.',
    );
  }
  return { url: pushGateway.replace(/\/$/, ""), secret: pushSecret };
}

function ratesOf(values: ConfigValues): Limits["rates"] {
  const names = Object.keys(limits.rates) as (keyof Limits["rates"])[];
  return Object.fromEntries(names.map((name) => [name, values[rateKey(name)]])) as Record<
    keyof Limits["rates"],
    Rate
  >;
}

function take<T>(map: Map<string, T>, key: string): T | undefined {
  const value = map.get(key);
  map.delete(key);
  return value;
}

function invalid(where: string, takes: string, given: unknown): UsageError {
  return new UsageError("config/invalid", `${where} takes ${takes}; it was given ${kindOf(given)}.`);
}

/** What a value is, without saying it. */
function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "string") return value === "" ? "something else" : "another text";
  if (typeof value === "number") return "another number";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** A key that somebody wrote, for a terminal. */
function printable(key: string): string {
  return key.slice(0, 40).replace(/[^\w.-]/g, "?");
}

function suggestion(key: string, shown: (name: string) => string): string {
  const nearest = nearestOf(key, shown, Math.max(2, Math.floor(key.length / 3)));
  return nearest === undefined ? "; docs/operations.md lists all keys." : `. Is "${nearest}" meant?`;
}

/** The known name with the fewest letters that differ, at most `within`. */
function nearestOf(given: string, shown: (name: string) => string, within: number): string | undefined {
  const names = known.flatMap(([name, { secret }]) => (secret ? [name, name + FILE] : [name])).map(shown);
  const distances = names.map((name) => [distance(given.toLowerCase(), name.toLowerCase()), name] as const);
  const [nearest] = distances.sort(([a], [b]) => a - b);
  return nearest !== undefined && nearest[0] <= within ? nearest[1] : undefined;
}

/** Levenshtein's distance. O(length of a × length of b), so `a` is cut. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, letter] of a.slice(0, 80).split("").entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min(next[j]! + 1, row[j + 1]! + 1, row[j]! + Number(letter !== b[j])));
    }
    row = next;
  }
  return row[b.length]!;
}

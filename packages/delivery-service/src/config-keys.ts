import { type Limits, limits, type Rate } from "@murmuration/wire";

/** How a value is written. Undefined stands for "this is no such value". */
export interface Kind<T> {
  /** Completes a sentence: the key takes … */
  readonly takes: string;
  /** In the configuration file. */
  fromJson(value: unknown): T | undefined;
  /** In the environment and in options of the command. */
  fromText(text: string): T | undefined;
  /** For people and for documentation. */
  show(value: T): string;
}

export interface ConfigKey<T> {
  readonly meaning: string;
  readonly kind: Kind<T>;
  readonly fallback: T;
  /** Its value is never shown, and a file may hold it: the key with `File` behind it names that file. */
  readonly secret?: true;
}

const MAX_CONNECTIONS = 1_000_000;

/**
 * Every key of the configuration, in the order in which docs/operations.md shows them. The key `drainSeconds` is
 * MURMURATION_DRAIN_SECONDS in the environment.
 */
export const configKeys = {
  store: key(
    oneOf("embedded", "cluster"),
    "embedded",
    "one SQLite file in the process, or PostgreSQL and Redis that any number of nodes share",
  ),
  data: key(
    text(),
    "murmuration-data",
    "with `embedded`: directory of the store, created with mode 0700; the file in it has 0600",
  ),
  postgresUrl: secret(
    url("postgres:", "postgresql:"),
    "",
    "with `cluster`: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`",
  ),
  postgresSchema: key(
    text(/^[a-z][a-z0-9_]{0,62}$/, "a small letter, then small letters, digits and _, at most 63"),
    "murmuration",
    "schema of the tables, created when absent; services that share a database have one each",
  ),
  postgresWriters: key(
    whole(1, 200),
    8,
    "connections of this node that write; as many transactions run at a time",
  ),
  postgresReaders: key(whole(1, 200), 4, "connections of this node that read"),
  redisUrl: secret(
    url("redis:", "rediss:"),
    "",
    "with `cluster`: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss:` for TLS",
  ),
  redisPrefix: key(
    text(/^[\w.:-]{1,64}$/, "1 to 64 letters, digits and _ . : -"),
    "murmuration:",
    "before every key and channel; services that share a Redis have one each",
  ),
  nodes: key(
    whole(1, 1_000),
    2,
    "with `cluster`: nodes that share the engines; while Redis is away each grants one such part of every limit",
  ),
  host: key(text(), "127.0.0.1", "address to listen on; put a TLS proxy in front of what others can reach"),
  port: key(whole(0, 65_535), 8080, "port to listen on; 0 picks a free one"),
  sockets: key(
    oneOf("auto", "ws", "uws"),
    "auto",
    "what serves the sockets: `uws` is uWebSockets.js (docs/uwebsockets.md), `auto` takes it where it is installed",
  ),
  maxConnections: key(
    whole(1, MAX_CONNECTIONS),
    16_000,
    "TCP connections at a time, of all kinds; keep it below the limit of open files",
  ),
  connectionsPerAddress: key(
    whole(1, MAX_CONNECTIONS),
    limits.connectionsPerAddress,
    "connections from one network address, on one node",
  ),
  unidentifiedConnections: key(
    whole(1, MAX_CONNECTIONS),
    limits.unidentifiedConnections,
    "connections of one node that have said nothing yet; beyond it the oldest goes",
  ),
  trustedProxies: key(
    whole(0, 16),
    0,
    "proxies whose `X-Forwarded-For` is believed; without it all clients behind one share a rate limit",
  ),
  registration: key(
    oneOf("open", "invite"),
    "open",
    "whether everybody may register, or who brings an invite code",
  ),
  inviteCodes: secret(codes(16), [], "with `invite`: the codes"),
  mailboxEnvelopes: key(
    whole(1_000, 10_000_000),
    limits.mailboxEnvelopes,
    "envelopes that one device's mailbox holds",
  ),
  validatorMib: key(
    whole(1, 65_536),
    256,
    "MiB for the trees of MLS groups in use, about 1.5 KB a member; what does not fit is loaded again",
  ),
  pushGateway: key(
    url("http:", "https:"),
    "",
    "URL of the push gateway that wakes devices (docs/push-gateway.md); nobody is woken without one",
  ),
  pushSecret: secret(
    text(/^[\x21-\x7e]{32,512}$/, "32 to 512 printable characters without spaces"),
    "",
    "with `pushGateway`: the secret that the gateway was given as well",
  ),
  drainSeconds: key(
    whole(1, 3_600),
    10,
    "how long SIGTERM waits for what was taken on, before it cuts what is left",
  ),
  reconnectSeconds: key(
    whole(0, 600),
    1,
    "how long clients of a node that drains are told to wait before they come back",
  ),
  slowReaderSeconds: key(
    whole(1, 600),
    10,
    "how long a connection may leave its send buffer full before it is closed with a hint to come back",
  ),
  certificateHours: key(whole(1, 168), 24, "lifetime of sender certificates"),
  logLevel: key(
    oneOf("debug", "info", "warn", "error", "silent"),
    "info",
    "JSON lines of counts, codes and durations",
  ),
  ...rateKeys(),
} as const;

export type ConfigKeyName = keyof typeof configKeys;

/** A value for each key. */
export type ConfigValues = {
  readonly [K in ConfigKeyName]: (typeof configKeys)[K]["kind"] extends Kind<infer T> ? T : never;
};

/** `postgresUrl` is MURMURATION_POSTGRES_URL. */
export function environmentName(key: string): string {
  return `MURMURATION_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

type RateName = keyof Limits["rates"];
type RateKeyName = `rate${Capitalize<RateName>}`;

/** `rateMessagesPerLeaf` for the rate `messagesPerLeaf` of the wire's limits. */
export function rateKey(name: RateName): RateKeyName {
  return `rate${name[0]!.toUpperCase()}${name.slice(1)}` as RateKeyName;
}

/** A key for each rate that the wire names: one that is added there is known here. */
function rateKeys(): Readonly<Record<RateKeyName, ConfigKey<Rate>>> {
  const entries = Object.entries(limits.rates).map(([name, fallback]) => {
    const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    const meaning = `limit of ${words}: so many at once, and so many a minute`;
    return [rateKey(name as RateName), { meaning, kind: rate(), fallback }];
  });
  return Object.fromEntries(entries) as Record<RateKeyName, ConfigKey<Rate>>;
}

function key<T>(kind: Kind<T>, fallback: NoInfer<T>, meaning: string): ConfigKey<T> {
  return { kind, fallback, meaning };
}

function secret<T>(kind: Kind<T>, fallback: NoInfer<T>, meaning: string): ConfigKey<T> {
  return { kind, fallback, meaning, secret: true };
}

function onlyText(fromText: (text: string) => string | undefined, takes: string): Kind<string> {
  return {
    takes,
    fromText,
    fromJson: (value) => (typeof value === "string" ? fromText(value) : undefined),
    show: (value) => value,
  };
}

function text(pattern = /^[^\0]{1,4096}$/, takes = "a text that is not empty"): Kind<string> {
  return onlyText((given) => (pattern.test(given) ? given : undefined), takes);
}

function url(...protocols: readonly string[]): Kind<string> {
  return onlyText((given) => {
    const parsed = URL.parse(given);
    return parsed !== null && protocols.includes(parsed.protocol) && parsed.hostname !== ""
      ? given
      : undefined;
  }, `a URL that begins with ${protocols[0]}// and names a host`);
}

function oneOf<const W extends string>(...words: readonly W[]): Kind<W> {
  const find = (given: unknown) => words.find((word) => word === given);
  return { takes: `one of ${words.join(", ")}`, fromText: find, fromJson: find, show: (value) => value };
}

function whole(min: number, max: number): Kind<number> {
  const check = (value: number) =>
    Number.isInteger(value) && value >= min && value <= max ? value : undefined;
  return {
    takes: `a whole number from ${min} to ${max}`,
    fromText: (given) => (/^\d{1,12}$/.test(given) ? check(Number(given)) : undefined),
    fromJson: (value) => (typeof value === "number" ? check(value) : undefined),
    show: String,
  };
}

/** Shorter codes than `minLength` can be guessed. */
function codes(minLength: number): Kind<readonly string[]> {
  const check = (given: readonly unknown[]) =>
    given.length > 0 &&
    given.every((code): code is string => typeof code === "string" && code.length >= minLength)
      ? given
      : undefined;
  return {
    takes: `codes of at least ${minLength} characters: a list in the file, separated by commas elsewhere`,
    fromText: (given) => check(given.split(",").map((code) => code.trim())),
    fromJson: (value) => (Array.isArray(value) ? check(value) : undefined),
    show: (value) => value.join(),
  };
}

function rate(): Kind<Rate> {
  const fromText = (given: string) => {
    const match = /^([1-9]\d{0,14})\/(\d{1,15}(?:\.\d{1,3})?)$/.exec(given);
    return match === null ? undefined : { burst: Number(match[1]), perMinute: Number(match[2]) };
  };
  return {
    takes: 'a rate like "600/1200"',
    fromText,
    fromJson: (value) => (typeof value === "string" ? fromText(value) : undefined),
    show: ({ burst, perMinute }) => `${burst}/${perMinute}`,
  };
}

import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import { UnavailableError, UsageError } from "@murmuration/base";
import { Redis } from "ioredis";

export interface RedisOptions {
  /** redis://user:password@host:port/database */
  readonly url: string;
  /** Before every key and channel. Several services may share an engine. */
  readonly prefix?: string;
  /** Refuse a Redis that may forget what it has answered; true by default. False where it holds no mailboxes. */
  readonly requireDurable?: boolean;
  /** How long a caller waits for an answer, in milliseconds. */
  readonly commandTimeoutMs?: number;
}

/** A Lua script that runs as one step in Redis. Its first lines say what its keys, arguments and answers are. */
export interface Script {
  /** For whoever reads a trace. */
  readonly name: string;
  readonly lua: string;
}

export type RedisArgument = string | number | Uint8Array;

/** What the adapters do with Redis. */
export interface RedisCommands {
  /** Before every key and channel. */
  readonly prefix: string;
  /** A command; replies are Buffers. Rejects with UnavailableError `store/redis-unreachable` or `store/redis-refused`. */
  call(command: string, ...args: readonly RedisArgument[]): Promise<unknown>;
  /** Runs a script, sending its text only where Redis does not know it. Rejects like `call`. */
  run(script: Script, keys: readonly string[], ...args: readonly RedisArgument[]): Promise<unknown>;
  /** Calls back whenever the connection is there again after it was lost. */
  onReconnect(run: () => void): void;
  /** Runs a job again and again until the client is closed, `everyMs` after its last end. Its errors are passed over. */
  repeat(everyMs: number, job: () => Promise<void>): void;
}

/**
 * One connection to Redis for commands; they are answered in order, and those of one turn of the event loop go out
 * together, so that Redis pays one fsync for them. Keys that one script touches share a {hash tag}, so that a Redis
 * Cluster keeps them in one slot.
 *
 * While Redis is not there every command is refused at once. One that does not answer in time, or takes no writes any more,
 * is taken for gone: the connection is given up, so that nobody else waits for it.
 */
export class RedisClient implements RedisCommands {
  readonly prefix: string;
  private readonly redis: Redis;
  private readonly timers = new Set<NodeJS.Timeout>();
  private readonly subscribers = new Set<Redis>();
  private corked: Socket | undefined;
  private closed = false;

  /**
   * Rejects with UnavailableError `store/redis-unreachable`, and with UsageError and the first code of
   * {@link checkRedisDurability} where it has to be durable and is not.
   */
  static async open(options: RedisOptions): Promise<RedisClient> {
    const { url, prefix = "murmuration:", requireDurable = true, commandTimeoutMs = 5_000 } = options;
    const redis = new Redis(url, {
      lazyConnect: true,
      connectTimeout: commandTimeoutMs,
      commandTimeout: commandTimeoutMs,
      // A command that was sent and not answered may have happened: it is not sent again by itself.
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 5), 1_000),
    });
    // It is tried again by itself; every command says meanwhile that it cannot be carried out.
    redis.on("error", () => {});
    try {
      await redis.connect();
    } catch {
      redis.disconnect();
      throw new UnavailableError("store/redis-unreachable");
    }
    const client = new RedisClient(redis, prefix);
    const [problem] = requireDurable ? await checkRedisDurability(client) : [];
    if (problem === undefined) return client;
    await client.close();
    throw new UsageError(problem);
  }

  private constructor(redis: Redis, prefix: string) {
    this.redis = redis;
    this.prefix = prefix;
  }

  call(command: string, ...args: readonly RedisArgument[]): Promise<unknown> {
    return this.guard(() => this.send(command, args));
  }

  run(script: Script, keys: readonly string[], ...args: readonly RedisArgument[]): Promise<unknown> {
    const rest = [keys.length, ...keys, ...args];
    return this.guard(async () => {
      try {
        return await this.send("EVALSHA", [shaOf(script), ...rest]);
      } catch (error) {
        if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
        return await this.send("EVAL", [script.lua, ...rest]);
      }
    });
  }

  /**
   * A second connection to the same Redis, for subscriptions. It connects again by itself, and its owner subscribes
   * again; commands are refused while it is not there. It ends with this client.
   */
  subscriber(): Redis {
    const subscriber = this.redis.duplicate({ lazyConnect: false, autoResubscribe: false });
    subscriber.on("error", () => {});
    this.subscribers.add(subscriber);
    return subscriber;
  }

  onReconnect(run: () => void): void {
    this.redis.on("ready", run);
  }

  repeat(everyMs: number, job: () => Promise<void>): void {
    const again = () => {
      if (this.closed) return;
      const timer = setTimeout(() => {
        this.timers.delete(timer);
        job().then(again, again);
      }, everyMs);
      this.timers.add(timer.unref());
    };
    again();
  }

  /** Whether commands can be carried out now, as far as is known. */
  get isReady(): boolean {
    return this.redis.status === "ready";
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const timer of this.timers) clearTimeout(timer);
    for (const subscriber of this.subscribers) subscriber.disconnect();
    await this.redis.quit().catch(() => this.redis.disconnect());
  }

  private send(command: string, args: readonly RedisArgument[]): Promise<unknown> {
    this.cork();
    return this.redis.callBuffer(command, ...args.map(toArgument));
  }

  /** Keeps what this turn of the event loop writes together. */
  private cork(): void {
    const stream = streamOf(this.redis);
    if (stream === undefined || stream === this.corked) return;
    this.corked = stream;
    stream.cork();
    setImmediate(() => {
      stream.uncork();
      if (this.corked === stream) this.corked = undefined;
    });
  }

  private async guard<T>(work: () => Promise<T>): Promise<T> {
    const stream = streamOf(this.redis);
    try {
      return await work();
    } catch (error) {
      const isAnswer = error instanceof Error && error.name === "ReplyError";
      if (error instanceof Error && HOPELESS.test(error.message)) stream?.destroy();
      throw new UnavailableError(isAnswer ? "store/redis-refused" : "store/redis-unreachable");
    }
  }
}

/** With these a connection is of no more use: it is silent, or leads to a replica, another Redis having taken its place. */
const HOPELESS = /^(?:Command timed out|READONLY|MASTERDOWN)/;

/** Gives up a connection that is dead without having said so; another one is made. */
export function cutConnection(redis: Redis): void {
  streamOf(redis)?.destroy();
}

function streamOf(redis: Redis): Socket | undefined {
  return (redis as unknown as { readonly stream?: Socket }).stream;
}

/** What a Redis that holds mailboxes is set to, and the code of what is wrong where it is not. */
const DURABLE: readonly (readonly [setting: string, value: string, code: string])[] = [
  ["appendonly", "yes", "redis/append-only-off"],
  ["appendfsync", "always", "redis/append-fsync-not-always"],
  ["no-appendfsync-on-rewrite", "no", "redis/no-fsync-on-rewrite"],
  ["maxmemory-policy", "noeviction", "redis/eviction-on"],
];
const OLDEST_MAJOR = 7;

/**
 * Why this Redis may lose what it has answered; empty where it does not. Codes: `redis/too-old` (before 7.0),
 * `redis/append-only-off`, `redis/append-fsync-not-always`, `redis/no-fsync-on-rewrite`, `redis/eviction-on`,
 * `redis/append-only-failing` (it cannot write its file), `redis/settings-hidden` (it does not say: CONFIG and INFO are
 * forbidden to us). Rejects with UnavailableError `store/redis-unreachable`.
 */
export async function checkRedisDurability(client: Pick<RedisClient, "call">): Promise<readonly string[]> {
  try {
    const info = String(await client.call("INFO"));
    if (!(Number(/^redis_version:(\d+)/m.exec(info)?.[1]) >= OLDEST_MAJOR)) return ["redis/too-old"];
    const settings = await client.call("CONFIG", "GET", ...DURABLE.map(([setting]) => setting));
    const pairs = (settings as readonly Buffer[]).map(String);
    return [
      ...DURABLE.filter(([setting, value]) => pairs[pairs.indexOf(setting) + 1] !== value).map(
        ([, , code]) => code,
      ),
      ...(/^aof_last_write_status:err/m.test(info) ? ["redis/append-only-failing"] : []),
    ];
  } catch (error) {
    if (error instanceof UnavailableError && error.code === "store/redis-refused")
      return ["redis/settings-hidden"];
    throw error;
  }
}

const shas = new WeakMap<Script, string>();

function shaOf(script: Script): string {
  let sha = shas.get(script);
  if (sha === undefined) {
    sha = createHash("sha1").update(script.lua).digest("hex");
    shas.set(script, sha);
  }
  return sha;
}

function toArgument(value: RedisArgument): string | number | Buffer {
  return typeof value === "object" ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value;
}

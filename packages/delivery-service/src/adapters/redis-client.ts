import { createHash } from "node:crypto";
import { UnavailableError } from "@murmuration/base";
import { Redis } from "ioredis";

export interface RedisOptions {
  /** redis://user:password@host:port/database */
  readonly url: string;
  /** Before every key and channel. Several services may share an engine. */
  readonly prefix?: string;
}

/** A Lua script that runs as one step in Redis. Its first lines say what its keys, arguments and answers are. */
export interface Script {
  /** For whoever reads a trace. */
  readonly name: string;
  readonly lua: string;
}

/**
 * One connection to Redis for commands; they are answered in order and go out together, so that Redis pays one fsync for
 * what arrives within one turn of its loop. Keys that one script touches share a {hash tag}, so that a Redis Cluster
 * keeps them in one slot.
 */
export class RedisClient {
  readonly prefix: string;
  private readonly redis: Redis;

  /** Rejects with UnavailableError `store/redis-unreachable`. */
  static async open(options: RedisOptions): Promise<RedisClient> {
    const { url, prefix = "murmuration:" } = options;
    const redis = new Redis(url, {
      lazyConnect: true,
      connectTimeout: 5_000,
      commandTimeout: 10_000,
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
    return new RedisClient(redis, prefix);
  }

  private constructor(redis: Redis, prefix: string) {
    this.redis = redis;
    this.prefix = prefix;
  }

  /** A command; replies are Buffers. Rejects with UnavailableError `store/redis-unreachable` or `store/redis-refused`. */
  async call(command: string, ...args: readonly (string | number | Uint8Array)[]): Promise<unknown> {
    return this.guard(() => this.redis.callBuffer(command, ...args.map(toArgument)));
  }

  /** Runs a script, sending its text only where Redis does not know it. */
  async run(
    script: Script,
    keys: readonly string[],
    ...args: readonly (string | number | Uint8Array)[]
  ): Promise<unknown> {
    const sha = shaOf(script);
    const rest = [keys.length, ...keys, ...args.map(toArgument)];
    return this.guard(async () => {
      try {
        return await this.redis.callBuffer("EVALSHA", sha, ...rest);
      } catch (error) {
        if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
        return await this.redis.callBuffer("EVAL", script.lua, ...rest);
      }
    });
  }

  /** A second connection to the same Redis, for subscriptions. It reconnects and subscribes again by itself. */
  subscriber(): Redis {
    const subscriber = this.redis.duplicate({
      lazyConnect: false,
      enableOfflineQueue: true,
      commandTimeout: 0,
    });
    subscriber.on("error", () => {});
    return subscriber;
  }

  /** Calls back whenever the connection is there again after it was lost. */
  onReconnect(run: () => void): void {
    this.redis.on("ready", run);
  }

  /** Whether commands can be carried out now, as far as is known. */
  get isReady(): boolean {
    return this.redis.status === "ready";
  }

  async close(): Promise<void> {
    await this.redis.quit().catch(() => this.redis.disconnect());
  }

  private async guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const isAnswer = error instanceof Error && error.name === "ReplyError";
      throw new UnavailableError(isAnswer ? "store/redis-refused" : "store/redis-unreachable");
    }
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

function toArgument(value: string | number | Uint8Array): string | number | Buffer {
  return typeof value === "object" ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value;
}

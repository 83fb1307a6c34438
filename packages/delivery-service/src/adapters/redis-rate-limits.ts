import { createHash } from "node:crypto";
import { UnavailableError } from "@murmuration/base";
import type { Clock } from "../ports/environment.ts";
import type { Admission, Charge, RateLimits } from "../ports/rate-limits.ts";
import { MemoryRateLimits } from "./memory-rate-limits.ts";
import type { RedisCommands, Script } from "./redis-client.ts";

/**
 * What a limiter does while Redis does not answer. `share`: this process counts alone, with its share of the limit;
 * `open`: everything is allowed; `closed`: nothing is, with a second to wait.
 */
export type WithoutRedis = "share" | "open" | "closed";

export interface RedisRateLimitOptions {
  readonly clock: Clock;
  /** Nodes that share the limits: while Redis is away each grants the part of one among so many. */
  readonly nodes?: number;
  /** By the kind of a bucket, which is the first word of its key. */
  readonly withoutRedis?: Readonly<Record<string, WithoutRedis>>;
  /** Every other kind; `share` by default: neither does an outage stop the service, nor does it lift the limits. */
  readonly otherwise?: WithoutRedis;
  /** Counts what was decided without Redis, as in the metric `limits_without_redis`. */
  readonly report?: (choice: WithoutRedis) => void;
  /** Takes the clock given instead of Redis's: for tests that move time. */
  readonly useOwnClock?: boolean;
}

const CLOSED: Admission = { allowed: false, retryAfterMs: 1_000 };

const NOW = `
local now = tonumber(ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local capacity, rate = tonumber(ARGV[2]), tonumber(ARGV[3]) / 1000
local function tokens_left()
  local found = redis.call('HMGET', KEYS[1], 'tokens', 'at')
  if not found[1] then return capacity end
  -- A clock that went back adds nothing, now and when it is there again.
  local at = tonumber(found[2])
  if at > now then now = at end
  return math.min(capacity, tonumber(found[1]) + (now - at) * rate)
end
local function keep(tokens)
  if tokens >= capacity then return redis.call('DEL', KEYS[1]) end
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'at', string.format('%.0f', now))
  -- A full bucket is as good as none. One that is never full, or not by Redis's clock, goes after a day.
  local full = 86400000
  if rate > 0 and tonumber(ARGV[1]) < 0 then full = math.min(full, math.ceil((capacity - tokens) / rate)) end
  redis.call('PEXPIRE', KEYS[1], full)
end`;

/**
 * KEYS bucket; ARGV the time or -1 for Redis's, capacity, tokens a second, then what is to be taken, one after the other.
 * Takes all or nothing. Answers 0 when it took them, or the milliseconds to wait, or -1 where no time is long enough. O(1).
 */
const TAKE: Script = {
  name: "take",
  lua: `${NOW}
local tokens = tokens_left()
for i = 4, #ARGV do
  local cost = tonumber(ARGV[i])
  if cost > tokens then
    if cost > capacity or rate <= 0 then return -1 end
    return math.max(1, math.ceil((cost - tokens) / rate))
  end
  tokens = tokens - cost
end
keep(tokens)
return 0`,
};

/** KEYS bucket; ARGV as above, then what was taken. Puts it back. O(1). */
const GIVE_BACK: Script = {
  name: "give-back",
  lua: `${NOW}
keep(tokens_left() + tonumber(ARGV[4]))
return 0`,
};

/** The charges of one bucket. */
interface Bucket {
  readonly key: string;
  readonly size: Charge["size"];
  readonly costs: readonly number[];
}

/**
 * {@link RateLimits} that all nodes share. One key for each bucket, `<prefix>rate:{<hash>}`: it goes as soon as the bucket
 * is full again, a day later at the latest. The hash hides the address or account from who looks at the keys, not from
 * who guesses it. Redis may write them to its file like everything else: a Redis of its own, without one, will do for
 * limits.
 *
 * Time is Redis's own: there is one of it, so that a node whose clock is ahead grants nothing that is not due. Charges of
 * several buckets are taken from all at a time; where one refuses, the others get theirs back. In between somebody may
 * be refused who would not have been; nobody is allowed too much. A crash in between costs tokens, which come again.
 *
 * While Redis does not answer each kind of bucket has its own way, see {@link WithoutRedis}.
 */
export class RedisRateLimits implements RateLimits {
  private readonly redis: RedisCommands;
  private readonly options: RedisRateLimitOptions;
  private readonly alone: MemoryRateLimits;

  constructor(redis: RedisCommands, options: RedisRateLimitOptions) {
    this.redis = redis;
    this.options = options;
    this.alone = new MemoryRateLimits(options.clock);
  }

  /** One round trip, two where a charge is refused after another was taken. */
  async take(charges: readonly Charge[]): Promise<Admission> {
    const buckets = [...Map.groupBy(charges, ({ key }) => key)].map(([key, ofKey]) => ({
      key,
      size: ofKey[0]!.size,
      costs: ofKey.map(({ cost }) => cost),
    }));
    try {
      return await this.takeFromAll(buckets);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      return this.takeWithoutRedis(charges);
    }
  }

  private async takeFromAll(buckets: readonly Bucket[]): Promise<Admission> {
    const waits = await Promise.all(buckets.map((bucket) => this.run(TAKE, bucket, ...bucket.costs)));
    if (waits.every((wait) => wait === 0)) return { allowed: true, retryAfterMs: 0 };
    await Promise.all(
      buckets
        .filter((_, index) => waits[index] === 0)
        .map((bucket) => this.run(GIVE_BACK, bucket, sum(bucket.costs))),
    );
    const retryAfterMs = Math.max(...waits.map((wait) => (wait < 0 ? Number.POSITIVE_INFINITY : wait)));
    return { allowed: false, retryAfterMs };
  }

  private async run(script: Script, { key, size }: Bucket, ...amounts: readonly number[]): Promise<number> {
    const now = this.options.useOwnClock === true ? this.options.clock.now() : -1;
    const name = `${this.redis.prefix}rate:{${hashOf(key)}}`;
    return Number(await this.redis.run(script, [name], now, size.capacity, size.refillPerSecond, ...amounts));
  }

  private async takeWithoutRedis(charges: readonly Charge[]): Promise<Admission> {
    const { withoutRedis = {}, otherwise = "share", report = () => {} } = this.options;
    const choices = charges.map(({ key }) => withoutRedis[key.split(" ", 1)[0]!] ?? otherwise);
    for (const choice of new Set(choices)) report(choice);
    if (choices.includes("closed")) return CLOSED;
    return this.alone.take(
      charges.filter((_, index) => choices[index] === "share").map((charge) => this.shareOf(charge)),
    );
  }

  /** A share is no smaller than what one action costs: else it would never be allowed. */
  private shareOf({ key, size, cost }: Charge): Charge {
    const { nodes = 2 } = this.options;
    const capacity = Math.min(size.capacity, Math.max(size.capacity / nodes, cost));
    return { key, size: { capacity, refillPerSecond: size.refillPerSecond / nodes }, cost };
  }
}

function hashOf(key: string): string {
  return createHash("sha256").update(key).digest("base64url").slice(0, 22);
}

function sum(costs: readonly number[]): number {
  return costs.reduce((total, cost) => total + cost, 0);
}

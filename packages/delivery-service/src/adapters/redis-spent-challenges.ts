import type { Clock } from "../ports/environment.ts";
import type { SpentChallenges } from "../ports/spent-challenges.ts";
import type { RedisClient } from "./redis-client.ts";

/** Clocks of nodes differ by less than this, ms. */
const CLOCKS_MS = 10_000;

/** {@link SpentChallenges} of a cluster: a key for each, until the challenge has expired by any node's clock. */
export class RedisSpentChallenges implements SpentChallenges {
  private readonly redis: RedisClient;
  private readonly clock: Clock;

  constructor(redis: RedisClient, clock: Clock) {
    this.redis = redis;
    this.clock = clock;
  }

  async spend(name: string, expiresAtMs: number): Promise<boolean> {
    const lifetimeMs = Math.max(0, expiresAtMs - this.clock.now()) + CLOCKS_MS;
    const key = `${this.redis.prefix}challenge:${name}`;
    return (await this.redis.call("SET", key, "", "NX", "PX", lifetimeMs)) !== null;
  }
}

import { createHash } from "node:crypto";
import { NODE_SILENCE_MS, type Presence } from "../ports/presence.ts";
import type { RedisCommands, Script } from "./redis-client.ts";

/** How often a node says that it lives. */
const BEAT_MS = 5_000;
/** What changes within it is written together: thousands may come at once. */
const GATHER_MS = 50;
/** Before what could not be written is written anew. */
const AGAIN_MS = 500;
/** Names in one command. */
const CHUNK = 1_000;
const NAME_BYTES = 16;

/**
 * Says that a node lives, and answers who else does. Time is Redis's own.
 * KEYS[1] nodes by the time of their last word. ARGV[1] this node, ARGV[2] the silence after which a node is dead, in ms.
 * O(nodes).
 */
const BEAT: Script = {
  name: "presence-beat",
  lua: `
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('ZADD', KEYS[1], now, ARGV[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return redis.call('ZRANGE', KEYS[1], 0, -1)`,
};

/**
 * {@link Presence} of a cluster: one set in Redis for each node, of names by their SHA-256. A node keeps its set alive by one
 * command every few seconds, whatever its size; of a node that is gone the set ends by itself. What could not be written,
 * or was lost with Redis, is written anew as a whole with a later beat.
 */
export class RedisPresence implements Presence {
  private readonly redis: RedisCommands;
  private readonly node: string;
  private readonly here = new Set<string>();
  private changed = new Set<string>();
  private nodes: ReadonlySet<string> = new Set();
  private timer: NodeJS.Timeout | undefined;
  /** The set in Redis may have names that are not here any more, or lack some that are. */
  private isWhole = true;
  /** Commands that change the set go out one after another. */
  private writing: Promise<void> = Promise.resolve();
  private closed = false;

  /** @param node a name that no other node has had. */
  constructor(redis: RedisCommands, node: string) {
    this.redis = redis;
    this.node = node;
    void this.beat();
    redis.repeat(BEAT_MS, () => this.beat());
    // What was not written meanwhile must not wait: somebody may be said to be here who is not.
    redis.onReconnect(() => void this.beat());
  }

  came(name: string): void {
    this.here.add(name);
    this.note(name);
  }

  went(name: string): void {
    this.here.delete(name);
    this.note(name);
  }

  async elsewhere(names: readonly string[]): Promise<readonly (string | undefined)[]> {
    const found: (string | undefined)[] = names.map(() => undefined);
    if (names.length === 0) return found;
    const members = names.map(digest);
    const others = [...this.nodes].filter((node) => node !== this.node);
    const ask = async (node: string): Promise<void> => {
      const answers = (await this.redis.call("SMISMEMBER", this.keyOf(node), ...members)) as number[];
      for (const [index, answer] of answers.entries()) if (answer === 1) found[index] = node;
    };
    // Who cannot be asked about is woken.
    await Promise.allSettled(others.map(ask));
    return found;
  }

  isAlive(node: string): boolean {
    return this.nodes.has(node);
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.writing;
    const leave = [
      this.redis.call("ZREM", `${this.redis.prefix}presence-nodes`, this.node),
      this.redis.call("UNLINK", this.keyOf(this.node)),
    ];
    await Promise.allSettled(leave);
  }

  private note(name: string): void {
    if (this.closed) return;
    this.changed.add(name);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      void this.inTurn(() => this.write());
    }, GATHER_MS).unref();
  }

  /** What changed since, as it is now. */
  private async write(): Promise<void> {
    const names = [...this.changed];
    this.changed = new Set();
    await this.change(
      "SADD",
      names.filter((name) => this.here.has(name)),
    );
    await this.change(
      "SREM",
      names.filter((name) => !this.here.has(name)),
    );
    await this.redis.call("PEXPIRE", this.keyOf(this.node), NODE_SILENCE_MS);
  }

  private async beat(): Promise<void> {
    if (this.closed) return;
    const nodes = `${this.redis.prefix}presence-nodes`;
    const alive = (await this.redis
      .run(BEAT, [nodes], this.node, NODE_SILENCE_MS)
      .catch(() => [])) as Buffer[];
    this.nodes = new Set(alive.map(String));
    await this.inTurn(async () => {
      const kept = await this.redis.call("PEXPIRE", this.keyOf(this.node), NODE_SILENCE_MS);
      if (this.isWhole && (kept === 1 || this.here.size === 0)) return;
      this.changed = new Set();
      const names = [...this.here];
      await this.redis.call("UNLINK", this.keyOf(this.node));
      await this.change("SADD", names);
      await this.redis.call("PEXPIRE", this.keyOf(this.node), NODE_SILENCE_MS);
      this.isWhole = true;
    });
  }

  private async change(command: "SADD" | "SREM", names: readonly string[]): Promise<void> {
    for (let at = 0; at < names.length; at += CHUNK)
      await this.redis.call(command, this.keyOf(this.node), ...names.slice(at, at + CHUNK).map(digest));
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    this.writing = this.writing
      .then(() => (this.closed ? undefined : work()))
      .catch(() => {
        this.isWhole = false;
        setTimeout(() => void this.beat(), AGAIN_MS).unref();
      });
    return this.writing;
  }

  private keyOf(node: string): string {
    return `${this.redis.prefix}presence:${node}`;
  }
}

function digest(name: string): Uint8Array {
  return new Uint8Array(createHash("sha256").update(name).digest().subarray(0, NAME_BYTES));
}

import { createHash } from "node:crypto";
import { fromHex, type GroupId, InvariantError, toHex, UnavailableError } from "@murmuration/base";
import type { CommitRefusal } from "@murmuration/mls-groups/public-group";
import { NO_LINE, stepTurns, type TurnEvent, type TurnLine, type TurnStep } from "../core/turn-line.ts";
import type { Clock, Log } from "../ports/environment.ts";
import type { CommitWords, GroupMemory, TakeBack } from "../ports/group-memory.ts";
import { MemoryGroupMemory, SUSPENDED_MS } from "./memory-group-memory.ts";
import type { RedisClient, Script } from "./redis-client.ts";

/** A line as it lies in Redis: with it the node to whom each of those who wait is connected. */
interface SharedLine {
  readonly line: TurnLine;
  readonly homes: Readonly<Record<string, string>>;
}

const EMPTY: SharedLine = { line: NO_LINE, homes: {} };
/** A line that nobody has stepped for this long is nobody's, ms. */
const LINE_MS = 600_000;
/** Words about a commit: it is the newest one for as long as nobody commits, and counts again after a restart anyway. */
const WORDS_MS = 24 * 3_600_000;
/** A node says that it lives this often; one that has not for three times as long does not. */
const HEARTBEAT_MS = 5_000;
/** Tries of a step that another node was faster with, each time. */
const MAX_TRIES = 50;

/**
 * Replaces a line if it is still the one that was read.
 * KEYS[1] the line. ARGV[1] what was read ("" for none), ARGV[2] what comes instead ("" for none), ARGV[3] its lifetime in ms.
 * Answers 1 where it was replaced. O(length of the line).
 */
const REPLACE_LINE: Script = {
  name: "replace-line",
  lua: `
    if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
    if ARGV[2] == '' then redis.call('DEL', KEYS[1])
    else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
    return 1`,
};

/**
 * Puts an account's word about a commit down, and answers all that was said about it.
 * KEYS[1] refusals by account, KEYS[2] vouchers as "leaf account". ARGV[1] account, ARGV[2] its refusal, ARGV[3] lifetime in ms.
 * Answers {refusals as a flat list, vouchers}. O(who said something), some hundred at the most.
 */
const REFUSE: Script = {
  name: "refuse",
  lua: `
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return {redis.call('HGETALL', KEYS[1]), redis.call('SMEMBERS', KEYS[2])}`,
};

/**
 * Counts what a leaf says in slow mode.
 * KEYS[1] its last message: submit, at (ms of Redis's clock), attempts. ARGV[1] submit, ARGV[2] pause in ms.
 * Answers when it counts from, or nothing where it said something else within the pause. O(1).
 */
const SPEAK: Script = {
  name: "speak",
  lua: `
    local last = redis.call('HMGET', KEYS[1], 'submit', 'at')
    if last[1] ~= ARGV[1] then
      local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      if last[2] and now < last[2] + ARGV[2] then return false end
      redis.call('DEL', KEYS[1])
      last[2] = string.format('%.0f', now)
      redis.call('HSET', KEYS[1], 'submit', ARGV[1], 'at', last[2])
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    redis.call('HINCRBY', KEYS[1], 'attempts', 1)
    return last[2]`,
};

/**
 * Takes one attempt back, and with the last of them the message.
 * KEYS[1] the leaf's last message, as above. ARGV[1] submit, ARGV[2] when it counts from: said again after its pause, it is
 * another one. Answers nothing. O(1).
 */
const TAKE_BACK: Script = {
  name: "take-back",
  lua: `
    local last = redis.call('HMGET', KEYS[1], 'submit', 'at')
    if last[1] ~= ARGV[1] or last[2] ~= ARGV[2] then return end
    if redis.call('HINCRBY', KEYS[1], 'attempts', -1) <= 0 then redis.call('DEL', KEYS[1]) end`,
};

/**
 * {@link GroupMemory} of a cluster, in Redis. A step of a line is taken here, by the pure function that one process uses, and
 * stored if no other node was faster; else it is taken again on the line as it is then.
 *
 * While Redis does not answer, each node goes on with a memory of its own: messages and commits are still ordered by the
 * store, only that each node then has a line of turns of its own, and counts slow mode for itself. That choice is "open": a
 * line makes a race fair, it does not decide it, and a member who says one thing more on each node is better than a group in
 * which nobody does. The keys of a group share a hash tag; they end by themselves.
 */
export class RedisGroupMemory implements GroupMemory {
  private readonly redis: RedisClient;
  private readonly clock: Clock;
  private readonly log: Log;
  private readonly node: string;
  private readonly alone: MemoryGroupMemory;
  private readonly vouchers = new Map<string, Set<string>>();
  private isAlone = false;
  private stopHeart: () => void = () => {};
  private closed = false;

  /** @param node a name that no other node has had. */
  constructor(redis: RedisClient, clock: Clock, log: Log, node: string) {
    this.redis = redis;
    this.clock = clock;
    this.log = log;
    this.node = node;
    this.alone = new MemoryGroupMemory(clock);
    void this.beat();
  }

  /** Says no more that this node lives. */
  close(): void {
    this.closed = true;
    this.stopHeart();
  }

  step(groupId: GroupId, event: TurnEvent, now: number, turnMs: number): Promise<TurnStep> {
    return this.orAlone(
      () => this.stepShared(groupId, event, now, turnMs),
      () => this.alone.step(groupId, event, now, turnMs),
    );
  }

  line(groupId: GroupId): Promise<TurnLine> {
    return this.orAlone(
      async () => (await this.read(groupId)).shared.line,
      () => this.alone.line(groupId),
    );
  }

  vouch(groupId: GroupId, sequence: number, leaf: string, account: string): void {
    const key = this.key(groupId, `vouchers:${sequence}`);
    const some = this.vouchers.get(key);
    if (some !== undefined) {
      some.add(`${leaf} ${account}`);
      return;
    }
    // A commit is acknowledged by many at a time.
    this.vouchers.set(key, new Set([`${leaf} ${account}`]));
    this.clock.after(20, () => void this.tellVouchers(key));
  }

  refuse(groupId: GroupId, sequence: number, account: string, refusal: CommitRefusal): Promise<CommitWords> {
    const keys = [this.key(groupId, `refusals:${sequence}`), this.key(groupId, `vouchers:${sequence}`)];
    const word = `${refusal.leafIndex} ${toHex(refusal.signature)}`;
    return this.orAlone(
      async () => {
        await this.tellVouchers(keys[1]!);
        const [refusals, vouchers] = (await this.redis.run(REFUSE, keys, account, word, WORDS_MS)) as [
          Buffer[],
          Buffer[],
        ];
        return { refusals: refusalsOf(refusals), vouchers: new Map(vouchers.map(pairOf)) };
      },
      () => this.alone.refuse(),
    );
  }

  suspend(groupId: GroupId, leaf: string): Promise<void> {
    return this.orAlone(
      async () => {
        const until = this.clock.now() + SUSPENDED_MS;
        const key = this.key(groupId, "suspended");
        await Promise.all([
          this.redis.call("ZADD", key, until, leaf),
          this.redis.call("PEXPIRE", key, SUSPENDED_MS),
        ]);
      },
      () => this.alone.suspend(groupId, leaf),
    );
  }

  suspended(groupId: GroupId): Promise<ReadonlySet<string>> {
    return this.orAlone(
      async () => {
        const range = [this.clock.now(), "+inf"] as const;
        const leaves = await this.redis.call("ZRANGEBYSCORE", this.key(groupId, "suspended"), ...range);
        return new Set((leaves as Buffer[]).map(String));
      },
      () => this.alone.suspended(groupId),
    );
  }

  pardon(groupId: GroupId): Promise<void> {
    return this.orAlone(
      async () => void (await this.redis.call("DEL", this.key(groupId, "suspended"))),
      () => this.alone.pardon(groupId),
    );
  }

  /** One round trip. Time is Redis's own: a node whose clock is ahead allows nothing early. */
  speak(groupId: GroupId, leaf: string, submit: string, pauseMs: number): Promise<TakeBack | undefined> {
    const key = this.key(groupId, `said:${hashOf(leaf)}`);
    return this.orAlone(
      async () => {
        const at = (await this.redis.run(SPEAK, [key], submit, pauseMs)) as Buffer | null;
        if (at === null) return undefined;
        // Where Redis does not answer any more it counts until its pause is over, and may be said again.
        return () => this.redis.run(TAKE_BACK, [key], submit, at).then(noop, noop);
      },
      () => this.alone.speak(groupId, leaf, submit, pauseMs),
    );
  }

  private async stepShared(
    groupId: GroupId,
    event: TurnEvent,
    now: number,
    turnMs: number,
  ): Promise<TurnStep> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const { text, shared } = await this.read(groupId);
      const step = stepTurns(shared.line, event, now, turnMs);
      const homes = this.homesAfter(shared, step.line, event);
      if (step.line === shared.line) return step;
      if (await this.replace(groupId, text, { line: step.line, homes })) {
        if (step.ended?.how === "expired") await this.dropDead(groupId);
        return step;
      }
    }
    // Each time another node has taken a step: the line goes on, this event comes too late.
    throw new UnavailableError("group/line-busy");
  }

  /** Where each of the line is connected; this node for whoever has just come. */
  private homesAfter(
    { homes }: SharedLine,
    { current, waiting }: TurnLine,
    event: TurnEvent,
  ): Record<string, string> {
    const names = [...waiting, ...(current === undefined ? [] : [current.holder])];
    const after: Record<string, string> = {};
    for (const name of names) {
      const isHere = event.kind === "lost" && event.who === name;
      const home = isHere ? this.node : homes[name];
      if (home !== undefined) after[name] = home;
    }
    return after;
  }

  /** After a turn ran out: those who wait on a node that is gone would let theirs run out as well. */
  private async dropDead(groupId: GroupId): Promise<void> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const { text, shared } = await this.read(groupId);
      const nodes = [...new Set(Object.values(shared.homes))];
      const alive = await Promise.all(
        nodes.map(async (node) => (await this.redis.call("GET", this.nodeKey(node))) !== null),
      );
      const dead = new Set(nodes.filter((node, index) => !alive[index] && node !== this.node));
      if (dead.size === 0) return;
      const isDead = (name: string) => dead.has(shared.homes[name] ?? "");
      const line = { ...shared.line, waiting: shared.line.waiting.filter((name) => !isDead(name)) };
      const homes = Object.fromEntries(Object.entries(shared.homes).filter(([name]) => !isDead(name)));
      if (await this.replace(groupId, text, { line, homes })) return;
    }
  }

  private async read(groupId: GroupId): Promise<{ readonly text: string; readonly shared: SharedLine }> {
    const found = (await this.redis.call("GET", this.key(groupId, "line"))) as Buffer | null;
    if (found === null) return { text: "", shared: EMPTY };
    const text = found.toString();
    return { text, shared: JSON.parse(text) as SharedLine };
  }

  private async replace(groupId: GroupId, text: string, { line, homes }: SharedLine): Promise<boolean> {
    const isEmpty = line.current === undefined && line.waiting.length === 0 && line.remover === undefined;
    const next = isEmpty ? "" : JSON.stringify({ line, homes });
    if (next === text) return true;
    const done = await this.redis.run(REPLACE_LINE, [this.key(groupId, "line")], text, next, LINE_MS);
    return done === 1;
  }

  private async tellVouchers(key: string): Promise<void> {
    const some = this.vouchers.get(key);
    if (some === undefined) return;
    this.vouchers.delete(key);
    try {
      await Promise.all([this.redis.call("SADD", key, ...some), this.redis.call("PEXPIRE", key, WORDS_MS)]);
    } catch (error) {
      // Then a commit may be taken back that somebody here follows; it is when Redis does not answer anybody.
      this.log.warn("vouchers-not-told", { code: codeOf(error) });
    }
  }

  private async beat(): Promise<void> {
    if (this.closed) return;
    await this.redis.call("SET", this.nodeKey(this.node), "", "PX", 3 * HEARTBEAT_MS).catch(() => {});
    this.stopHeart = this.clock.after(HEARTBEAT_MS, () => void this.beat());
  }

  private async orAlone<T>(shared: () => Promise<T>, alone: () => Promise<T>): Promise<T> {
    try {
      const result = await shared();
      if (this.isAlone) this.log.info("group-memory-shared");
      this.isAlone = false;
      return result;
    } catch (error) {
      if (!(error instanceof UnavailableError) || error.code === "group/line-busy") throw error;
      if (!this.isAlone) this.log.warn("group-memory-alone", { code: error.code });
      this.isAlone = true;
      return alone();
    }
  }

  private key(groupId: GroupId, name: string): string {
    return `${this.redis.prefix}{group:${hashOf(groupId)}}:${name}`;
  }

  private nodeKey(node: string): string {
    return `${this.redis.prefix}node:${node}`;
  }
}

function refusalsOf(flat: readonly Buffer[]): ReadonlyMap<string, CommitRefusal> {
  const refusals = new Map<string, CommitRefusal>();
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const [leafIndex, signature] = pairOf(flat[i + 1]!);
    refusals.set(String(flat[i]), { leafIndex: Number(leafIndex), signature: fromHex(signature) });
  }
  return refusals;
}

const noop = (): void => {};

function hashOf(name: string | Uint8Array): string {
  return createHash("sha256").update(name).digest("base64url").slice(0, 22);
}

function pairOf(text: Buffer): [string, string] {
  const [first, second] = text.toString().split(" ");
  if (first === undefined || second === undefined) throw new InvariantError("group/words-unreadable");
  return [first, second];
}

const codeOf = (error: unknown): string => (error instanceof UnavailableError ? error.code : "internal");

import { createHash, randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import { cutConnection, type RedisClient } from "./redis-client.ts";

/** What a subscriber hears from other nodes. */
export interface BusListener {
  message(bytes: Buffer): void;
  /** Messages may have been lost: the subscription took effect only now, or anew. */
  resumed(): void;
}

const NODE_BYTES = 8;
const BEAT_MS = 5_000;
/** Beats that may be missed before the connection is taken for dead. */
const MISSED_BEATS = 2;
/** What is kept of what could not be said; whoever would have heard of the rest looks by itself after a while. */
const MAX_UNSAID = 10_000;

/**
 * Redis's pub/sub between the nodes of a service: to all others that listen now, without memory. A node does not hear itself;
 * who publishes tells its own listeners beforehand, so that they hear of it also while Redis is away.
 *
 * What is published while the connection is broken is lost, but for what may be said later. After it is there again, and when
 * a subscription first takes effect, `resumed` says so to the listeners of this node; those of nodes that Redis had been there
 * for all the time hear what was kept for them. A connection that died without a word is noticed within fifteen seconds by the beats that this
 * node sends to itself.
 *
 * Channels are `<prefix><kind>:<hash>`: the name behind the hash is seen by nobody who does not guess it. A channel is
 * no key; it is gone with its last subscriber.
 */
export class RedisBus {
  private readonly redis: RedisClient;
  private readonly subscriber: Redis;
  private readonly node = randomBytes(NODE_BYTES);
  private readonly listeners = new Map<string, Set<BusListener>>();
  private readonly beatChannel: string;
  private missedBeats = 0;
  /** By channel and content: each once, however often it was to be said. */
  private readonly unsaid = new Map<string, { readonly channel: string; readonly bytes: Uint8Array }>();

  /** `beatMs`: how often the subscription is tried, in milliseconds. */
  constructor(redis: RedisClient, beatMs: number = BEAT_MS) {
    this.redis = redis;
    this.beatChannel = `${redis.prefix}beat:${this.node.toString("hex")}`;
    this.subscriber = redis.subscriber();
    this.subscriber.on("ready", () => void this.resume());
    this.subscriber.on("messageBuffer", (channel: Buffer, message: Buffer) => {
      if (String(channel) === this.beatChannel) this.missedBeats = 0;
      else if (!message.subarray(0, NODE_BYTES).equals(this.node)) {
        this.tell(String(channel), message.subarray(NODE_BYTES));
      }
    });
    redis.onReconnect(() => this.sayUnsaid());
    redis.repeat(beatMs, () => this.beat());
  }

  /** The channel of something that is named by text. */
  channel(kind: string, name: string): string {
    const hash = createHash("sha256").update(name).digest("base64url").slice(0, 22);
    return `${this.redis.prefix}${kind}:${hash}`;
  }

  /** Returns at once and never fails: of what cannot be sent `later` is said when Redis is there again, and the rest lost. */
  publish(channel: string, bytes: Uint8Array, later?: Uint8Array): void {
    this.redis.call("PUBLISH", channel, Buffer.concat([this.node, bytes])).catch(() => {
      if (later !== undefined && this.unsaid.size < MAX_UNSAID)
        this.unsaid.set(`${channel} ${Buffer.from(later).toString("hex")}`, { channel, bytes: later });
    });
  }

  private sayUnsaid(): void {
    const unsaid = [...this.unsaid.values()];
    this.unsaid.clear();
    for (const { channel, bytes } of unsaid) this.publish(channel, bytes, bytes);
  }

  /** The returned function ends the subscription. */
  subscribe(channel: string, listener: BusListener): () => void {
    const listeners = this.listeners.get(channel) ?? new Set();
    this.listeners.set(channel, listeners.add(listener));
    if (listeners.size === 1 && this.subscriber.status === "ready") {
      this.subscriber.subscribe(channel).then(
        () => this.tellResumed(channel),
        () => {},
      );
    }
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      if (this.listeners.get(channel) === listeners) this.listeners.delete(channel);
      if (this.subscriber.status === "ready") this.subscriber.unsubscribe(channel).catch(() => {});
    };
  }

  private async resume(): Promise<void> {
    this.missedBeats = 0;
    const channels = [this.beatChannel, ...this.listeners.keys()];
    try {
      await this.subscriber.subscribe(...channels);
    } catch {
      return;
    }
    for (const channel of channels) this.tellResumed(channel);
  }

  private tell(channel: string, message: Buffer): void {
    try {
      for (const listener of this.of(channel)) listener.message(message);
    } catch {
      // Not what any node writes. A signal that is passed over costs time.
    }
  }

  private tellResumed(channel: string): void {
    for (const listener of this.of(channel)) listener.resumed();
  }

  /** A copy: a listener may end its subscription while it is told something. */
  private of(channel: string): readonly BusListener[] {
    return [...(this.listeners.get(channel) ?? [])];
  }

  private async beat(): Promise<void> {
    if (this.subscriber.status !== "ready") return;
    // Only where beats can be sent does their absence say something.
    await this.redis.call("PUBLISH", this.beatChannel, "");
    if (this.missedBeats++ < MISSED_BEATS) return;
    this.missedBeats = 0;
    cutConnection(this.subscriber);
  }
}

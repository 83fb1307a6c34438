import { setMaxListeners } from "node:events";
import { type Bytes, equalBytes, RejectionError, UnavailableError } from "@murmuration/base";
import {
  acceptVersion,
  type ClientBody,
  type Deliver,
  type HelloReply,
  protocolVersions,
  type ServiceBody,
  type ServiceFrame,
} from "@murmuration/wire";
import type { Connection as ConnectionApi } from "../api.ts";
import { backoffMs } from "../core/backoff.ts";
import { ServiceRefusal } from "../core/refusal.ts";
import type { Socket, Transport } from "../ports/transport.ts";
import type { Context } from "./context.ts";
import { Signal } from "./signal.ts";

type State = ConnectionApi["state"];
/** Whatever a client says about an MLS group. */
export type GroupBody = Extract<ClientBody, { readonly kind: `group${string}` }>;

/** Between which a service's interval for signs of life is taken for what it says, ms. */
const SHORTEST_INTERVAL_MS = 100;
const LONGEST_INTERVAL_MS = 600_000;

interface CommunityChannel {
  readonly channel: Channel;
  readonly challenge: Bytes;
}

/** What the connection tells the client. */
export interface ConnectionHandlers {
  /** A new connection begins; what was delivered over the one before and not acknowledged comes again. */
  connecting(): void;
  /** Both sockets are open and greeted. When this throws, the connection is given up and tried again. */
  connected(reply: HelloReply): Promise<void>;
  delivered(deliver: Deliver): void;
  queueEmpty(): void;
  /** The newest mark that this service gave of its store. */
  storeMark(): Bytes | undefined;
  /** A newer one came with nothing else. */
  marked(storeMark: Bytes): void;
  preKeysLow(): void;
  keyPackagesLow(): void;
  /** A frame of an MLS group that nobody asked for: entries of its log, a turn. */
  group(body: ServiceBody): void;
}

/** One greeted socket: asks, and matches answers by request id. */
class Channel {
  private readonly context: Context;
  private readonly unasked: (body: ServiceBody) => void;
  private socket: Socket | undefined;
  private nextRequest = 1;
  private heardAt = 0;
  private saidAt = 0;
  /** Frames. */
  private heard = 0;
  /** The request by which a sign of life was last asked for. */
  private pinged: number | undefined;
  /** By rising deadline, because all requests have the same time. */
  private readonly asked = new Map<
    number,
    { resolve: (body: ServiceBody) => void; reject: (e: Error) => void; readonly deadlineMs: number }
  >();
  private expiring = false;
  readonly ended = new AbortController();
  /** What the service said last before it closed. */
  farewell: ServiceRefusal | undefined;
  retryAfterMs = 0;

  constructor(context: Context, unasked: (body: ServiceBody) => void) {
    setMaxListeners(0, this.ended.signal);
    this.context = context;
    this.unasked = unasked;
  }

  async open(
    transport: Transport,
    hello: Omit<Extract<ClientBody, { kind: "hello" }>, "kind">,
  ): Promise<HelloReply> {
    const timeoutMs = this.context.settings.requestTimeoutMs;
    const handlers = { frame: (frame: ServiceFrame) => this.receive(frame), closed: () => this.close() };
    const socket = await transport.connect(handlers, timeoutMs);
    if (this.ended.signal.aborted) {
      socket.close();
      throw new UnavailableError("connection/lost");
    }
    this.socket = socket;
    this.heardAt = this.context.now();
    const reply = await this.ask({ kind: "hello", ...hello });
    if (reply.kind !== "helloReply") throw new UnavailableError("connection/unexpected-answer");
    acceptVersion(reply.version);
    void this.watch(reply.limits.pingIntervalMs);
    return reply;
  }

  /**
   * Rejects with ServiceRefusal, or with UnavailableError when the socket breaks or nothing comes in time. `answered` is called
   * before anything that comes behind the answer is looked at.
   */
  ask(body: ClientBody, answered?: () => void): Promise<ServiceBody> {
    const requestId = this.nextRequest++;
    const { socket } = this;
    if (socket === undefined || this.ended.signal.aborted) {
      return Promise.reject(new UnavailableError("connection/lost"));
    }
    this.saidAt = this.context.now();
    const deadlineMs = this.saidAt + this.context.settings.requestTimeoutMs;
    const answer = new Promise<ServiceBody>((resolve, reject) => {
      const taken = (reply: ServiceBody) => {
        answered?.();
        resolve(reply);
      };
      this.asked.set(requestId, { resolve: taken, reject, deadlineMs });
    });
    if (!this.expiring) void this.expire();
    socket.send({ requestId, body });
    return answer;
  }

  /** Says something that needs no answer. */
  say(body: ClientBody): void {
    if (this.ended.signal.aborted) return;
    this.saidAt = this.context.now();
    this.socket?.send({ requestId: 0, body });
  }

  /**
   * A service that does not answer one request in time is taken to be gone. One timer for all requests, which looks for
   * the oldest one: a timer for each would cost more than most of the requests.
   */
  private async expire(): Promise<void> {
    this.expiring = true;
    const { environment, settings } = this.context;
    for (let [oldest] = this.asked.values(); oldest !== undefined; [oldest] = this.asked.values()) {
      // Never longer than a request's time, should the clock have been set back meanwhile.
      const ms = Math.min(settings.requestTimeoutMs, Math.max(1, oldest.deadlineMs - this.context.now()));
      await environment.sleep(ms, this.ended.signal);
      if (this.ended.signal.aborted) return;
      const [first] = this.asked.values();
      if (first !== undefined && this.context.now() >= first.deadlineMs) this.close();
    }
    this.expiring = false;
  }

  private receive({ requestId, body }: ServiceFrame): void {
    this.heardAt = this.context.now();
    this.heard++;
    const waiting = this.asked.get(requestId);
    if (waiting !== undefined) {
      this.asked.delete(requestId);
      if (body.kind === "rejection") waiting.reject(new ServiceRefusal(body));
      else waiting.resolve(body);
      return;
    }
    // Nobody asked for this one.
    if (body.kind === "pong" && requestId !== this.pinged) return;
    if (body.kind === "rejection") this.farewell = new ServiceRefusal(body);
    if (body.kind === "drain" || body.kind === "resumeHint") this.retryAfterMs = body.retryAfterMs;
    this.unasked(body);
  }

  /**
   * Asks for a sign of life where an interval went by without a word from either side, and closes where nothing has come an
   * interval later. Whatever comes is one: the answer may wait behind much else.
   */
  private async watch(askedIntervalMs: number): Promise<void> {
    const { environment } = this.context;
    const intervalMs = Math.min(LONGEST_INTERVAL_MS, Math.max(SHORTEST_INTERVAL_MS, askedIntervalMs));
    while (!this.ended.signal.aborted) {
      const quietMs = this.context.now() - Math.min(this.saidAt, this.heardAt);
      // Below 0 where the clock was set back: nobody knows then how long it was.
      if (quietMs >= 0 && quietMs < intervalMs) {
        await environment.sleep(intervalMs - quietMs, this.ended.signal);
        continue;
      }
      const { heard } = this;
      this.ping();
      await environment.sleep(intervalMs, this.ended.signal);
      if (this.heard === heard) this.close();
    }
  }

  private ping(): void {
    this.pinged = this.nextRequest++;
    this.saidAt = this.context.now();
    this.socket?.send({ requestId: this.pinged, body: { kind: "ping" } });
  }

  close(): void {
    if (this.ended.signal.aborted) return;
    this.ended.abort();
    this.socket?.close();
    for (const { reject } of this.asked.values()) reject(new UnavailableError("connection/lost"));
    this.asked.clear();
  }
}

/**
 * The device's connection and an anonymous one, always as a pair: what identifies this device goes over the
 * first, what must not over the second. Communities have a third one, opened when it is first needed: a leaf names its
 * account, so a sealed submit beside it would no longer hide its sender. Connects again with growing, jittered pauses.
 */
export class Connection {
  state: State = "stopped";
  private readonly context: Context;
  private readonly transport: Transport;
  private readonly handlers: ConnectionHandlers;
  private readonly changed = new Signal();
  private running: AbortController | undefined;
  private done: Promise<void> = Promise.resolve();
  private device: Channel | undefined;
  private anonymous: Channel | undefined;
  private community: Promise<CommunityChannel> | undefined;
  private communityChannel: Channel | undefined;
  /** The present session: ended by whichever socket breaks. */
  private end: (() => void) | undefined;

  constructor(context: Context, transport: Transport, handlers: ConnectionHandlers) {
    this.context = context;
    this.transport = transport;
    this.handlers = handlers;
  }

  start(): void {
    if (this.running !== undefined) return;
    const running = new AbortController();
    this.running = running;
    this.done = this.keepConnected(running.signal).catch(this.context.failed);
    this.context.closing.signal.addEventListener("abort", () => running.abort(), { once: true });
  }

  async stop(): Promise<void> {
    this.running?.abort();
    this.device?.close();
    this.anonymous?.close();
    await this.done;
    this.running = undefined;
    this.enter("stopped");
  }

  /** Resolves at the next change of state, or when aborted. */
  wait(abort: AbortSignal): Promise<void> {
    return this.changed.wait(abort);
  }

  private enter(state: State): void {
    if (this.state === state) return;
    this.state = state;
    this.context.notifier.tell({ kind: "connection", state });
    this.changed.notify();
  }

  private async keepConnected(abort: AbortSignal): Promise<void> {
    const { environment, settings } = this.context;
    let attempt = 0;
    while (!abort.aborted) {
      this.enter("connecting");
      const startedAt = this.context.now();
      const pauseMs = await this.session(abort);
      if (abort.aborted || pauseMs === undefined) return;
      // A connection that held for a while starts the backoff anew.
      if (this.context.now() - startedAt > settings.reconnectMaxMs) attempt = 0;
      this.enter("waiting");
      const { reconnectMinMs, reconnectMaxMs } = settings;
      const jitter = backoffMs(attempt++, reconnectMinMs, reconnectMaxMs, environment.random(4));
      await environment.sleep(pauseMs + jitter, abort);
    }
  }

  /** One connection from start to end. Returns how long the service asks to wait; undefined to stop for good. */
  private async session(abort: AbortSignal): Promise<number | undefined> {
    const device = new Channel(this.context, (body) => this.unasked(body));
    const anonymous = new Channel(this.context, () => undefined);
    const end = () => {
      device.close();
      anonymous.close();
      this.communityChannel?.close();
    };
    abort.addEventListener("abort", end, { once: true });
    device.ended.signal.addEventListener("abort", end, { once: true });
    anonymous.ended.signal.addEventListener("abort", end, { once: true });
    let failure: unknown;
    try {
      const versions = [...protocolVersions];
      this.handlers.connecting();
      const storeMark = this.handlers.storeMark();
      const reply = await device.open(this.transport, {
        versions,
        auth: this.context.auth,
        ...(storeMark && { storeMark }),
      });
      const anonymousReply = await anonymous.open(this.transport, { versions });
      if (!equalBytes(reply.storeId, anonymousReply.storeId))
        throw new UnavailableError("connection/two-services");
      this.device = device;
      this.anonymous = anonymous;
      this.end = end;
      await this.handlers.connected(reply);
      if (!device.ended.signal.aborted) this.enter("connected");
      await ended(device.ended.signal);
    } catch (error) {
      // A refusal or a network that fails is part of life; anything else is not for this loop to swallow.
      if (!(error instanceof RejectionError || error instanceof UnavailableError)) throw error;
      failure = error;
    } finally {
      end();
      this.end = undefined;
      this.community = undefined;
      this.communityChannel = undefined;
      abort.removeEventListener("abort", end);
      this.device = undefined;
      this.anonymous = undefined;
    }
    return this.afterwards(failure, device, anonymous);
  }

  private afterwards(failure: unknown, device: Channel, anonymous: Channel): number | undefined {
    const refusal = failure instanceof ServiceRefusal ? failure : device.farewell;
    if (refusal?.action === "re-register") {
      this.enter("removed");
      return undefined;
    }
    if (refusal?.code === "connection/replaced") {
      this.enter("replaced");
      return undefined;
    }
    return Math.max(refusal?.retryAfterMs ?? 0, device.retryAfterMs, anonymous.retryAfterMs);
  }

  private unasked(body: ServiceBody): void {
    if (body.kind === "deliver") this.handlers.delivered(body);
    else if (body.kind === "queueEmpty") this.handlers.queueEmpty();
    else if (body.kind === "pong" && body.storeMark !== undefined) this.handlers.marked(body.storeMark);
    else if (body.kind === "preKeysLow") this.handlers.preKeysLow();
    else if (body.kind === "keyPackagesLow") this.handlers.keyPackagesLow();
  }

  /** Submits on the connection that fits. Rejects like {@link Channel.ask}. */
  submit(body: Extract<ClientBody, { kind: "submitSealed" | "submitIdentified" }>): Promise<ServiceBody> {
    const channel = body.kind === "submitSealed" ? this.anonymous : this.device;
    return channel?.ask(body) ?? Promise.reject(new UnavailableError("connection/lost"));
  }

  /** The challenge of the connection for communities, which is opened if need be. */
  async challenge(): Promise<Bytes> {
    return (await this.openCommunity()).challenge;
  }

  /** Asks about an MLS group. Rejects like {@link Channel.ask}. */
  async group(body: GroupBody, answered?: () => void): Promise<ServiceBody> {
    return (await this.openCommunity()).channel.ask(body, answered);
  }

  /** Says something about an MLS group that needs no answer. */
  tellGroup(body: GroupBody): void {
    this.community?.then(
      ({ channel }) => channel.say(body),
      () => undefined,
    );
  }

  private openCommunity(): Promise<CommunityChannel> {
    const { end } = this;
    if (end === undefined) return Promise.reject(new UnavailableError("connection/lost"));
    if (this.community === undefined) {
      const connecting = this.connectCommunity(end);
      this.community = connecting;
      // The two others may go on without it: whoever asks next tries again.
      connecting.catch(() => {
        if (this.community === connecting) this.community = undefined;
      });
    }
    return this.community;
  }

  /** Until it is greeted its failure is its own; from then on it ends with the others, and they with it. */
  private async connectCommunity(end: () => void): Promise<CommunityChannel> {
    const channel = new Channel(this.context, (body) => this.handlers.group(body));
    this.communityChannel = channel;
    let reply: HelloReply;
    try {
      reply = await channel.open(this.transport, { versions: [...protocolVersions] });
    } catch (error) {
      channel.close();
      throw error;
    }
    if (!equalBytes(reply.storeId, this.context.meta.require("store-id"))) {
      channel.close();
      end();
      throw new UnavailableError("connection/two-services");
    }
    channel.ended.signal.addEventListener("abort", end, { once: true });
    return { channel, challenge: reply.challenge };
  }

  acknowledge(throughEnvelopeId: Extract<ClientBody, { kind: "acknowledge" }>["throughEnvelopeId"]): void {
    this.device?.say({ kind: "acknowledge", throughEnvelopeId });
  }

  /** Gives this connection up; it comes again. */
  interrupt(): void {
    this.device?.close();
  }
}

function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

import { type Bytes, type EnvelopeId, formatAddress, RejectionError } from "@murmuration/base";
import {
  type ClientBody,
  type ClientFrame,
  createRejection,
  decodeClientFrame,
  encodeServiceFrame,
  FrameRejection,
  negotiateVersion,
  type RejectionCode,
  rejectionRow,
  type ServiceBody,
} from "@murmuration/wire";
import { createChallenge } from "../core/challenge.ts";
import type { CloseCause, Connection, ConnectionHandler } from "../ports/socket-server.ts";
import { type AuthenticatedDevice, authenticate } from "./authentication.ts";
import type { ServiceContext } from "./context.ts";
import { DeviceDelivery } from "./device-delivery.ts";
import type { GroupHub } from "./group-hub.ts";
import { type GroupBody, GroupSession, isGroupBody, type Served } from "./group-session.ts";
import { tellLowKeyPackages } from "./key-package-routes.ts";
import { lastIdOf } from "./mailboxes.ts";
import { type Refusal, toRefusal } from "./refusals.ts";
import type { StoreMarks } from "./store-marks.ts";
import { submitIdentified, submitSealed } from "./submits.ts";

/** What a connection needs from the set it belongs to. */
export interface ConnectionSet {
  readonly marks: StoreMarks;
  readonly draining: () => boolean;
  /** The connection said Hello; for a device's one, `address` names it and an older one of it has to end. */
  readonly identified: (connection: ClientConnection, address: string | undefined) => void;
  readonly closed: (connection: ClientConnection, cause: CloseCause) => void;
}

type State =
  | { readonly kind: "fresh" }
  | { readonly kind: "greeting" }
  | { readonly kind: "anonymous"; readonly groups: GroupSession }
  | {
      readonly kind: "device";
      readonly device: AuthenticatedDevice;
      readonly delivery: DeviceDelivery;
      readonly unsubscribe: () => void;
    }
  | { readonly kind: "closed" };

/** WebSocket close codes: 4000 with the rejection code as its reason, or one of RFC 6455. */
const CLOSE_REFUSED = 4000;
const CLOSE_GOING_AWAY = 1001;
const CLOSE_TRY_AGAIN = 1013;
/** Frames of one connection that are worked on at a time; further ones wait unread at the peer. */
const MAX_PENDING = 16;

/** One client's WebSocket from its first frame to its end. */
export class ClientConnection implements ConnectionHandler {
  readonly remoteAddress: string;
  private readonly context: ServiceContext;
  private readonly hub: GroupHub;
  private readonly connection: Connection;
  private readonly set: ConnectionSet;
  private state: State = { kind: "fresh" };
  private pending = 0;
  /** The newest that this device was given. */
  private mark: Bytes | undefined;
  private stopHelloTimer: () => void;
  private stopSlowTimer: (() => void) | undefined;

  constructor(hub: GroupHub, connection: Connection, set: ConnectionSet) {
    const { context } = hub;
    this.context = context;
    this.hub = hub;
    this.connection = connection;
    this.remoteAddress = connection.remoteAddress;
    this.set = set;
    this.stopHelloTimer = context.clock.after(context.limits.helloTimeoutMs, () =>
      this.refuse(0, { code: "connection/hello-timeout", retryAfterMs: context.timing.reconnectAfterMs }),
    );
  }

  get isDevice(): boolean {
    return this.state.kind === "device";
  }

  received(bytes: Bytes): void {
    if (this.state.kind === "closed") return;
    this.pending++;
    this.adjustReading();
    this.take(bytes)
      .catch((error: unknown) => this.failed(error))
      .finally(() => {
        this.pending--;
        this.adjustReading();
      });
  }

  receivedText(): void {
    this.refuse(0, { code: "connection/text-frame", retryAfterMs: undefined });
  }

  drained(): void {
    this.stopSlowTimer?.();
    this.stopSlowTimer = undefined;
    this.adjustReading();
    if (this.state.kind === "device") this.state.delivery.lookAgain();
    else if (this.state.kind === "anonymous") this.state.groups.lookAgain();
  }

  closed(cause: CloseCause): void {
    this.leave();
    this.set.closed(this, cause);
  }

  /** Ends the connection because a newer one of the device took over, or the set is full. */
  end(code: RejectionCode): void {
    this.refuse(0, { code, retryAfterMs: this.context.timing.reconnectAfterMs });
  }

  /** Tells the client that the service is about to stop. */
  announceDrain(): void {
    this.push({ kind: "drain", retryAfterMs: this.context.timing.reconnectAfterMs });
  }

  /** Closes with the hint to come back: the service has changed, and Hello says how. Whoever says Hello now hears it so. */
  sendBack(): void {
    if (this.state.kind === "fresh" || this.state.kind === "greeting") return;
    this.hintResume("service/mailboxes-lost");
  }

  /** Closes after a drain. */
  goAway(): void {
    this.leave();
    this.connection.close(CLOSE_GOING_AWAY, "service/draining");
  }

  /** True while a frame of this connection is being answered. */
  get busy(): boolean {
    return this.pending > 0;
  }

  private async take(bytes: Bytes): Promise<void> {
    const { limits } = this.context;
    const fresh = this.state.kind === "fresh";
    let requestId = 0;
    try {
      const frame = decodeClientFrame(bytes, fresh ? limits.helloBytes : limits.frameBytes);
      requestId = frame.requestId;
      await this.answer(frame);
    } catch (error) {
      if (error instanceof FrameRejection) requestId = error.requestId;
      this.refuse(requestId, toRefusal(error, this.context.log));
    }
  }

  private async answer({ requestId, body }: ClientFrame): Promise<void> {
    if (this.state.kind === "fresh") {
      if (body.kind !== "hello") throw new RejectionError("connection/hello-expected");
      this.state = { kind: "greeting" };
      await this.hello(requestId, body);
      return;
    }
    // Frames that follow Hello without waiting for its answer have no authorisation yet.
    if (this.state.kind === "greeting") throw new RejectionError("connection/hello-expected");
    const { answer, after } = await this.serve(body);
    if (requestId !== 0) this.push(answer, requestId);
    after?.();
  }

  private async serve(body: ClientBody): Promise<Served> {
    if (!isGroupBody(body)) return { answer: await this.serveMailbox(body) };
    // What a client has in its database is worth knowing also while the service stops.
    if (this.set.draining() && body.kind !== "groupAcknowledge") throw new RejectionError("service/draining");
    if (this.state.kind !== "anonymous") throw new RejectionError("group/needs-anonymous");
    return this.state.groups.serve(body);
  }

  private async serveMailbox(body: Exclude<ClientBody, GroupBody>): Promise<ServiceBody> {
    const state = this.state;
    if (body.kind === "ping")
      return { kind: "pong", ...(state.kind === "device" ? this.takeNewMark() : undefined) };
    if (body.kind === "hello") throw new RejectionError("connection/hello-repeated");
    if (body.kind === "acknowledge") {
      if (state.kind !== "device") throw new RejectionError("mailbox/needs-device");
      await state.delivery.acknowledge(body.throughEnvelopeId);
      return { kind: "acknowledged", throughEnvelopeId: body.throughEnvelopeId };
    }
    if (this.set.draining()) throw new RejectionError("service/draining");
    const startedAt = performance.now();
    try {
      if (body.kind === "submitSealed") {
        if (state.kind === "device") throw new RejectionError("submit/sealed-on-authenticated");
        if (state.kind === "anonymous" && state.groups.isNamed)
          throw new RejectionError("submit/sealed-beside-group");
        return await submitSealed(this.context, this.remoteAddress, body);
      }
      if (state.kind !== "device") throw new RejectionError("submit/identified-on-anonymous");
      return await submitIdentified(this.context, state.device.address, body);
    } finally {
      this.context.metrics.observe("submit_ms", performance.now() - startedAt);
    }
  }

  private async hello(requestId: number, hello: Extract<ClientBody, { kind: "hello" }>): Promise<void> {
    if (this.set.draining()) throw new RejectionError("service/draining");
    const version = negotiateVersion(hello.versions);
    const device = hello.auth === undefined ? undefined : await authenticate(this.context, hello.auth);
    // Before anything is read of it: the store may turn out to be another one.
    if (device !== undefined && hello.storeMark !== undefined) await this.set.marks.shown(hello.storeMark);
    const queueEnd = device === undefined ? undefined : await lastIdOf(this.context, device.address);
    // The connection may have been closed while the stores were asked.
    if (this.state.kind !== "greeting") return;
    this.stopHelloTimer();
    const challenge = this.createChallenge();
    this.push(this.helloReply(version, challenge, queueEnd), requestId);
    if (device === undefined || queueEnd === undefined) {
      this.state = { kind: "anonymous", groups: this.createSession(challenge) };
      this.set.identified(this, undefined);
      return;
    }
    this.set.identified(this, formatAddress(device.address));
    const delivery = new DeviceDelivery(this.context, device, queueEnd, {
      ready: () => this.state.kind === "device" && !this.isCongested(),
      push: (body) => this.push(body),
      takeNewMark: () => this.takeNewMark(),
      failed: (error) => this.failed(error),
    });
    const unsubscribe = this.context.signals.subscribe(device.address, delivery);
    this.state = { kind: "device", device, delivery, unsubscribe };
    await this.tellLowStock(device, delivery);
    await tellLowKeyPackages(this.context, device.address, delivery);
    delivery.lookAgain();
  }

  private createChallenge(): Bytes {
    const { challengeKey, clock, limits, random } = this.context;
    return createChallenge(challengeKey, random.bytes(8), clock.now() + limits.challengeLifetimeMs);
  }

  private createSession(challenge: Bytes): GroupSession {
    const peer = { remoteAddress: this.remoteAddress, challenge };
    return new GroupSession(this.hub, peer, {
      remoteAddress: this.remoteAddress,
      ready: () => this.state.kind === "anonymous" && !this.isCongested(),
      push: (body) => this.push(body),
      pushEncoded: (frame) => this.send(frame),
      hintResume: () => this.hintResume(),
      failed: (error) => this.failed(error),
    });
  }

  private helloReply(version: number, challenge: Bytes, lastEnvelopeId: EnvelopeId | undefined): ServiceBody {
    const { clock, limits, storeId } = this.context;
    return {
      kind: "helloReply",
      version,
      storeId,
      challenge,
      serverTimeMs: clock.now(),
      limits: {
        frameBytes: limits.frameBytes,
        envelopeBytes: limits.envelopeBytes,
        recipientsPerSubmit: limits.recipientsPerSubmit,
        pingIntervalMs: limits.pingIntervalMs,
      },
      ...(lastEnvelopeId === undefined ? {} : { lastEnvelopeId, ...this.takeNewMark() }),
    };
  }

  /** The store's mark for a frame of a device's connection, if it is another one than before. */
  private takeNewMark(): { readonly storeMark?: Bytes } {
    const mark = this.set.marks.current();
    if (mark === undefined || mark === this.mark) return {};
    this.mark = mark;
    return { storeMark: mark };
  }

  private async tellLowStock(device: AuthenticatedDevice, delivery: DeviceDelivery): Promise<void> {
    const left = await this.context.stores.keys.count(device.address);
    if (Math.min(left.preKeys, left.kyberPreKeys) < this.context.limits.preKeysLow) delivery.stockLow(left);
  }

  private push(body: ServiceBody, requestId = 0): void {
    if (this.state.kind !== "closed") this.send(encodeServiceFrame({ requestId, body }));
  }

  private send(frame: Bytes): void {
    if (this.state.kind === "closed") return;
    this.connection.send(frame);
    if (this.connection.bufferedBytes() > this.context.limits.sendBufferBytes) this.hintResume();
    else if (this.isCongested()) this.watchSlowReader();
  }

  /** Above a quarter of the send buffer nothing is pushed and nothing read until the peer caught up. */
  private isCongested(): boolean {
    return this.connection.bufferedBytes() > this.context.limits.sendBufferBytes / 4;
  }

  private adjustReading(): void {
    if (this.state.kind === "closed") return;
    this.connection.setReading(this.pending < MAX_PENDING && !this.isCongested());
  }

  private watchSlowReader(): void {
    this.stopSlowTimer ??= this.context.clock.after(this.context.timing.slowReaderMs, () => {
      this.stopSlowTimer = undefined;
      if (this.isCongested()) this.hintResume();
    });
  }

  /** The mailbox keeps everything; the client comes back when it can read again. */
  private hintResume(reason = "connection/slow-reader"): void {
    if (this.state.kind === "closed") return;
    const retryAfterMs = this.context.timing.reconnectAfterMs;
    this.leave();
    this.connection.send(encodeServiceFrame({ requestId: 0, body: { kind: "resumeHint", retryAfterMs } }));
    this.connection.close(CLOSE_TRY_AGAIN, reason);
  }

  private failed(error: unknown): void {
    this.refuse(0, toRefusal(error, this.context.log));
  }

  /** Says no; closes where the wire's table says so, and always before a Hello was accepted. */
  private refuse(requestId: number, refusal: Refusal): void {
    if (this.state.kind === "closed") return;
    this.context.metrics.count("rejections", refusal.code);
    const body = { kind: "rejection" as const, ...createRejection(refusal.code, refusal.retryAfterMs) };
    const identified = this.state.kind === "anonymous" || this.state.kind === "device";
    this.push(body, requestId);
    if (identified && rejectionRow(refusal.code).closes !== true) return;
    this.leave();
    this.connection.close(CLOSE_REFUSED, refusal.code);
  }

  private leave(): void {
    const left = this.state;
    this.state = { kind: "closed" };
    if (left.kind === "device") left.unsubscribe();
    else if (left.kind === "anonymous") left.groups.end();
    this.stopHelloTimer();
    this.stopSlowTimer?.();
    this.stopSlowTimer = undefined;
  }
}

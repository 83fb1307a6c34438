/**
 * Frames of the socket. A frame is `{requestId, body}`, and a body is the fields of its message with a `kind`.
 * Encoding is for the side that sends, decoding for the side that receives: each side names the direction,
 * and a frame of the other direction is refused.
 */
import { type Bytes, RejectionError, UsageError } from "@murmuration/base";
import { limits } from "./limits.ts";
import * as m from "./messages.ts";
import { checked, type MessageOf, type MessageType, parse, serialise, toRaw } from "./shape.ts";

export const clientBodies = {
  hello: m.hello,
  acknowledge: m.acknowledge,
  submitSealed: m.submitSealed,
  submitIdentified: m.submitIdentified,
  ping: m.ping,
  groupCreate: m.groupCreate,
  groupAccess: m.groupAccess,
  groupAcknowledge: m.groupAcknowledge,
  groupSubmit: m.groupSubmit,
  groupCommit: m.groupCommit,
  groupPropose: m.groupPropose,
  groupTurnRelease: m.groupTurnRelease,
  groupInfoRequest: m.groupInfoRequest,
  groupBan: m.groupBan,
  groupRefuse: m.groupRefuse,
  groupRefeed: m.groupRefeed,
  groupPushHandle: m.groupPushHandle,
} as const;

export const serviceBodies = {
  helloReply: m.helloReply,
  deliver: m.deliver,
  queueEmpty: m.queueEmpty,
  resumeHint: m.resumeHint,
  drain: m.drain,
  submitAccepted: m.submitAccepted,
  submitMismatch: m.submitMismatch,
  acknowledged: m.acknowledged,
  pong: m.pong,
  preKeysLow: m.preKeysLow,
  rejection: m.rejection,
  keyPackagesLow: m.keyPackagesLow,
  groupCreated: m.groupCreated,
  groupAccessGranted: m.groupAccessGranted,
  groupEntries: m.groupEntries,
  groupSubmitAccepted: m.groupSubmitAccepted,
  groupCommitAccepted: m.groupCommitAccepted,
  groupCommitLost: m.groupCommitLost,
  groupProposeAccepted: m.groupProposeAccepted,
  groupTurn: m.groupTurn,
  groupInfoReply: m.groupInfoReply,
  groupDone: m.groupDone,
} as const;

type Bodies<T extends Readonly<Record<string, MessageType<unknown>>>> = {
  [K in keyof T & string]: { readonly kind: K } & MessageOf<T[K]>;
}[keyof T & string];

/** What a client sends. */
export type ClientBody = Bodies<typeof clientBodies>;
/** What the delivery service sends. */
export type ServiceBody = Bodies<typeof serviceBodies>;

export interface Frame<out Body> {
  /** From 1 where an answer is expected; an answer repeats it; 0 in a frame that answers nothing. */
  readonly requestId: number;
  readonly body: Body;
}
export type ClientFrame = Frame<ClientBody>;
export type ServiceFrame = Frame<ServiceBody>;

/** A refused frame, with its request id where it could still be read (else 0), so that the answer finds it. */
export class FrameRejection extends RejectionError {
  readonly requestId: number;
  constructor(code: string, requestId: number, explanation?: string) {
    super(code, explanation);
    this.requestId = requestId;
  }
}

const MAX_REQUEST_ID = 0xffff_ffff;

function encode(
  bodies: Readonly<Record<string, MessageType<unknown>>>,
  frame: Frame<{ kind: string }>,
): Bytes {
  const { kind, ...fields } = frame.body;
  const type = Object.hasOwn(bodies, kind) ? bodies[kind] : undefined;
  if (type === undefined) throw new UsageError("wire/cannot-encode", "kind of frame");
  if (!Number.isInteger(frame.requestId) || frame.requestId < 0 || frame.requestId > MAX_REQUEST_ID) {
    throw new UsageError("wire/cannot-encode", "request id");
  }
  const raw = toRaw(type, fields);
  const missing = missingContent({ kind, ...fields });
  if (missing !== undefined) throw new UsageError("wire/cannot-encode", missing);
  return serialise("Frame", { requestId: frame.requestId, [kind]: raw });
}

/** Encodes a frame of the client. Throws UsageError `wire/cannot-encode` where the service would refuse it. */
export function encodeClientFrame(frame: ClientFrame): Bytes {
  return encode(clientBodies, frame);
}

/** Encodes a frame of the delivery service. Throws UsageError `wire/cannot-encode`. */
export function encodeServiceFrame(frame: ServiceFrame): Bytes {
  return encode(serviceBodies, frame);
}

function decode(
  bodies: Readonly<Record<string, MessageType<unknown>>>,
  others: Readonly<Record<string, MessageType<unknown>>>,
  input: Uint8Array,
  maxBytes: number,
): Frame<unknown> {
  const raw = parse("Frame", input, maxBytes);
  const requestId = typeof raw["requestId"] === "number" ? raw["requestId"] : 0;
  const kind = raw["body"];
  if (typeof kind !== "string") throw new FrameRejection("wire/unknown-frame", requestId);
  if (Object.hasOwn(others, kind)) throw new FrameRejection("wire/wrong-direction", requestId);
  try {
    const body = checked(bodies[kind]!, raw[kind]) as object;
    const missing = missingContent({ kind, ...body });
    if (missing !== undefined) throw new RejectionError("wire/missing-field", missing);
    return { requestId, body: { kind, ...body } };
  } catch (error) {
    if (error instanceof RejectionError)
      throw new FrameRejection(error.code, requestId, error.message.slice(error.code.length + 2));
    throw error;
  }
}

const exactlyOne = (...contents: readonly unknown[]): boolean =>
  contents.filter((content) => content !== undefined).length === 1;

/** What the declarations cannot say of a body: of some fields exactly one is there. Names the first that is not. */
function missingContent(body: { readonly kind: string }): string | undefined {
  const { kind } = body as ClientBody | ServiceBody;
  if (kind === "deliver") {
    const { envelopes } = body as unknown as m.Deliver;
    const good = envelopes.every(({ sealed, identified, welcome }) =>
      exactlyOne(sealed, identified, welcome),
    );
    return good ? undefined : "Envelope.content";
  }
  if (kind === "groupEntries" || kind === "groupCommitLost") {
    const { entries } = body as unknown as m.GroupEntries;
    const good = entries.every(({ application, proposal, commit, void: voided }) =>
      exactlyOne(application, proposal, commit, voided),
    );
    if (!good) return "GroupEntry.content";
    // A turn without its time, or a time without its turn.
    const { turn, turnExpiresInMs } = body as unknown as Partial<m.GroupCommitLost>;
    return (turn === undefined) === (turnExpiresInMs === undefined) ? undefined : "GroupCommitLost.turn";
  }
  if (kind === "groupInfoRequest") {
    const { expected, leaf, link } = body as unknown as m.GroupInfoRequest;
    return exactlyOne(leaf, link, expected) ? undefined : "GroupInfoRequest.proof";
  }
  return undefined;
}

/**
 * Decodes what a client sent; `maxBytes` is limits.helloBytes before Hello and the agreed frame size after.
 * Throws FrameRejection or RejectionError only: wire/too-large (checked first), wire/garbage,
 * wire/unknown-frame, wire/wrong-direction, wire/missing-field, wire/invalid-field, wire/field-too-large,
 * wire/too-many.
 */
export function decodeClientFrame(input: Uint8Array, maxBytes: number = limits.frameBytes): ClientFrame {
  return decode(clientBodies, serviceBodies, input, maxBytes) as ClientFrame;
}

/** Decodes what the delivery service sent. Throws like {@link decodeClientFrame}. */
export function decodeServiceFrame(input: Uint8Array, maxBytes: number = limits.frameBytes): ServiceFrame {
  return decode(serviceBodies, clientBodies, input, maxBytes) as ServiceFrame;
}

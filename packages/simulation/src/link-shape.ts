/** How a link treats what passes over it, as arithmetic: no timers, no sockets. */

export interface LinkShape {
  /** Time every byte is under way, ms. */
  readonly delayMs: number;
  /** Largest further delay of a piece, ms. Pieces never overtake each other. */
  readonly jitterMs: number;
  /** Bytes a second in each direction; Infinity does not throttle. */
  readonly bytesPerSecond: number;
}

export const perfectLink: LinkShape = { delayMs: 0, jitterMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY };

/** One direction of one connection: until when it is occupied, and when its last piece arrives, ms. */
export interface LineState {
  readonly freeAtMs: number;
  readonly lastArrivalMs: number;
}

export const idleLine: LineState = { freeAtMs: 0, lastArrivalMs: 0 };

/** A throttled link hands its bytes on in steps of this time, ms, as a slow line does. */
const STEP_MS = 20;

/** The largest piece that passes at once, bytes. */
export function pieceBytes(shape: LinkShape): number {
  return Math.max(1, Math.min(64 * 1024, Math.floor((shape.bytesPerSecond * STEP_MS) / 1000)));
}

/** When a piece of `bytes` that enters the line at `nowMs` arrives. `luck` from 0 to below 1 places the jitter. */
export function decideArrival(
  line: LineState,
  bytes: number,
  shape: LinkShape,
  nowMs: number,
  luck: number,
): LineState {
  const freeAtMs = Math.max(nowMs, line.freeAtMs) + (bytes * 1000) / shape.bytesPerSecond;
  const arrival = freeAtMs + shape.delayMs + luck * shape.jitterMs;
  return { freeAtMs, lastArrivalMs: Math.max(arrival, line.lastArrivalMs) };
}

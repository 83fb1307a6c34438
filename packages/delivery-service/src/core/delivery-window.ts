import { type EnvelopeId, RejectionError } from "@murmuration/base";

/**
 * How far one connection has been served. Envelopes that were sent and not acknowledged are the bound on what a
 * slow reader can make the service hold for it.
 */
export interface DeliveryWindow {
  /** Highest id sent on this connection; 0 at first, so that a new connection starts at what is still there. */
  readonly sentThrough: EnvelopeId;
  /** Ids sent and not acknowledged, in order. */
  readonly unacknowledged: readonly EnvelopeId[];
}

export const OPEN_WINDOW: DeliveryWindow = { sentThrough: 0 as EnvelopeId, unacknowledged: [] };

/** How many more envelopes may be sent now. */
export function roomFor(window: DeliveryWindow, maxUnacknowledged: number): number {
  return Math.max(0, maxUnacknowledged - window.unacknowledged.length);
}

/** The window after these envelopes were sent; they follow what was sent before. */
export function afterSending(window: DeliveryWindow, ids: readonly EnvelopeId[]): DeliveryWindow {
  const last = ids.at(-1);
  if (last === undefined) return window;
  return { sentThrough: last, unacknowledged: [...window.unacknowledged, ...ids] };
}

/**
 * The window after the device acknowledged. Throws RejectionError `mailbox/not-delivered` for an id beyond what
 * this connection has sent: it would delete envelopes that the device has never seen.
 */
export function afterAcknowledging(window: DeliveryWindow, through: EnvelopeId): DeliveryWindow {
  if (through > window.sentThrough) throw new RejectionError("mailbox/not-delivered");
  return { ...window, unacknowledged: window.unacknowledged.filter((id) => id > through) };
}

/** The window after these envelopes turned out to be undeliverable: nobody will acknowledge them. */
export function afterDiscarding(window: DeliveryWindow, ids: readonly EnvelopeId[]): DeliveryWindow {
  return { ...window, unacknowledged: window.unacknowledged.filter((id) => !ids.includes(id)) };
}

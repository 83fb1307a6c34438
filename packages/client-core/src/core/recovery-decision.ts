/** What a HelloReply says about who has lost what. Pure, so that every case is a line in a test. */

export interface HelloFacts {
  /** The store this device knew; undefined before its first connection. */
  readonly knownStore: string | undefined;
  readonly store: string;
  /**
   * Highest envelope id that this device has persisted. Undefined where the store took the place of another one and nothing has
   * come from it yet: it may go on with the mailboxes of the other, whose ids say nothing about this device.
   */
  readonly cursor: number | undefined;
  /** Highest envelope id that the mailbox ever gave out; undefined from a service that does not say. */
  readonly lastEnvelopeId: number | undefined;
}

export type HelloDecision =
  /** Nobody lost anything, as far as can be seen. */
  | { readonly kind: "in-step" }
  /**
   * The service has envelopes for us, or has had: what it delivers first shows whether we were restored from an
   * old copy. Until then nothing is sent.
   */
  | { readonly kind: "look-first" }
  /** Mailboxes were lost or set back: fresh prekeys, and everything without a receipt again. */
  | { readonly kind: "service-lost"; readonly cursor: number };

export function decideAtHello(facts: HelloFacts): HelloDecision {
  if (facts.knownStore !== undefined && facts.knownStore !== facts.store) {
    return { kind: "service-lost", cursor: 0 };
  }
  if (facts.lastEnvelopeId === undefined || facts.cursor === undefined) return { kind: "in-step" };
  if (facts.lastEnvelopeId < facts.cursor) return { kind: "service-lost", cursor: facts.lastEnvelopeId };
  return facts.lastEnvelopeId > facts.cursor ? { kind: "look-first" } : { kind: "in-step" };
}

/**
 * Whether the device has lost what it had: envelope ids follow each other without gaps, so one that is missing was
 * acknowledged by a later state of this very device, or lay there for 30 days. `firstId` is the first envelope
 * delivered; undefined when the mailbox was empty although ids beyond the cursor had been given out.
 */
export function deviceWasRestored(cursor: number, firstId: number | undefined): boolean {
  return firstId === undefined || firstId > cursor + 1;
}

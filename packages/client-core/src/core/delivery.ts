/** Pure rules of what is confirmed, shown, and to whom a conversation is open. */
import type { ConversationState } from "../api.ts";
import type { BodyKind } from "./content.ts";

/** Kinds that their author wants a delivery receipt for, and may send again without one. */
const CONFIRMED: ReadonlySet<BodyKind> = new Set([
  "text",
  "edit",
  "reaction",
  "delete",
  "expiry",
  "groupInvite",
  "groupKey",
  "groupChange",
]);

export const isConfirmed = (kind: BodyKind | undefined): boolean => kind !== undefined && CONFIRMED.has(kind);

/** The state that a 1:1 conversation begins in when somebody writes. */
export function decideEntry(facts: {
  readonly accepted: boolean;
  readonly acceptUnknown: boolean;
}): ConversationState {
  return facts.accepted || facts.acceptUnknown ? "active" : "request";
}

/** Receipts are sent only where the user has accepted the conversation: a request must not show that we are there. */
export function mayConfirm(state: ConversationState): boolean {
  return state === "active";
}

/**
 * A message of a former member counts if the service accepted it before we learned of the removal: its sender
 * saw it accepted. `acceptedAtMs` is rounded down to a minute by the service.
 */
export function acceptsFormerMember(acceptedAtMs: number, removedAtMs: number | undefined): boolean {
  return removedAtMs !== undefined && acceptedAtMs <= removedAtMs;
}

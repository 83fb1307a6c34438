import type { Conversation } from "../api.ts";

export interface RoutingFacts {
  readonly protocol: Conversation["protocol"];
  /** Members after the change that is about to be made, invited accounts included. */
  readonly projectedMembers: number;
  readonly mlsThreshold: number;
}

/**
 * Which protocol carries a conversation. From the threshold on it is MLS, and it never goes back: a group that
 * shrinks stays what it is, so that members around the threshold do not make it flap.
 */
export function decideProtocol(facts: RoutingFacts): Conversation["protocol"] {
  return facts.protocol === "mls" || facts.projectedMembers >= facts.mlsThreshold ? "mls" : "pairwise";
}

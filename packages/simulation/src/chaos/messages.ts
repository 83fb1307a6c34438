/** What the processes of clients answer. */
import type { CommunityCosts } from "@murmuration/client-core";

export interface OpenedClient {
  readonly accountId: string;
  readonly contactCard: string;
}

/** A group as one client has it; all members have to have it alike. */
export interface GroupView {
  readonly state: string;
  readonly title?: string;
  readonly expiry?: number;
  readonly standing?: string;
  /** `account/role/invited`, sorted. */
  readonly members: readonly string[];
  /** -1 in a pairwise group. */
  readonly epoch: number;
  /** SHA-256 of the epoch's authenticator (RFC 9420 section 8.7), in hex; empty in a pairwise group. */
  readonly authenticator: string;
  /** Messages that came into being here since the client was opened. */
  readonly lines: number;
}

export interface GroupHistory {
  /** Texts, and when this client stored them, ms since 1970. */
  readonly lines: readonly (readonly [text: string, storedAtMs: number])[];
  /** Messages that the client says could not be decrypted for good. */
  readonly messagesLost: number;
}

export interface ClientReport {
  /** Texts of own messages, and when they were said to be accepted, ms since 1970. */
  readonly accepted: readonly (readonly [text: string, atMs: number])[];
  readonly decisions: readonly string[];
  readonly costs: CommunityCosts;
}

export interface WorkerPulse {
  /** Messages that wait in outboxes. */
  readonly waiting: number;
  /** In the order in which groups were asked for. */
  readonly views: readonly GroupView[];
}

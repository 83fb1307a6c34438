/** What the demo's processes say to each other, over the channel that node:child_process gives them. */

import type { ClientSettings, CommunityCosts } from "@murmuration/client-core";

/** From the orchestrator to a process of clients. */
export type ClientRequest =
  /** Opens a member's client, registers it if it has no account yet, and connects it. */
  | {
      readonly op: "open";
      readonly member: number;
      readonly home: string;
      readonly key: string;
      readonly server: string;
      /** Storage without encryption, and a small stock of KeyPackages. */
      readonly light: boolean;
      readonly settings: Partial<ClientSettings>;
    }
  | { readonly op: "add-contacts"; readonly member: number; readonly cards: readonly string[] }
  | { readonly op: "create-group"; readonly member: number; readonly accounts: readonly string[] }
  /** Resolves when the record says that the group has no room, or when the members are in. */
  | {
      readonly op: "add";
      readonly member: number;
      readonly group: string;
      readonly accounts: readonly string[];
    }
  /** Resolves when the member is in the group and sees all of its members. */
  | { readonly op: "await-group"; readonly member: number; readonly group: string; readonly members: number }
  /** Resolves when the message is written down; a measured one when the service has accepted it. */
  | {
      readonly op: "send";
      readonly member: number;
      readonly group: string;
      readonly text: string;
      readonly measured?: true;
    }
  /** Says things in a community of its own, one after the other, until its code is compiled. */
  | { readonly op: "practise"; readonly member: number; readonly messages: number }
  /** Resolves when everything sent so far is accepted. */
  | { readonly op: "settle"; readonly member: number }
  | { readonly op: "history"; readonly member: number; readonly group: string }
  /** The orchestrator has recorded what these members reported, up to these events. */
  | {
      readonly op: "acknowledge";
      readonly through: readonly { readonly member: number; readonly eventId: number }[];
    }
  | { readonly op: "usage" }
  | { readonly op: "costs" }
  | { readonly op: "close" };

/** From the orchestrator to the process of the delivery service. */
export type ServiceRequest = { readonly op: "usage" } | { readonly op: "close" };

export interface Opened {
  readonly accountId: string;
  readonly contactCard: string;
}

export interface History {
  /** Indices of the messages in the member's history, as often as they stand there. */
  readonly messages: readonly number[];
  readonly protocol: string;
}

export interface Usage {
  /** User and system CPU time of the process since its start, microseconds. */
  readonly cpuUs: number;
  /** Bytes of frames and bodies that all clients of the process sent and received since its start. */
  readonly sent: number;
  readonly received: number;
}

/** What communities have cost the clients of a process, one entry for each. */
export type Costs = readonly CommunityCosts[];

export interface Numbered<Request> {
  readonly id: number;
  readonly request: Request;
}

/** The answer to a numbered request. */
export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  /** Code of the error, if it failed. */
  readonly error?: string;
}

/** Answer to `send`. */
export interface Sent {
  /** Accounts that were members when it was said, and have not been named by this member's process before. */
  readonly joined: readonly string[];
  /**
   * Of a measured message: CPU of the sender's process, all threads, from the text in its hand until the client has read
   * in the log that its message is accepted, has written that down and told its listeners, microseconds.
   */
  readonly cpuUs?: number;
}

/**
 * A stored event of a member. `came` and `said`: a line with a message of the plan, of somebody else or its own.
 * `accepted`: the service has such a message of its own. `switched`: its group goes on over MLS. `joined`: it is in the
 * group. `other`: anything else, which is only acknowledged.
 */
export interface ReportedEvent {
  readonly id: number;
  readonly what: "came" | "said" | "accepted" | "switched" | "joined" | "other";
  readonly message?: number;
  /** When the member's client stored it. */
  readonly atMs: number;
}

/** How far the device that prepares a move is; such events are not stored. */
export interface MoveNote {
  readonly atMs: number;
  readonly kind: "migration" | "progress";
  readonly state?: string;
  readonly done: number;
  readonly total: number;
}

/** What happened at a member. */
export interface MemberReport {
  readonly member: number;
  readonly events: readonly ReportedEvent[];
  readonly notes: readonly MoveNote[];
}

/**
 * What happened at the members of a process in a short while: hundreds of members that told it one by one would keep the
 * machine busier with the demo than with what it shows.
 */
export interface Report {
  readonly reports: readonly MemberReport[];
}

/** Sent once by the delivery service, when it listens. */
export interface Listening {
  readonly port: number;
}

/** CPU of this process since its start. */
export function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

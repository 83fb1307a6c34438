/** What the demo's processes say to each other, over the channel that node:child_process gives them. */

import type { CommunityCosts } from "@murmuration/client-core";

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
    }
  | { readonly op: "add-contacts"; readonly member: number; readonly cards: readonly string[] }
  | { readonly op: "create-group"; readonly member: number; readonly accounts: readonly string[] }
  /** Resolves when the member is in the group and sees all of its members. */
  | { readonly op: "await-group"; readonly member: number; readonly group: string; readonly members: number }
  | { readonly op: "send"; readonly member: number; readonly group: string; readonly text: string }
  /** Resolves when everything sent so far is accepted. */
  | { readonly op: "settle"; readonly member: number }
  | { readonly op: "history"; readonly member: number; readonly group: string }
  | { readonly op: "acknowledge"; readonly member: number; readonly eventId: number }
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

/** Lines that came into being at a member: event ids and, where it is one of the plan, the message's index. */
export interface Report {
  readonly member: number;
  readonly events: ReadonlyArray<readonly [eventId: number, message: number | undefined]>;
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

/** Names of the schema as the page says them. */

import type { Unit } from "./chart.ts";
import type { FanoutRow, MembershipOperation, Protocol } from "./schema.ts";

const protocolWords: Readonly<Record<Protocol, string>> = {
  pairwise: "pairwise",
  "pairwise-sealed": "pairwise, sealed sender",
  "sender-key-sealed": "sender key, sealed sender",
  "mls-warm": "MLS, warm tree",
  "mls-cold": "MLS, cold tree",
};

/** A protocol that is not known here is called by its own name. */
export const nameOfProtocol = (protocol: string): string =>
  Object.hasOwn(protocolWords, protocol) ? protocolWords[protocol as Protocol] : protocol;

export const operationWords: Readonly<Record<MembershipOperation, string>> = {
  create: "create the group",
  "add-1": "add one member",
  "add-k": "add several members at once",
  "remove-1": "remove one member",
  "self-update": "renew one member's keys",
  join: "join",
  rejoin: "come back after being lost",
  migrate: "move a pairwise group to MLS",
};

/** One of the costs of a fan-out row. */
export interface Measure {
  readonly key: Exclude<keyof FanoutRow, "protocol" | "members" | "payloadBytes">;
  readonly title: string;
  /** As the subject of a sentence. */
  readonly subject: string;
  readonly unit: Unit;
  /** Which of a spread's figures belongs to it; exact measures have none. */
  readonly spread?: "senderCpu" | "dsCpu" | "receiverCpu";
}

export const measures: readonly Measure[] = [
  {
    key: "senderBytes",
    title: "The sender's socket, both ways",
    subject: "the sender's traffic",
    unit: "bytes",
  },
  { key: "storedBytes", title: "What the service stores", subject: "the service's storage", unit: "bytes" },
  { key: "egressBytes", title: "What the service sends out", subject: "the service's egress", unit: "bytes" },
  {
    key: "receiverBytes",
    title: "What one member receives",
    subject: "one receiver's download",
    unit: "bytes",
  },
  {
    key: "senderCpuUs",
    title: "CPU of the sender",
    subject: "the sender's CPU",
    unit: "us",
    spread: "senderCpu",
  },
  { key: "dsCpuUs", title: "CPU of the service", subject: "the service's CPU", unit: "us", spread: "dsCpu" },
  {
    key: "receiverCpuUs",
    title: "CPU of one receiver",
    subject: "one receiver's CPU",
    unit: "us",
    spread: "receiverCpu",
  },
];

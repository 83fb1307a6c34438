/** What the processes of the fan-out tell each other. */
import type { Bytes } from "@murmuration/base";
import type { Protocol } from "../report/schema.ts";
import type { ReceiverState } from "./signal-device.ts";

export const isMls = (protocol: Protocol): protocol is "mls-warm" | "mls-cold" => protocol.startsWith("mls");

export type Temperature = "warm" | "cold";
export const temperatureOf = (protocol: "mls-warm" | "mls-cold"): Temperature =>
  protocol === "mls-warm" ? "warm" : "cold";

/** One message of a protocol in a group, several times over where it is short. */
export interface Task {
  readonly protocol: Protocol;
  readonly members: number;
  readonly payloadBytes: number;
  /** The message is sent so often; figures are of one. */
  readonly times: number;
  /** Makes the ids of submits differ from those of all other tasks. */
  readonly name: string;
  /** File that the frames go through from the sender to the service. */
  readonly frames: string;
  /** File that the frames of the timed receivers go through. */
  readonly delivered: string;
}

/** For each time the message is sent, its frames. */
export type SentFrames = readonly (readonly Bytes[])[];
/** For each time, what came to each of the timed receivers. */
export type DeliveredFrames = readonly (readonly DeliveredTo[])[];
export interface DeliveredTo {
  /** Account number in pairwise groups, leaf index in MLS groups. */
  readonly index: number;
  readonly frame: Bytes;
}

export interface SenderResult {
  readonly cpuUs: number;
  readonly uploadBytes: number;
}

export interface ServiceResult {
  readonly cpuUs: number;
  /** Answers to the sender, and in an MLS group what it is delivered of its own. */
  readonly senderDownloadBytes: number;
  readonly storedBytes: number;
  readonly egressBytes: number;
}

export interface ReceiverResult {
  /** Of one receiver and one message. */
  readonly cpuUs: number;
  readonly receivers: number;
}

export interface OpenedSender {
  readonly receivers: readonly ReceiverState[];
  readonly senderIdentityKey: Bytes;
  readonly trustRoot: Bytes;
  readonly senderKeyDistribution: Bytes;
}

/** Receivers of pairwise groups that are timed: the same ones in all groups that are large enough. */
export const TIMED_RECEIVERS = 20;
/** In MLS groups every receiver does the same work, and each of them holds the tree. */
const TIMED_MLS_RECEIVERS = 5;

/** Leaves of the timed receivers, spread over the tree; leaf 0 sends. */
export function timedLeaves(members: number): number[] {
  const count = Math.min(TIMED_MLS_RECEIVERS, members - 1);
  return Array.from({ length: count }, (_, i) => 1 + Math.floor((i * (members - 1)) / count));
}

/**
 * The documented shape of `bench/out/report.json`, which `npm run bench` writes and everything else reads: the page,
 * `compare`, the README's headline. Each section is there once it was measured; one that is absent was not, and
 * nothing stands in for it. Units are the last word of a name: `Us` are microseconds, `Bytes` are bytes.
 */
import type { Machine, MlsReport } from "../mls/rows.ts";

/** Changes with every change of meaning; a reader refuses what it does not know. */
export const REPORT_SCHEMA = "murmuration-bench/1";

/** How a group message or a membership change can be spread. */
export const protocols = [
  "pairwise",
  "pairwise-sealed",
  "sender-key-sealed",
  "mls-warm",
  "mls-cold",
] as const;

/**
 * - `pairwise`: one Double Ratchet ciphertext for each device; the service sees the sender.
 * - `pairwise-sealed`: the same within sealed sender v1: what Murmuration does below 256 members.
 * - `sender-key-sealed`: one sender-key ciphertext, its key sealed to each device by sealed sender v2.
 * - `mls-warm`: one RFC 9420 PrivateMessage in a group whose every parent node has a key.
 * - `mls-cold`: the same in a group whose parent nodes are all blank, as after a bulk add.
 */
export type Protocol = (typeof protocols)[number];

/** One measured cell of the fan-out: one message from one member to all others, each member one device. */
export interface FanoutRow {
  readonly protocol: Protocol;
  /** Members, the sender among them. */
  readonly members: number;
  /** Bytes of what is encrypted, before any layer's own framing. */
  readonly payloadBytes: number;
  /** Bytes on the sender's socket, both ways: submit frames up and their answers down, with WebSocket framing. */
  readonly senderBytes: number;
  /** Bytes that the service's store holds because of the message once it is accepted: values of all rows. */
  readonly storedBytes: number;
  /** Bytes that the service sends to receivers: the sum over all of them, with WebSocket framing. */
  readonly egressBytes: number;
  /** Bytes that come to one receiver: `egressBytes` over the number of receivers, rounded. */
  readonly receiverBytes: number;
  /** CPU of the sender's process: encrypt for everybody, encode the frames. Median of interleaved runs. */
  readonly senderCpuUs: number;
  /** CPU of the service's process: decode, validate, store durably, read back, encode for every receiver. */
  readonly dsCpuUs: number;
  /** CPU of one receiver: decode the frame, decrypt. Mean of the receivers that were sampled. */
  readonly receiverCpuUs: number;
}

/** Least and most of the runs whose median a row states. */
export interface Spread {
  readonly leastUs: number;
  readonly mostUs: number;
}

/** How far the CPU figures of a fan-out row scattered: what `compare` takes as noise. */
export interface FanoutSpread {
  readonly protocol: Protocol;
  readonly members: number;
  readonly payloadBytes: number;
  /** The part of `senderBytes` that goes up. */
  readonly senderUploadBytes: number;
  /** Runs that the medians are of. */
  readonly runs: number;
  /** Receivers whose decryption was timed in each run; everybody's ciphertext was made, stored and encoded. */
  readonly receiversTimed: number;
  readonly senderCpu: Spread;
  readonly dsCpu: Spread;
  readonly receiverCpu: Spread;
}

export interface FanoutSection {
  /** In the order of protocols, members, payload. */
  readonly rows: readonly FanoutRow[];
  /** One for each row, in the same order. */
  readonly spreads: readonly FanoutSpread[];
  /** Sentences that say what was and what was not counted; the page prints them under the table. */
  readonly definitions: readonly string[];
}

/** What changes a group's membership or keys. */
export const membershipOperations = [
  "create",
  "add-1",
  "add-k",
  "remove-1",
  "self-update",
  "join",
  "rejoin",
  "migrate",
] as const;

export type MembershipOperation = (typeof membershipOperations)[number];

/** One measured membership operation. The columns are those of the fan-out, plus what a newcomer receives and does. */
export interface MembershipRow {
  readonly operation: MembershipOperation;
  readonly protocol: Protocol;
  /** Members before the operation; for `create` and `migrate`, those that the group has in the end. */
  readonly members: number;
  /** Members added or removed by it. */
  readonly changed: number;
  /** What the acting member sends and is answered. */
  readonly senderBytes: number;
  /** The part of it that goes up. */
  readonly senderUploadBytes: number;
  readonly storedBytes: number;
  /** To all members and newcomers together. */
  readonly egressBytes: number;
  /** To one member that was there before; 0 where nobody was. */
  readonly receiverBytes: number;
  /** To one newcomer, what it fetches itself (the tree, bundles) included; null where nobody is new. */
  readonly newcomerBytes: number | null;
  readonly senderCpuUs: number;
  readonly dsCpuUs: number;
  readonly receiverCpuUs: number;
  readonly newcomerCpuUs: number | null;
  /** Runs that the CPU medians are of. */
  readonly runs: number;
}

export interface MembershipSection {
  readonly rows: readonly MembershipRow[];
  /** `operation protocol`: why there is no row, such as that a protocol has no such operation. */
  readonly leftOut: Readonly<Record<string, string>>;
  readonly definitions: readonly string[];
}

/** One cost at N members and at 16 N, by this project's engine or one of the fan-out protocols. */
export interface GrowthRow {
  /** Such as `fanout senderBytes` or `commit-process-warm medianMs`. */
  readonly cost: string;
  readonly protocol: Protocol | "murmuration";
  readonly unit: "bytes" | "us";
  readonly members: number;
  readonly value: number;
  /** Always `members` x 16. */
  readonly largeMembers: number;
  readonly largeValue: number;
  /** `largeValue` over `value`: 16 is linear, 1 does not grow. */
  readonly ratio: number;
}

export interface GrowthSection {
  readonly rows: readonly GrowthRow[];
  readonly definitions: readonly string[];
}

/** Exact counts of one operation. Deterministic: the same on every machine. */
export interface CountRow {
  readonly operation: string;
  readonly members: number;
  /** By name: hpkeSeal, hpkeOpen, sign, verify, hash, ..., bytesEncoded, bytesWritten. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface CountsSection {
  readonly rows: readonly CountRow[];
  /** Whether they equal the reviewed fixture; null where the fixture does not hold these sizes. */
  readonly equalsFixture: boolean | null;
  /** Each difference as a sentence; empty when there is none. */
  readonly differences: readonly string[];
}

/** A kind of group and what happens in it on a day. Stated, not measured. */
export interface Profile {
  readonly name: "family" | "club" | "community";
  readonly members: number;
  readonly devicesPerMember: number;
  /** Messages of all members together. */
  readonly messagesPerDay: number;
  readonly payloadBytes: number;
  /** Members that write on a day: whoever uses sender keys has one to give out after each leave. */
  readonly activeSenders: number;
  /** Members that come; each is added by one operation of its own. */
  readonly joinsPerDay: number;
  /** Members that go; each is removed by one operation of its own. */
  readonly leavesPerDay: number;
  /** Each assumption as a sentence, the page prints them above the totals. */
  readonly assumptions: readonly string[];
}

/** Totals of one day, computed from measured rows of exactly this size and payload only. */
export interface DailyRow {
  readonly profile: Profile["name"];
  readonly protocol: Protocol;
  /** One member: its share of the sending, and everything it receives. */
  readonly memberUploadBytes: number;
  readonly memberDownloadBytes: number;
  readonly memberCpuUs: number;
  /** The service. */
  readonly dsIngressBytes: number;
  readonly dsStoredBytes: number;
  readonly dsEgressBytes: number;
  readonly dsCpuUs: number;
  /** The part of `dsEgressBytes` and `memberCpuUs` that joins and leaves make, not messages. */
  readonly churnEgressBytes: number;
  readonly churnMemberCpuUs: number;
}

export interface DailySection {
  readonly profiles: readonly Profile[];
  readonly rows: readonly DailyRow[];
  /** `profile protocol`: why there is no row, such as an interrupted run. */
  readonly leftOut: Readonly<Record<string, string>>;
}

/** One file of test vectors. */
export interface VectorRow {
  readonly source: "official" | "known-answers";
  /** Name of the file without `.json`. */
  readonly file: string;
  readonly cases: number;
  readonly passed: number;
  readonly failed: number;
  /** Cipher suites that RFC 9420 does not define. */
  readonly skipped: number;
  /** Why no case ran, such as that the file is not on this machine. */
  readonly missing?: string;
}

export interface VectorsSection {
  /** Commit of mlswg/mls-implementations that the official files are pinned to. */
  readonly officialCommit: string;
  readonly rows: readonly VectorRow[];
  readonly passed: number;
  readonly failed: number;
}

/** An implementation of others that the run compares with, or why it does not. */
export interface Peer {
  readonly name: string;
  /** null where it is not installed. */
  readonly version: string | null;
  readonly measured: boolean;
  /** Why it was not measured, found out by this run; empty where it was. */
  readonly why: string;
}

export interface ReportOptions {
  readonly members: readonly number[];
  readonly payloadBytes: readonly number[];
  readonly mlsSizes: readonly number[];
  /** Whether peers go on beyond 1,000 members, and ts-mls over its own crypto beyond 256. */
  readonly full: boolean;
  /** null: each profile's own. */
  readonly messagesPerDay: number | null;
  readonly churnPerDay: number | null;
}

/** `bench/out/report.json`. */
export interface Report {
  readonly benchmark: "report";
  readonly schema: typeof REPORT_SCHEMA;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly durationSeconds: number;
  readonly seed: string;
  /** True when the run was interrupted: sections and rows are those that were complete by then. */
  readonly partial: boolean;
  readonly options: ReportOptions;
  readonly machine: Machine;
  /** By name: node, openssl, murmuration, libsignal, ts-mls, ... */
  readonly versions: Readonly<Record<string, string>>;
  /** What primitives cost on this machine in this run, by name: how fast it was, for `compare`. */
  readonly primitivesUs: Readonly<Record<string, number>>;
  readonly peers: readonly Peer[];
  readonly fanout?: FanoutSection;
  readonly membership?: MembershipSection;
  /** What the `mls` sub-command reports, whole. */
  readonly mls?: MlsReport;
  readonly growth?: GrowthSection;
  readonly counts?: CountsSection;
  readonly daily?: DailySection;
  readonly vectors?: VectorsSection;
}

/** What `npm run bench -- fanout --json FILE` writes: the fan-out section with the run's circumstances around it. */
export interface FanoutReport extends FanoutSection {
  readonly benchmark: "fanout";
  readonly schema: typeof REPORT_SCHEMA;
  readonly startedAt: string;
  readonly durationSeconds: number;
  readonly partial: boolean;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  /** As in {@link Report}. */
  readonly primitivesUs: Readonly<Record<string, number>>;
}

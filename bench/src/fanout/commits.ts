/** What the processes tell each other about changes of membership in MLS groups. */
import type { Bytes } from "@murmuration/base";
import type { KeyPackageFixture } from "../mls/fixture.ts";

export type CommitKind = "self-update" | "add" | "remove" | "join" | "rejoin";

export interface CommitTask {
  readonly protocol: "mls-warm" | "mls-cold";
  readonly members: number;
  readonly kind: CommitKind;
  /** Account numbers of those that are added. */
  readonly newcomers: readonly number[];
  /** File with the frames from whoever commits, and what comes to each who is timed. */
  readonly frames: string;
  readonly delivered: string;
  /** File with a {@link NewcomerKeys} for each newcomer. */
  readonly keys: string;
}

export type NewcomerKeys = readonly KeyPackageFixture[];

export interface Proof {
  readonly kind: "leaf" | "link";
  /** Signature key of the leaf, or id of the link. */
  readonly id: Bytes;
  readonly privateKey: Bytes;
}

/** What whoever commits hands to the service. */
export interface CommitFrames {
  /** Of who comes by itself: what its GroupInfoRequest before the commit is signed with. */
  readonly proof: Proof | undefined;
  readonly commit: Bytes;
  /** Connection on which it goes, by leaf or account number. */
  readonly connection: number;
}

export interface CommitSenderResult {
  readonly cpuUs: number;
  readonly uploadBytes: number;
  /** Of the tree that a newcomer fetches, compressed as the service serves it. */
  readonly treeBytes: number;
}

export interface CommitServiceResult {
  readonly cpuUs: number;
  /** Of the GroupInfoRequest. */
  readonly senderUploadBytes: number;
  readonly senderDownloadBytes: number;
  readonly storedBytes: number;
  readonly egressBytes: number;
  /** To one member that was there before. */
  readonly receiverBytes: number;
  /** To one newcomer, its Welcome. */
  readonly newcomerBytes: number;
}

/** For the receivers' process, and for leaf 0 when somebody else committed. */
export interface DeliveredCommit {
  readonly entries: Bytes;
  readonly welcomes: readonly Bytes[];
  readonly ratchetTree: Bytes;
}

export interface CommitReceiverResult {
  readonly receiverCpuUs: number;
  readonly newcomerCpuUs: number | null;
}

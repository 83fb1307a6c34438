import type { Bytes, StoreId } from "@murmuration/base";
import type { Limits } from "@murmuration/wire";
import type { AccountStore } from "../ports/accounts.ts";
import type { BlobStore } from "../ports/blobs.ts";
import type { CertificateAuthorityKeys, CertificateStore } from "../ports/certificates.ts";
import type { CommitValidator } from "../ports/commit-validator.ts";
import type { EngineProbe } from "../ports/engine-probe.ts";
import type { Clock, Log, Metrics, Random } from "../ports/environment.ts";
import type { GroupMemory } from "../ports/group-memory.ts";
import type { GroupRecordStore } from "../ports/group-records.ts";
import type { GroupSignals } from "../ports/group-signals.ts";
import type { KeyPackageStore } from "../ports/key-packages.ts";
import type { KeyStore } from "../ports/keys.ts";
import type { LostCommitStore } from "../ports/lost-commits.ts";
import type { MailboxSignals } from "../ports/mailbox-signals.ts";
import type { MailboxStore } from "../ports/mailboxes.ts";
import type { MlsGroupStore } from "../ports/mls-groups.ts";
import type { Presence } from "../ports/presence.ts";
import type { PushGateway } from "../ports/push.ts";
import type { PushHandleStore } from "../ports/push-handles.ts";
import type { RateLimits } from "../ports/rate-limits.ts";
import type { RegistrationVerifier } from "../ports/registration-verifier.ts";
import type { RetentionLog } from "../ports/retention-log.ts";
import type { SpentChallenges } from "../ports/spent-challenges.ts";

/** Every store of the service, of one engine. */
export interface Stores {
  readonly accounts: AccountStore;
  readonly keys: KeyStore;
  readonly keyPackages: KeyPackageStore;
  readonly mailboxes: MailboxStore;
  readonly mlsGroups: MlsGroupStore;
  readonly groupRecords: GroupRecordStore;
  readonly blobs: BlobStore;
  readonly certificates: CertificateStore;
  readonly pushHandles: PushHandleStore;
  readonly retentionLog: RetentionLog;
  readonly lostCommits: LostCommitStore;
  /** Takes deleted content out of the engine's log as well. */
  compact(): Promise<void>;
  close(): Promise<void>;
}

/** What every part of the service works with. */
export interface ServiceContext {
  readonly stores: Stores;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly signals: MailboxSignals;
  readonly groupSignals: GroupSignals;
  readonly groupMemory: GroupMemory;
  readonly presence: Presence;
  readonly validator: CommitValidator;
  readonly rateLimits: RateLimits;
  readonly probes: readonly EngineProbe[];
  readonly registrationVerifier: RegistrationVerifier;
  /** Undefined where nobody is woken. */
  readonly pushGateway: PushGateway | undefined;
  readonly limits: Limits;
  /** Of the mailboxes that are there now: another one after they were lost. */
  storeId: StoreId;
  readonly authority: CertificateAuthorityKeys;
  /** Under which challenges are made; one for all nodes. */
  readonly challengeKey: Bytes;
  /** Under which marks of the store are made; the same as long as the store is. */
  readonly markKey: Bytes;
  readonly spentChallenges: SpentChallenges;
  readonly timing: ServiceTiming;
}

/** Times that an operator may change. Milliseconds. */
export interface ServiceTiming {
  readonly certificateLifetimeMs: number;
  /** How long a connection may leave its send buffer over the mark before it is closed with a ResumeHint. */
  readonly slowReaderMs: number;
  /** What clients are told to wait before they come back. */
  readonly reconnectAfterMs: number;
  /** Where nodes share their engines: how often, at most, each looks for what no signal told it of. */
  readonly missedSignalsMs: number;
  /** How long a drain waits for frames and requests that are being answered. */
  readonly drainTimeoutMs: number;
}

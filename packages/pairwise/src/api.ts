import type { AccountId, Bytes, DeviceAddress, DeviceId } from "@murmuration/base";

import { limits } from "@murmuration/wire";

export type { AccountId, DeviceAddress, DeviceId } from "@murmuration/base";

/**
 * The public types of packages/pairwise. The engine never writes: an operation works on an overlay over the
 * caller's store and hands `{ writeSet, output }` to the caller's `persist` function, which applies the write
 * set together with rows of its own in one synchronous transaction. Only when it returned may bytes leave.
 */

// ---------------------------------------------------------------------------------------------------- store

/** The kinds of rows; a row is addressed by its table and a key of printable ASCII. */
export type PairwiseTable =
  /** This device's keys, its registration id, its sender certificate, an upload not yet confirmed. */
  | "own"
  /** What is known of an account: its account identity key, whether verified, a change not yet decided. */
  | "account"
  /** The newest signed device list seen, by account. */
  | "device-list"
  /** Session records, by device address. */
  | "session"
  /** Digests of accepted ciphertexts and counts of retries, by device address. */
  | "received"
  /** Counts of messages sent again on request, by device address. */
  | "resent"
  | "pre-key"
  | "signed-pre-key"
  | "kyber-pre-key"
  /** Base keys seen with a last-resort Kyber prekey: a second use is refused. */
  | "base-key";

/** One row to write; `value` undefined deletes it. */
export interface RowChange {
  readonly table: PairwiseTable;
  readonly key: string;
  readonly value: Bytes | undefined;
}

/** The rows that an operation changes, each at most once, in no particular order. Apply all or none. */
export interface WriteSet {
  readonly changes: readonly RowChange[];
}

/**
 * The synchronous port to the caller's database. Values hold private keys: the database must be encrypted.
 * A value handed to the engine is never changed by it, and none handed out may be changed later.
 */
export interface PairwiseStore {
  /** The row's value, or undefined. O(log rows). */
  read(table: PairwiseTable, key: string): Bytes | undefined;
  /**
   * What `read` gives for each of these keys, in their order. Asked for 1,280 keys at most, three times for one
   * message however many recipients it has: an adapter over a database makes one query of it.
   */
  readEach(table: PairwiseTable, keys: readonly string[]): readonly (Bytes | undefined)[];
  /** All keys of a table in any order. Called for prekey tables and in maintenance only, never per message. */
  keys(table: PairwiseTable): readonly string[];
  /** True while the caller has a transaction open: the engine then refuses to work, since it yields. */
  transactionOpen(): boolean;
  /** Applies a write set. Called by the caller inside its transaction; the engine itself never calls it. */
  applyWriteSet(writeSet: WriteSet): void;
}

/** What an operation would like to be written, and what it gives back. */
export interface Staged<T> {
  readonly writeSet: WriteSet;
  readonly output: T;
}

/**
 * Writes the staged rows together with the caller's own, in one synchronous transaction. It must not return a
 * promise (`pairwise/persist-not-synchronous`). When it throws, the operation rejects with that error and, for
 * the engine, nothing happened. The queues of the addresses concerned are held until it returned, so a later
 * operation always reads what this one wrote.
 */
export type Persist<T, R> = (staged: Staged<T>) => R;

export interface PairwiseEngineOptions {
  readonly store: PairwiseStore;
  /** Public keys (33 bytes each) that may sign the server certificates of sealed sender. At least one. */
  readonly trustRoots: readonly Bytes[];
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Cryptographically secure random bytes, for ids and references; libsignal draws its keys itself. */
  readonly random: (length: number) => Bytes;
  /** One-time prekeys of each kind that the key directory should have, 1 to 100. Below a quarter it is filled up. Default 100. */
  readonly preKeyStock?: number;
  /** Lets other work run; called after every 8 cryptographic operations. Default: setImmediate. */
  readonly yieldToOthers?: () => Promise<void>;
}

// --------------------------------------------------------------------------------------- identity and devices

/** Public facts of this device; what a registration at the delivery service needs, besides the prekeys. */
export interface LocalDevice {
  readonly address: DeviceAddress;
  /** 1..16380, drawn anew with every identity key: a peer's session with an older one is stale. */
  readonly registrationId: number;
  /** This device's identity key, public, 33 bytes. */
  readonly identityKey: Bytes;
  /** The account identity key, public, 33 bytes: safety numbers are made over it. */
  readonly accountIdentityKey: Bytes;
  /** True on the first device, which holds the account identity key's private half and signs device lists. */
  readonly holdsAccountKey: boolean;
  /** The newest signed device list of the own account, encoded: upload it whenever it changed. */
  readonly deviceList: Bytes;
}

/** What a new device shows the first device, over a channel that the user trusts (a scanned code). */
export interface LinkRequest {
  /** The new device's identity key, public, 33 bytes. */
  readonly identityKey: Bytes;
  /** The new device's signature over the account identity key (XEdDSA, alternate-identity form), 64 bytes. */
  readonly deviceSignature: Bytes;
}

/** What a new device generates: the request, and what the delivery service has to know of it besides. */
export interface NewLinkRequest extends LinkRequest {
  /** 1..16380. */
  readonly registrationId: number;
}

/** One entry of a device list: account key and device key vouch for each other. */
export interface ListedDevice {
  readonly deviceId: DeviceId;
  readonly identityKey: Bytes;
  /** signAlternateIdentity by the account identity key over the device's identity key. */
  readonly accountSignature: Bytes;
  /** signAlternateIdentity by the device's identity key over the account identity key. */
  readonly deviceSignature: Bytes;
}

/** A verified device list. Versions start at 1 and only rise; 1 to 5 devices, by rising device id. */
export interface DeviceList {
  readonly accountId: AccountId;
  readonly version: number;
  readonly accountIdentityKey: Bytes;
  readonly devices: readonly ListedDevice[];
}

export type DeviceListOutcome =
  /** Newer than what was known, or the first one seen. Sessions with removed or re-keyed devices are gone. */
  | { readonly kind: "accepted"; readonly list: DeviceList; readonly removed: readonly DeviceAddress[] }
  /** The very list that is already known. */
  | { readonly kind: "unchanged"; readonly list: DeviceList }
  | IdentityDecision
  /**
   * `device-list/rolled-back` (older version), `device-list/conflict` (same version, other content),
   * `device-list/bad-signature`, `device-list/too-many-devices`, `device-list/malformed`,
   * `device-list/wrong-account`. The known list stays.
   */
  | { readonly kind: "rejected"; readonly code: string };

/** Another account identity key is claimed for a known account: only the application or its user can say. */
export interface IdentityDecision {
  readonly kind: "decision-needed";
  readonly code: "pairwise/identity-changed";
  readonly accountId: AccountId;
  /** True when the old key had been marked verified: never accept without asking the user. */
  readonly wasVerified: boolean;
  readonly knownAccountKey: Bytes;
  readonly claimedAccountKey: Bytes;
}

/** What is known of another account's identity. */
export interface AccountIdentity {
  readonly accountId: AccountId;
  readonly accountIdentityKey: Bytes;
  readonly verified: boolean;
  /** A claimed key that awaits a decision; until then nothing is sent to the account. */
  readonly claimedAccountKey: Bytes | undefined;
}

/** Safety number over two account identity keys (version 2, 5,200 iterations). */
export interface SafetyNumber {
  /** 60 decimal digits, the same on both sides. */
  readonly digits: string;
  /** To be shown as a code and given to {@link PairwiseEngine.safetyNumberMatches} of the other side. */
  readonly scannable: Bytes;
}

// -------------------------------------------------------------------------------------------------- prekeys

export interface PublicPreKey {
  /** 1..2^24-1. */
  readonly id: number;
  /** EC prekeys: 33 bytes. Kyber prekeys: 1,569 bytes. */
  readonly publicKey: Bytes;
}

export interface SignedPublicPreKey extends PublicPreKey {
  /** By the device's identity key over the serialized public key, 64 bytes. */
  readonly signature: Bytes;
}

/** Keys for the key directory. Kept until confirmed, so that after a crash the same bytes are sent again. */
export interface PreKeyUpload {
  /** 16 random bytes; the delivery service treats a repeated one as already done. */
  readonly uploadId: Bytes;
  /** Replace the ones before, when present. */
  readonly signedPreKey: SignedPublicPreKey | undefined;
  readonly lastResortKyberPreKey: SignedPublicPreKey | undefined;
  /** One-time keys to add, at most 100 of each kind. */
  readonly preKeys: readonly PublicPreKey[];
  readonly kyberPreKeys: readonly SignedPublicPreKey[];
}

/** How many one-time keys of this device the delivery service still has; 0 and 0 right after registration. */
export interface PreKeyCounts {
  readonly preKeys: number;
  readonly kyberPreKeys: number;
  /** The signed and the last-resort prekey are made anew, however young they are. */
  readonly renew?: boolean;
}

/** One device's keys as the key directory hands them out. `preKey` is absent when exhausted. */
export interface PreKeyBundle {
  readonly address: DeviceAddress;
  readonly registrationId: number;
  readonly identityKey: Bytes;
  readonly preKey: PublicPreKey | undefined;
  readonly signedPreKey: SignedPublicPreKey;
  /** A one-time one, or the last-resort one. */
  readonly kyberPreKey: SignedPublicPreKey;
}

export type BundleOutcome =
  | { readonly kind: "session-created"; readonly address: DeviceAddress }
  /** The bundle's identity key is not the one on the newest list known: fetch the list, then try again. */
  | { readonly kind: "device-list-needed"; readonly address: DeviceAddress }
  /** `pairwise/bundle-tampered`: a signature or key does not fit. No session, nothing can be sent. */
  | { readonly kind: "rejected"; readonly address: DeviceAddress; readonly code: string };

// ------------------------------------------------------------------------------------------------- messages

export interface EncryptRequest {
  /** Each device at most once, at most 1,280 of them; never the own device. Cost: about 0.2 ms CPU each. */
  readonly recipients: readonly DeviceAddress[];
  /** Content, not padded: at most {@link MAX_BODY_BYTES}. */
  readonly body: Bytes;
  /** `sealed` hides the sender from the delivery service; `identified` is for message requests. */
  readonly mode: "sealed" | "identified";
  /**
   * Names this message in a request to send it again. Absent: drawn anew. When a message is sent again on a
   * RetryRequested, pass that reference, so that both sides can count.
   */
  readonly reference?: number;
}

export interface DeviceCiphertext {
  readonly address: DeviceAddress;
  /** The recipient's registration id that the session was made with; the delivery service compares it. */
  readonly registrationId: number;
  readonly ciphertext: Bytes;
}

export type EncryptOutcome =
  | {
      readonly kind: "encrypted";
      /** 48 random bits; keep it with the outbox row: a RetryRequested names it. */
      readonly reference: number;
      /** In the order of the recipients. */
      readonly ciphertexts: readonly DeviceCiphertext[];
    }
  | NotReady;

/** Why nothing was encrypted; nothing is staged and `persist` is not called. Repair, or leave them out. */
export interface NotReady {
  readonly kind: "not-ready";
  /** Fetch bundles: no session, or one that was never acknowledged for 30 days. */
  readonly sessionsNeeded: readonly DeviceAddress[];
  /** Not on the newest list known (or no list known): fetch the list. */
  readonly deviceListsNeeded: readonly AccountId[];
  readonly decisionsNeeded: readonly IdentityDecision[];
  /** Sealed mode without a certificate that is still valid: fetch one and accept it. */
  readonly certificateNeeded: boolean;
}

/** An envelope as the delivery service delivered it. */
export interface IncomingEnvelope {
  readonly ciphertext: Bytes;
  /** Whom the delivery service claims as sender of an identified envelope; undefined for a sealed one. */
  readonly identifiedSender: DeviceAddress | undefined;
  /** When the delivery service accepted it: sender certificates are validated against this time. */
  readonly acceptedAtMs: number;
}

export interface DecryptRequest {
  /** In mailbox order. Cost: about 0.3 ms CPU each. */
  readonly envelopes: readonly IncomingEnvelope[];
  /** Accounts whose device list the caller has just fetched: an unlisted device is refused, not asked for. */
  readonly refreshedAccounts?: readonly AccountId[];
}

/** What became of one envelope. Acknowledge it in every case but the three that end in `-needed`. */
export type DecryptOutcome =
  | {
      readonly kind: "message";
      readonly sender: DeviceAddress;
      readonly sealed: boolean;
      readonly body: Bytes;
      readonly sentAtMs: number;
      /** The sender knows a newer list of its own account than we do: fetch it soon. */
      readonly senderListNewer: boolean;
      /** The sender encrypted by an older list of our account than ours. */
      readonly ownListOlderAtSender: boolean;
    }
  /** Exactly these bytes were accepted before. */
  | { readonly kind: "duplicate"; readonly sender: DeviceAddress }
  /** It was for us and cannot be decrypted; send `request` to the sender, who will send again. */
  | {
      readonly kind: "retry";
      readonly sender: DeviceAddress;
      /** 1..3. */
      readonly attempt: number;
      readonly reference: number;
      /** Ciphertext for the sender, in the mode of the envelope that failed. */
      readonly request: DeviceCiphertext;
      readonly mode: "sealed" | "identified";
      /** The same request unsealed: for a sender whose access key is not known, or a certificate that has run out. */
      readonly identified: Bytes;
    }
  /** Three retries did not help: show the user that a message of this sender is lost. */
  | { readonly kind: "lost"; readonly sender: DeviceAddress; readonly reference: number }
  /** A peer could not decrypt what we sent: encrypt the same body again under the same reference. */
  | {
      readonly kind: "retry-requested";
      readonly sender: DeviceAddress;
      readonly reference: number;
      /** 1..3; the fourth and later ones are rejected with `pairwise/too-many-retries`. */
      readonly attempt: number;
      /** The session was archived: a new bundle is needed before sending again. */
      readonly sessionArchived: boolean;
    }
  /** As `retry`, but there is no certificate to seal the request with: accept one, then decrypt this again. */
  | { readonly kind: "certificate-needed"; readonly sender: DeviceAddress }
  /** Fetch the account's device list, accept it, then decrypt this envelope again. Nothing was staged. */
  | { readonly kind: "device-list-needed"; readonly sender: DeviceAddress }
  /** Keep the envelope until the identity was decided. Nothing was staged. */
  | IdentityDecision
  /** Refused, with a stable code. Nothing but perhaps counters was staged. */
  | { readonly kind: "rejected"; readonly code: string; readonly sender: DeviceAddress | undefined };

// --------------------------------------------------------------------------------------------------- limits

/** Largest body of one message, in bytes, before padding: with its header it fits the class of 40,960. */
export const MAX_BODY_BYTES = 40_896;

/** Largest ciphertext the engine looks at, in bytes: what the delivery service carries for one device. */
export const MAX_CIPHERTEXT_BYTES = limits.envelopeBytes;

/** Recipient devices of one encrypt operation, at most: 256 members with 5 devices each. */
export const MAX_RECIPIENTS = limits.recipientsPerSubmit * limits.devicesPerAccount;

// --------------------------------------------------------------------------------------------------- engine

/**
 * Pairwise sessions of one device. Every operation but the synchronous reads takes `persist` and resolves with
 * what that returned. Operations on the same address run one after the other in the order of the calls;
 * operations on different addresses may overlap. All reject with a UsageError `pairwise/not-registered` before
 * `generateAccount` or `adoptLink` was persisted.
 */
export interface PairwiseEngine {
  // Own identity.

  /** This device, or undefined before registration. */
  local(): LocalDevice | undefined;
  /** Generates account identity key, device identity key and a device list of version 1 with device 1. */
  generateAccount<R>(accountId: AccountId, persist: Persist<LocalDevice, R>): Promise<R>;
  /** On a new device: generates its identity key for an account whose key came over a trusted channel. */
  generateLinkRequest<R>(
    account: { readonly accountId: AccountId; readonly accountIdentityKey: Bytes },
    persist: Persist<NewLinkRequest, R>,
  ): Promise<R>;
  /** On the first device: signs a list with the new device on the lowest device id never used before. */
  addDevice<R>(
    request: LinkRequest,
    persist: Persist<{ readonly deviceList: Bytes; readonly deviceId: DeviceId }, R>,
  ): Promise<R>;
  /** On the new device: adopts the list that names it. Throws RejectionError with a `device-list/` code. */
  adoptLink<R>(deviceList: Bytes, persist: Persist<LocalDevice, R>): Promise<R>;
  /** On the first device: signs a list without this device. The own device cannot be removed. */
  removeDevice<R>(deviceId: DeviceId, persist: Persist<{ readonly deviceList: Bytes }, R>): Promise<R>;
  /** Signs with this device's identity key (XEdDSA), domain separated by the label. 64 bytes. Synchronous. */
  signWithDeviceKey(label: string, content: Uint8Array): Bytes;

  // Prekeys and certificate.

  /**
   * Decides and generates what the key directory lacks: one-time keys up to 100 when fewer than 25 are left,
   * signed and last-resort Kyber prekey once a week; deletes replaced ones 30 days later. An unconfirmed upload
   * is returned again as it was. Output undefined: nothing to upload. Run at start, daily, and on low stock.
   */
  preparePreKeys<R>(counts: PreKeyCounts, persist: Persist<PreKeyUpload | undefined, R>): Promise<R>;
  /** The delivery service has it. An unknown upload id is ignored. */
  confirmPreKeyUpload<R>(uploadId: Bytes, persist: Persist<void, R>): Promise<R>;
  /** When the sender certificate runs out, in ms since 1970; undefined without one. */
  certificateExpiresAtMs(): number | undefined;
  /** Stores a sender certificate of this device. Throws RejectionError `pairwise/certificate-*` if not ours. */
  acceptCertificate<R>(certificate: Bytes, persist: Persist<void, R>): Promise<R>;

  // Other accounts.

  /** Verifies a signed device list that the delivery service gave for this account, and adopts a newer one. */
  acceptDeviceList<R>(
    accountId: AccountId,
    deviceList: Bytes,
    persist: Persist<DeviceListOutcome, R>,
  ): Promise<R>;
  /** Devices on the newest list known, without this device; empty for an unknown account. */
  devicesOf(accountId: AccountId): readonly DeviceAddress[];
  /** As {@link devicesOf} for many accounts, in their order, undefined where no list is known. One `readEach`. */
  devicesOfEach(accountIds: readonly AccountId[]): readonly (readonly DeviceAddress[] | undefined)[];
  deviceListOf(accountId: AccountId): DeviceList | undefined;
  identityOf(accountId: AccountId): AccountIdentity | undefined;
  /** The account keys alone, in the order of the accounts; undefined where none is known. One `readEach`. */
  identityKeysOf(accountIds: readonly AccountId[]): readonly (Bytes | undefined)[];
  /**
   * Answers an IdentityDecision. `accept`: the claimed key and its list replace the known ones, verification is
   * withdrawn, sessions are deleted. Otherwise the claim is dropped. UsageError `pairwise/no-such-claim` if the
   * key is not the one that awaits the decision.
   */
  decideIdentity<R>(
    decision: { readonly accountId: AccountId; readonly claimedAccountKey: Bytes; readonly accept: boolean },
    persist: Persist<void, R>,
  ): Promise<R>;
  /** The user compared safety numbers. UsageError `pairwise/identity-mismatch` if the key is not current. */
  setVerified<R>(
    identity: {
      readonly accountId: AccountId;
      readonly accountIdentityKey: Bytes;
      readonly verified: boolean;
    },
    persist: Persist<void, R>,
  ): Promise<R>;
  /** Undefined for an unknown account. About 5 ms CPU. */
  safetyNumber(accountId: AccountId): SafetyNumber | undefined;
  /** The number that a claimed key would have; undefined where none awaits a decision. About 5 ms CPU. */
  claimedSafetyNumber(accountId: AccountId): SafetyNumber | undefined;
  /** Compares a scanned code of that account with ours. RejectionError `pairwise/bad-safety-number`. */
  safetyNumberMatches(accountId: AccountId, scanned: Bytes): boolean;

  // Sessions and messages.

  /** Makes sessions from bundles, replacing sessions there are. Each address at most once. */
  processBundles<R>(
    bundles: readonly PreKeyBundle[],
    persist: Persist<readonly BundleOutcome[], R>,
  ): Promise<R>;
  /**
   * Encrypts one body to many devices in one write set: to all or to none. Resolves with NotReady, without
   * calling `persist`, if any recipient cannot be reached yet.
   */
  encrypt<R>(
    request: EncryptRequest,
    persist: Persist<Extract<EncryptOutcome, { kind: "encrypted" }>, R>,
  ): Promise<{ readonly kind: "persisted"; readonly result: R } | NotReady>;
  /** Decrypts envelopes in order; one outcome each, all in one write set. A bad one does not harm the rest. */
  decrypt<R>(request: DecryptRequest, persist: Persist<readonly DecryptOutcome[], R>): Promise<R>;
  /**
   * Forgets the sessions with these devices (all, if undefined): the next message needs a bundle. For a device
   * that the delivery service calls stale, and for a database restored from an old copy.
   */
  deleteSessions<R>(addresses: readonly DeviceAddress[] | undefined, persist: Persist<void, R>): Promise<R>;
}

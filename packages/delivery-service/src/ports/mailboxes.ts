import type { Bytes, DeviceAddress, EnvelopeId, GroupId, StoreId } from "@murmuration/base";

/** What an envelope with a Welcome says beside it: where the group's tree is and from where on its log is read. */
export interface WelcomeEnvelope {
  readonly groupId: GroupId;
  readonly treeHash: Bytes;
  /** Of the commit that added the device. */
  readonly sequence: number;
}

/**
 * An envelope to store: sealed, or a message request where `source` is set, or a Welcome where `welcome` is set (then
 * `ciphertext` is the Welcome, and there is no source). A sealed envelope has no sender here.
 */
export interface NewEnvelope {
  readonly recipient: DeviceAddress;
  readonly ciphertext: Bytes;
  readonly source: DeviceAddress | undefined;
  readonly welcome?: WelcomeEnvelope | undefined;
}

export interface StoredEnvelope {
  /** Rises by one with each envelope of a mailbox. */
  readonly id: EnvelopeId;
  readonly ciphertext: Bytes;
  readonly source: DeviceAddress | undefined;
  readonly welcome: WelcomeEnvelope | undefined;
  /** Milliseconds since 1970, rounded down by the caller to a whole minute. */
  readonly acceptedAtMs: number;
}

interface MailboxLimits {
  readonly maxEnvelopes: number;
  readonly maxBytes: number;
}

export interface Append {
  /** SHA-256 of the submit id. */
  readonly submitHash: Bytes;
  /** At least one; a recipient occurs once. */
  readonly envelopes: readonly NewEnvelope[];
  readonly acceptedAtMs: number;
  readonly limits: MailboxLimits;
}

export type AppendOutcome =
  | { readonly kind: "stored" }
  /** A submit with this hash was stored before. */
  | { readonly kind: "repeated" }
  /** These devices have no mailbox. */
  | { readonly kind: "missing"; readonly devices: readonly DeviceAddress[] }
  /** These mailboxes would exceed their limits. */
  | { readonly kind: "full"; readonly devices: readonly DeviceAddress[] };

export interface MailboxDepth {
  readonly envelopes: number;
  readonly bytes: number;
}

/** Names a state that a store was in. */
export interface StoreState {
  /** 8 random bytes of whoever wrote. */
  readonly run: Bytes;
  /** Has risen with what that one wrote. */
  readonly count: number;
}

/** One mailbox for each device: kept in order, read without removing, removed by acknowledgement. */
export interface MailboxStore {
  /** 16 random bytes drawn when the store was created: another id means that something of it was lost. */
  storeId(): Promise<StoreId>;
  /**
   * Calls back when something was lost while the service runs, with the id of the store that is there now. Mailboxes may be
   * missing then, or lack the newest envelopes; and ids that were given out before may be given out again.
   */
  onLost(run: (storeId: StoreId) => void): void;
  /**
   * A state that the store has reached, durably; what was written in the last two seconds may come after it. Undefined where
   * nothing was written yet since the process started, and where a store is gone with the process.
   */
  state(): StoreState | undefined;
  /**
   * Somebody knows a state that the store `storeId` was in. Where that is this store and it was never there, it was set back
   * to an older copy: it becomes another store, once, and `onLost` calls back.
   */
  requireState(storeId: StoreId, state: StoreState): Promise<void>;
  /** Creates an empty mailbox; one that exists stays as it is. */
  open(address: DeviceAddress, openedAtMs: number): Promise<void>;
  /** Deletes the mailbox and everything in it. */
  remove(address: DeviceAddress): Promise<void>;
  /** Stores all envelopes or none, in one durable transaction, and remembers the submit hash in the same one. */
  append(append: Append): Promise<AppendOutcome>;
  /** True when a submit with this hash was stored before. */
  wasStored(submitHash: Bytes): Promise<boolean>;
  /** Envelopes after `after` in order: at least one if there is any, then as many as fit both limits. */
  read(
    address: DeviceAddress,
    after: EnvelopeId,
    limits: { readonly maxEnvelopes: number; readonly maxBytes: number },
  ): Promise<readonly StoredEnvelope[]>;
  /** Deletes every envelope up to and including `through`. Returns how many that were. */
  acknowledge(address: DeviceAddress, through: EnvelopeId): Promise<number>;
  /** Deletes these envelopes and no others: for what can never be delivered. */
  discard(address: DeviceAddress, ids: readonly EnvelopeId[]): Promise<void>;
  /** The last id ever given out in this mailbox; undefined without a mailbox. */
  lastId(address: DeviceAddress): Promise<EnvelopeId | undefined>;
  /** Undefined without a mailbox. */
  depth(address: DeviceAddress): Promise<MailboxDepth | undefined>;
  /** Totals over all mailboxes, for metrics. */
  totals(): Promise<MailboxDepth>;
  /** Deletes at most `limit` envelopes accepted before `beforeMs`. Returns how many. */
  expireEnvelopes(beforeMs: number, limit: number): Promise<number>;
  /** Forgets at most `limit` submit hashes from before `beforeMs`. Returns how many. */
  expireSubmits(beforeMs: number, limit: number): Promise<number>;
  /**
   * Owners of mailboxes that were opened before `openedBeforeMs`, in a fixed order, at most `limit`, after
   * `after`: to find mailboxes without a device.
   */
  owners(
    after: DeviceAddress | undefined,
    limit: number,
    openedBeforeMs: number,
  ): Promise<readonly DeviceAddress[]>;
}

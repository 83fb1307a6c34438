import { equalBytes, InvariantError, invariant } from "@murmuration/base";
import {
  IdentityChange,
  type IdentityKeyPair,
  IdentityKeyStore,
  KyberPreKeyRecord,
  KyberPreKeyStore,
  PreKeyRecord,
  PreKeyStore,
  type PrivateKey,
  type ProtocolAddress,
  PublicKey,
  SessionRecord,
  SessionStore,
  SignedPreKeyRecord,
  SignedPreKeyStore,
} from "@signalapp/libsignal-client";
import { readDeviceList } from "./accounts.ts";
import { addressFromProtocol, addressKey } from "./address.ts";
import { listedDevice } from "./device-list.ts";
import type { Overlay, Rows } from "./overlay.ts";
import type { OwnDevice } from "./own-identity.ts";
import { useKyberPreKey } from "./prekeys.ts";
import { timedKeyRow } from "./rows.ts";

/** Why a store of ours stopped libsignal; its own error would only say so in a text. */
export type StoreFailure = "pre-key-missing" | "base-key-reused";

/** libsignal's stores over one overlay. Made for each operation; nothing in here outlives it. */
export class LibsignalStores {
  readonly sessions: SessionStore;
  readonly identities: IdentityKeyStore;
  readonly preKeys: PreKeyStore;
  readonly signedPreKeys: SignedPreKeyStore;
  readonly kyberPreKeys: KyberPreKeyStore;
  failure: StoreFailure | undefined;

  constructor(overlay: Overlay, own: OwnDevice) {
    const fail = (failure: StoreFailure): never => {
      this.failure = failure;
      throw new Error(failure);
    };
    this.sessions = new Sessions(overlay);
    this.identities = new Identities(overlay, own);
    this.preKeys = new PreKeys(overlay, fail);
    this.signedPreKeys = new SignedPreKeys(overlay, fail);
    this.kyberPreKeys = new KyberPreKeys(overlay, fail);
  }
}

/**
 * The two stores that encrypting for one device needs, over what the caller has parsed already. The rule of
 * trust is the same: the key is the one on the newest list.
 */
export class RecipientStores {
  readonly sessions: SessionStore;
  readonly identities: IdentityKeyStore;

  constructor(
    overlay: Overlay,
    own: OwnDevice,
    recipient: {
      /** Row key of the device. */
      readonly key: string;
      readonly identityKey: PublicKey;
      readonly session: SessionRecord;
    },
  ) {
    this.sessions = new OneSession(overlay, recipient.key, recipient.session);
    this.identities = new OneIdentity(own, recipient.identityKey);
  }
}

class OneSession extends SessionStore {
  private readonly overlay: Overlay;
  private readonly key: string;
  private readonly session: SessionRecord;
  constructor(overlay: Overlay, key: string, session: SessionRecord) {
    super();
    this.overlay = overlay;
    this.key = key;
    this.session = session;
  }
  async saveSession(_name: ProtocolAddress, record: SessionRecord): Promise<void> {
    this.overlay.write("session", this.key, record.serialize());
  }
  async getSession(): Promise<SessionRecord> {
    return this.session;
  }
  async getExistingSessions(): Promise<SessionRecord[]> {
    throw new InvariantError("pairwise/multi-recipient-not-used");
  }
}

/** What both identity stores say of this device. */
abstract class OwnIdentity extends IdentityKeyStore {
  private readonly own: OwnDevice;
  constructor(own: OwnDevice) {
    super();
    this.own = own;
  }
  async getIdentityKey(): Promise<PrivateKey> {
    return this.own.identityKeyPair.privateKey;
  }
  override async getIdentityKeyPair(): Promise<IdentityKeyPair> {
    return this.own.identityKeyPair;
  }
  async getLocalRegistrationId(): Promise<number> {
    return this.own.registrationId;
  }
  async saveIdentity(): Promise<IdentityChange> {
    return IdentityChange.NewOrUnchanged;
  }
}

class OneIdentity extends OwnIdentity {
  private readonly listed: PublicKey;
  constructor(own: OwnDevice, listed: PublicKey) {
    super(own);
    this.listed = listed;
  }
  async isTrustedIdentity(_name: ProtocolAddress, key: PublicKey): Promise<boolean> {
    return this.listed.equals(key);
  }
  async getIdentity(): Promise<PublicKey> {
    return this.listed;
  }
}

type Fail = (failure: StoreFailure) => never;

class Sessions extends SessionStore {
  private readonly overlay: Overlay;
  constructor(overlay: Overlay) {
    super();
    this.overlay = overlay;
  }
  async saveSession(name: ProtocolAddress, record: SessionRecord): Promise<void> {
    this.overlay.write("session", addressKey(addressFromProtocol(name)), record.serialize());
  }
  async getSession(name: ProtocolAddress): Promise<SessionRecord | null> {
    const bytes = this.overlay.read("session", addressKey(addressFromProtocol(name)));
    return bytes === undefined ? null : SessionRecord.deserialize(bytes);
  }
  async getExistingSessions(): Promise<SessionRecord[]> {
    throw new InvariantError("pairwise/multi-recipient-not-used");
  }
}

/**
 * One rule of trust, in both directions: a device's identity key is the one on the newest device list of its
 * account. libsignal's own trust on first use does not apply to devices; it applies to the account key.
 */
class Identities extends OwnIdentity {
  private readonly rows: Rows;
  constructor(rows: Rows, own: OwnDevice) {
    super(own);
    this.rows = rows;
  }
  async isTrustedIdentity(name: ProtocolAddress, key: PublicKey): Promise<boolean> {
    const listed = this.listedKey(name);
    return listed !== undefined && equalBytes(listed, key.serialize());
  }
  async getIdentity(name: ProtocolAddress): Promise<PublicKey | null> {
    const listed = this.listedKey(name);
    return listed === undefined ? null : PublicKey.deserialize(listed);
  }
  private listedKey(name: ProtocolAddress) {
    const { accountId, deviceId } = addressFromProtocol(name);
    return listedDevice(readDeviceList(this.rows, accountId), deviceId)?.identityKey;
  }
}

class PreKeys extends PreKeyStore {
  private readonly overlay: Overlay;
  private readonly fail: Fail;
  constructor(overlay: Overlay, fail: Fail) {
    super();
    this.overlay = overlay;
    this.fail = fail;
  }
  async savePreKey(): Promise<void> {
    throw new InvariantError("pairwise/pre-key-saved-by-libsignal");
  }
  async getPreKey(id: number): Promise<PreKeyRecord> {
    const bytes = this.overlay.read("pre-key", String(id));
    if (bytes === undefined) return this.fail("pre-key-missing");
    return PreKeyRecord.deserialize(timedKeyRow.decode(bytes).record);
  }
  async removePreKey(id: number): Promise<void> {
    this.overlay.write("pre-key", String(id), undefined);
  }
}

class SignedPreKeys extends SignedPreKeyStore {
  private readonly rows: Rows;
  private readonly fail: Fail;
  constructor(rows: Rows, fail: Fail) {
    super();
    this.rows = rows;
    this.fail = fail;
  }
  async saveSignedPreKey(): Promise<void> {
    throw new InvariantError("pairwise/pre-key-saved-by-libsignal");
  }
  async getSignedPreKey(id: number): Promise<SignedPreKeyRecord> {
    const bytes = this.rows.read("signed-pre-key", String(id));
    if (bytes === undefined) return this.fail("pre-key-missing");
    return SignedPreKeyRecord.deserialize(timedKeyRow.decode(bytes).record);
  }
}

class KyberPreKeys extends KyberPreKeyStore {
  private readonly overlay: Overlay;
  private readonly fail: Fail;
  constructor(overlay: Overlay, fail: Fail) {
    super();
    this.overlay = overlay;
    this.fail = fail;
  }
  async saveKyberPreKey(): Promise<void> {
    throw new InvariantError("pairwise/pre-key-saved-by-libsignal");
  }
  async getKyberPreKey(id: number): Promise<KyberPreKeyRecord> {
    const bytes = this.overlay.read("kyber-pre-key", String(id));
    if (bytes === undefined) return this.fail("pre-key-missing");
    return KyberPreKeyRecord.deserialize(timedKeyRow.decode(bytes).record);
  }
  async markKyberPreKeyUsed(id: number, signedPreKeyId: number, baseKey: PublicKey): Promise<void> {
    invariant(this.overlay.read("kyber-pre-key", String(id)) !== undefined, "pairwise/pre-key-row-missing");
    if (!useKyberPreKey(this.overlay, id, signedPreKeyId, baseKey.serialize())) this.fail("base-key-reused");
  }
}

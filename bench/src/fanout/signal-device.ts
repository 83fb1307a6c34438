/**
 * libsignal's devices for the fan-out: real sessions on stores in memory, each brought to steady state by three real
 * messages, then set back to that state before every measurement, so that no figure depends on what ran before it.
 */
import type { Bytes } from "@murmuration/base";
import {
  IdentityChange,
  IdentityKeyPair,
  IdentityKeyStore,
  type KEMKeyPair,
  KyberPreKeyRecord,
  KyberPreKeyStore,
  PreKeyBundle,
  type PreKeyRecord,
  PreKeySignalMessage,
  PreKeyStore,
  PrivateKey,
  ProtocolAddress,
  type PublicKey,
  processPreKeyBundle,
  type SenderKeyRecord,
  SenderKeyStore,
  SessionRecord,
  SessionStore,
  SignalMessage,
  SignedPreKeyRecord,
  SignedPreKeyStore,
  signalDecrypt,
  signalDecryptPreKey,
  signalEncrypt,
} from "@murmuration/pairwise/bench";
import { type Account, REGISTRATION_ID } from "./accounts.ts";

const KEY_ID = 1;
const DEVICE = 1;
const FIRST_MESSAGE = new Uint8Array(32);

/** The sessions of one device with its peers, live as libsignal keeps them. */
class Sessions extends SessionStore {
  readonly records = new Map<string, SessionRecord>();
  async saveSession(address: ProtocolAddress, record: SessionRecord): Promise<void> {
    this.records.set(address.name(), record);
  }
  async getSession(address: ProtocolAddress): Promise<SessionRecord | null> {
    return this.records.get(address.name()) ?? null;
  }
  async getExistingSessions(addresses: ProtocolAddress[]): Promise<SessionRecord[]> {
    return addresses.map((address) => this.records.get(address.name())!);
  }
}

class Identities extends IdentityKeyStore {
  private readonly own: IdentityKeyPair;
  private readonly known = new Map<string, PublicKey>();
  constructor(own: IdentityKeyPair) {
    super();
    this.own = own;
  }
  async getIdentityKey(): Promise<PrivateKey> {
    return this.own.privateKey;
  }
  override async getIdentityKeyPair(): Promise<IdentityKeyPair> {
    return this.own;
  }
  async getLocalRegistrationId(): Promise<number> {
    return REGISTRATION_ID;
  }
  async saveIdentity(address: ProtocolAddress, key: PublicKey): Promise<IdentityChange> {
    this.known.set(address.name(), key);
    return IdentityChange.NewOrUnchanged;
  }
  async isTrustedIdentity(): Promise<boolean> {
    return true;
  }
  async getIdentity(address: ProtocolAddress): Promise<PublicKey | null> {
    return this.known.get(address.name()) ?? null;
  }
}

class SenderKeys extends SenderKeyStore {
  readonly records = new Map<string, SenderKeyRecord>();
  async saveSenderKey(sender: ProtocolAddress, _id: string, record: SenderKeyRecord): Promise<void> {
    this.records.set(sender.name(), record);
  }
  async getSenderKey(sender: ProtocolAddress): Promise<SenderKeyRecord | null> {
    return this.records.get(sender.name()) ?? null;
  }
}

class NoPreKeys extends PreKeyStore {
  async savePreKey(): Promise<void> {}
  async getPreKey(): Promise<PreKeyRecord> {
    throw new Error("no one-time prekeys here");
  }
  async removePreKey(): Promise<void> {}
}

class OneSignedPreKey extends SignedPreKeyStore {
  private readonly record: SignedPreKeyRecord;
  constructor(record: SignedPreKeyRecord) {
    super();
    this.record = record;
  }
  async saveSignedPreKey(): Promise<void> {}
  async getSignedPreKey(): Promise<SignedPreKeyRecord> {
    return this.record;
  }
}

class OneKyberPreKey extends KyberPreKeyStore {
  private readonly record: KyberPreKeyRecord;
  constructor(record: KyberPreKeyRecord) {
    super();
    this.record = record;
  }
  async saveKyberPreKey(): Promise<void> {}
  async getKyberPreKey(): Promise<KyberPreKeyRecord> {
    return this.record;
  }
  async markKyberPreKeyUsed(): Promise<void> {}
}

/** One device as libsignal sees it. */
export class SignalDevice {
  readonly account: Account;
  readonly address: ProtocolAddress;
  readonly identity: IdentityKeyPair;
  readonly sessions = new Sessions();
  readonly identities: Identities;
  readonly senderKeys = new SenderKeys();

  constructor(account: Account, identity: IdentityKeyPair = IdentityKeyPair.generate()) {
    this.account = account;
    this.address = ProtocolAddress.new(account.uuid, DEVICE);
    this.identity = identity;
    this.identities = new Identities(identity);
  }

  encrypt(plaintext: Bytes, to: ProtocolAddress) {
    return signalEncrypt(plaintext, to, this.address, this.sessions, this.identities);
  }

  decrypt(ciphertext: Bytes, from: ProtocolAddress): Promise<Bytes> {
    const message = SignalMessage.deserialize(ciphertext);
    return signalDecrypt(message, from, this.address, this.sessions, this.identities);
  }
}

/** A session as stored rows: what both ends are set back to. */
export interface EstablishedPeer {
  readonly account: Account;
  readonly address: ProtocolAddress;
  readonly identityKey: PublicKey;
  readonly session: Bytes;
}

/** What another process needs to be this receiver. */
export interface ReceiverState {
  readonly index: number;
  readonly identityKeyPair: Bytes;
  readonly session: Bytes;
}

/**
 * A session from the first message over the answer to the first message on the answer's chain: what follows carries no
 * prekeys and turns no ratchet. `keep`: the receiver's end is kept as well.
 */
export async function establish(
  sender: SignalDevice,
  account: Account,
  kyber: KEMKeyPair,
  keep: boolean,
): Promise<{ readonly peer: EstablishedPeer; readonly receiver: ReceiverState | undefined }> {
  const device = new SignalDevice(account);
  const { privateKey, publicKey } = device.identity;
  const signed = PrivateKey.generate();
  const signedPublic = signed.getPublicKey();
  const signature = privateKey.sign(signedPublic.serialize());
  const kyberSignature = privateKey.sign(kyber.getPublicKey().serialize());
  const bundle = PreKeyBundle.new(
    REGISTRATION_ID,
    DEVICE,
    null,
    null,
    KEY_ID,
    signedPublic,
    signature,
    publicKey,
    KEY_ID,
    kyber.getPublicKey(),
    kyberSignature,
  );
  await processPreKeyBundle(bundle, device.address, sender.address, sender.sessions, sender.identities);
  const first = await sender.encrypt(FIRST_MESSAGE, device.address);
  await signalDecryptPreKey(
    PreKeySignalMessage.deserialize(first.serialize()),
    sender.address,
    device.address,
    device.sessions,
    device.identities,
    new NoPreKeys(),
    new OneSignedPreKey(SignedPreKeyRecord.new(KEY_ID, 0, signedPublic, signed, signature)),
    new OneKyberPreKey(KyberPreKeyRecord.new(KEY_ID, 0, kyber, kyberSignature)),
  );
  const answer = await device.encrypt(FIRST_MESSAGE, sender.address);
  await sender.decrypt(answer.serialize(), device.address);
  const next = await sender.encrypt(FIRST_MESSAGE, device.address);
  if (keep) await device.decrypt(next.serialize(), sender.address);
  const session = sender.sessions.records.get(account.uuid)!.serialize();
  const receiver = keep
    ? {
        index: account.index,
        identityKeyPair: device.identity.serialize(),
        session: device.sessions.records.get(sender.account.uuid)!.serialize(),
      }
    : undefined;
  return { peer: { account, address: device.address, identityKey: publicKey, session }, receiver };
}

/** Sets one session of a device back. */
export function restoreSession(device: SignalDevice, uuid: string, session: Bytes): void {
  device.sessions.records.set(uuid, SessionRecord.deserialize(session));
}

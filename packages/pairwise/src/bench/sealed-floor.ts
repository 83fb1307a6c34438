import type { Bytes } from "@murmuration/base";
import {
  IdentityChange,
  IdentityKeyPair,
  IdentityKeyStore,
  KEMKeyPair,
  PreKeyBundle,
  PrivateKey,
  ProtocolAddress,
  type PublicKey,
  processPreKeyBundle,
  SenderCertificate,
  ServerCertificate,
  type SessionRecord,
  SessionStore,
  sealedSenderEncryptMessage,
} from "@signalapp/libsignal-client";

/** As the engine yields: a loop that never did would put off part of its cost, the native handles' finalizers. */
const OPERATIONS_PER_YIELD = 8;
const DAY_MS = 86_400_000;

const uuidOf = (index: number): string => `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`;

/** One device of a peer, with the live session that libsignal itself keeps in memory. */
class Device {
  readonly address: ProtocolAddress;
  readonly identityKey = IdentityKeyPair.generate();
  session: SessionRecord | null = null;

  constructor(index: number) {
    this.address = ProtocolAddress.new(uuidOf(index), 1);
  }

  bundle(): PreKeyBundle {
    const { privateKey, publicKey } = this.identityKey;
    const signed = PrivateKey.generate().getPublicKey();
    const kyber = KEMKeyPair.generate().getPublicKey();
    const signedSignature = privateKey.sign(signed.serialize());
    const kyberSignature = privateKey.sign(kyber.serialize());
    return PreKeyBundle.new(
      1,
      1,
      null,
      null,
      1,
      signed,
      signedSignature,
      publicKey,
      1,
      kyber,
      kyberSignature,
    );
  }
}

class LiveSession extends SessionStore {
  private readonly device: Device;
  constructor(device: Device) {
    super();
    this.device = device;
  }
  async saveSession(_name: ProtocolAddress, record: SessionRecord): Promise<void> {
    this.device.session = record;
  }
  async getSession(): Promise<SessionRecord | null> {
    return this.device.session;
  }
  async getExistingSessions(): Promise<SessionRecord[]> {
    return [];
  }
}

class LiveIdentities extends IdentityKeyStore {
  private readonly own: IdentityKeyPair;
  private readonly peer: PublicKey;
  constructor(own: IdentityKeyPair, peer: PublicKey) {
    super();
    this.own = own;
    this.peer = peer;
  }
  async getIdentityKey(): Promise<PrivateKey> {
    return this.own.privateKey;
  }
  override async getIdentityKeyPair(): Promise<IdentityKeyPair> {
    return this.own;
  }
  async getLocalRegistrationId(): Promise<number> {
    return 1;
  }
  async saveIdentity(): Promise<IdentityChange> {
    return IdentityChange.NewOrUnchanged;
  }
  async isTrustedIdentity(): Promise<boolean> {
    return true;
  }
  async getIdentity(): Promise<PublicKey> {
    return this.peer;
  }
}

/**
 * What libsignal's sealed sender v1 costs by itself, to hold a whole client against: one encrypt for each device on
 * sessions that stay parsed in memory, with no check, no row, no database and no frame. Making the sessions costs
 * about 1 ms for each device.
 */
export async function openSealedSenderFloor(
  devices: number,
): Promise<(plaintext: Bytes) => Promise<readonly Bytes[]>> {
  const own = IdentityKeyPair.generate();
  const ownAddress = ProtocolAddress.new(uuidOf(0), 1);
  const root = PrivateKey.generate();
  const signer = PrivateKey.generate();
  const server = ServerCertificate.new(1, signer.getPublicKey(), root);
  const until = Date.now() + DAY_MS;
  const certificate = SenderCertificate.new(uuidOf(0), null, 1, own.publicKey, until, server, signer);
  const peers = Array.from({ length: devices }, (_, i) => new Device(i + 1));
  const stores = peers.map((peer) => ({
    sessions: new LiveSession(peer),
    identities: new LiveIdentities(own, peer.identityKey.publicKey),
  }));
  for (const [i, peer] of peers.entries()) {
    const { sessions, identities } = stores[i]!;
    await processPreKeyBundle(peer.bundle(), peer.address, ownAddress, sessions, identities);
  }
  return async (plaintext) => {
    const sealed: Bytes[] = [];
    for (const [i, peer] of peers.entries()) {
      if (i % OPERATIONS_PER_YIELD === 0) await new Promise((resolve) => setImmediate(resolve));
      const { sessions, identities } = stores[i]!;
      sealed.push(
        await sealedSenderEncryptMessage(plaintext, peer.address, certificate, sessions, identities),
      );
    }
    return sealed;
  };
}

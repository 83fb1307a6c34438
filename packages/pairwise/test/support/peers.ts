import { randomBytes } from "node:crypto";
import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  formatAddress,
  formatId,
  utf8,
} from "@murmuration/base";
import {
  type DecryptOutcome,
  type DeviceCiphertext,
  type DeviceListOutcome,
  type IncomingEnvelope,
  openPairwiseEngine,
  type PairwiseEngine,
  type PairwiseEngineOptions,
  type PreKeyBundle,
  type PreKeyUpload,
  type PublicPreKey,
  type SignedPublicPreKey,
} from "../../src/index.ts";
import {
  generateCertificateSigner,
  generateTrustRoot,
  issueSenderCertificate,
  validateDeviceListUpload,
  validatePreKeyUpload,
} from "../../src/server/index.ts";
import { MemoryStore } from "./memory-store.ts";

export const START_MS = 1_800_000_000_000;
export const DAY_MS = 86_400_000;
export const random = (length: number): Bytes => new Uint8Array(randomBytes(length));

interface DirectoryEntry {
  registrationId: number;
  identityKey: Bytes;
  signedPreKey: SignedPublicPreKey | undefined;
  lastResort: SignedPublicPreKey | undefined;
  preKeys: PublicPreKey[];
  kyberPreKeys: SignedPublicPreKey[];
}

/** The parts of a delivery service that these tests need: key directory, device lists, certificates, a clock. */
export class World {
  nowMs = START_MS;
  readonly root = generateTrustRoot();
  readonly signer = generateCertificateSigner(this.root.privateKey, 17);
  readonly lists = new Map<string, Bytes>();
  readonly directory = new Map<string, DirectoryEntry>();

  register(peer: Peer): void {
    const local = peer.engine.local()!;
    this.uploadList(peer);
    this.directory.set(formatAddress(local.address), {
      registrationId: local.registrationId,
      identityKey: local.identityKey,
      signedPreKey: undefined,
      lastResort: undefined,
      preKeys: [],
      kyberPreKeys: [],
    });
  }

  uploadList(peer: Peer): void {
    const local = peer.engine.local()!;
    const account = formatId(local.address.accountId);
    validateDeviceListUpload(local.address.accountId, local.deviceList, this.lists.get(account));
    this.lists.set(account, local.deviceList);
  }

  upload(address: DeviceAddress, upload: PreKeyUpload): void {
    const entry = this.directory.get(formatAddress(address))!;
    validatePreKeyUpload(entry.identityKey, upload);
    entry.signedPreKey = upload.signedPreKey ?? entry.signedPreKey;
    entry.lastResort = upload.lastResortKyberPreKey ?? entry.lastResort;
    entry.preKeys.push(...upload.preKeys);
    entry.kyberPreKeys.push(...upload.kyberPreKeys);
  }

  /** Claims a bundle: one-time keys go out once. */
  bundle(address: DeviceAddress): PreKeyBundle {
    const entry = this.directory.get(formatAddress(address))!;
    return {
      address,
      registrationId: entry.registrationId,
      identityKey: entry.identityKey,
      preKey: entry.preKeys.shift(),
      signedPreKey: entry.signedPreKey!,
      kyberPreKey: entry.kyberPreKeys.shift() ?? entry.lastResort!,
    };
  }

  certificate(peer: Peer, lifetimeMs = DAY_MS): Bytes {
    const { address, identityKey } = peer.engine.local()!;
    return issueSenderCertificate(this.signer, { address, identityKey }, this.nowMs + lifetimeMs);
  }
}

/** One device with its store: what client-core does around the engine, in the fewest lines. */
export class Peer {
  readonly world: World;
  readonly store = new MemoryStore();
  private readonly options: Pick<PairwiseEngineOptions, "preKeyStock">;
  engine: PairwiseEngine;
  yields = 0;

  private constructor(world: World, options: Pick<PairwiseEngineOptions, "preKeyStock"> = {}) {
    this.world = world;
    this.options = options;
    this.engine = this.open();
  }

  private open(): PairwiseEngine {
    return openPairwiseEngine({
      ...this.options,
      store: this.store,
      trustRoots: [this.world.root.publicKey],
      now: () => this.world.nowMs,
      random,
      yieldToOthers: () => {
        this.yields++;
        return new Promise((resolve) => setImmediate(resolve));
      },
    });
  }

  /** A device that has not registered yet. */
  static blank(world: World, options: Pick<PairwiseEngineOptions, "preKeyStock"> = {}): Peer {
    return new Peer(world, options);
  }

  /** A registered first device with uploaded prekeys and a certificate. */
  static async create(
    world: World,
    id: AccountId = accountId(random(16)),
    options: Pick<PairwiseEngineOptions, "preKeyStock"> = {},
  ): Promise<Peer> {
    const peer = new Peer(world, options);
    await peer.engine.generateAccount(id, peer.store.persist());
    world.register(peer);
    await peer.ready();
    return peer;
  }

  /** A further device of this peer's account. */
  async link(): Promise<Peer> {
    const device = new Peer(this.world);
    const { address, accountIdentityKey } = this.engine.local()!;
    const account = { accountId: address.accountId, accountIdentityKey };
    const request = await device.engine.generateLinkRequest(account, device.store.persist());
    const { deviceList } = await this.engine.addDevice(request, this.store.persist());
    await device.engine.adoptLink(deviceList, device.store.persist());
    this.world.register(device);
    await device.ready();
    return device;
  }

  private async ready(): Promise<void> {
    await this.replenish();
    await this.refreshCertificate();
  }

  async replenish(): Promise<PreKeyUpload | undefined> {
    const entry = this.world.directory.get(formatAddress(this.address))!;
    const counts = { preKeys: entry.preKeys.length, kyberPreKeys: entry.kyberPreKeys.length };
    const upload = await this.engine.preparePreKeys(counts, this.store.persist());
    if (upload === undefined) return undefined;
    this.world.upload(this.address, upload);
    await this.engine.confirmPreKeyUpload(upload.uploadId, this.store.persist());
    return upload;
  }

  async refreshCertificate(): Promise<void> {
    await this.engine.acceptCertificate(this.world.certificate(this), this.store.persist());
  }

  /** A process that died and was started again on the same store. */
  restart(): void {
    this.engine = this.open();
  }

  get address(): DeviceAddress {
    return this.engine.local()!.address;
  }

  /** The row key under which others keep what they have for this device. */
  get key(): string {
    return formatAddress(this.address);
  }

  get account(): AccountId {
    return this.address.accountId;
  }

  fetchList(account: AccountId): Promise<DeviceListOutcome> {
    return this.engine.acceptDeviceList(
      account,
      this.world.lists.get(formatId(account))!,
      this.store.persist(),
    );
  }

  /** Fetches lists and bundles so that sessions with these devices exist. */
  async meet(...peers: readonly Peer[]): Promise<void> {
    for (const peer of peers) await this.fetchList(peer.account);
    const bundles = peers.map((peer) => this.world.bundle(peer.address));
    const outcomes = await this.engine.processBundles(bundles, this.store.persist());
    for (const outcome of outcomes) {
      if (outcome.kind !== "session-created") throw new Error(`no session: ${JSON.stringify(outcome.kind)}`);
    }
  }

  async send(text: string | Bytes, to: readonly Peer[], options: SendOptions = {}): Promise<Sent> {
    const outcome = await this.engine.encrypt(
      {
        recipients: to.map((peer) => peer.address),
        body: typeof text === "string" ? utf8(text) : text,
        mode: options.mode ?? "sealed",
        ...(options.reference === undefined ? {} : { reference: options.reference }),
      },
      this.store.persist(),
    );
    if (outcome.kind !== "persisted") throw new Error("not ready");
    const { ciphertexts, reference } = outcome.result;
    const envelopes = ciphertexts.map((ciphertext) => this.envelope(ciphertext, options.mode));
    return { reference, ciphertexts, envelopes };
  }

  /** The envelope that the delivery service makes of a ciphertext of this device. */
  envelope(ciphertext: DeviceCiphertext, mode: "sealed" | "identified" = "sealed"): IncomingEnvelope {
    return {
      ciphertext: ciphertext.ciphertext,
      identifiedSender: mode === "identified" ? this.address : undefined,
      acceptedAtMs: this.world.nowMs,
    };
  }

  /** Decrypts without fetching anything. */
  receiveOnly(...envelopes: readonly IncomingEnvelope[]): Promise<readonly DecryptOutcome[]> {
    return this.engine.decrypt({ envelopes }, this.store.persist());
  }

  /** Decrypts one envelope; fetches the sender's list first when the engine asks for it. */
  async receive(envelope: IncomingEnvelope): Promise<DecryptOutcome> {
    const [first] = await this.receiveOnly(envelope);
    if (first?.kind !== "device-list-needed") return first!;
    const { accountId: account } = first.sender;
    await this.fetchList(account);
    const request = { envelopes: [envelope], refreshedAccounts: [account] };
    const [second] = await this.engine.decrypt(request, this.store.persist());
    return second!;
  }

  /** Receives and gives the text. Throws if it is no message. */
  async read(envelope: IncomingEnvelope): Promise<string> {
    return textOf(await this.receive(envelope));
  }
}

export interface SendOptions {
  readonly mode?: "sealed" | "identified";
  readonly reference?: number;
}

export interface Sent {
  readonly reference: number;
  readonly ciphertexts: readonly DeviceCiphertext[];
  readonly envelopes: readonly IncomingEnvelope[];
}

/** The text of a message outcome. Throws with the kind, and the code if there is one, for any other. */
export function textOf(outcome: DecryptOutcome): string {
  if (outcome.kind === "message") return new TextDecoder().decode(outcome.body);
  throw new Error(`no message: ${outcome.kind}${"code" in outcome ? ` ${outcome.code}` : ""}`);
}

/** Two devices that know each other and have an established session in both directions. */
export async function establishedPair(
  world = new World(),
): Promise<{ alice: Peer; bob: Peer; world: World }> {
  const alice = await Peer.create(world);
  const bob = await Peer.create(world);
  await alice.meet(bob);
  await bob.read((await alice.send("first", [bob])).envelopes[0]!);
  await alice.read((await bob.send("answer", [alice])).envelopes[0]!);
  return { alice, bob, world };
}

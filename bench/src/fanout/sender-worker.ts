/** The sender's process: encrypts for everybody and encodes the frames. */
import type { Bytes } from "@murmuration/base";
import { groupId, submitId } from "@murmuration/base";
import type { Group } from "@murmuration/mls-groups";
import { type AdoptedLeaf, adoptEpoch } from "@murmuration/mls-groups/bench";
import {
  ContentHint,
  groupEncrypt,
  KEMKeyPair,
  PrivateKey,
  SenderCertificate,
  SenderKeyDistributionMessage,
  SenderKeyRecord,
  ServerCertificate,
  sealedSenderEncryptMessage,
  sealedSenderMultiRecipientEncrypt,
  UnidentifiedSenderMessageContent,
} from "@murmuration/pairwise/bench";
import { encodeClientFrame } from "@murmuration/wire";
import { derived } from "../mls/key-material.ts";
import { cpuSince, note, serveRequests } from "../worker-link.ts";
import { accountAt, type Fence, fenceOf } from "./accounts.ts";
import { type CommunityFile, communityCrypto } from "./community.ts";
import { loadFile, saveFile } from "./files.ts";
import {
  type Addressed,
  encodeMultiRecipient,
  encodeSubmits,
  FIRST_REQUEST,
  webSocketBytes,
} from "./frames.ts";
import type { OpenedSender, SenderResult, SentFrames, Task } from "./protocols.ts";
import { isMls, TIMED_RECEIVERS } from "./protocols.ts";
import { type EstablishedPeer, establish, restoreSession, SignalDevice } from "./signal-device.ts";

const YEAR_MS = 365 * 86_400_000;
/** As the client's engine does: what is never yielded puts the finalizers of native objects off. */
const OPERATIONS_PER_YIELD = 8;
const DISTRIBUTION_ID = "00000000-0000-4000-8000-000000000001";

const FIVE_BYTE_VARINT = 2 ** 28;

const breathe = () => new Promise((resolve) => setImmediate(resolve));

/** The sender of pairwise groups, with a session to everybody. */
class PairwiseSender {
  readonly device: SignalDevice;
  readonly trustRoot = PrivateKey.generate();
  private readonly certificate: SenderCertificate;
  private readonly fence: Fence;
  private readonly peers: EstablishedPeer[] = [];
  private senderKey: Bytes = new Uint8Array();

  constructor(seed: string) {
    this.device = new SignalDevice(accountAt(seed, 0));
    this.fence = fenceOf(seed);
    const signer = PrivateKey.generate();
    const server = ServerCertificate.new(1, signer.getPublicKey(), this.trustRoot);
    const { uuid } = this.device.account;
    const until = Date.now() + YEAR_MS;
    const key = this.device.identity.publicKey;
    this.certificate = SenderCertificate.new(uuid, null, 1, key, until, server, signer);
  }

  async open(seed: string, recipients: number): Promise<OpenedSender> {
    const receivers: OpenedSender["receivers"][number][] = [];
    // One for all receivers: making it is no part of what is measured, and each signs it with its own identity.
    const kyber = KEMKeyPair.generate();
    for (let index = 1; index <= recipients; index++) {
      const account = accountAt(seed, index);
      const { peer, receiver } = await establish(this.device, account, kyber, index <= TIMED_RECEIVERS);
      this.peers.push(peer);
      if (receiver !== undefined) receivers.push(receiver);
      if (index % OPERATIONS_PER_YIELD === 0) await breathe();
      if (index % 250 === 0) note(`${index} of ${recipients} sessions`);
    }
    const distribution = await this.distribute();
    return {
      receivers,
      senderIdentityKey: this.device.identity.publicKey.serialize(),
      trustRoot: this.trustRoot.getPublicKey().serialize(),
      senderKeyDistribution: distribution.serialize(),
    };
  }

  /** Chain ids are drawn at random and take up to five bytes in each message: as almost all do, ours takes five. */
  private async distribute(): Promise<SenderKeyDistributionMessage> {
    const { account, address, senderKeys } = this.device;
    for (;;) {
      senderKeys.records.clear();
      const distribution = await SenderKeyDistributionMessage.create(address, DISTRIBUTION_ID, senderKeys);
      if (distribution.chainId() < FIVE_BYTE_VARINT) continue;
      this.senderKey = senderKeys.records.get(account.uuid)!.serialize();
      return distribution;
    }
  }

  async send(task: Task): Promise<{ readonly cpuUs: number; readonly frames: SentFrames }> {
    const peers = this.peers.slice(0, task.members - 1);
    for (const { account, session } of peers) restoreSession(this.device, account.uuid, session);
    const { account, senderKeys } = this.device;
    senderKeys.records.set(account.uuid, SenderKeyRecord.deserialize(this.senderKey));
    const payload = new Uint8Array(task.payloadBytes);
    const frames: Bytes[][] = [];
    // What setting back left behind is cleared away now and not in between.
    for (let i = 0; i < 4; i++) await breathe();
    const before = process.cpuUsage();
    for (let i = 0; i < task.times; i++)
      frames.push(await this.once(task, `${task.name}/${i}`, peers, payload));
    return { cpuUs: cpuSince(before) / task.times, frames };
  }

  private async once(
    { protocol }: Task,
    name: string,
    peers: readonly EstablishedPeer[],
    payload: Bytes,
  ): Promise<Bytes[]> {
    if (protocol === "sender-key-sealed") {
      return [encodeMultiRecipient(await this.multiRecipient(peers, payload), this.fence, name)];
    }
    const { device } = this;
    const envelopes: Addressed[] = [];
    for (const [i, { account, address }] of peers.entries()) {
      const ciphertext =
        protocol === "pairwise"
          ? (await device.encrypt(payload, address)).serialize()
          : await sealedSenderEncryptMessage(
              payload,
              address,
              this.certificate,
              device.sessions,
              device.identities,
            );
      envelopes.push({ account, ciphertext });
      if (i % OPERATIONS_PER_YIELD === 0) await breathe();
    }
    return encodeSubmits(envelopes, this.fence, name);
  }

  private async multiRecipient(peers: readonly EstablishedPeer[], payload: Bytes): Promise<Bytes> {
    const { address, identities, senderKeys, sessions } = this.device;
    const message = await groupEncrypt(address, DISTRIBUTION_ID, senderKeys, payload);
    const content = UnidentifiedSenderMessageContent.new(
      message,
      this.certificate,
      ContentHint.Default,
      null,
    );
    const recipients = peers.map((peer) => peer.address);
    return sealedSenderMultiRecipientEncrypt({
      content,
      recipients,
      identityStore: identities,
      sessionStore: sessions,
    });
  }
}

/** Leaf 0 of one MLS group. Warm: its chain is under way. Cold: each message is its first of the epoch. */
class MlsSender {
  private readonly file: CommunityFile;
  private readonly adopt: (leaf: AdoptedLeaf) => Group;
  private readonly steady: Group;

  constructor(file: CommunityFile) {
    this.file = file;
    const adopt = adoptEpoch(communityCrypto, file);
    this.adopt = (leaf) => adopt(leaf).group;
    this.steady = this.adopt(file.leaves[0]!);
    this.steady.createApplicationMessage(new Uint8Array(1));
  }

  async send(task: Task): Promise<{ readonly cpuUs: number; readonly frames: SentFrames }> {
    const senders = Array.from({ length: task.times }, () =>
      task.protocol === "mls-warm" ? this.steady : this.adopt(this.file.leaves[0]!),
    );
    const payload = new Uint8Array(task.payloadBytes);
    await breathe();
    const before = process.cpuUsage();
    const frames = senders.map((group, i) => [
      encodeClientFrame({
        requestId: FIRST_REQUEST,
        body: {
          kind: "groupSubmit",
          groupId: groupId(this.file.groupId),
          submitId: submitId(derived(task.name, i).subarray(0, 16)),
          message: group.createApplicationMessage(payload).message,
        },
      }),
    ]);
    return { cpuUs: cpuSince(before) / task.times, frames };
  }
}

let pairwise: PairwiseSender | undefined;
const groups = new Map<string, MlsSender>();

serveRequests({
  async open({ seed, recipients }: { seed: string; recipients: number }): Promise<OpenedSender> {
    pairwise = new PairwiseSender(seed);
    return pairwise.open(seed, recipients);
  },
  group({ protocol, path }: { protocol: string; path: string }): void {
    groups.set(protocol, new MlsSender(loadFile(path)));
  },
  async send(task: Task): Promise<SenderResult> {
    const sender = isMls(task.protocol) ? groups.get(task.protocol)! : pairwise!;
    const { cpuUs, frames } = await sender.send(task);
    saveFile(task.frames, frames);
    const uploadBytes = frames[0]!.reduce((sum, frame) => sum + webSocketBytes(frame.length, "client"), 0);
    return { cpuUs, uploadBytes };
  },
});

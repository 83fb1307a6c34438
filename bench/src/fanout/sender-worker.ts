/** The sender's process: encrypts for everybody and encodes the frames. */
import { deflateRawSync } from "node:zlib";
import type { Bytes } from "@murmuration/base";
import { concatBytes, groupId, submitId } from "@murmuration/base";
import {
  communityLeaf,
  createJoinTicket,
  credentialIn,
  decodeMlsMessage,
  encodeJoinTicket,
  type Group,
  joinGroupExternally,
  type KeyPackage,
  leafOfSignatureKey,
  type Proposal,
} from "@murmuration/mls-groups";
import { type AdoptedLeaf, adoptEpoch } from "@murmuration/mls-groups/bench";
import {
  ContentHint,
  groupEncrypt,
  PrivateKey,
  SenderCertificate,
  SenderKeyDistributionMessage,
  SenderKeyRecord,
  ServerCertificate,
  sealedSenderEncryptMessage,
  sealedSenderMultiRecipientEncrypt,
  UnidentifiedSenderMessageContent,
} from "@murmuration/pairwise/bench";
import { encodeClientFrame, type WelcomeRecipient } from "@murmuration/wire";
import { derived } from "../mls/key-material.ts";
import { cpuOfEach, cpuSince, note, serveRequests } from "../worker-link.ts";
import { accountAt, DEVICE_ID, type Fence, fenceOf } from "./accounts.ts";
import type { CommitFrames, CommitSenderResult, CommitTask, NewcomerKeys, Proof } from "./commits.ts";
import { type CommunityFile, communityCrypto, communityLink } from "./community.ts";
import { loadFile, saveFile } from "./files.ts";
import {
  type Addressed,
  encodeMultiRecipient,
  encodeSubmits,
  FIRST_REQUEST,
  webSocketBytes,
} from "./frames.ts";
import type { OpenedSender, SenderResult, SentFrames, Task } from "./protocols.ts";
import { isMls } from "./protocols.ts";
import { RecordAuthor, type RecordAuthorResult, type RecordTask } from "./records.ts";
import { type AccountRange, type MadeSession, makeSessions, takeSessions } from "./sessions.ts";
import { type EstablishedPeer, type ReceiverState, restoreSession, SignalDevice } from "./signal-device.ts";

const YEAR_MS = 365 * 86_400_000;
/** As the client's engine does: what is never yielded puts the finalizers of native objects off. */
const OPERATIONS_PER_YIELD = 8;
const DISTRIBUTION_ID = "00000000-0000-4000-8000-000000000001";

/** MLSMessage header of a KeyPackage: version 1, wire format 5. */
const KEY_PACKAGE_HEADER = Uint8Array.of(0, 1, 0, 5);
const FIVE_BYTE_VARINT = 2 ** 28;

const breathe = () => new Promise((resolve) => setImmediate(resolve));

/** The sender of pairwise groups, with a session to everybody. */
class PairwiseSender {
  readonly device: SignalDevice;
  readonly trustRoot = PrivateKey.generate();
  private readonly certificate: SenderCertificate;
  private readonly fence: Fence;
  private readonly seed: string;
  private readonly peers: EstablishedPeer[] = [];
  private readonly receivers: ReceiverState[] = [];
  private senderKey: Bytes = new Uint8Array();

  constructor(seed: string) {
    this.seed = seed;
    this.device = new SignalDevice(accountAt(seed, 0));
    this.fence = fenceOf(seed);
    const signer = PrivateKey.generate();
    const server = ServerCertificate.new(1, signer.getPublicKey(), this.trustRoot);
    const { uuid } = this.device.account;
    const until = Date.now() + YEAR_MS;
    const key = this.device.identity.publicKey;
    this.certificate = SenderCertificate.new(uuid, null, 1, key, until, server, signer);
  }

  /** Makes sessions with these accounts, the first of which are those whose receivers are timed. */
  async makeSessions(range: AccountRange): Promise<void> {
    const told = (done: number) => note(`${done} of ${range.last} sessions`);
    const { peers, receivers } = await makeSessions(this.device, this.seed, range, told);
    this.peers.push(...peers);
    this.receivers.push(...receivers);
  }

  /** With the sessions that another process has made for it. */
  async open(others: readonly MadeSession[]): Promise<OpenedSender> {
    this.peers.push(...(await takeSessions(this.device, this.seed, others)));
    const distribution = await this.distribute();
    return {
      receivers: this.receivers,
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
    // Sealing one message for all reads the sessions and turns none of them.
    if (task.protocol !== "sender-key-sealed")
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
    const numbered = senders.map((group, i) => ({
      group,
      name: submitId(derived(task.name, i).subarray(0, 16)),
    }));
    const { cpuUs, results } = cpuOfEach(numbered, task.protocol === "mls-cold", ({ group, name }) => [
      encodeClientFrame({
        requestId: FIRST_REQUEST,
        body: {
          kind: "groupSubmit",
          groupId: groupId(this.file.groupId),
          submitId: name,
          message: group.createApplicationMessage(payload).message,
        },
      }),
    ]);
    return { cpuUs, frames: results };
  }
}

/** Leaf 0 of a community that changes: it commits, and stays in step when somebody else does. */
class Committer {
  private readonly file: CommunityFile;
  private readonly group: Group;

  constructor(file: CommunityFile) {
    this.file = file;
    this.group = adoptEpoch(communityCrypto, file)(file.leaves[0]!).group;
  }

  commit(task: CommitTask): CommitSenderResult {
    const treeBefore = this.group.ratchetTree();
    const made =
      task.kind === "rejoin" || task.kind === "join"
        ? this.comeIn(task, treeBefore)
        : this.commitAsOwner(task);
    saveFile(task.frames, made.frames);
    const treeAfter = this.group.ratchetTree();
    saveFile(task.delivered, treeAfter);
    // Who is added fetches the new tree; who comes by itself the one before.
    const fetched = task.kind === "add" ? treeAfter : treeBefore;
    return {
      cpuUs: made.cpuUs,
      uploadBytes: webSocketBytes(made.frames.commit.length, "client"),
      treeBytes: deflateRawSync(fetched).length,
    };
  }

  private commitAsOwner(task: CommitTask): MadeCommit {
    const keys = task.kind === "add" ? loadFile<NewcomerKeys>(task.keys) : [];
    const before = process.cpuUsage();
    const made = this.group.createCommit({ proposals: this.proposals(task, keys) });
    const recipients = task.newcomers.map((index) => ({
      accountId: accountAt(this.file.seeds.accounts, index).accountId,
      deviceId: DEVICE_ID,
    }));
    const commit = this.encode(made, task.kind === "add" ? recipients : []);
    this.group.mergePending({ nowMs: 0 });
    const cpuUs = cpuSince(before);
    return { cpuUs, frames: { proof: undefined, commit, connection: 0 } };
  }

  private proposals(task: CommitTask, keys: NewcomerKeys): readonly Proposal[] {
    if (task.kind === "add")
      return keys.map(({ keyPackage }) => ({ kind: "add", keyPackage: decodeKeyPackage(keyPackage) }));
    if (task.kind === "self-update") return [];
    // Those that were added last, who stand behind all others.
    const { newcomers } = task;
    const leaves = loadFile<NewcomerKeys>(task.keys).map(
      ({ signatureKeys }) =>
        leafOfSignatureKey(communityCrypto, this.group.ratchetTree(), signatureKeys.publicKey)!,
    );
    if (leaves.length !== newcomers.length) throw new Error("who is to be removed is not in the group");
    return leaves.map((removed) => ({ kind: "remove", removed }));
  }

  private encode(
    made: { readonly message: Bytes; readonly groupInfo: Bytes; readonly welcome?: Bytes | undefined },
    recipients: readonly WelcomeRecipient[],
  ): Bytes {
    const body = {
      kind: "groupCommit",
      groupId: groupId(this.file.groupId),
      commit: made.message,
      groupInfo: made.groupInfo,
      ...(made.welcome === undefined ? {} : { welcome: made.welcome }),
      recipients: [...recipients],
    } as const;
    return encodeClientFrame({ requestId: FIRST_REQUEST, body });
  }

  /** By external commit: a member that lost its state, or the holder of a link. */
  private comeIn(task: CommitTask, ratchetTree: Bytes): MadeCommit {
    const { file } = this;
    const [newcomer] = loadFile<NewcomerKeys>(task.keys);
    const { identity, signatureKeys } = newcomer!;
    const groupInfo = this.group.groupInfo();
    const back = task.kind === "rejoin";
    // As it stands at the leaf: signatures come out differently when they are made again.
    const own = back ? credentialIn(this.group, this.group.epoch, task.newcomers[0]!) : undefined;
    const before = process.cpuUsage();
    const linkUse = {
      groupId: file.groupId,
      ...communityLink(file.seeds.accounts),
      signatureKey: signatureKeys.publicKey,
    };
    const extensions = back
      ? {}
      : { extensions: [encodeJoinTicket(createJoinTicket(communityCrypto, linkUse))] };
    const removes = back
      ? leafOfSignatureKey(communityCrypto, ratchetTree, signatureKeys.publicKey)
      : undefined;
    const joined = joinGroupExternally(communityCrypto, {
      groupInfo,
      ratchetTree,
      identity: { credential: own ?? { kind: "basic", identity }, signatureKeys },
      leaf: { ...communityLeaf, ...extensions },
      removes,
    });
    const commit = this.encode(joined, []);
    const cpuUs = cpuSince(before);
    const received = this.group.receive(joined.message);
    if (received.kind !== "commit") throw new Error(`a ${received.kind} was made instead of a commit`);
    this.group.merge(received.commit, { nowMs: 0 });
    const link = communityLink(file.seeds.accounts);
    const proof: Proof = back
      ? { kind: "leaf", id: signatureKeys.publicKey, privateKey: signatureKeys.privateKey }
      : { kind: "link", id: link.linkId, privateKey: link.linkSeed };
    return { cpuUs, frames: { proof, commit, connection: task.newcomers[0]! } };
  }
}

interface MadeCommit {
  readonly cpuUs: number;
  readonly frames: CommitFrames;
}

function decodeKeyPackage(bytes: Uint8Array): KeyPackage {
  const message = decodeMlsMessage(concatBytes(KEY_PACKAGE_HEADER, bytes));
  if (message.wireFormat !== "mls_key_package") throw new Error("not a KeyPackage");
  return message.keyPackage;
}

let records: RecordAuthor | undefined;
let pairwise: PairwiseSender | undefined;
const groups = new Map<string, MlsSender>();
let committer: Committer | undefined;

serveRequests({
  identity({ seed }: { seed: string }): Bytes {
    pairwise = new PairwiseSender(seed);
    return pairwise.device.identity.serialize();
  },
  sessions: (range: AccountRange): Promise<void> => pairwise!.makeSessions(range),
  open: ({ others }: { others: string }): Promise<OpenedSender> => pairwise!.open(loadFile(others)),
  group({ protocol, path }: { protocol: string; path: string }): void {
    groups.set(protocol, new MlsSender(loadFile(path)));
  },
  record({ members, seed }: { members: number; seed: string }): void {
    records = new RecordAuthor(seed, members);
  },
  write: (task: RecordTask): RecordAuthorResult => records!.write(task),
  changing({ path }: { path: string }): void {
    // Groups for messages are as large as the largest fan-out, and nobody writes to them any more.
    groups.clear();
    committer = new Committer(loadFile(path));
  },
  commit: (task: CommitTask): CommitSenderResult => committer!.commit(task),
  async send(task: Task): Promise<SenderResult> {
    const sender = isMls(task.protocol) ? groups.get(task.protocol)! : pairwise!;
    const { cpuUs, frames } = await sender.send(task);
    saveFile(task.frames, frames);
    const uploadBytes = frames[0]!.reduce((sum, frame) => sum + webSocketBytes(frame.length, "client"), 0);
    return { cpuUs, uploadBytes };
  },
});

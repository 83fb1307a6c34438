/** The receivers' process: decodes what the service delivered to the timed ones, and decrypts it. */
import { type Bytes, concatBytes, equalBytes } from "@murmuration/base";
import { decodeMlsMessage, type Group, joinGroup, type KeyPackageBundle } from "@murmuration/mls-groups";
import { adoptEpoch } from "@murmuration/mls-groups/bench";
import {
  groupDecrypt,
  IdentityKeyPair,
  ProtocolAddress,
  PublicKey,
  processSenderKeyDistributionMessage,
  SenderKeyDistributionMessage,
  SenderKeyRecord,
  sealedSenderDecryptToUsmc,
} from "@murmuration/pairwise/bench";
import { decodeServiceFrame } from "@murmuration/wire";
import { cpuOfEach, cpuSince, serveRequests } from "../worker-link.ts";
import { accountAt } from "./accounts.ts";
import type { CommitReceiverResult, CommitTask, DeliveredCommit, NewcomerKeys } from "./commits.ts";
import { type CommunityFile, communityCrypto } from "./community.ts";
import { loadFile, saveFile } from "./files.ts";
import type { DeliveredFrames, OpenedSender, ReceiverResult, Task } from "./protocols.ts";
import { isMls } from "./protocols.ts";
import { type RecordTask, readRecord } from "./records.ts";
import { type MadeSession, makeSessions, type SessionsTask } from "./sessions.ts";
import { restoreSession, SignalDevice } from "./signal-device.ts";

interface PairwiseReceiver {
  readonly device: SignalDevice;
  readonly session: Bytes;
  readonly senderKey: Bytes;
}

const breathe = () => new Promise((resolve) => setImmediate(resolve));

class PairwiseReceivers {
  private readonly receivers = new Map<number, PairwiseReceiver>();
  private readonly sender: ProtocolAddress;
  private readonly trustRoot: PublicKey;

  private constructor(seed: string, opened: OpenedSender) {
    this.sender = ProtocolAddress.new(accountAt(seed, 0).uuid, 1);
    this.trustRoot = PublicKey.deserialize(opened.trustRoot);
  }

  static async open(seed: string, opened: OpenedSender): Promise<PairwiseReceivers> {
    const receivers = new PairwiseReceivers(seed, opened);
    for (const { identityKeyPair, index, session } of opened.receivers) {
      const device = new SignalDevice(accountAt(seed, index), IdentityKeyPair.deserialize(identityKeyPair));
      await device.identities.saveIdentity(receivers.sender, PublicKey.deserialize(opened.senderIdentityKey));
      const distribution = SenderKeyDistributionMessage.deserialize(opened.senderKeyDistribution);
      await processSenderKeyDistributionMessage(receivers.sender, distribution, device.senderKeys);
      const senderKey = device.senderKeys.records.get(receivers.sender.name())!.serialize();
      receivers.receivers.set(index, { device, session, senderKey });
    }
    return receivers;
  }

  async receive(task: Task, delivered: DeliveredFrames): Promise<ReceiverResult> {
    const name = this.sender.name();
    for (const { device, senderKey, session } of this.receivers.values()) {
      restoreSession(device, name, session);
      device.senderKeys.records.set(name, SenderKeyRecord.deserialize(senderKey));
    }
    const messages = delivered.flat();
    for (let i = 0; i < 4; i++) await breathe();
    const before = process.cpuUsage();
    for (const { frame, index } of messages) {
      const plaintext = await this.open(task, this.receivers.get(index)!, frame);
      if (plaintext.length !== task.payloadBytes) throw new Error("another payload came than was sent");
    }
    return { cpuUs: cpuSince(before) / messages.length, receivers: delivered[0]!.length };
  }

  private async open(task: Task, { device }: PairwiseReceiver, frame: Bytes): Promise<Uint8Array> {
    const { body } = decodeServiceFrame(frame);
    if (body.kind !== "deliver") throw new Error(`a ${body.kind} came instead of a Deliver`);
    const ciphertext = new Uint8Array(body.envelopes[0]!.sealed!.ciphertext);
    if (task.protocol === "pairwise") return device.decrypt(ciphertext, this.sender);
    const content = await sealedSenderDecryptToUsmc(ciphertext, device.identities);
    if (!content.senderCertificate().validate(this.trustRoot, Date.now())) {
      throw new Error("the sender's certificate is not valid");
    }
    return task.protocol === "pairwise-sealed"
      ? device.decrypt(content.contents(), this.sender)
      : groupDecrypt(this.sender, device.senderKeys, content.contents());
  }
}

/** Members of one MLS group. Cold: each message is the first of the epoch that they receive. */
class MlsReceivers {
  private readonly file: CommunityFile;
  private readonly adopt: ReturnType<typeof adoptEpoch>;
  private readonly steady: ReadonlyMap<number, Group>;

  constructor(file: CommunityFile) {
    this.file = file;
    this.adopt = adoptEpoch(communityCrypto, file);
    this.steady = new Map(file.leaves.map((leaf) => [leaf.leaf, this.adopt(leaf).group]));
  }

  async receive(task: Task, delivered: DeliveredFrames): Promise<ReceiverResult> {
    const messages = delivered.flat().map(({ frame, index }) => ({ frame, group: this.member(task, index) }));
    await breathe();
    const { cpuUs } = cpuOfEach(messages, task.protocol === "mls-cold", ({ frame, group }) => {
      const { body } = decodeServiceFrame(frame);
      if (body.kind !== "groupEntries") throw new Error(`a ${body.kind} came instead of GroupEntries`);
      const received = group.receive(body.entries[0]!.application!.message);
      if (received.kind !== "application") throw new Error(`a ${received.kind} came instead of a message`);
    });
    return { cpuUs, receivers: delivered[0]!.length };
  }

  private member(task: Task, index: number): Group {
    if (task.protocol === "mls-warm") return this.steady.get(index)!;
    return this.adopt(this.file.leaves.find(({ leaf }) => leaf === index)!).group;
  }
}

/** Members of a community that changes. */
class Followers {
  private readonly members: readonly Group[];
  private readonly file: CommunityFile;

  constructor(file: CommunityFile) {
    this.file = file;
    const adopt = adoptEpoch(communityCrypto, file);
    this.members = file.leaves.slice(1).map((leaf) => adopt(leaf).group);
  }

  follow(task: CommitTask): CommitReceiverResult {
    const { entries, ratchetTree, welcomes } = loadFile<DeliveredCommit>(task.delivered);
    const before = process.cpuUsage();
    for (const group of this.members) {
      const { body } = decodeServiceFrame(entries);
      if (body.kind !== "groupEntries") throw new Error(`a ${body.kind} came instead of GroupEntries`);
      const received = group.receive(body.entries.at(-1)!.commit!.commit);
      if (received.kind !== "commit") throw new Error(`a ${received.kind} came instead of a commit`);
      group.merge(received.commit, { nowMs: 0 });
    }
    const receiverCpuUs = this.members.length === 0 ? 0 : cpuSince(before) / this.members.length;
    if (welcomes.length === 0) return { receiverCpuUs, newcomerCpuUs: null };
    return { receiverCpuUs, newcomerCpuUs: this.join(task, welcomes[0]!, ratchetTree) };
  }

  /** The first newcomer enters, validates the whole tree, and must be in the epoch of the others. */
  private join(task: CommitTask, welcome: Bytes, ratchetTree: Bytes): number {
    const keyPackage = bundleOf(loadFile<NewcomerKeys>(task.keys)[0]!);
    const before = process.cpuUsage();
    const { body } = decodeServiceFrame(welcome);
    if (body.kind !== "deliver") throw new Error(`a ${body.kind} came instead of a Welcome`);
    const request = { welcome: body.envelopes[0]!.welcome!.welcome, ratchetTree, keyPackage };
    const { group } = joinGroup(communityCrypto, request);
    const cpuUs = cpuSince(before);
    const [other] = this.members;
    if (other !== undefined && !equalBytes(group.epochAuthenticator(), other.epochAuthenticator()))
      throw new Error(`a newcomer of ${this.file.members} members is in another epoch`);
    return cpuUs;
  }
}

/** Joining wipes what it spent, so each run gets copies. */
function bundleOf(fixture: NewcomerKeys[number]): KeyPackageBundle {
  const message = decodeMlsMessage(concatBytes(Uint8Array.of(0, 1, 0, 5), fixture.keyPackage));
  if (message.wireFormat !== "mls_key_package") throw new Error("not a KeyPackage");
  return {
    keyPackage: message.keyPackage,
    initPrivateKey: fixture.initKeys.privateKey.slice(),
    leafPrivateKey: fixture.encryptionKeys.privateKey.slice(),
    signaturePrivateKey: fixture.signatureKeys.privateKey.slice(),
  };
}

let pairwise: PairwiseReceivers | undefined;
const groups = new Map<string, MlsReceivers>();
let followers: Followers | undefined;

serveRequests({
  /** Half of the sender's sessions, made here because the other half keeps its own process busy. */
  async sessions({ identity, path, range, seed }: SessionsTask): Promise<void> {
    const sender = new SignalDevice(accountAt(seed, 0), IdentityKeyPair.deserialize(identity));
    const { peers } = await makeSessions(sender, seed, range);
    const made: MadeSession[] = peers.map(({ account, identityKey, session }) => ({
      index: account.index,
      identityKey: identityKey.serialize(),
      session,
    }));
    saveFile(path, made);
  },
  async open({ seed, opened }: { seed: string; opened: OpenedSender }): Promise<void> {
    pairwise = await PairwiseReceivers.open(seed, opened);
  },
  group({ protocol, path }: { protocol: string; path: string }): void {
    groups.set(protocol, new MlsReceivers(loadFile(path)));
  },
  read: (task: RecordTask): number => readRecord(task),
  changing({ path }: { path: string }): void {
    // Groups for messages are as large as the largest fan-out, and nobody writes to them any more.
    groups.clear();
    followers = new Followers(loadFile(path));
  },
  commit: (task: CommitTask): CommitReceiverResult => followers!.follow(task),
  receive(task: Task): Promise<ReceiverResult> {
    const receivers = isMls(task.protocol) ? groups.get(task.protocol)! : pairwise!;
    return receivers.receive(task, loadFile<DeliveredFrames>(task.delivered));
  },
});

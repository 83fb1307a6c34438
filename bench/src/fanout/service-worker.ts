/** The delivery service's process: takes the frames, stores durably, and encodes what goes out to each receiver. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Bytes, groupId } from "@murmuration/base";
import {
  type BenchConnection,
  type BenchService,
  openBenchService,
  type ServiceContext,
  sha256,
} from "@murmuration/delivery-service/bench";
import {
  decodeServiceFrame,
  encodeClientFrame,
  encodeLeafAccessTbs,
  encodeServiceFrame,
  GROUP_ACCESS_LABEL,
  protocolVersions,
  type ServiceBody,
} from "@murmuration/wire";
import { signWithLabel } from "../mls/key-material.ts";
import { cpuSince, note, serveRequests } from "../worker-link.ts";
import { accountAt, DEVICE_ID, fenceOf, REGISTRATION_ID } from "./accounts.ts";
import type { CommitFrames, CommitServiceResult, CommitTask, DeliveredCommit, Proof } from "./commits.ts";
import type { CommunityFile } from "./community.ts";
import { loadFile, saveFile } from "./files.ts";
import { webSocketBytes } from "./frames.ts";
import { submitMultiRecipient } from "./multi-recipient.ts";
import {
  type DeliveredTo,
  isMls,
  type SentFrames,
  type ServiceResult,
  type Task,
  TIMED_RECEIVERS,
  timedLeaves,
} from "./protocols.ts";
import type { RecordTask } from "./records.ts";
import { storeRecord } from "./records-service.ts";

const NO_BYTES: Bytes = new Uint8Array(0);
const KEY_BYTES = 33;
const ACCOUNTS_PER_TRANSACTION = 500;
const OPENED_AT_A_TIME = 64;
/** Something is wrong when an answer takes this long. */
const EXCHANGE_LIMIT_MS = 60_000;

/** One client's end. Frames that come are counted, and the last one is kept. */
class Client {
  readonly connection: BenchConnection;
  challenge: Bytes = NO_BYTES;
  lastFrame: Uint8Array = NO_BYTES;
  /** The frame before the last one. */
  previousFrame: Uint8Array = NO_BYTES;
  frames = 0;
  bytes = 0;
  private readonly came: () => void;

  constructor(service: BenchService, came: () => void) {
    this.came = came;
    this.connection = service.connect((frame) => this.take(frame));
  }

  private take(frame: Uint8Array): void {
    this.frames++;
    this.bytes += webSocketBytes(frame.length, "service");
    this.previousFrame = this.lastFrame;
    this.lastFrame = frame;
    this.came();
  }

  /** What came last, for whoever looks for a mistake. */
  describe(): string {
    if (this.lastFrame.length === 0) return "nothing";
    const body = this.lastBody;
    return body.kind === "rejection" ? body.code : body.kind;
  }

  get lastBody(): ServiceBody {
    return decodeServiceFrame(this.lastFrame).body;
  }

  /**
   * Bytes that came, less the store's mark where the last frame has one: whoever gets several messages within two
   * seconds gets one mark with them, so that it belongs to no message.
   */
  bytesWithoutMark(): number {
    if (this.frames === 0) return 0;
    const { body, requestId } = decodeServiceFrame(this.lastFrame);
    if (body.kind !== "deliver" || body.storeMark === undefined) return this.bytes;
    const { storeMark: _, ...unmarked } = body;
    const { length } = encodeServiceFrame({ requestId, body: unmarked });
    return this.bytes - webSocketBytes(this.lastFrame.length, "service") + webSocketBytes(length, "service");
  }
}

/** What a table's rows weigh: blobs and text by their length, numbers as 8 bytes, NULL as nothing. */
function rowBytes(database: DatabaseSync, table: string): string {
  const columns = database.prepare(`SELECT name FROM pragma_table_info('${table}')`).all();
  const weights = columns.map(
    ({ name }) =>
      `CASE typeof(${name}) WHEN 'null' THEN 0 WHEN 'blob' THEN length(${name}) WHEN 'text' THEN length(${name}) ELSE 8 END`,
  );
  return `SELECT count(*) AS n, ifnull(sum(${weights.join(" + ")}), 0) AS bytes FROM ${table}`;
}

class ServiceUnderTest {
  private readonly service: BenchService;
  private readonly database: DatabaseSync;
  private readonly seed: string;
  /** Devices' connections by account number; number 0 sends and has none. */
  private readonly devices: Client[] = [];
  /** Anonymous connections by account number, on which MLS groups are open; number 0 sends. */
  private readonly anonymous: Client[] = [];
  /** For pairwise submits: a connection on which a group is open takes none. */
  private readonly submitter: Client;
  private readonly groups = new Map<string, CommunityFile>();
  private arrived = 0;
  private wanted = Number.POSITIVE_INFINITY;
  private wake: () => void = () => {};
  private readonly came = (): void => {
    if (++this.arrived >= this.wanted) this.wake();
  };

  private constructor(service: BenchService, directory: string, seed: string) {
    this.service = service;
    this.seed = seed;
    this.submitter = new Client(service, this.came);
    this.database = new DatabaseSync(join(directory, "delivery-service.sqlite"));
  }

  static async open(directory: string, seed: string, recipients: number): Promise<ServiceUnderTest> {
    const service = await openBenchService(directory);
    const self = new ServiceUnderTest(service, directory, seed);
    await self.register(recipients);
    await self.connect(recipients);
    return self;
  }

  private async register(recipients: number): Promise<void> {
    const { accounts, groupRecords, mailboxes } = this.service.context.stores;
    const openedAtMs = Date.now();
    for (let first = 1; first <= recipients; first += ACCOUNTS_PER_TRANSACTION) {
      const last = Math.min(recipients, first + ACCOUNTS_PER_TRANSACTION - 1);
      const batch = Array.from({ length: last - first + 1 }, (_, i) => accountAt(this.seed, first + i));
      await Promise.all(
        batch.flatMap(({ accessKey, accountId, token }) => [
          accounts.create({
            accountId,
            accountIdentityKey: new Uint8Array(KEY_BYTES),
            accessKeyHash: sha256(accessKey),
            deviceList: { version: 1, bytes: new Uint8Array(200) },
            device: {
              deviceId: DEVICE_ID,
              registrationId: REGISTRATION_ID,
              identityKey: new Uint8Array(KEY_BYTES),
              tokenHash: sha256(token),
              lastSeenDay: Math.floor(openedAtMs / 86_400_000),
              hasKeys: true,
            },
          }),
          mailboxes.open({ accountId, deviceId: DEVICE_ID }, openedAtMs),
        ]),
      );
      note(`${last} of ${recipients} accounts`);
    }
    await groupRecords.create({
      ...fenceOf(this.seed),
      revision: 1,
      blob: new Uint8Array(64),
      accessPublicKey: new Uint8Array(32),
      lastUsedDay: Math.floor(openedAtMs / 86_400_000),
      migration: undefined,
    });
  }

  /** Everybody comes online: a device's connection and an anonymous one, each with its Hello. */
  private async connect(recipients: number): Promise<void> {
    await this.say(this.submitter, { kind: "hello", versions: [...protocolVersions] });
    for (let index = 0; index <= recipients; index++) {
      const client = new Client(this.service, this.came);
      await this.say(client, { kind: "hello", versions: [...protocolVersions] });
      const reply = client.lastBody;
      if (reply.kind !== "helloReply") throw new Error(`a ${reply.kind} came instead of a HelloReply`);
      client.challenge = reply.challenge;
      this.anonymous.push(client);
      if (index === 0) continue;
      const device = new Client(this.service, this.came);
      const { accountId, token } = accountAt(this.seed, index);
      const auth = { accountId, deviceId: DEVICE_ID, token };
      // Behind the answer come two words about keys that run out, and the end of the queue.
      await this.say(device, { kind: "hello", versions: [...protocolVersions], auth }, 4);
      this.devices[index] = device;
      if (index % 500 === 0) note(`${index} of ${recipients} devices online`);
    }
  }

  /** Sends frames and waits until so many have come in all. */
  private async exchange(expected: number, send: () => void): Promise<void> {
    this.arrived = 0;
    this.wanted = expected;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      this.wake = resolve;
      timer = setTimeout(() => {
        const kinds = [this.submitter, ...this.anonymous.slice(0, 3)].map((client) => client.describe());
        reject(new Error(`${this.arrived} of ${expected} frames came; the last ones: ${kinds.join(", ")}`));
      }, EXCHANGE_LIMIT_MS);
      send();
    });
    clearTimeout(timer);
    this.wanted = Number.POSITIVE_INFINITY;
  }

  private say(
    client: Client,
    body: Parameters<typeof encodeClientFrame>[0]["body"],
    answers = 1,
  ): Promise<void> {
    const frame = encodeClientFrame({ requestId: 1, body });
    return this.exchange(answers, () => client.connection.receive(frame));
  }

  /** Stores a community and opens it on the connections of its members. */
  async openGroup(protocol: string, file: CommunityFile): Promise<void> {
    const { context } = this.service;
    const id = groupId(file.groupId);
    await context.stores.mlsGroups.create({
      groupId: id,
      epoch: file.epoch,
      groupInfo: file.groupInfo,
      treeHash: file.treeHash,
      tree: file.ratchetTree,
      day: Math.floor(Date.now() / 86_400_000),
    });
    const service = context.authority.trustRootPublicKey;
    for (let first = 0; first < file.members; first += OPENED_AT_A_TIME) {
      const leaves = Array.from(
        { length: Math.min(OPENED_AT_A_TIME, file.members - first) },
        (_, i) => first + i,
      );
      const frames = leaves.map((leafIndex) => {
        const access = { groupId: id, epoch: file.epoch, leafIndex };
        const { challenge } = this.anonymous[leafIndex]!;
        const tbs = encodeLeafAccessTbs({ ...access, service, challenge });
        const signature = signWithLabel(file.signaturePrivateKeys[leafIndex]!, GROUP_ACCESS_LABEL, tbs);
        const body = { kind: "groupAccess", ...access, signature, afterSequence: 0, marks: [] } as const;
        return encodeClientFrame({ requestId: 1, body });
      });
      await this.exchange(leaves.length, () => {
        for (const [i, leaf] of leaves.entries()) this.anonymous[leaf]!.connection.receive(frames[i]!);
      });
      for (const leaf of leaves) {
        const { kind } = this.anonymous[leaf]!.lastBody;
        if (kind !== "groupAccessGranted" && kind !== "groupTurn")
          throw new Error(`a ${kind} came for an access`);
      }
    }
    this.groups.set(protocol, file);
    // A turn that was offered is said by now and belongs to no message.
    await new Promise((resolve) => setTimeout(resolve, 20));
  }

  get context(): ServiceContext {
    return this.service.context;
  }

  async submit(task: Task): Promise<ServiceResult> {
    const sent = loadFile<SentFrames>(task.frames);
    const group = isMls(task.protocol) ? this.groups.get(task.protocol)! : undefined;
    const sender = group === undefined ? this.submitter : this.anonymous[0]!;
    const receivers = (group === undefined ? this.devices : this.anonymous).slice(1, task.members);
    const timed =
      group === undefined
        ? Array.from({ length: Math.min(TIMED_RECEIVERS, task.members - 1) }, (_, i) => i + 1)
        : timedLeaves(task.members);
    const delivered: DeliveredTo[][] = [];
    const before = this.stored(group);
    let stored = 0;
    let egressBytes = 0;
    let senderDownloadBytes = 0;
    let cpuUs = 0;
    for (const [i, frames] of sent.entries()) {
      for (const client of [sender, ...receivers]) {
        client.bytes = 0;
        client.frames = 0;
      }
      cpuUs += await this.once(task, sender, frames, receivers.length, group !== undefined);
      for (const receiver of receivers) {
        if (receiver.frames !== 1)
          throw new Error(`${receiver.frames} frames came to a receiver of one message`);
      }
      delivered.push(timed.map((index) => ({ index, frame: receivers[index - 1]!.lastFrame as Bytes })));
      if (i > 0) continue;
      stored = this.stored(group) - before;
      egressBytes = receivers.reduce((sum, receiver) => sum + receiver.bytesWithoutMark(), 0);
      senderDownloadBytes = sender.bytes;
    }
    if (group === undefined) this.empty();
    saveFile(task.delivered, delivered);
    return { cpuUs: cpuUs / sent.length, senderDownloadBytes, storedBytes: stored, egressBytes };
  }

  /** One message: until its last receiver's frame is encoded and the sender is answered. */
  private async once(
    task: Task,
    sender: Client,
    frames: readonly Bytes[],
    receivers: number,
    isGroup: boolean,
  ): Promise<number> {
    if (task.protocol === "sender-key-sealed") {
      const fence = fenceOf(this.seed).groupId;
      const before = process.cpuUsage();
      await this.exchange(receivers, () => {
        void submitMultiRecipient(this.service.context, fence, frames[0]!).then((answer) => {
          sender.frames++;
          sender.bytes += webSocketBytes(answer.length, "service");
        });
      });
      return cpuSince(before);
    }
    // In an MLS group the log comes back to the sender as well, like to everybody.
    const expected = receivers + frames.length + (isGroup ? 1 : 0);
    const before = process.cpuUsage();
    await this.exchange(expected, () => {
      for (const frame of frames) sender.connection.receive(frame);
    });
    const cpuUs = cpuSince(before);
    const { kind } = sender.lastBody;
    if (!["submitAccepted", "groupSubmitAccepted", "groupEntries"].includes(kind)) {
      throw new Error(`a ${kind} came for a submit`);
    }
    return cpuUs;
  }

  /** One commit, until everybody has it: members their entry, newcomers their Welcome, its maker the answer. */
  async commit(task: CommitTask): Promise<CommitServiceResult> {
    const { commit, connection, proof } = loadFile<CommitFrames>(task.frames);
    const ratchetTree = loadFile<Bytes>(task.delivered);
    const sender = this.anonymous[connection]!;
    // Who comes in from outside is no reader yet, unless it comes back.
    const readers = this.anonymous.slice(0, task.members);
    const receivers = readers.filter((client) => client !== sender);
    const welcomed = task.kind === "add" ? task.newcomers.map((index) => this.devices[index]!) : [];
    for (const client of [sender, ...receivers, ...welcomed]) {
      client.bytes = 0;
      client.frames = 0;
    }
    const before = this.storedOfGroups();
    const expected = readers.length + 1 + welcomed.length;
    const request = proof && this.requestInfo(task, sender, proof);
    const start = process.cpuUsage();
    if (request !== undefined) await this.exchange(1, () => sender.connection.receive(request));
    await this.exchange(expected, () => sender.connection.receive(commit));
    const cpuUs = cpuSince(start);
    // A group of one has no other member: the log comes back to whoever commits, before or behind the answer.
    const frame = receivers[0]?.lastFrame ?? entriesAmong(sender.lastFrame, sender.previousFrame);
    const { body: entries } = decodeServiceFrame(frame);
    if (entries.kind !== "groupEntries") throw new Error(`a ${entries.kind} came instead of GroupEntries`);
    const stored = this.storedOfGroups() - before;
    const sum = (clients: readonly Client[]) =>
      clients.reduce((total, client) => total + client.bytesWithoutMark(), 0);
    const delivered: DeliveredCommit = {
      entries: frame as Bytes,
      welcomes: welcomed.map(({ lastFrame }) => lastFrame as Bytes),
      ratchetTree,
    };
    saveFile(task.delivered, delivered);
    if (receivers[0] !== undefined) await this.vouch(entries, receivers[0]);
    if (task.kind === "add") this.empty();
    return {
      cpuUs,
      senderUploadBytes: request === undefined ? 0 : webSocketBytes(request.length, "client"),
      senderDownloadBytes: sender.bytes,
      storedBytes: stored,
      egressBytes: sum(receivers) + sum(welcomed),
      receiverBytes: receivers.length === 0 ? 0 : Math.round(sum(receivers) / receivers.length),
      newcomerBytes: welcomed.length === 0 ? 0 : Math.round(sum(welcomed) / welcomed.length),
    };
  }

  /** A commit counts once another member has followed it. */
  private vouch(entries: Extract<ServiceBody, { kind: "groupEntries" }>, by: Client): Promise<void> {
    const { groupId: id, lastSequence } = entries;
    return this.say(by, { kind: "groupAcknowledge", groupId: id, throughSequence: lastSequence });
  }

  /** What somebody asks who comes in by itself: signed for this connection's challenge. */
  private requestInfo(task: CommitTask, client: Client, { id, kind, privateKey }: Proof): Bytes {
    const group = groupId(this.groups.get(task.protocol)!.groupId);
    const service = this.service.context.authority.trustRootPublicKey;
    const access = { service, challenge: client.challenge, groupId: group, epoch: 0, leafIndex: 0 };
    const signature = signWithLabel(privateKey, GROUP_ACCESS_LABEL, encodeLeafAccessTbs(access));
    const body =
      kind === "leaf"
        ? ({ kind: "groupInfoRequest", groupId: group, leaf: { signatureKey: id, signature } } as const)
        : ({ kind: "groupInfoRequest", groupId: group, link: { linkId: id, signature } } as const);
    return encodeClientFrame({ requestId: 1, body });
  }

  /** Empties the mailboxes, which is measured as little as what their devices would say to that end. */
  private empty(): void {
    this.database.exec("DELETE FROM envelopes; UPDATE mailboxes SET envelopes = 0, bytes = 0");
  }

  /** Bytes in the rows that commits change, Welcomes in their mailboxes included. */
  private storedOfGroups(): number {
    const tables = ["mls_entries", "mls_epochs", "mls_former_leaves", "mls_outbox", "envelopes"];
    const sums = tables.map((table) => this.database.prepare(rowBytes(this.database, table)).get()!);
    return sums.reduce((sum, row) => sum + (row["bytes"] as number), 0);
  }

  /** Bytes in the rows that messages make. */
  private stored(group: CommunityFile | undefined): number {
    const tables = group === undefined ? ["envelopes", "submits"] : ["mls_entries"];
    const sums = tables.map((table) => this.database.prepare(rowBytes(this.database, table)).get()!);
    return sums.reduce((sum, row) => sum + (row["bytes"] as number), 0);
  }
}

function entriesAmong(...frames: readonly Uint8Array[]): Uint8Array {
  return frames.find((frame) => decodeServiceFrame(frame).body.kind === "groupEntries") ?? frames[0]!;
}

let service: ServiceUnderTest | undefined;

serveRequests({
  async open(given: { directory: string; seed: string; recipients: number }): Promise<void> {
    service = await ServiceUnderTest.open(given.directory, given.seed, given.recipients);
  },
  group({ protocol, path }: { protocol: string; path: string }): Promise<void> {
    return service!.openGroup(protocol, loadFile(path));
  },
  write: (task: RecordTask) => storeRecord(service!.context, task),
  commit: (task: CommitTask): Promise<CommitServiceResult> => service!.commit(task),
  submit: (task: Task): Promise<ServiceResult> => service!.submit(task),
});

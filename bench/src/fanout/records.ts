/** The record of a pairwise group: whoever changes it signs, seals and writes it; every member reads it again. */
import { type Bytes, concatBytes, type GroupId, groupId, utf8 } from "@murmuration/base";
import {
  createChange,
  deriveAccessPublicKey,
  encodeRecord,
  openRecord,
  sealRecord,
  splitRecord,
  verifyChange,
} from "@murmuration/client-core/bench";
import { createListedDevice, IdentityKeyPair, signDeviceList } from "@murmuration/pairwise/bench";
import { encodeMessage, groupWriteRequest } from "@murmuration/wire";
import { derived } from "../mls/key-material.ts";
import { cpuSince } from "../worker-link.ts";
import { accountAt, DEVICE_ID } from "./accounts.ts";
import { loadFile, saveFile } from "./files.ts";

/** The changes by which a group moves to MLS. */
export const migrationSteps = ["migrate-prepare", "migrate-ready", "migrate-switch", "migrate-done"] as const;
type MigrationStep = (typeof migrationSteps)[number];

export interface RecordTask {
  readonly kind: "create" | "add" | "remove" | MigrationStep;
  /** Members added. */
  readonly count: number;
  readonly frames: string;
  readonly delivered: string;
  /** Members that read the record afterwards. */
  readonly readers: number;
}

/** What goes to the service, and what a reader needs to open it. */
export interface WrittenRecord {
  readonly groupId: GroupId;
  readonly groupKey: Bytes;
  readonly revision: number;
  /** Encoded GroupWriteRequest. */
  readonly body: Bytes;
}

export interface RecordAuthorResult {
  readonly cpuUs: number;
  readonly uploadBytes: number;
}

const NO_HASH = new Uint8Array(32);
/** About as long as names are. */
const NAME = "A member's name";

/** The owner of a group with these members: its record begins with the change that created it with all of them. */
export class RecordAuthor {
  private readonly seed: string;
  private readonly groupId: GroupId;
  private readonly account = IdentityKeyPair.generate();
  private readonly device = IdentityKeyPair.generate();
  private readonly deviceList: Bytes;
  private readonly members: number;
  private groupKey: Bytes;
  private changes: Bytes[] = [];
  private hash: Bytes = NO_HASH;
  private next: number;

  constructor(seed: string, members: number) {
    this.seed = seed;
    this.members = members;
    this.next = members;
    this.groupId = groupId(
      derived(seed, "record", members, this.account.publicKey.serialize().join()).subarray(0, 16),
    );
    this.groupKey = derived(seed, "group-key");
    const identityKey = this.device.publicKey.serialize();
    const deviceSignature = this.device.signAlternateIdentity(this.account.publicKey);
    this.deviceList = signDeviceList(this.account, {
      accountId: accountAt(seed, 0).accountId,
      accountIdentityKey: this.account.publicKey.serialize(),
      version: 1,
      devices: [createListedDevice(this.account, DEVICE_ID, { identityKey, deviceSignature })],
    });
  }

  private member(index: number) {
    const identityKey = concatBytes(Uint8Array.of(5), derived(this.seed, "member-identity", index));
    const profileKey = derived(this.seed, "profile-key", index);
    return { account: accountAt(this.seed, index).accountId, identityKey, profileKey, name: NAME };
  }

  private action({ count, kind }: RecordTask): Parameters<typeof createChange>[0]["action"] {
    const some = (first: number, length: number) => Array.from({ length }, (_, i) => this.member(first + i));
    if (kind === "create")
      return { kind, title: "A group", expireAfterSeconds: 0, members: some(0, this.members) };
    if (kind === "remove") return { kind, account: accountAt(this.seed, this.next - 1).accountId };
    if (kind === "migrate-switch")
      return { kind, generation: 1, epoch: 2, authenticator: NO_HASH, rosterHash: NO_HASH };
    if (kind !== "add") return { kind, generation: 1 };
    this.next += count;
    return { kind, members: some(this.next - count, count) };
  }

  write(task: RecordTask): RecordAuthorResult {
    const action = this.action(task);
    const sign = (label: string, content: Uint8Array) =>
      this.device.privateKey.sign(concatBytes(utf8(`Murmuration ${label}\0`), content));
    const before = process.cpuUsage();
    const revision = this.changes.length + 1;
    const { encoded, hash } = createChange(
      {
        groupId: this.groupId,
        revision,
        previousHash: this.hash,
        author: { accountId: accountAt(this.seed, 0).accountId, deviceId: DEVICE_ID },
        authorDeviceList: this.deviceList,
        atMs: Date.now(),
        action,
      },
      sign,
    );
    // A removal comes with a new key and a new fence; where the group switches nobody is to know the fence.
    const fresh = task.kind === "create" || task.kind === "remove" || task.kind === "migrate-switch";
    if (fresh) this.groupKey = derived(this.seed, "group-key", revision);
    const record = encodeRecord([...this.changes, encoded]);
    const nonce = derived(this.seed, "nonce", revision).slice(0, 12);
    const blob = sealRecord(this.groupId, this.groupKey, revision, record, nonce);
    const accessPublicKey = deriveAccessPublicKey(this.groupId, this.groupKey);
    const generation = fresh
      ? { generation: { accessPublicKey, fence: derived(this.seed, revision).slice(0, 16) } }
      : {};
    const body = encodeMessage(groupWriteRequest, { expectedRevision: revision - 1, blob, ...generation });
    const cpuUs = cpuSince(before);
    this.changes = [...this.changes, encoded];
    this.hash = hash;
    const written: WrittenRecord = { groupId: this.groupId, groupKey: this.groupKey, revision, body };
    saveFile(task.frames, written);
    return { cpuUs, uploadBytes: body.length };
  }
}

/** A member reads the record and verifies what is new in it. Returns the CPU of one. */
export function readRecord(task: RecordTask): number {
  const { groupId: id, groupKey, revision } = loadFile<WrittenRecord>(task.frames);
  const blob = loadFile<Bytes>(task.delivered);
  const group = groupId(id);
  const before = process.cpuUsage();
  const changes = splitRecord(openRecord(group, groupKey, revision, blob));
  verifyChange(changes.at(-1)!);
  return cpuSince(before);
}

import { createHash } from "node:crypto";
import { type Bytes, equalBytes, type GroupId, groupId, submitId } from "@murmuration/base";
import {
  accountFingerprint,
  type CommitBundle,
  type CommitOptions,
  type CommunityContext,
  communityExtensions,
  communityLeaf,
  createJoinTicket,
  type ExpectedAccount,
  encodeJoinTicket,
  encodeKeyBinding,
  encodeMemberCredential,
  encodeMlsMessage,
  Group,
  generateKeyPackage,
  joinGroup,
  joinGroupExternally,
  KEY_BINDING_LABEL,
  type KeyPackageBundle,
  type KeyPackageOptions,
  lastResortExtension,
  type MemberIdentity,
  MemoryGroupStore,
  nativeCrypto,
  type Received,
  signForService,
  type WriteSet,
} from "@murmuration/mls-groups";
import { verifyDeviceList } from "@murmuration/pairwise/server";
import {
  type ClientBody,
  encodeGroupBanTbs,
  encodeGroupRefuseTbs,
  encodeLeafAccessTbs,
  GROUP_ACCESS_LABEL,
  GROUP_BAN_LABEL,
  GROUP_REFUSE_LABEL,
  type GroupEntry,
  type GroupInfoReply,
  type ServiceBody,
} from "@murmuration/wire";
import { random } from "./random.ts";
import { call, TestDevice } from "./test-device.ts";
import { TestSocket } from "./test-socket.ts";

const crypto = nativeCrypto(1);
const DAY = 86_400n;
const now = () => BigInt(Math.floor(Date.now() / 1000));
const lifetimeOf = (days: bigint) => ({ notBefore: now() - 3_600n, notAfter: now() + days * DAY });

type BodyOf<K extends ServiceBody["kind"]> = Extract<ServiceBody, { kind: K }>;
type Frame<K extends ClientBody["kind"]> = Extract<ClientBody, { kind: K }>;

/** Where a member connects to, and what it pins. */
export interface Place {
  readonly port: number;
  readonly base: string;
}

/** A commit of a member, and the frame that carries it to the service. */
export interface MadeCommit extends CommitBundle {
  readonly frame: Frame<"groupCommit">;
}

/** The extension content of a new community whose owner is `owner`. */
function communityOf(owner: TestDevice, fields: Partial<CommunityContext> = {}): CommunityContext {
  return {
    generation: 1,
    roleHolders: [{ accountId: owner.accountId, role: "owner" }],
    links: [],
    addBy: "member",
    profileBy: "admin",
    announcementOnly: false,
    slowModeSeconds: 0,
    joinsPerMinute: 0,
    expireAfterSeconds: 0,
    banListHash: new Uint8Array(0),
    profileHash: new Uint8Array(0),
    expected: [],
    preparing: false,
    ...fields,
  };
}

/** A device that takes part in one community: real libsignal identity, real MLS group, one anonymous connection. */
export class Member {
  readonly device: TestDevice;
  readonly identity: MemberIdentity;
  /** Entries of the log in the order they came. */
  readonly entries: GroupEntry[] = [];
  /** What was read, as text. */
  readonly heard: string[] = [];
  store = new MemoryGroupStore();
  trustRoot: Bytes = new Uint8Array(33);
  private openedGroup: Group | undefined;
  private openedSocket: TestSocket | undefined;
  /** The group before it has one: for leaves that only read bytes. */
  place: { groupId: GroupId; leafIndex: number } | undefined;

  constructor(device: TestDevice) {
    this.device = device;
    const signatureKeys = crypto.generateSignatureKeyPair();
    const list = verifyDeviceList(device.local.deviceList);
    const listed = list.devices.find((one) => one.deviceId === device.deviceId)!;
    const about = {
      accountId: device.accountId,
      deviceId: device.deviceId,
      accountIdentityKey: list.accountIdentityKey,
    };
    const binding = encodeKeyBinding({ ...about, signatureKey: signatureKeys.publicKey });
    const credential = encodeMemberCredential({
      ...about,
      deviceIdentityKey: listed.identityKey,
      accountSignature: listed.accountSignature,
      keySignature: device.memory.engine.signWithDeviceKey(KEY_BINDING_LABEL, binding),
    });
    this.identity = { credential, signatureKeys };
  }

  /** A member whose device has an account at the service. */
  static async register(place: Place): Promise<Member> {
    return new Member(await TestDevice.register(place.base)).at(place);
  }

  /** Members without accounts: the service need not know whom a group consists of. */
  static async strangers(place: Place, count: number): Promise<Member[]> {
    const members: Member[] = [];
    while (members.length < count) members.push(await new Member(await TestDevice.generate()).at(place));
    return members;
  }

  async at(place: Place): Promise<this> {
    this.trustRoot = (await call(place.base, "info")).body["certificateTrustRoot"] as Bytes;
    return this;
  }

  get group(): Group {
    if (this.openedGroup === undefined) throw new Error("in no group");
    return this.openedGroup;
  }
  set group(group: Group) {
    this.openedGroup = group;
  }
  get socket(): TestSocket {
    if (this.openedSocket === undefined) throw new Error("not connected");
    return this.openedSocket;
  }
  get groupId(): GroupId {
    return this.place?.groupId ?? groupId(this.group.groupId);
  }
  get leafIndex(): number {
    return this.place?.leafIndex ?? this.group.ownLeaf;
  }
  get key(): Bytes {
    return this.identity.signatureKeys.publicKey;
  }

  keyPackage(options: KeyPackageOptions = {}, days = 30n): KeyPackageBundle {
    return generateKeyPackage(crypto, this.identity, lifetimeOf(days), { ...communityLeaf, ...options });
  }

  /** A KeyPackage as it is uploaded. */
  keyPackageMessage(lastResort = false, days = 30n): Bytes {
    const options = lastResort ? { keyPackageExtensions: [lastResortExtension()] } : {};
    return messageOf(this.keyPackage(options, days));
  }

  save(writes: WriteSet): void {
    this.store.apply(writes);
  }

  /** Creates a community of which it is the owner, in memory. */
  found(fields: Partial<CommunityContext> = {}, id = groupId(random(16))): Frame<"groupCreate"> {
    const { group, writes } = Group.create(crypto, {
      groupId: id,
      identity: this.identity,
      lifetime: lifetimeOf(30n),
      leaf: communityLeaf,
      extensions: communityExtensions(communityOf(this.device, fields)),
    });
    this.save(writes);
    this.group = group;
    return {
      kind: "groupCreate",
      groupId: id,
      groupInfo: group.groupInfo(),
      ratchetTree: group.ratchetTree(),
    };
  }

  /** Opens a new anonymous connection; an older one stays as it is. */
  async connect({ port }: Pick<Place, "port">, from?: string): Promise<TestSocket> {
    this.openedSocket = await TestSocket.anonymous(port, from);
    return this.openedSocket;
  }

  accessFrame(afterSequence?: number, changes: Partial<Frame<"groupAccess">> = {}): Frame<"groupAccess"> {
    const epoch = this.openedGroup === undefined ? 0 : Number(this.group.epoch);
    const leaf = { groupId: this.groupId, epoch, leafIndex: this.leafIndex };
    const after = afterSequence === undefined ? {} : { afterSequence };
    const signature = this.signAccess(leaf);
    return { kind: "groupAccess", ...leaf, signature, marks: [], ...after, ...changes };
  }

  signAccess(
    leaf: { readonly groupId: GroupId; readonly epoch: number; readonly leafIndex: number },
    challenge = this.socket.challenge,
    service: Uint8Array = this.trustRoot,
  ): Bytes {
    const tbs = encodeLeafAccessTbs({ service, challenge, ...leaf });
    return this.sign(GROUP_ACCESS_LABEL, tbs);
  }

  sign(label: string, content: Uint8Array): Bytes {
    return signForService(crypto, this.identity.signatureKeys.privateKey, label, content);
  }

  /** Connects if need be, and opens the group. */
  async open(place: Pick<Place, "port">, afterSequence?: number): Promise<BodyOf<"groupAccessGranted">> {
    if (this.openedSocket === undefined) await this.connect(place);
    return expectKind(await this.socket.request(this.accessFrame(afterSequence)), "groupAccessGranted");
  }

  /** Creates a pending commit. */
  makeCommit(options: CommitOptions = {}, more: Partial<Frame<"groupCommit">> = {}): MadeCommit {
    const bundle = this.group.createCommit(options);
    this.save(bundle.writes);
    const { message: commit, groupInfo, welcome } = bundle;
    const carried = { commit, groupInfo, recipients: [], ...(welcome && { welcome }) };
    return { ...bundle, frame: { kind: "groupCommit", groupId: this.groupId, ...carried, ...more } };
  }

  /** Creates a commit that adds these members, with their KeyPackages. */
  makeAdd(others: readonly Member[]): MadeCommit & { readonly keyPackages: readonly KeyPackageBundle[] } {
    const keyPackages = others.map((other) => other.keyPackage());
    const proposals = keyPackages.map(({ keyPackage }) => ({ kind: "add", keyPackage }) as const);
    const recipients = others.map(({ device: { accountId, deviceId } }) => ({ accountId, deviceId }));
    return { ...this.makeCommit({ proposals, path: "required" }, { recipients }), keyPackages };
  }

  /** Enters the epoch of its own commit. */
  merge(): void {
    this.save(this.group.mergePending({ nowMs: Date.now() }));
  }

  discard(): void {
    this.save(this.group.discardPending());
  }

  /** Sends a commit and, where it is accepted, enters its epoch. */
  async commit(made: MadeCommit): Promise<ServiceBody> {
    const answer = await this.socket.request(made.frame);
    if (answer.kind === "groupCommitAccepted") this.merge();
    return answer;
  }

  join(welcome: Uint8Array, keyPackage: KeyPackageBundle, ratchetTree: Uint8Array): void {
    const { group, writes } = joinGroup(crypto, { welcome, keyPackage, ratchetTree });
    this.save(writes);
    this.group = group;
  }

  /** The proof of a device of an expected account. */
  expectedProof(place: Parameters<Member["signAccess"]>[0]) {
    const { credential } = this.identity;
    if (credential.kind !== "basic") throw new Error(credential.kind);
    const { identity } = credential;
    return {
      expected: {
        signatureKey: this.key,
        credential: new Uint8Array(identity),
        signature: this.signAccess(place),
      },
    };
  }

  /** What a group context says of this member's account when it expects it. */
  get asExpected(): ExpectedAccount {
    return { accountId: this.device.accountId, fingerprint: accountFingerprint(this.identity.credential) };
  }

  /** Somebody who took this member's account id for keys of its own. */
  async impostor(place: Place): Promise<Member> {
    return new Member(await TestDevice.generate(false, undefined, this.device.accountId)).at(place);
  }

  /** Prepares an external commit: by a link, or (without one) to come back. */
  joinExternally(
    info: Pick<GroupInfoReply, "groupInfo">,
    ratchetTree: Uint8Array,
    id: GroupId,
    by: { readonly link?: Link; readonly removes?: number } = {},
  ): Frame<"groupCommit"> {
    const { link, removes } = by;
    const ticket = link && encodeJoinTicket(link.ticketFor(id, this.key));
    const leaf = ticket === undefined ? communityLeaf : { ...communityLeaf, extensions: [ticket] };
    const request = { groupInfo: info.groupInfo, ratchetTree, identity: this.identity, leaf };
    this.store = new MemoryGroupStore();
    const joined = joinGroupExternally(crypto, { ...request, ...(removes !== undefined && { removes }) });
    this.save(joined.writes);
    this.group = joined.group;
    return {
      kind: "groupCommit",
      groupId: id,
      commit: joined.message,
      groupInfo: joined.groupInfo,
      recipients: [],
    };
  }

  /** Encrypts a message for the group; the frame carries it. */
  say(text: string, id = submitId(random(16))): Frame<"groupSubmit"> {
    const { message, writes } = this.group.createApplicationMessage(Buffer.from(text));
    this.save(writes);
    this.sent.add(hex(message));
    return { kind: "groupSubmit", groupId: this.groupId, submitId: id, message };
  }

  propose(): Frame<"groupPropose"> {
    const { message, writes } = this.group.propose({ kind: "self_remove" });
    this.save(writes);
    return { kind: "groupPropose", groupId: this.groupId, proposal: message };
  }

  banFrame(targets: readonly Member[], orderId = random(16)): Frame<"groupBan"> {
    const signatureKeys = targets.map((target) => target.key);
    const order = { groupId: this.groupId, orderId, signatureKeys };
    const signature = this.sign(GROUP_BAN_LABEL, encodeGroupBanTbs(order));
    return { kind: "groupBan", ...order, leafIndex: this.leafIndex, signature };
  }

  /** Says that the commit at this sequence number cannot be followed. */
  refuseFrame(sequence: number, commit: Uint8Array): Frame<"groupRefuse"> {
    const commitHash = new Uint8Array(createHash("sha256").update(commit).digest());
    const refusal = { groupId: this.groupId, sequence, commitHash };
    return {
      kind: "groupRefuse",
      ...refusal,
      signature: this.sign(GROUP_REFUSE_LABEL, encodeGroupRefuseTbs(refusal)),
    };
  }

  /** Takes delivered entries in, in order: messages are read, commits followed, its own pending one merged. */
  takeIn(): void {
    for (const body of this.socket.pushed.splice(0)) {
      if (body.kind === "groupEntries") for (const entry of body.entries) this.takeEntry(entry);
      else this.other.push(body);
    }
  }

  private readonly sent = new Set<string>();
  get hasTurn(): boolean {
    return [...this.other, ...this.socket.pushed].some((body) => body.kind === "groupTurn");
  }

  /** Waits for a turn, however long the line is. */
  async nextTurn(timeoutMs = 60_000): Promise<BodyOf<"groupTurn">> {
    const told = this.other.findIndex((body) => body.kind === "groupTurn");
    if (told >= 0) return expectKind(this.other.splice(told, 1)[0]!, "groupTurn");
    return this.socket.next("groupTurn", timeoutMs);
  }

  /** Pushed bodies that are no entries. */
  readonly other: ServiceBody[] = [];

  takeEntry(entry: GroupEntry): void {
    const last = this.entries.at(-1);
    if (last !== undefined && entry.sequence <= last.sequence) return;
    if (last !== undefined && entry.sequence !== last.sequence + 1) throw new Error("a gap in the log");
    this.entries.push(entry);
    if (entry.commit !== undefined) this.follow(entry.commit.commit);
    else if (entry.proposal !== undefined) this.read(entry.proposal.proposal);
    else if (entry.application !== undefined && !this.sent.has(hex(entry.application.message))) {
      this.read(entry.application.message);
    }
  }

  /** Waits for entries up to this one, and takes them in. */
  async catchUp(sequence: number): Promise<void> {
    const seen = () =>
      Math.max(
        this.entries.at(-1)?.sequence ?? 0,
        ...this.socket.pushed.map((body) =>
          body.kind === "groupEntries" ? body.entries.at(-1)!.sequence : 0,
        ),
      );
    await this.socket.until(() => seen() >= sequence, 20_000, `no entry ${sequence}`);
    this.takeIn();
  }

  /** It has put down everything up to this entry. */
  async acknowledge(throughSequence: number): Promise<void> {
    const answer = await this.socket.request({
      kind: "groupAcknowledge",
      groupId: this.groupId,
      throughSequence,
    });
    expectKind(answer, "groupDone");
  }

  private follow(commit: Bytes): void {
    const own = this.group.pendingCommitMessage;
    if (own !== undefined && equalBytes(own, commit)) this.merge();
    // Not one that this member has followed already, or of before it joined.
    else if (epochOf(commit) === this.group.epoch) {
      if (this.group.hasPendingCommit) this.discard();
      this.read(commit);
    }
  }

  private read(message: Bytes): Received | undefined {
    if (this.openedGroup === undefined || epochOf(message) !== this.group.epoch) return undefined;
    const received = this.group.receive(message);
    if (received.kind === "commit") this.save(this.group.merge(received.commit, { nowMs: Date.now() }));
    else if (received.kind !== "own-commit") this.save(received.writes);
    if (received.kind === "application") this.heard.push(Buffer.from(received.applicationData).toString());
    return received;
  }
}

/** An invite link with its key. */
export class Link {
  readonly linkId = random(16);
  readonly seed: Bytes;
  readonly publicKey: Bytes;
  readonly expiresAtMs: number;

  constructor(expiresAtMs = 0) {
    this.expiresAtMs = expiresAtMs;
    const { privateKey, publicKey } = crypto.generateSignatureKeyPair();
    this.seed = privateKey;
    this.publicKey = publicKey;
  }

  ticketFor(id: GroupId, signatureKey: Uint8Array) {
    return createJoinTicket(crypto, { groupId: id, linkId: this.linkId, linkSeed: this.seed, signatureKey });
  }

  /** The proof that somebody on this member's connection holds the link. */
  signAccess(
    by: Member,
    place: { readonly groupId: GroupId; readonly epoch: number; readonly leafIndex: number },
  ): Bytes {
    const { challenge } = by.socket;
    const tbs = encodeLeafAccessTbs({ service: by.trustRoot, challenge, ...place });
    return signForService(crypto, this.seed, GROUP_ACCESS_LABEL, tbs);
  }

  get inContext() {
    const { expiresAtMs, linkId, publicKey } = this;
    return { linkId, publicKey, maxUses: 0, approval: false, expiresAtMs };
  }
}

export function expectKind<K extends ServiceBody["kind"]>(body: ServiceBody, kind: K): BodyOf<K> {
  if (body.kind !== kind) throw new Error(`${kind} expected, not ${JSON.stringify(body).slice(0, 300)}`);
  return body as BodyOf<K>;
}

/** MLSMessage with the KeyPackage of a bundle. */
export function messageOf({ keyPackage }: KeyPackageBundle): Bytes {
  return encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage });
}

/** A community on the service: the first of these members is its owner and online, the others joined, all of them. */
export async function startCommunity(
  place: Place,
  members: readonly Member[],
  fields: Partial<CommunityContext> = {},
): Promise<void> {
  const [owner, ...others] = members as [Member, ...Member[]];
  await owner.connect(place);
  expectKind(await owner.socket.request(owner.found(fields)), "groupCreated");
  await owner.open(place, 0);
  await addMembers(owner, others);
}

/** Adds members in one commit; they join in memory and know their places. */
export async function addMembers(owner: Member, others: readonly Member[], join = true): Promise<void> {
  if (others.length === 0) return;
  const made = owner.makeAdd(others);
  expectKind(await owner.commit(made), "groupCommitAccepted");
  const tree = owner.group.ratchetTree();
  for (const [index, other] of others.entries()) {
    if (join) other.join(made.welcome!, made.keyPackages[index]!, tree);
    else {
      const leafIndex = owner.group.tree.leafBySignatureKey(other.key)!;
      other.place = { groupId: owner.groupId, leafIndex };
    }
  }
}

/** Waits until one of these members is given a turn, and rejects where none is in that time. */
export async function turnOf(
  members: readonly Member[],
  withinMs = 20_000,
): Promise<{ readonly member: Member; readonly turn: BodyOf<"groupTurn"> }> {
  const some = () => members.find((member) => member.hasTurn);
  await Promise.race(
    members.map((member) => member.socket.until(() => some() !== undefined, withinMs, "no turn")),
  );
  const member = some()!;
  return { member, turn: await member.nextTurn() };
}

/** As a client does it: waits while it has a place in the line, commits anew when it has a turn. Returns refusals. */
export async function commitUntilAccepted(member: Member): Promise<number> {
  let turn: number | undefined;
  for (let refused = 0; ; refused++) {
    member.takeIn();
    const made = member.makeCommit({}, turn === undefined ? {} : { turn });
    let answer = await member.socket.request(made.frame);
    // Too much to do at the moment: a refusal like any other, after which the same bytes are sent again.
    for (; answer.kind === "rejection" && answer.code === "service/overloaded" && refused < 20; refused++) {
      const { retryAfterMs } = answer;
      await new Promise((resolve) => setTimeout(resolve, retryAfterMs));
      answer = await member.socket.request(made.frame);
    }
    if (answer.kind === "groupCommitAccepted") {
      member.takeIn();
      if (member.group.hasPendingCommit) member.merge();
      return refused;
    }
    const lost = expectKind(answer, "groupCommitLost");
    member.takeIn();
    if (member.group.hasPendingCommit) member.discard();
    turn = lost.turn;
    for (const entry of lost.entries) if (turn !== undefined) member.takeEntry(entry);
    if (turn === undefined) turn = (await member.nextTurn()).turn;
  }
}

/** Groups that this node works with now. */
export async function groupsInUse({ base }: Pick<Place, "base">): Promise<number> {
  const metrics = await (await fetch(`${base}/metrics`)).text();
  return Number(/^murmuration_groups_in_use(?:\{[^}]*\})? (\d+)$/m.exec(metrics)?.[1]);
}

/** The tree of a hash, as the service serves it: raw DEFLATE. */
export const treePath = (treeHash: Uint8Array): string =>
  `/v1/trees/${Buffer.from(treeHash).toString("base64url")}`;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function epochOf(message: Uint8Array): bigint {
  // version, wire format, group id with its length, epoch
  const at = 4 + 1 + message[4]!;
  return new DataView(message.buffer, message.byteOffset).getBigUint64(at);
}

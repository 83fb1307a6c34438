/**
 * Into a group: by a Welcome, or (back) by an external commit.
 *
 *   Welcome          stored with the mailbox cursor -> tree fetched and verified -> PERSIST group, members, conversation
 *                    and the end of the KeyPackage in one transaction
 *   external commit  PERSIST the new state beside the old one -> submit, always the same bytes -> PERSIST that it counts
 */
import { createHash } from "node:crypto";
import {
  type Bytes,
  equalBytes,
  formatId,
  type GroupId,
  RejectionError,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import {
  type CommunityContext,
  communityContextOf,
  communityLeaf,
  createJoinTicket,
  decodeMemberCredential,
  type Extension,
  encodeJoinTicket,
  Group,
  joinGroupExternally,
  joinGroupInBatches,
  type LeafOptions,
  leafOfSignatureKey,
  leavesOfTree,
  signForService,
  welcomeReferences,
} from "@murmuration/mls-groups";
import {
  decodeMessage,
  encodeMessage,
  GROUP_ACCESS_LABEL,
  type GroupInfoReply,
  groupCommit,
  limits,
  type ServiceBody,
} from "@murmuration/wire";
import type { ConversationState } from "../../api.ts";
import type { InviteLink } from "../../core/invite-link.ts";
import { fingerprintOf } from "../../core/profile.ts";
import { isTemporary, ServiceRefusal } from "../../core/refusal.ts";
import type { KeyPackageRow, WelcomeRow } from "../../store/mls.ts";
import type { Context } from "../context.ts";
import { requireIdOfCommunity } from "../founded-ids.ts";
import { oneAtATime } from "../one-at-a-time.ts";
import type { Access } from "./access.ts";
import type { Approvals, Inviter } from "./approvals.ts";
import type { EpochReports } from "./epoch-reports.ts";
import type { GroupNames } from "./group-names.ts";
import { communityCrypto, communityIdentity, encodedCredential } from "./identity.ts";
import { bundleOf } from "./key-packages.ts";
import type { CommunityLedger } from "./ledger.ts";
import { profileOfWelcome } from "./profile.ts";
import type { ProfileRequests } from "./profile-requests.ts";
import type { Registry } from "./registry.ts";
import { fetchTree, type KnownTree } from "./trees.ts";
import type { Turns } from "./turns.ts";

/** How often a lost external commit is made anew. */
const MAX_RACES = 16;
/** No group comes here by commits; from 2^53 on, no frame of the wire can name an epoch. */
const TOO_MANY_EPOCHS = 2n ** 48n;
/** The service was restored from an older copy and is at an epoch that this device has left. */
export const SERVICE_BEHIND = "group/service-behind";

/** What a conversation that moves to MLS has to hear. */
export interface JoinerEffects {
  /** Inside the transaction by which this device has entered a group. */
  entered(id: GroupId, group: Group): void;
  /** Whether this device may come in from outside to what would then be the group. */
  admits(id: GroupId, group: Group): boolean;
  /** The conversation that an unknown group may be, or have been, prepared for; undefined for one that is known. */
  expects(wireId: Bytes): { readonly conversation: GroupId; readonly place: "early" | "over" } | undefined;
  /** A Welcome waits for what the record of this conversation says. */
  awaited(id: GroupId): void;
}

/** The groups that were entered, and the first failure by which a Welcome has to wait. */
export interface TakenUp {
  readonly entered: readonly GroupId[];
  readonly temporary: unknown;
}

export class Joiner {
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly access: Access;
  private readonly ledger: CommunityLedger;
  private readonly reports: EpochReports;
  private readonly turns: Turns;
  private readonly profiles: ProfileRequests;
  private readonly approvals: Approvals;
  private readonly effects: JoinerEffects;

  constructor(
    context: Context,
    names: GroupNames,
    registry: Registry,
    access: Access,
    ledger: CommunityLedger,
    reports: EpochReports,
    turns: Turns,
    profiles: ProfileRequests,
    approvals: Approvals,
    effects: JoinerEffects,
  ) {
    this.effects = effects;
    this.approvals = approvals;
    this.profiles = profiles;
    this.reports = reports;
    this.turns = turns;
    this.context = context;
    this.names = names;
    this.registry = registry;
    this.access = access;
    this.ledger = ledger;
  }

  // ---------------------------------------------------------------------------------------------- Welcome

  /**
   * Takes every stored Welcome up. One whose tree the service does not give stays stored, and keeps no other one waiting. One at
   * a time: a Welcome that is taken up twice would set a group back that has gone on since, and its keys with it.
   */
  takeUp(): Promise<TakenUp> {
    return this.context.queue.run("mls-welcomes", () => this.takeUpAll());
  }

  /** Welcomes that can be taken up now. */
  dueWelcomes(): readonly WelcomeRow[] {
    return this.context.mls.welcomes().filter((row) => !this.waitsForLog(row));
  }

  /**
   * Into a group that this device is in, a Welcome leads only once the log has shown that it is in there no more: which
   * entry it belongs to is the service's word alone, and it would have us leave a community for another of that name.
   */
  private waitsForLog({ groupId: wireId, sequence }: WelcomeRow): boolean {
    const { state, cursor = 0 } = this.context.mls.group(this.names.conversation(wireId)) ?? {};
    return state === "creating" || (state === "active" && cursor < sequence);
  }

  private async takeUpAll(): Promise<TakenUp> {
    const entered: GroupId[] = [];
    let temporary: unknown;
    for (const row of this.dueWelcomes()) {
      if (this.isOfMove(row)) continue;
      try {
        const joined = await this.join(this.names.conversation(row.groupId), row);
        if (joined !== undefined) entered.push(joined);
      } catch (error) {
        if (isTemporary(error)) {
          temporary ??= error;
          continue;
        }
        if (!(error instanceof RejectionError)) throw error;
        // A Welcome that does not hold is worth nothing.
        this.context.transaction(() => this.context.mls.deleteWelcome(row.id));
      }
    }
    return { entered, temporary };
  }

  /**
   * A group that is prepared for a conversation of ours, before its record has said so here; or that was, in an attempt
   * that is over: nobody goes on in that one.
   */
  private isOfMove(row: WelcomeRow): boolean {
    const expected = this.effects.expects(row.groupId);
    if (expected === undefined) return false;
    if (expected.place === "early") this.effects.awaited(expected.conversation);
    else this.context.transaction(() => this.context.mls.deleteWelcome(row.id));
    return true;
  }

  /** The conversation in which this device is now, which may have got the group only while its tree was verified. */
  private async join(id: GroupId, row: WelcomeRow): Promise<GroupId | undefined> {
    const { mls } = this.context;
    const known = mls.group(id);
    const keyPackage = this.keyPackageFor(row);
    if (keyPackage === undefined || (known?.state === "active" && known.cursor >= row.sequence)) {
      this.context.transaction(() => mls.deleteWelcome(row.id));
      return undefined;
    }
    if (this.waitsForLog(row)) return undefined;
    const ratchetTree = await fetchTree(this.context, row.treeHash);
    const signatureKey = communityIdentity(this.context).signatureKeys.privateKey;
    const { group, writes, signer, extensions } = await oneAtATime(() =>
      joinGroupInBatches(
        communityCrypto,
        { welcome: row.welcome, keyPackage: bundleOf(keyPackage, signatureKey), ratchetTree },
        this.registry.config(),
      ),
    );
    // The record of a conversation may have named this group its own meanwhile: it is that conversation's then, and no
    // community by itself, in which nobody would look for this device.
    const now = this.names.conversation(row.groupId);
    if (this.isOfMove(row)) return undefined;
    if (!equalBytes(now, id)) return this.join(now, row);
    const wireId = this.names.wire(id);
    if (!equalBytes(group.groupId, wireId)) throw new RejectionError("group/foreign-welcome");
    if (equalBytes(wireId, id)) requireIdOfCommunity(this.context, id);
    requireUsableEpoch(group);
    // An external commit may have been faster, or this device makes a group of that name.
    if (mls.group(id)?.state === "active" || mls.group(id)?.state === "creating") return undefined;
    if (Number(group.epoch) < this.highestEpoch(id)) throw new RejectionError("group/old-welcome");
    const { meter } = this.context;
    meter.welcomes++;
    meter.welcomeBytes += row.welcome.length;
    meter.verifiedLeaves += group.memberCount;
    this.enterIn(id, group, () => {
      mls.deleteRows(id);
      mls.putGroup(id, { state: "active", cursor: row.sequence, slot: 0, updatedAtMs: 0 });
      mls.rows(id, 0).apply(writes);
      mls.deleteWelcome(row.id);
      if (!keyPackage.lastResort) mls.deleteKeyPackage(keyPackage.reference);
      mls.setEntered(id, this.context.now());
      this.reports.entered(id, group);
      this.ledger.entered(id, group);
      this.openConversation(id, group, signer);
      this.afterLink(id);
      this.learnProfile(id, communityContextOf(group.context.extensions), extensions);
    });
    return id;
  }

  /** One transaction; memory and what has to hear of it come last in it. */
  private enterIn(id: GroupId, group: Group, write: () => void): void {
    try {
      this.context.transaction(() => {
        write();
        this.registry.unload(id);
        this.registry.adopt(id, group);
        this.effects.entered(id, group);
        // All members of a conversation enter the group that is prepared for it.
        if (this.context.migration.isMoving(id)) this.context.eraseWhenQuiet();
        else this.context.eraseAfterwards();
      });
    } catch (error) {
      this.registry.unload(id);
      throw error;
    }
    this.context.notifier.flush();
  }

  private keyPackageFor(row: WelcomeRow): KeyPackageRow | undefined {
    for (const reference of welcomeReferences(row.welcome)) {
      const found = this.context.mls.keyPackage(reference);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Inside the transaction. Somebody we know has added us, or we are asked first. */
  private openConversation(id: GroupId, group: Group, adder: number): void {
    const { conversations, events, settings } = this.context;
    const trusted = settings.acceptUnknown || this.isKnownLeaf(group, adder);
    const state: ConversationState = trusted ? "active" : "request";
    const known = conversations.get(id);
    // It is being prepared: the conversation is what its record says.
    if (known !== undefined && this.context.migration.isMoving(id)) return;
    if (known === undefined) {
      const row = { id, kind: "group", state, protocol: "mls", title: "", expireAfterSeconds: 0 } as const;
      conversations.insert(row, this.context.now());
      conversations.setExpiry(id, communityContextOf(group.context.extensions).expireAfterSeconds);
    } else if (known.state !== "active") conversations.setState(id, state);
    events.append({ kind: "conversation-changed", conversation: id, atMs: this.context.now() });
  }

  /** Inside the transaction: whoever adds us says in the Welcome what the group is called, or somebody has to be asked. */
  private learnProfile(id: GroupId, community: CommunityContext, extensions: readonly Extension[]): void {
    const { conversations, migration, mls } = this.context;
    const told = profileOfWelcome(extensions, community);
    if (told !== undefined) mls.setProfile(id, told.encoded, this.context.now());
    // The conversation is what its record says.
    if (migration.isMoving(id)) return;
    if (told === undefined) this.profiles.expect(id, community);
    else conversations.setTitle(id, told.profile.title);
  }

  /**
   * Whether a leaf is our own account's, or one's whom the user has accepted, under the account identity key that we know.
   * A name alone proves nothing: whoever makes a group writes any name into it, and a service forges a leaf for any name.
   */
  private isKnownLeaf(group: Group, leaf: number): boolean {
    const node = group.tree.leaf(leaf);
    if (node === undefined) return false;
    const { context } = this;
    const { accountId: account, accountIdentityKey: key } = decodeMemberCredential(node.credential);
    if (context.isOwn(account)) return equalBytes(context.engine.local()!.accountIdentityKey, key);
    return (
      context.contacts.get(account)?.accepted === true && context.identities.compare(account, key) === "same"
    );
  }

  // -------------------------------------------------------------------------------------- external commit

  /**
   * Joins by an invite link. RejectionError `link/not-of-this-group`, `conversation/id-taken`, `community/…`;
   * ServiceRefusal.
   */
  async joinByLink(link: InviteLink): Promise<void> {
    const { context } = this;
    const id = this.names.conversation(link.groupId);
    if (equalBytes(link.groupId, id)) requireIdOfCommunity(context, id);
    const known = context.mls.group(id);
    // Whoever waits for an answer and asks again may have another link.
    if (known !== undefined && known.state !== "over" && known.state !== "waiting") return;
    context.transaction(() => {
      context.mls.putGroup(id, { state: "stuck", cursor: 0, slot: 0, updatedAtMs: 0 });
      context.mls.putJoin(id, link);
    });
    await this.rejoin(id);
  }

  /**
   * Comes into a group from outside as a device of an account that it expects (docs/communities.md), or back to it where
   * this device has a leaf: for a conversation whose group is known ({@link MlsStore.expectGroup}). PERSIST that it is
   * wanted; with a connection that breaks, the next one goes on. Lost races are made anew on what won. UsageError
   * `group/not-expected` where no group is known; ServiceRefusal `group/not-a-member` where the group expects nobody, and
   * then this device waits to be let in as before; RejectionError `community/…`. O(members) for the tree.
   */
  async joinExpected(id: GroupId): Promise<void> {
    const { context } = this;
    const state = context.mls.group(id)?.state;
    if (state === undefined || state === "over" || state === "creating")
      throw new UsageError("group/not-expected");
    context.transaction(() => {
      context.mls.setJoinsExpected(id, true);
      if (state !== "joining") context.mls.setState(id, "stuck");
    });
    this.registry.unload(id);
    await this.rejoin(id);
  }

  /**
   * Whether this device has a leaf in a group that it is not in: it was added, and its Welcome is on its way, or lost.
   * ServiceRefusal, UnavailableError.
   */
  async isAdded(id: GroupId): Promise<boolean> {
    const { publicKey, privateKey } = communityIdentity(this.context).signatureKeys;
    try {
      await this.groupInfo(id, publicKey, privateKey, undefined);
      return true;
    } catch (error) {
      if (error instanceof ServiceRefusal && error.code === "group/not-a-member") return false;
      throw error;
    }
  }

  /** Joins again with a new leaf in the place of the old one, after the log could not be followed. */
  rejoin(id: GroupId): Promise<void> {
    return this.context.queue.run(`mls-join:${formatId(id)}`, async () => {
      try {
        await this.enter(id);
      } catch (error) {
        // Tried again with the next connection, unless the group will not have who comes by this link.
        if (!isTemporary(error) && this.context.mls.join(id) !== undefined)
          this.context.transaction(() => this.context.mls.delete(id));
        else if (!isTemporary(error) && this.context.mls.group(id)?.joinsExpected === true)
          this.context.transaction(() => this.waitAgain(id));
        throw error;
      }
    });
  }

  /** Nobody expects this device. Of a group that it was in before it keeps no secrets. */
  private waitAgain(id: GroupId): void {
    const { mls } = this.context;
    mls.setJoinsExpected(id, false);
    mls.setState(id, "waiting");
    mls.deletePendingCommit(id);
    mls.deleteRows(id);
    this.context.eraseAfterwards();
  }

  private async enter(id: GroupId): Promise<void> {
    for (let race = 0; race < MAX_RACES; race++) {
      const state = this.context.mls.group(id)?.state;
      if (state !== "stuck" && state !== "joining") return;
      if (state === "stuck" && !(await this.prepare(id))) return;
      await this.submit(id);
    }
    throw new UnavailableError("group/too-much-contention");
  }

  /** The tree of the epoch in which this device was last, where it was in the group before. O(members). */
  private knownTree(id: GroupId): KnownTree | undefined {
    if (!this.context.mls.hasRows(id)) return undefined;
    try {
      const { group } = this.registry.load(id);
      return { treeHash: new Uint8Array(group.context.treeHash), ratchetTree: group.ratchetTree() };
    } catch {
      // What cannot be read may be why this device enters anew.
      return undefined;
    }
  }

  /** PERSIST the state that the external commit leads to, beside the old one. False when we are no member any more, or wait for approval. */
  private async prepare(id: GroupId): Promise<boolean> {
    const { context } = this;
    const identity = communityIdentity(context);
    const { publicKey, privateKey } = identity.signatureKeys;
    const link = context.mls.join(id);
    const wireId = this.names.wire(id);
    const info = await this.infoUnlessRemoved(id, publicKey, privateKey, link);
    if (!this.isStill(id, wireId, "stuck")) return false;
    if (info === undefined) return this.noteRemoved(id);
    if (info.epoch < this.highestEpoch(id)) throw new UnavailableError(SERVICE_BEHIND);
    const ratchetTree = await fetchTree(context, info.treeHash, this.knownTree(id));
    if (!this.isStill(id, wireId, "stuck")) return false;
    const removes = leafOfSignatureKey(communityCrypto, ratchetTree, publicKey);
    const inviter = link === undefined ? undefined : requireInviter(ratchetTree, link);
    const isExpected = context.mls.group(id)?.joinsExpected === true;
    if (link === undefined && removes === undefined && !isExpected) return this.noteRemoved(id);
    const leaf = this.leafFor(link, publicKey);
    const created = unlessUnapproved(() =>
      joinGroupExternally(
        communityCrypto,
        { groupInfo: info.groupInfo, ratchetTree, identity, leaf, removes },
        this.registry.config(),
      ),
    );
    if (created === undefined) {
      await this.approvals.ask(link!, inviter!);
      return false;
    }
    requireUsableEpoch(created.group);
    if (!this.effects.admits(id, created.group)) throw new RejectionError("migration/roster-mismatch");
    const slot = this.freeSlot(id);
    const { message: commit, groupInfo } = created;
    context.transaction(() => {
      context.mls.deleteRows(id, slot);
      context.mls.rows(id, slot).apply(created.writes);
      context.mls.putPendingCommit(
        id,
        encodeMessage(groupCommit, { groupId: id, commit, groupInfo, recipients: [] }),
      );
      context.mls.setState(id, "joining");
    });
    return true;
  }

  /** That this device has seen of the group: below it it joins nothing. */
  private highestEpoch(id: GroupId): number {
    return this.context.mls.newestEpoch(id)?.epoch ?? 0;
  }

  private noteRemoved(id: GroupId): false {
    this.context.transaction(() => this.ledger.removed(id));
    this.context.notifier.flush();
    return false;
  }

  /** Undefined for a leaf that was removed while this device could not follow the log. */
  private async infoUnlessRemoved(
    id: GroupId,
    publicKey: Bytes,
    privateKey: Bytes,
    link: InviteLink | undefined,
  ): Promise<GroupInfoReply | undefined> {
    try {
      return await this.groupInfo(id, publicKey, privateKey, link);
    } catch (error) {
      const isRemoved = error instanceof ServiceRefusal && error.code === "group/not-a-member";
      if (link !== undefined || !isRemoved) throw error;
      if (this.context.mls.group(id)?.joinsExpected === true)
        return await this.groupInfo(id, publicKey, privateKey, undefined, true);
      await this.requireNotBehind(id);
      return undefined;
    }
  }

  /** Who was added since the copy that the service was restored from is no member there, and yet is one. */
  private async requireNotBehind(id: GroupId): Promise<void> {
    // Whoever was never in it has nothing in which it could be ahead of the service.
    if (!this.registry.isStored(id)) return;
    try {
      await this.access.openGroup(id);
    } catch (error) {
      if (!(error instanceof ServiceRefusal)) throw error;
      if (error.code === "group/epoch-unknown") throw new UnavailableError(SERVICE_BEHIND);
    } finally {
      this.access.forget(id);
    }
  }

  /** What every leaf has, and the ticket of a link. */
  private leafFor(link: InviteLink | undefined, signatureKey: Bytes): LeafOptions {
    if (link === undefined) return communityLeaf;
    const { groupId: group, linkId, seed: linkSeed } = link;
    const approval = this.context.mls.approval(this.names.conversation(group));
    const use = { groupId: group, linkId, linkSeed, signatureKey, approval };
    const ticket = createJoinTicket(communityCrypto, use);
    return { ...communityLeaf, extensions: [encodeJoinTicket(ticket)] };
  }

  /** Asks for the ban list in force where it is not here: who came by a Welcome could judge no Add without it. */
  async learnBanList(id: GroupId): Promise<void> {
    const { banListHash } = this.registry.communityOf(id);
    if (banListHash.length === 0 || this.context.mls.banList(banListHash) !== undefined) return;
    const { publicKey, privateKey } = communityIdentity(this.context).signatureKeys;
    try {
      await this.groupInfo(id, publicKey, privateKey, undefined);
    } catch (error) {
      // Removed since: opening the group says so.
      if (!(error instanceof ServiceRefusal) || error.code !== "group/not-a-member") throw error;
    }
  }

  private async groupInfo(
    id: GroupId,
    publicKey: Bytes,
    privateKey: Bytes,
    link: InviteLink | undefined,
    expected = false,
  ): Promise<GroupInfoReply> {
    const key = link === undefined ? privateKey : link.seed;
    const signature = signForService(
      communityCrypto,
      key,
      GROUP_ACCESS_LABEL,
      await this.access.tbs(id, 0, 0),
    );
    const byKey = { signatureKey: publicKey, signature };
    const proof = expected
      ? { expected: { ...byKey, credential: encodedCredential(this.context) } }
      : link === undefined
        ? { leaf: byKey }
        : { link: { linkId: link.linkId, signature } };
    const answer = await this.names.ask({ kind: "groupInfoRequest", groupId: id, ...proof });
    if (answer.kind !== "groupInfoReply") throw new UnavailableError("connection/unexpected-answer");
    const { banList } = answer;
    if (banList !== undefined) {
      const hash = new Uint8Array(createHash("sha256").update(banList).digest());
      this.context.transaction(() => this.context.mls.putBanList(hash, banList));
    }
    return answer;
  }

  private freeSlot(id: GroupId): number {
    return 1 - (this.context.mls.group(id)?.slot ?? 0);
  }

  private async submit(id: GroupId): Promise<void> {
    const { mls } = this.context;
    const pending = mls.pendingCommit(id);
    if (pending === undefined) {
      this.context.transaction(() => mls.setState(id, "stuck"));
      return;
    }
    const body = decodeMessage(groupCommit, pending, limits.frameBytes);
    const turn = this.turns.current(id);
    const wireId = this.names.wire(id);
    let answer: ServiceBody;
    try {
      answer = await this.names.ask({
        kind: "groupCommit",
        ...body,
        ...(turn === undefined ? {} : { turn }),
      });
    } catch (error) {
      if (isTemporary(error) || !(error instanceof ServiceRefusal)) throw error;
      if (!this.isStill(id, wireId, "joining")) return;
      // It was accepted perhaps, before the service was set back: the same again when it has come that far.
      if (error.code === "group/epoch-unknown") throw new UnavailableError(SERVICE_BEHIND);
      this.backToStuck(id);
      // Prepared on a connection before this one, and somebody else's commit was faster: here it asks first where the group is.
      if (error.code === "group/not-open") return;
      throw error;
    }
    if (!this.isStill(id, wireId, "joining")) return;
    if (answer.kind === "groupCommitAccepted") {
      this.turns.used(id);
      this.confirm(id, answer.sequence);
      return;
    }
    this.backToStuck(id);
    if (answer.kind !== "groupCommitLost") throw new UnavailableError("connection/unexpected-answer");
    // What won is in the GroupInfo that is asked for next; until our turn has come others would win again.
    if (answer.turn !== undefined) this.turns.granted(id, answer.turn, answer.turnExpiresInMs ?? 0);
    if (answer.place > 0) await this.turns.wait(id, answer.place);
  }

  /**
   * While an answer was on its way this device may have come into the group by a Welcome, or the conversation have got another
   * group: what the answer says is of neither. UnavailableError `group/not-open` where it is another group.
   */
  private isStill(id: GroupId, wireId: Bytes, state: "joining" | "stuck"): boolean {
    if (!equalBytes(this.names.wire(id), wireId)) throw new UnavailableError("group/not-open");
    return this.context.mls.group(id)?.state === state;
  }

  private backToStuck(id: GroupId): void {
    this.context.transaction(() => {
      this.context.mls.deletePendingCommit(id);
      this.context.mls.deleteRows(id, this.freeSlot(id));
      this.context.mls.setState(id, "stuck");
    });
  }

  /** Inside the transaction: whoever came by a link has asked to be here. */
  private afterLink(id: GroupId): void {
    const { conversations, events, mls } = this.context;
    const link = mls.join(id);
    if (link === undefined) return;
    mls.deleteJoin(id);
    const row = { id, kind: "group", state: "active", protocol: "mls" } as const;
    if (conversations.get(id) === undefined)
      conversations.insert({ ...row, title: link.title, expireAfterSeconds: 0 }, this.context.now());
    else conversations.setState(id, "active");
    events.append({ kind: "conversation-changed", conversation: id, atMs: this.context.now() });
  }

  /** The external commit counts: from here on the new rows are the group. */
  private confirm(id: GroupId, sequence: number): void {
    const { mls } = this.context;
    const slot = this.freeSlot(id);
    const group = Group.load(communityCrypto, mls.rows(id, slot), this.registry.config());
    this.context.meter.verifiedLeaves += group.memberCount;
    this.context.meter.rejoins++;
    this.enterIn(id, group, () => {
      mls.rows(id, slot).apply(group.confirmJoin());
      mls.deleteRows(id, 1 - slot);
      mls.deletePendingCommit(id);
      mls.putGroup(id, { state: "active", cursor: sequence, slot, updatedAtMs: this.context.now() });
      mls.setEntered(id, this.context.now());
      this.reports.entered(id, group);
      this.ledger.entered(id, group);
      this.afterLink(id);
      this.profiles.ask(id, communityContextOf(group.context.extensions));
    });
  }
}

/** Who made the link: the group that the service shows has that person in it. RejectionError `link/not-of-this-group`. O(N). */
function requireInviter(ratchetTree: Bytes, { fingerprint }: InviteLink): Inviter {
  for (const leafNode of leavesOfTree(communityCrypto, ratchetTree)) {
    const { accountId, accountIdentityKey } = decodeMemberCredential(leafNode.credential);
    if (equalBytes(fingerprintOf(accountIdentityKey), fingerprint)) return { accountId, accountIdentityKey };
  }
  throw new RejectionError("link/not-of-this-group");
}

/** Whoever made the group chose its epoch; one that no frame can name would be a group that cannot be opened. RejectionError `group/bad-epoch`. */
function requireUsableEpoch({ epoch }: Group): void {
  if (epoch >= TOO_MANY_EPOCHS) throw new RejectionError("group/bad-epoch");
}

/** Undefined where the link asks for an approval that is not there, or holds no more. */
function unlessUnapproved<T>(join: () => T): T | undefined {
  try {
    return join();
  } catch (error) {
    if (error instanceof RejectionError && error.code === "community/link-approval") return undefined;
    throw error;
  }
}

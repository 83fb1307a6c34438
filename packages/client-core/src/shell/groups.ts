/**
 * Groups over pairwise sessions. The record at the service is the truth; every change of it goes
 *
 *   PERSIST the signed change and the bytes of the request
 *   announce a new group key to those who stay (a removal only), and wait until that is accepted
 *   write the record (compare-and-set)
 *   PERSIST the new state, notices, and the message that tells the members
 *
 * and can be taken up again at each line. A lost race is made anew on top of what won.
 */
import {
  type AccountId,
  type Bytes,
  encode,
  equalBytes,
  formatId,
  type GroupId,
  groupId,
  InvariantError,
  messageId,
  RejectionError,
  UnavailableError,
  UsageError,
  utf8,
} from "@murmuration/base";
import type { Notice } from "../api.ts";
import {
  type Content,
  encodeContent,
  FENCE_BYTES,
  GROUP_KEY_BYTES,
  type GroupInvite,
} from "../core/content.ts";
import {
  createChange,
  type GroupAction,
  hashChange,
  startsGeneration,
  type VerifiedChange,
  verifyChange,
  writeAction,
} from "../core/group-change.ts";
import { deriveAccessPublicKey, openRecord, sealRecord } from "../core/group-keys.ts";
import {
  applyChange,
  checkContinues,
  emptyGroup,
  encodeRecord,
  type GroupState,
  noticesOf,
  type RecordMember,
  splitRecord,
} from "../core/group-record.ts";
import { ServiceRefusal } from "../core/refusal.ts";
import type { GroupRow, PendingWrite } from "../store/conversations.ts";
import type { Context } from "./context.ts";
import { lanes } from "./lanes.ts";
import { ServiceApi } from "./service-api.ts";

/** What the group needs from the outbox. */
export interface GroupOutbox {
  /** Takes up everything that waits. */
  wakeAll(): void;
  /** Resolves when the row was accepted or failed, or is gone. UnavailableError when the client closes. */
  whenSettled(rowId: number): Promise<void>;
}

interface Generation {
  readonly groupKey: Bytes;
  readonly fence: Bytes;
}

/** How often an own change is made anew after a lost race. */
const MAX_RACES = 12;

export class Groups {
  private readonly context: Context;
  private readonly outbox: GroupOutbox;

  constructor(context: Context, outbox: GroupOutbox) {
    this.context = context;
    this.outbox = outbox;
  }

  // ---------------------------------------------------------------------------------------------- state

  /** The verified state as it is stored. */
  state(group: GroupId): GroupState {
    const { contacts, conversations } = this.context;
    const row = conversations.group(group);
    const conversation = conversations.get(group);
    if (row === undefined || conversation === undefined) return emptyGroup(group);
    const members = new Map<string, RecordMember>();
    for (const member of conversations.members(group)) {
      const name = contacts.get(member.account)?.name ?? "";
      members.set(formatId(member.account), { ...member, profileKey: undefined, name });
    }
    return {
      groupId: group,
      revision: row.revision,
      hash: row.hash,
      title: conversation.title,
      expireAfterSeconds: conversation.expireAfterSeconds,
      members,
      rotateAfter: row.rotateAfter,
    };
  }

  /**
   * Inside a transaction: applies verified changes in order, writes state, members, notices and events, and
   * settles an own change that is among them. `generation` is the key that opened the record, if it was read.
   */
  private adopt(
    group: GroupId,
    changes: readonly VerifiedChange[],
    generation: Generation | undefined,
  ): void {
    const { context } = this;
    const { conversations, events } = context;
    let state = this.state(group);
    const stored = conversations.group(group);
    let keys: Generation | undefined = stored ?? generation;
    const own = conversations.pendingWrite(group);
    for (const change of changes) {
      const before = state;
      state = applyChange(state, change);
      const pending = conversations
        .pendingKeys(group)
        .find((key) => key.revision === change.revision && equalBytes(key.author, change.author.accountId));
      if (startsGeneration(change.action) && pending !== undefined) keys = pending;
      conversations.appendChange(group, change.revision, change.encoded);
      this.learnProfiles(change);
      this.writeNotices(group, before, state, change);
      if (own !== undefined && own.revision === change.revision) this.settleOwn(group, own, change, before);
    }
    const current = generation ?? keys;
    if (current === undefined) throw new InvariantError("group/without-key");
    this.save(group, state, current, stored?.forked ?? false);
    this.followUp(group, state, changes);
    events.append({ kind: "conversation-changed", conversation: group, atMs: context.now() });
  }

  private save(group: GroupId, state: GroupState, keys: Generation, forked: boolean): void {
    const { conversations } = this.context;
    const row: GroupRow = {
      groupKey: keys.groupKey,
      fence: keys.fence,
      revision: state.revision,
      hash: state.hash,
      forked,
      rotateAfter: state.rotateAfter,
    };
    conversations.saveGroup(group, row);
    conversations.saveMembers(group, [...state.members.values()], this.context.now());
    conversations.setTitle(group, state.title);
    conversations.setExpiry(group, state.expireAfterSeconds);
    conversations.dropPendingKeys(group, state.revision);
  }

  /** Own membership may have ended, or begun. */
  private followUp(group: GroupId, state: GroupState, changes: readonly VerifiedChange[]): void {
    const { context } = this;
    const self = state.members.get(formatId(context.own.accountId));
    const conversation = context.conversations.get(group);
    if (conversation === undefined) return;
    if (self === undefined && conversation.state !== "left" && conversation.state !== "removed") {
      const left = changes.some((c) => c.action.kind === "leave" && context.isOwn(c.author.accountId));
      context.conversations.setState(group, left ? "left" : "removed");
      this.failWaiting(group);
    }
    if (self !== undefined && !self.invited && conversation.state === "invited") {
      context.conversations.setState(group, "active");
    }
  }

  /** What was still to be sent to a group that we are no member of any more. */
  private failWaiting(group: GroupId): void {
    const { context } = this;
    for (const row of context.outbox.waitingRows(lanes.group(group))) {
      // The news of our own leaving still has to reach the others.
      if (row.historyId === undefined) continue;
      context.outbox.setState(row.id, "failed", 0, "conversation/not-active");
      context.history.setSendState(row.historyId, "failed", "conversation/not-active");
      const atMs = context.now();
      const detail = "send-state";
      context.events.append({
        kind: "line-changed",
        conversation: group,
        historyId: row.historyId,
        detail,
        atMs,
      });
    }
  }

  /** A profile key that its owner put into the record counts; one that somebody else did only fills a gap. */
  private learnProfiles(change: VerifiedChange): void {
    const { contacts } = this.context;
    const { action, author } = change;
    if (action.kind === "join" || action.kind === "profile") {
      if (this.context.isOwn(author.accountId)) return;
      contacts.setProfileKey(author.accountId, action.profileKey);
      contacts.setName(author.accountId, action.name);
      return;
    }
    if (action.kind !== "create" && action.kind !== "add") return;
    for (const { account, profileKey, name } of action.members) {
      if (this.context.isOwn(account)) continue;
      contacts.ensure(account);
      const known = contacts.get(account);
      const byOwner = equalBytes(account, author.accountId);
      if (profileKey !== undefined && (byOwner || known?.profileKey === undefined)) {
        contacts.setProfileKey(account, profileKey);
      }
      if (byOwner || known?.name === "") contacts.setName(account, name);
    }
  }

  private writeNotices(group: GroupId, before: GroupState, after: GroupState, change: VerifiedChange): void {
    const { context } = this;
    noticesOf(before, after, change).forEach((notice, index) => {
      // Every member derives the same id, so the notice is there once, however the change came.
      const id = new Uint8Array(change.hash.subarray(0, 16));
      id[15] = id[15]! ^ index;
      context.history.noteSeen(change.author.accountId, change.author.deviceId, messageId(id), context.now());
      this.appendNotice(group, change, messageId(id), notice);
    });
  }

  private appendNotice(
    group: GroupId,
    change: VerifiedChange,
    id: ReturnType<typeof messageId>,
    notice: Notice,
  ): void {
    const { context } = this;
    const line = context.history.append({
      conversation: group,
      messageId: id,
      author: change.author.accountId,
      authorDevice: change.author.deviceId,
      outgoing: context.isOwn(change.author.accountId),
      kind: "notice",
      body: utf8(JSON.stringify(notice)),
      sentAtMs: change.atMs,
      storedAtMs: context.now(),
      expireAfterSeconds: 0,
      sendState: undefined,
    });
    if (line === undefined) return;
    context.conversations.touch(group, context.now());
    context.events.append({ kind: "line-added", conversation: group, historyId: line, atMs: context.now() });
  }

  // ---------------------------------------------------------------------------------------- own changes

  /**
   * Makes a change. `decide` sees the newest state and may be asked again after a lost race; undefined: nothing is
   * left to do. Resolves when the change is in the record. RejectionError `group/…` where roles do not allow it,
   * UnavailableError when the service cannot be reached: then it is taken up again later.
   */
  change(group: GroupId, decide: (state: GroupState) => GroupAction | undefined): Promise<void> {
    return this.context.queue.run(`group:${formatId(group)}`, async () => {
      await this.push(group);
      for (let race = 0; race < MAX_RACES; race++) {
        if (this.context.conversations.group(group)?.forked === true)
          throw new RejectionError("group/forked");
        const action = decide(this.state(group));
        if (action === undefined) return;
        const hash = this.prepare(group, action);
        await this.push(group);
        const done = this.context.conversations
          .changes(group)
          .some((change) => equalBytes(hashChange(change), hash));
        if (done) return;
      }
      throw new UnavailableError("group/too-much-contention");
    });
  }

  /** Signs the change and persists it with the request. Returns its hash. */
  private prepare(group: GroupId, action: GroupAction): Bytes {
    const { context } = this;
    const { conversations, engine, environment } = context;
    const state = this.state(group);
    const local = engine.local();
    if (local === undefined) throw new UsageError("client/not-registered");
    const revision = state.revision + 1;
    const { encoded, hash } = createChange(
      {
        groupId: group,
        revision,
        previousHash: state.hash,
        author: context.own,
        authorDeviceList: local.deviceList,
        atMs: context.now(),
        action,
      },
      (label, content) => engine.signWithDeviceKey(label, content),
    );
    // Whatever the others would refuse is refused here first.
    applyChange(state, verifyChange(encoded));
    const fresh = startsGeneration(action);
    const keys: Generation = fresh
      ? { groupKey: environment.random(GROUP_KEY_BYTES), fence: environment.random(FENCE_BYTES) }
      : conversations.group(group)!;
    const blob = sealRecord(
      group,
      keys.groupKey,
      revision,
      encodeRecord([...conversations.changes(group), encoded]),
      environment.random(12),
    );
    const generation = fresh
      ? { generation: { accessPublicKey: deriveAccessPublicKey(group, keys.groupKey), fence: keys.fence } }
      : {};
    const body = ServiceApi.encodeGroupWrite({ expectedRevision: state.revision, blob, ...generation });
    context.transaction(() => {
      conversations.savePendingWrite(group, {
        action: encode(action, writeAction),
        revision,
        change: encoded,
        body,
        groupKey: keys.groupKey,
        fence: fresh ? keys.fence : undefined,
        announcement: fresh && revision > 1 ? this.announce(group, action, revision, keys) : 0,
      });
      if (fresh) conversations.addPendingKey(group, { revision, author: context.own.accountId, ...keys });
    });
    return hash;
  }

  /** Inside a transaction: queues the new key for everybody who stays. Returns the outbox row. */
  private announce(group: GroupId, action: GroupAction, revision: number, keys: Generation): number {
    const { groupKey, fence } = keys;
    return this.enqueue(
      group,
      { groupKey: { groupKey, fence, revision } },
      action.kind === "remove" ? [action.account] : [],
    );
  }

  /** Inside a transaction: a message to the members (and to the own other devices). Returns the outbox row. */
  private enqueue(group: GroupId, body: Partial<Content>, exclude: readonly AccountId[] = []): number {
    const { context } = this;
    const id = context.newMessageId();
    const revision = context.conversations.group(group)?.revision ?? 0;
    const content = encodeContent({ messageId: id, group: { groupId: group, revision }, ...body });
    const createdAtMs = context.now();
    const rest = { messageId: id, content, confirm: true, createdAtMs };
    if (context.engine.devicesOf(context.own.accountId).length > 0) {
      const target = { kind: "own" as const, account: context.own.accountId };
      context.outbox.append({ lane: lanes.own, target, ...rest, confirm: false });
    }
    return context.outbox.append({
      lane: lanes.group(group),
      target: { kind: "group", group },
      exclude,
      ...rest,
    });
  }

  /** Inside a transaction: a message about the group to one account. */
  private enqueueFor(group: GroupId, account: AccountId, body: Partial<Content>): void {
    const { context } = this;
    const id = context.newMessageId();
    const revision = context.conversations.group(group)?.revision ?? 0;
    // An account that cannot answer yet learns how.
    const introduce =
      context.contacts.get(account)?.profileKey === undefined
        ? { profile: { profileKey: context.meta.require("profile-key"), name: context.meta.text("name") } }
        : {};
    const content = encodeContent({
      messageId: id,
      group: { groupId: group, revision },
      ...introduce,
      ...body,
    });
    context.outbox.append({
      lane: lanes.account(account),
      target: { kind: "account", account },
      messageId: id,
      content,
      confirm: true,
      createdAtMs: context.now(),
    });
  }

  /** Carries a persisted change to the service. Returns when it was applied, or lost its race. */
  private async push(group: GroupId): Promise<void> {
    const { api, conversations } = this.context;
    const write = conversations.pendingWrite(group);
    if (write === undefined) return;
    if (write.announcement !== 0) {
      this.outbox.wakeAll();
      await this.outbox.whenSettled(write.announcement);
      // Somebody else's change came while we waited.
      if (!this.stillPending(group, write)) return;
    }
    const accessKey = conversations.group(group)?.groupKey ?? write.groupKey;
    try {
      await api.writeGroup(group, accessKey, write.body);
    } catch (error) {
      if (!(error instanceof ServiceRefusal)) throw error;
      if (error.code !== "group/revision-conflict" && error.code !== "group/access-denied") {
        if (error.action === "retry" || error.action === "retry-later") throw error;
        this.dropPendingWrite(group, write);
        throw error;
      }
      // Lost, or won with the answer lost: the record says which.
      await this.readRecord(group);
      this.tellAndWake();
      return;
    }
    // A refresh that ran meanwhile may have adopted it.
    if (this.stillPending(group, write)) this.adoptOwn(group, write);
    this.tellAndWake();
  }

  private adoptOwn(group: GroupId, write: PendingWrite): void {
    this.context.transaction(() => {
      const change = verifyChange(write.change);
      const keys = write.fence === undefined ? undefined : { groupKey: write.groupKey, fence: write.fence };
      this.adopt(group, [change], keys);
    });
  }

  private stillPending(group: GroupId, write: PendingWrite): boolean {
    const now = this.context.conversations.pendingWrite(group);
    return now !== undefined && equalBytes(now.change, write.change);
  }

  private dropPendingWrite(group: GroupId, write: PendingWrite): void {
    this.context.transaction(() => {
      this.context.conversations.deletePendingWrite(group);
      if (write.announcement !== 0) this.context.outbox.delete(write.announcement);
    });
  }

  private tellAndWake(): void {
    this.context.notifier.flush();
    this.outbox.wakeAll();
  }

  /** Inside a transaction: the record has a change at the revision of our pending one: ours, or another. */
  private settleOwn(group: GroupId, own: PendingWrite, change: VerifiedChange, before: GroupState): void {
    const { conversations, outbox } = this.context;
    conversations.deletePendingWrite(group);
    if (!equalBytes(own.change, change.encoded)) {
      if (own.announcement !== 0) outbox.delete(own.announcement);
      return;
    }
    const { action } = change;
    const keys =
      own.fence === undefined ? conversations.group(group) : { groupKey: own.groupKey, fence: own.fence };
    if (keys === undefined || keys.fence === undefined) throw new InvariantError("group/without-key");
    const invite: GroupInvite = {
      groupKey: keys.groupKey,
      fence: keys.fence,
      revision: change.revision,
      hash: change.hash,
    };
    if (action.kind === "create") {
      this.enqueue(group, { groupInvite: invite });
      for (const member of action.members) {
        if (member.profileKey === undefined) this.enqueueFor(group, member.account, { groupInvite: invite });
      }
      return;
    }
    const added = action.kind === "add" ? action.members.map((member) => member.account) : [];
    if (action.kind !== "leave" || before.members.get(formatId(change.author.accountId))?.invited !== true) {
      this.enqueue(group, { groupChange: { change: change.encoded } }, added);
    }
    for (const account of added) this.enqueueFor(group, account, { groupInvite: invite });
    if (action.kind === "remove") {
      this.enqueueFor(group, action.account, { groupChange: { change: change.encoded } });
    }
  }

  /** Takes up changes that a crash or a lost connection left behind, and rotations that are due. */
  async resume(): Promise<void> {
    const { conversations } = this.context;
    for (const id of conversations.pendingWrites()) {
      const group = groupId(id);
      await this.change(group, () => undefined).catch(ignoreUnavailable);
    }
    for (const id of conversations.groups()) await this.rotateIfDue(groupId(id)).catch(ignoreUnavailable);
  }

  /** After somebody left: an owner or admin draws a new group key. */
  async rotateIfDue(group: GroupId): Promise<void> {
    const { context } = this;
    const due = (state: GroupState): boolean => {
      const self = state.members.get(formatId(context.own.accountId));
      return state.rotateAfter > 0 && self !== undefined && !self.invited && self.role !== "member";
    };
    if (context.conversations.get(group)?.state !== "active" || !due(this.state(group))) return;
    await this.change(group, (state) => (due(state) ? { kind: "rotate" } : undefined));
  }

  // ------------------------------------------------------------------------------------------- reading

  /**
   * Reads the record with whatever keys are known and adopts what is new. True when this device knows the present
   * generation afterwards; false when its key has still to come, or it was removed.
   */
  async refresh(group: Uint8Array): Promise<boolean> {
    const id = groupId(group);
    try {
      await this.readRecord(id);
    } catch (error) {
      if (error instanceof RejectionError && !(error instanceof ServiceRefusal)) return false;
      if (error instanceof ServiceRefusal && error.code.startsWith("group/")) return false;
      throw error;
    }
    this.tellAndWake();
    return true;
  }

  private async readRecord(group: GroupId): Promise<void> {
    const { api, conversations } = this.context;
    const current = conversations.group(group);
    const candidates: Generation[] = [
      ...(current === undefined ? [] : [current]),
      ...conversations.pendingKeys(group),
    ];
    let refused: unknown = new RejectionError("group/unknown");
    for (const keys of candidates) {
      try {
        const { revision, blob } = await api.readGroup(group, keys.groupKey);
        this.adoptRecord(group, keys, revision, blob);
        return;
      } catch (error) {
        if (!(error instanceof ServiceRefusal) || error.code !== "group/access-denied") throw error;
        refused = error;
      }
    }
    throw refused;
  }

  /** Verifies a record against what is remembered and adopts its new changes. */
  private adoptRecord(group: GroupId, keys: Generation, revision: number, blob: Bytes): void {
    const { context } = this;
    const known = context.conversations.group(group);
    const changes = splitRecord(openRecord(group, keys.groupKey, revision, blob));
    if (changes.length !== revision) throw new RejectionError("group/revision-mismatch");
    try {
      checkContinues(changes, changes.map(hashChange), known ?? { revision: 0, hash: new Uint8Array(0) });
    } catch (error) {
      if (error instanceof RejectionError) this.noteFork(group, error.code);
      throw error;
    }
    const fresh = changes.slice(known?.revision ?? 0).map(verifyChange);
    if (fresh.length === 0) return;
    context.transaction(() => this.adopt(group, fresh, { groupKey: keys.groupKey, fence: keys.fence }));
  }

  /** The service shows another past: nothing is sent any more until the user has decided. */
  private noteFork(group: GroupId, code: string): void {
    const { context } = this;
    if (code !== "group/forked") return;
    context.transaction(() => {
      const row = context.conversations.group(group);
      if (row === undefined || row.forked) return;
      context.conversations.saveGroup(group, { ...row, forked: true });
      context.events.append({
        kind: "decision-needed",
        conversation: group,
        detail: "group/forked",
        atMs: context.now(),
      });
    });
    context.notifier.flush();
  }

  // ------------------------------------------------------------------------------------------ receiving

  /** Inside a transaction: a key for a coming generation. Only owners and admins draw one. */
  receiveKey(group: GroupId, sender: AccountId, key: NonNullable<Content["groupKey"]>): void {
    const { conversations } = this.context;
    const member = conversations.member(group, sender);
    const trusted = this.context.isOwn(sender) || (member !== undefined && member.role !== "member");
    if (!trusted) throw new RejectionError("group/role-too-low");
    conversations.addPendingKey(group, { ...key, author: sender });
  }

  /**
   * Inside a transaction: one change that its author says is in the record. Applied when it is the next one and
   * its key is known; otherwise `behind`: the record has to be read.
   */
  receiveChange(group: GroupId, encoded: Bytes): "applied" | "known" | "behind" {
    const { conversations } = this.context;
    const change = verifyChange(encoded);
    if (formatId(change.groupId) !== formatId(group)) throw new RejectionError("group/foreign-change");
    const row = conversations.group(group);
    if (row === undefined || change.revision > row.revision + 1) return "behind";
    if (change.revision <= row.revision) {
      const known = conversations.changes(group)[change.revision - 1];
      if (known !== undefined && equalBytes(known, change.encoded)) return "known";
      throw new RejectionError("group/forked");
    }
    const leavesUs = change.action.kind === "remove" && this.context.isOwn(change.action.account);
    const hasKey = conversations
      .pendingKeys(group)
      .some((key) => key.revision === change.revision && equalBytes(key.author, change.author.accountId));
    if (startsGeneration(change.action) && !hasKey && !leavesUs) return "behind";
    this.adopt(group, [change], undefined);
    return "applied";
  }

  /**
   * An invite: reads and verifies the record, then creates the conversation. The inviter vouches for revision and
   * hash, so the service cannot show another group. RejectionError where the record does not fit.
   */
  async acceptInvite(group: GroupId, inviter: AccountId, invite: GroupInvite): Promise<void> {
    const { context } = this;
    if (this.hasJoined(group, invite.revision)) return;
    const { revision, blob } = await context.api.readGroup(group, invite.groupKey);
    if (this.hasJoined(group, invite.revision)) return;
    const known = context.conversations.group(group);
    const state = context.conversations.get(group)?.state;
    const encoded = splitRecord(openRecord(group, invite.groupKey, revision, blob));
    if (encoded.length !== revision) throw new RejectionError("group/revision-mismatch");
    checkContinues(encoded, encoded.map(hashChange), invite);
    const changes = encoded.slice(known?.revision ?? 0).map(verifyChange);
    if (known !== undefined) checkContinues(encoded, encoded.map(hashChange), known);
    const final = changes.reduce(applyChange, this.state(group));
    this.checkIdentities(final);
    const self = final.members.get(formatId(context.own.accountId));
    if (self === undefined) throw new RejectionError("group/not-a-member");
    context.transaction(() => {
      const trusted = context.settings.acceptUnknown || context.contacts.get(inviter)?.accepted === true;
      const entry = self.invited ? "invited" : trusted || context.isOwn(inviter) ? "active" : "request";
      if (context.conversations.get(group) === undefined) {
        context.conversations.insert(
          {
            id: group,
            kind: "group",
            state: entry,
            protocol: "pairwise",
            title: final.title,
            expireAfterSeconds: 0,
          },
          context.now(),
        );
      } else {
        context.conversations.setState(group, entry);
      }
      this.adopt(group, changes, { groupKey: invite.groupKey, fence: invite.fence });
      if (self.invited || state !== entry) context.conversations.setState(group, entry);
    });
    this.tellAndWake();
  }

  private hasJoined(group: GroupId, revision: number): boolean {
    const known = this.context.conversations.group(group);
    const state = this.context.conversations.get(group)?.state;
    return known !== undefined && state !== "left" && state !== "removed" && known.revision >= revision;
  }

  /** An account whose identity key we know must stand in the record with that key. */
  private checkIdentities(state: GroupState): void {
    for (const member of state.members.values()) {
      const known = this.context.engine.identityOf(member.account);
      if (known !== undefined && !equalBytes(known.accountIdentityKey, member.identityKey)) {
        throw new RejectionError("group/identity-mismatch");
      }
    }
  }

  /** The invite for another own device. */
  inviteFor(group: GroupId): GroupInvite | undefined {
    const row = this.context.conversations.group(group);
    if (row === undefined) return undefined;
    return { groupKey: row.groupKey, fence: row.fence, revision: row.revision, hash: row.hash };
  }
}

function ignoreUnavailable(error: unknown): void {
  if (error instanceof UnavailableError || error instanceof RejectionError) return;
  throw error;
}

/**
 * Fork detection. A service that shows two parts of a group two different logs keeps them from ever seeing each
 * other's MLS messages; but it cannot read pairwise ones. So members tell a few others, over their pairwise sessions,
 * which epoch they are in and the hash of its authenticator (RFC 9420 8.7). Two hashes for one epoch are two groups.
 * It goes beside everything that is said sealed to one account that is a member too, receipts among it, so that the
 * service has to part the two people altogether; and by itself from time to time, to members to whom nobody writes.
 *
 * A report is its sender's word: nobody can tell a false one from a fork. So one account that contradicts us is shown to a
 * person; that we say nothing any more, it takes two.
 */
import { createHash } from "node:crypto";
import { type AccountId, equalBytes, type GroupId, groupId } from "@murmuration/base";
import type { Group } from "@murmuration/mls-groups";
import { type EpochReport, encodeContent, MAX_SEEN_EPOCHS } from "../../core/content.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";

/** A report is due after this many epochs, or this time. */
const EPOCHS_BETWEEN = 50;
const TIME_BETWEEN_MS = 24 * 3_600_000;
/**
 * Members who came together, or are in one epoch, must not all speak at once: the first report is due within this time for
 * each member, and ten minutes at most, and any other one up to half of its time or epochs early.
 */
const FIRST_WITHIN_MS_PER_MEMBER = 2_000;
const LONGEST_FIRST_WITHIN_MS = 600_000;
/** How many members hear of it. */
const LISTENERS = 3;
/** Epochs whose hash is remembered: a report may be this much older than what we know. */
const REMEMBERED_EPOCHS = 1_000;
/** A commit by which this device came is said of its epoch no earlier, unless another follows: it may be taken back. */
const SETTLED_AFTER_MS = 600_000;
/** Accounts that have to contradict us before we stop writing, if there are as many others. */
const ENOUGH_DISPUTANTS = 2;

export class EpochReports {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** Inside the transaction that enters a group: what was known of it before may have been another one's past. */
  entered(id: GroupId, group: Group): void {
    const { context } = this;
    context.mls.deleteEpochsFrom(id, 0);
    this.note(id, group);
    const within = Math.min(LONGEST_FIRST_WITHIN_MS, group.memberCount * FIRST_WITHIN_MS_PER_MEMBER);
    const dueAtMs = context.now() + this.below(within);
    context.mls.setReported(id, Number(group.epoch), dueAtMs - TIME_BETWEEN_MS);
  }

  /** Inside the transaction that enters an epoch. */
  note(id: GroupId, group: Group): void {
    const authenticator = group.epochAuthenticator();
    const hash = new Uint8Array(createHash("sha256").update(authenticator).digest());
    authenticator.fill(0);
    this.context.mls.putEpoch(id, Number(group.epoch), hash);
    this.context.mls.forgetEpochs(id, Number(group.epoch) - REMEMBERED_EPOCHS);
  }

  /** Inside a transaction: the epoch that a void entry took back. */
  takeBack(id: GroupId, epoch: number): void {
    this.context.mls.deleteEpochsFrom(id, epoch);
  }

  /** Tells a few others, if it is time. Returns the lanes to wake. */
  sayIfDue(id: GroupId): readonly string[] {
    const { context } = this;
    const row = context.mls.group(id);
    if (row === undefined) return [];
    const isEarly = (epoch: number) =>
      epoch < row.reportedEpoch + EPOCHS_BETWEEN && context.now() < row.reportedAtMs + TIME_BETWEEN_MS;
    // Asked after each message: most of the time the newest epoch says enough.
    if (isEarly(context.mls.newestEpoch(id)?.epoch ?? 0)) return [];
    const settled = this.settled(id);
    if (settled === undefined || isEarly(settled.epoch)) return [];
    const listeners = this.pick(id);
    context.transaction(() => {
      const epochsEarly = this.below(EPOCHS_BETWEEN / 2);
      const early = this.below(TIME_BETWEEN_MS / 2);
      context.mls.setReported(id, settled.epoch - epochsEarly, context.now() - early);
      for (const account of listeners) this.append(account, settled);
    });
    return listeners.map(lanes.account);
  }

  /**
   * What to tell an account beside whatever is said to it: where this device is in the communities of both, at most four of
   * them at random. O(communities of this device) searches by key.
   */
  toTell(account: AccountId): readonly EpochReport[] {
    const { conversations, mls } = this.context;
    if (this.context.isOwn(account)) return [];
    const shared = mls
      .sharedWith(account)
      .map((id) => groupId(id))
      .filter((id) => conversations.member(id, account)?.invited === false);
    return this.some(shared, MAX_SEEN_EPOCHS).flatMap((id) => this.settled(id) ?? []);
  }

  /**
   * The newest epoch that no void entry takes back any more. Of a later one two members may know two commits, one after
   * the other, from a service that lies to nobody.
   */
  private settled(id: GroupId): EpochReport | undefined {
    const { mls } = this.context;
    const newest = mls.newestEpoch(id);
    if (newest === undefined) return undefined;
    const epoch = newest.epoch - 1;
    const before = mls.epochHash(id, epoch);
    const enteredBy = before === undefined && newest.epoch > 0;
    const { enteredAtMs = 0 } = mls.group(id) ?? {};
    const mayGo = enteredBy
      ? enteredAtMs + SETTLED_AFTER_MS > this.context.now()
      : this.mayBeTakenBack(id, newest.epoch);
    if (!mayGo) return { groupId: mls.wireIdOf(id), ...newest };
    return before && { groupId: mls.wireIdOf(id), epoch, hash: before };
  }

  private mayBeTakenBack(id: GroupId, epoch: number): boolean {
    const { mls } = this.context;
    return mls.newestEpoch(id)?.epoch === epoch && mls.hasUndo(id);
  }

  private append(account: AccountId, epochReport: EpochReport): void {
    const { context } = this;
    const messageId = context.newMessageId();
    context.outbox.append({
      lane: lanes.account(account),
      target: { kind: "account", account },
      messageId,
      content: encodeContent({ messageId, epochReport }),
      confirm: false,
      createdAtMs: context.now(),
    });
  }

  /** Members at random, of those to whom a sealed message can be sent: a report is no reason to ask strangers. */
  private pick(id: GroupId): readonly AccountId[] {
    const { context } = this;
    const others = context.conversations.memberAccounts(id).filter((account) => !context.isOwn(account));
    const unreachable = new Set(context.contacts.withoutAccessKey(others));
    const reachable = others.filter((_, index) => !unreachable.has(index));
    return this.some(reachable, LISTENERS);
  }

  /** At most so many of them, at random. */
  private some<T>(all: readonly T[], most: number): readonly T[] {
    if (all.length <= most) return all;
    const rest = [...all];
    const picked: T[] = [];
    while (picked.length < most) {
      picked.push(...rest.splice(this.below(rest.length), 1));
    }
    return picked;
  }

  /** A random whole number from 0 on, less than `bound`. */
  private below(bound: number): number {
    return new DataView(this.context.environment.random(4).buffer).getUint32(0) % bound;
  }

  /**
   * Inside a transaction: what another member says. Somebody who is no member has nothing to say about it. Of each account
   * a person hears once, until this device enters the group anew.
   */
  receive(sender: AccountId, report: EpochReport): void {
    const { context } = this;
    const { groupId: wireId, epoch, hash } = report;
    const id = context.mls.conversationOf(wireId);
    if (context.isOwn(sender) || context.conversations.member(id, sender) === undefined) return;
    const own = context.mls.epochHash(id, epoch);
    if (own === undefined || equalBytes(own, hash)) return;
    // The mailbox may be ahead of the log, which says that our commit does not count. Whoever it is will say it again.
    if (this.mayBeTakenBack(id, epoch)) return;
    if (!context.mls.addDispute(id, sender, epoch)) return;
    const isForked = this.isDisputed(id);
    if (isForked) context.mls.setForked(id, true);
    context.events.append({
      kind: "decision-needed",
      conversation: id,
      account: sender,
      detail: isForked ? "group/forked" : "group/disputed",
      evidence: { fork: { epoch, ours: own, theirs: hash } },
      atMs: context.now(),
    });
  }

  /** A fork goes on for good: those who contradict us need not speak of one epoch. */
  private isDisputed(id: GroupId): boolean {
    const { conversations, mls } = this.context;
    const disputants = mls
      .disputants(id)
      .filter((account) => conversations.member(id, account) !== undefined);
    const others = conversations.countMembers(id) - 1;
    return disputants.length >= Math.min(ENOUGH_DISPUTANTS, others);
  }
}

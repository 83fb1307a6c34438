/**
 * Fork detection. A service that shows two parts of a group two different logs keeps them from ever seeing each
 * other's MLS messages; but it cannot read pairwise ones. So members tell a few others, over their pairwise sessions,
 * which epoch they are in and the hash of its authenticator (RFC 9420 8.7). Two hashes for one epoch are two groups.
 *
 * A report is its sender's word: nobody can tell a false one from a fork. So one account that contradicts us is shown to a
 * person; that we say nothing any more, it takes two.
 */
import { createHash } from "node:crypto";
import { type AccountId, type Bytes, equalBytes, type GroupId } from "@murmuration/base";
import type { Group } from "@murmuration/mls-groups";
import { type Content, encodeContent } from "../../core/content.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";

/** A report is due after this many epochs, or this time. */
const EPOCHS_BETWEEN = 50;
const TIME_BETWEEN_MS = 24 * 3_600_000;
/** How many members hear of it. */
const LISTENERS = 3;
/** Epochs whose hash is remembered: a report may be this much older than what we know. */
const REMEMBERED_EPOCHS = 1_000;
/** Accounts that have to contradict us before we stop writing, if there are as many others. */
const ENOUGH_DISPUTANTS = 2;

export class EpochReports {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** Inside the transaction that enters a group: what was known of it before may have been another one's past. */
  entered(id: GroupId, group: Group): void {
    this.context.mls.deleteEpochsFrom(id, 0);
    this.note(id, group);
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
    const newest = context.mls.newestEpoch(id);
    if (row === undefined || newest === undefined) return [];
    const early = newest.epoch < row.reportedEpoch + EPOCHS_BETWEEN;
    if (early && context.now() < row.reportedAtMs + TIME_BETWEEN_MS) return [];
    const listeners = this.pick(id);
    context.transaction(() => {
      context.mls.setReported(id, newest.epoch, context.now());
      for (const account of listeners) this.append(id, account, newest);
    });
    return listeners.map(lanes.account);
  }

  private append(
    id: GroupId,
    account: AccountId,
    { epoch, hash }: { readonly epoch: number; readonly hash: Bytes },
  ): void {
    const { context } = this;
    const messageId = context.newMessageId();
    context.outbox.append({
      lane: lanes.account(account),
      target: { kind: "account", account },
      messageId,
      content: encodeContent({ messageId, epochReport: { groupId: id, epoch, hash } }),
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
    const picked: AccountId[] = [];
    while (picked.length < LISTENERS && reachable.length > 0) {
      const at = new DataView(context.environment.random(4).buffer).getUint32(0) % reachable.length;
      picked.push(...reachable.splice(at, 1));
    }
    return picked;
  }

  /**
   * Inside a transaction: what another member says. Somebody who is no member has nothing to say about it. Of each account
   * a person hears once, until this device enters the group anew.
   */
  receive(sender: AccountId, report: NonNullable<Content["epochReport"]>): void {
    const { context } = this;
    const { groupId: id, epoch, hash } = report;
    if (context.isOwn(sender) || context.conversations.member(id, sender) === undefined) return;
    const own = context.mls.epochHash(id, epoch);
    if (own === undefined || equalBytes(own, hash)) return;
    if (!context.mls.addDispute(id, sender, epoch)) return;
    const isForked = this.isDisputed(id);
    if (isForked) context.mls.setForked(id, true);
    context.events.append({
      kind: "decision-needed",
      conversation: id,
      account: sender,
      detail: isForked ? "group/forked" : "group/disputed",
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

/**
 * The group profile for whoever was not told: who came by a link, or back after commits that it did not see, or who could
 * not read what was said. It asks in the group; where only admins write it cannot, and they answer as if it had. Every
 * member that knows the profile would answer, so each waits for a random time first, and answers only if nobody has said it
 * by then. That an answer is due is written down: the member may be gone before its time has come.
 */
import {
  type AccountId,
  type Bytes,
  equalBytes,
  formatId,
  type GroupId,
  toBase64Url,
} from "@murmuration/base";
import { type CommunityContext, roleOf } from "@murmuration/mls-groups";
import { type Content, encodeContent } from "../../core/content.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";
import type { Access } from "./access.ts";
import { knownProfile } from "./profile.ts";
import type { Registry } from "./registry.ts";

export interface ProfileEffects {
  /** Inside a transaction: puts the profile into the outbox. */
  say(id: GroupId): void;
  /** The same where this device owes it to somebody whom it has added. */
  sayOwed(id: GroupId): void;
  wake(lane: string): void;
  behind(work: () => Promise<void>): void;
}

/** Answers are spread over this time for each member of the group, and over the longest time at most. */
const SPREAD_FOR_EACH_MS = 20;
const LONGEST_SPREAD_MS = 10_000;
/** One account is answered once in this time: a member must not make the others talk all day. */
const PAUSE_FOR_EACH_MS = 600_000;
/** How long a profile that the group context names may stay unknown before it is asked for, ms; twice as long each time. */
const PATIENCE_MS = 10_000;
const LONGEST_PATIENCE_MS = 600_000;
/** Accounts whose last request is remembered. */
const REMEMBERED = 4_096;

export class ProfileRequests {
  private readonly context: Context;
  private readonly registry: Registry;
  private readonly access: Access;
  private readonly effects: ProfileEffects;
  /** When an account last asked in a group. */
  private readonly asked = new Map<string, number>();
  /** Groups in which this device is about to answer. */
  private readonly answering = new Set<string>();
  /** Groups whose profile this device waits for. */
  private readonly awaiting = new Set<string>();
  /** When anybody last asked in a group, ms. */
  private readonly heardAtMs = new Map<string, number>();
  /** Groups in which this program has asked, and for what. */
  private readonly asking = new Map<string, Bytes>();

  constructor(context: Context, registry: Registry, access: Access, effects: ProfileEffects) {
    this.context = context;
    this.registry = registry;
    this.access = access;
    this.effects = effects;
  }

  // --------------------------------------------------------------------------------------------- asking

  /** Inside the transaction that enters a group from outside: asks for the profile, unless it is here. */
  ask(id: GroupId, community: CommunityContext): void {
    const { context } = this;
    if (!this.mustAsk(id, community)) return;
    const { profileHash } = community;
    this.asking.set(toBase64Url(id), profileHash);
    const messageId = context.newMessageId();
    const group = { groupId: id, revision: 0, name: context.meta.text("name") };
    context.outbox.append({
      lane: lanes.group(id),
      target: { kind: "group", group: id },
      messageId,
      content: encodeContent({ messageId, group, profileRequest: { hash: profileHash } }),
      confirm: false,
      createdAtMs: context.now(),
    });
  }

  /**
   * Inside the transaction of a commit, or of the Welcome that led here: where it names a profile that is not here, whoever
   * made it says what it is. This device may not be able to read that, or nobody may have lived to say it: then it asks,
   * unless another one has: where the one who made it is gone, everybody lacks it, and one question is enough.
   */
  expect(id: GroupId, community: CommunityContext): void {
    const key = toBase64Url(id);
    if (community.profileHash.length === 0 || this.awaiting.has(key) || this.knows(id, community)) return;
    this.awaiting.add(key);
    this.effects.behind(() => this.await(id).finally(() => this.awaiting.delete(key)));
  }

  private async await(id: GroupId): Promise<void> {
    const { closing, environment } = this.context;
    for (let patienceMs = PATIENCE_MS; ; patienceMs = Math.min(2 * patienceMs, LONGEST_PATIENCE_MS)) {
      const sinceMs = this.context.now();
      await environment.sleep(patienceMs + this.drawDelay(id), closing.signal);
      if (closing.signal.aborted || this.context.mls.group(id)?.state !== "active") return;
      const community = this.registry.communityOf(id);
      if (community.profileHash.length === 0 || this.knows(id, community)) return;
      if ((this.heardAtMs.get(toBase64Url(id)) ?? 0) > sinceMs) continue;
      this.asking.delete(toBase64Url(id));
      this.context.transaction(() => this.ask(id, community));
      this.effects.wake(lanes.group(id));
    }
  }

  private mustAsk(id: GroupId, community: CommunityContext): boolean {
    const { profileHash } = community;
    if (profileHash.length === 0 || this.knows(id, community) || !this.maySpeak(id, community)) return false;
    const before = this.asking.get(toBase64Url(id));
    return before === undefined || !equalBytes(before, profileHash);
  }

  /**
   * With a new connection, and where the user has accepted the group: what this device owes, an answer that is still due, and a
   * question that nobody has answered.
   */
  takeUp(id: GroupId): void {
    if (this.context.mls.group(id)?.profileWanted === true) this.effects.behind(() => this.answer(id));
    const community = this.registry.communityOf(id);
    this.context.transaction(() => this.effects.sayOwed(id));
    if (this.mustAsk(id, community)) this.context.transaction(() => this.ask(id, community));
  }

  // ------------------------------------------------------------------------------------------ answering

  /** Inside a transaction: another member asks. */
  receive(id: GroupId, author: AccountId, { hash }: NonNullable<Content["profileRequest"]>): void {
    const { profileHash } = this.registry.communityOf(id);
    if (!equalBytes(hash, profileHash)) return;
    this.heardAtMs.set(toBase64Url(id), this.context.now());
    if (!this.mayAsk(id, author)) return;
    this.owe(id, this.registry.communityOf(id));
  }

  /** Inside a transaction: somebody has to be told, and may have asked or not be allowed to. */
  owe(id: GroupId, community: CommunityContext): void {
    if (!this.knows(id, community) || !this.maySpeak(id, community)) return;
    this.context.mls.wantProfile(id);
    this.effects.behind(() => this.answer(id));
  }

  /** Whoever has not accepted the group says nothing in it, nor does a plain member where only admins write. */
  private maySpeak(id: GroupId, community: CommunityContext): boolean {
    const { protocol, state } = this.context.conversations.get(id) ?? {};
    if (state !== "active" || protocol !== "mls") return false;
    return !community.announcementOnly || roleOf(community, this.context.own.accountId) !== "member";
  }

  private mayAsk(id: GroupId, author: AccountId): boolean {
    const key = `${toBase64Url(id)} ${formatId(author)}`;
    const now = this.context.now();
    const last = this.asked.get(key);
    if (last !== undefined && now < last + PAUSE_FOR_EACH_MS) return false;
    if (this.asked.size >= REMEMBERED) this.asked.clear();
    this.asked.set(key, now);
    return true;
  }

  /** Whoever reads the log up to its end and finds the profile in it has nothing to add. */
  private async answer(id: GroupId): Promise<void> {
    const { context } = this;
    const key = toBase64Url(id);
    if (this.answering.has(key)) return;
    this.answering.add(key);
    try {
      await context.environment.sleep(this.drawDelay(id), context.closing.signal);
      if (context.closing.signal.aborted) return;
      await this.access.ready(id);
      const said = context.transaction(() => {
        const { state, profileWanted } = context.mls.group(id) ?? {};
        if (state !== "active" || profileWanted !== true) return false;
        const community = this.registry.communityOf(id);
        if (!this.knows(id, community) || !this.maySpeak(id, community)) return false;
        this.effects.say(id);
        return true;
      });
      if (said) this.effects.wake(lanes.group(id));
    } finally {
      this.answering.delete(key);
    }
  }

  private drawDelay(id: GroupId): number {
    const members = this.context.conversations.countMembers(id);
    const spreadMs = Math.min(LONGEST_SPREAD_MS, members * SPREAD_FOR_EACH_MS);
    const drawn = new DataView(this.context.environment.random(4).buffer).getUint32(0);
    return (spreadMs * drawn) / 2 ** 32;
  }

  private knows(id: GroupId, community: CommunityContext): boolean {
    return knownProfile(this.context, id, community) !== undefined;
  }
}

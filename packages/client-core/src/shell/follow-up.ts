/** What a received batch sets off, after it was persisted: invites to take up, group records to read. */
import { type Bytes, RejectionError, toBase64Url } from "@murmuration/base";
import { decodeContent } from "../core/content.ts";
import { isTemporary } from "../core/refusal.ts";
import type { HeldRow } from "../store/held.ts";
import type { Context } from "./context.ts";
import type { Groups } from "./groups.ts";
import type { Receiver } from "./receiver.ts";

/** The record has another key by now, or the service was set back behind the invite. */
const COMES_LATER: ReadonlySet<string> = new Set([
  "group/access-denied",
  "group/rolled-back",
  "group/unknown",
]);

/** Before a record is read again for the sake of what was held when it was read before, and says the same, ms. */
const LOOK_AGAIN_MS = { first: 1_000, most: 300_000 };

/** A look at a record that changed nothing for what is held of its group. */
interface Look {
  /** What was held, and the revision that the group was at. */
  readonly of: string;
  readonly againAtMs: number;
  readonly pauseMs: number;
}

export class FollowUp {
  private readonly context: Context;
  private readonly groups: Groups;
  private readonly receiver: Receiver;
  /** Invites whose record could not be read, with how much of their group was held when that was tried. */
  private readonly waitsForKey = new Map<number, number>();
  /** At which revision groups were whose record could not be read. */
  private readonly revisions = new Map<string, number>();
  /** By group. */
  private readonly looks = new Map<string, Look>();

  constructor(context: Context, groups: Groups, receiver: Receiver) {
    this.context = context;
    this.groups = groups;
    this.receiver = receiver;
  }

  /** A new connection: what could not be taken up on the one before is tried again. */
  connected(): void {
    this.waitsForKey.clear();
    this.looks.clear();
  }

  /**
   * Does what can be done now; what needs a service that does not answer stays held. Anybody can send invites to groups that
   * there are not: what they cost the service's patience is no matter of the groups that we are in.
   */
  async run(): Promise<void> {
    await orLater(() => this.readGroups());
    await orLater(() => this.takeUpInvites());
  }

  private async takeUpInvites(): Promise<void> {
    const { held } = this.context;
    for (let row = held.after("invite", 0); row !== undefined; row = held.after("invite", row.id))
      await this.takeUp(row);
  }

  private async takeUp(row: HeldRow): Promise<void> {
    const { context } = this;
    const { group, groupInvite } = decodeContent(row.bytes);
    if (group !== undefined && groupInvite !== undefined && row.sender !== undefined) {
      const waiting = context.held.of("group", group.groupId).length;
      if (this.waitsForKey.get(row.id) === waiting) return;
      try {
        await this.groups.acceptInvite(group.groupId, row.sender.accountId, groupInvite);
      } catch (error) {
        if (error instanceof RejectionError && COMES_LATER.has(error.code)) {
          this.waitsForKey.set(row.id, waiting);
          return;
        }
        // An invite that does not fit its record is worth nothing.
        if (isTemporary(error) || !(error instanceof RejectionError)) throw error;
      }
    }
    context.transaction(() => context.held.remove(row.id));
    if (group !== undefined) this.retry(group.groupId);
  }

  /** Contents that wait for a group's record. Whoever holds up nothing but itself is looked at ever less often. */
  private async readGroups(): Promise<void> {
    const { conversations, held } = this.context;
    for (const group of held.subjects("group")) {
      if (conversations.group(group) === undefined || this.wasLookedAt(group)) continue;
      const isRead = await this.groups.refresh(group);
      // Also where the record cannot be read any more: a change that came late may be the one before what is held.
      if (isRead || this.hasGoneOn(group)) this.retry(group);
      // Whoever lacks its key looks again with whatever comes: that may be the key.
      if (isRead) this.noteLook(group);
    }
  }

  /** A record that was read says the same a moment later, and what is held for a revision that nobody has waits for ever. */
  private wasLookedAt(group: Bytes): boolean {
    const look = this.looks.get(toBase64Url(group));
    return look !== undefined && look.of === this.standing(group) && this.context.now() < look.againAtMs;
  }

  private noteLook(group: Bytes): void {
    const key = toBase64Url(group);
    const of = this.standing(group);
    const before = this.looks.get(key);
    const { first, most } = LOOK_AGAIN_MS;
    const pauseMs = before?.of === of ? Math.min(2 * before.pauseMs, most) : first;
    if (this.context.held.hasOf("group", group))
      this.looks.set(key, { of, pauseMs, againAtMs: this.context.now() + pauseMs });
    else this.looks.delete(key);
  }

  /** What is held anew when it was looked at has another number, and is the same. */
  private standing(group: Bytes): string {
    const { revision = 0 } = this.context.conversations.group(group) ?? {};
    const { count, lastAtMs } = this.context.held.extent("group", group);
    return [revision, count, lastAtMs].join();
  }

  /** Whether the group is at another revision than when this was asked last. */
  private hasGoneOn(group: Bytes): boolean {
    const key = toBase64Url(group);
    const { revision = 0 } = this.context.conversations.group(group) ?? {};
    const before = this.revisions.get(key) ?? revision;
    this.revisions.set(key, revision);
    return revision !== before;
  }

  private retry(group: Bytes): void {
    this.receiver.retryHeld(group);
    this.context.notifier.flush();
  }

  /** Groups whose key has to be replaced because somebody left. */
  rotate(): Promise<void> {
    const { conversations, own } = this.context;
    return this.groups.rotateDue(conversations.groupsToRotate(own.accountId));
  }
}

async function orLater(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isTemporary(error)) throw error;
  }
}

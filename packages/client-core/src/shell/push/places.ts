/** Where the service wakes this device from: its mailbox, and each community that it is in. */
import { type Bytes, equalBytes, type GroupId, groupId, toBase64Url } from "@murmuration/base";
import { sealWakeHandle } from "@murmuration/wire/push";
import { effectiveWakeBy, handleTerms, renewAt, type WakeBy } from "../../core/push.ts";
import { ServiceRefusal } from "../../core/refusal.ts";
import type { RegistrationRow } from "../../store/push.ts";
import type { Context } from "../context.ts";

/** The place of the mailbox; those of communities are their conversations' ids. */
const MAILBOX: Bytes = Uint8Array.of(0);

/** Of communities: those that are open on this connection take handles, for their present leaf. */
export interface LeafHandles {
  isOpen(id: GroupId): boolean;
  setPushHandle(id: GroupId, handle: Bytes | undefined): Promise<void>;
}

/** A place whose handle is to be set, or (without terms) taken back. */
export interface DuePlace {
  readonly place: Bytes;
  readonly terms: string | undefined;
  readonly wakeBy: WakeBy;
  /** False while the place cannot be reached. */
  readonly open: boolean;
}

type Given = NonNullable<RegistrationRow["given"]>;

export class Places {
  private readonly context: Context;
  private readonly leaves: LeafHandles;

  constructor(context: Context, leaves: LeafHandles) {
    this.context = context;
    this.leaves = leaves;
  }

  /** What differs from what is wanted: the mailbox first, then communities. O(communities), some look-ups for each. */
  due(given: Given | undefined): readonly DuePlace[] {
    const nowMs = this.context.now();
    const rows = new Map(this.context.push.handles().map((row) => [toBase64Url(row.place), row]));
    const wanted = given === undefined ? [] : this.wanted(given);
    const due = wanted.filter(({ place, terms }) => {
      const row = rows.get(toBase64Url(place));
      return row === undefined || row.terms !== terms || row.renewAtMs <= nowMs;
    });
    for (const { place } of wanted) rows.delete(toBase64Url(place));
    const unwanted = [...rows.values()].map(({ place }) => ({
      place,
      terms: undefined,
      wakeBy: "nothing" as const,
      open: this.isOpen(place) || !this.isMember(place),
    }));
    return [...due, ...unwanted];
  }

  private wanted({ tokenId }: Given): readonly DuePlace[] {
    const { context } = this;
    const token = toBase64Url(tokenId);
    const places: DuePlace[] = [{ place: MAILBOX, terms: token, wakeBy: "messages", open: true }];
    for (const { id, state, enteredAtMs } of context.mls.groups()) {
      const conversation = context.conversations.get(id);
      // While a move is being prepared nothing is said in its group.
      if (state === "over" || conversation?.state !== "active" || conversation.protocol !== "mls") continue;
      const { mutedUntilMs, wakeBy: chosen } = context.conversations.wakeTerms(id);
      const wakeBy = effectiveWakeBy(chosen, mutedUntilMs);
      // A leaf that came anew needs a new handle: the service has deleted that of the one before, or will.
      const leaf = `${toBase64Url(context.mls.wireIdOf(id))} ${enteredAtMs}`;
      places.push({ place: id, terms: `${token} ${leaf} ${wakeBy}`, wakeBy, open: this.isOpen(id) });
    }
    return places;
  }

  /**
   * Sets the handle of a place, or takes it back. That the service may have it is persisted before, and that it has it
   * after. Throws ServiceRefusal, UnavailableError.
   */
  async settle({ place, terms, wakeBy }: DuePlace, given: Given | undefined): Promise<void> {
    const { context } = this;
    if (terms === undefined || given === undefined) {
      await this.takeBack(place);
      context.transaction(() => context.push.removeHandle(place));
      return;
    }
    const nowMs = context.now();
    context.transaction(() => context.push.putHandle({ place, terms, renewAtMs: 0 }));
    const content = { tokenId: given.tokenId, ...handleTerms(wakeBy, nowMs) };
    await this.set(place, sealWakeHandle(given.handleKey, content));
    const renewAtMs = renewAt(nowMs, context.environment.random(4));
    context.transaction(() => context.push.putHandle({ place, terms, renewAtMs }));
  }

  private async set(place: Bytes, handle: Bytes): Promise<void> {
    const { api, deviceAuthorisation } = this.context;
    if (isMailbox(place)) await api.call("setPushHandle", deviceAuthorisation, { handle });
    else await this.leaves.setPushHandle(groupId(place), handle);
  }

  private async takeBack(place: Bytes): Promise<void> {
    const { api, deviceAuthorisation } = this.context;
    if (isMailbox(place)) {
      await api.call("deletePushHandle", deviceAuthorisation);
      return;
    }
    // The service deletes the handle of a leaf that is a member no more.
    if (!this.isMember(place)) return;
    try {
      await this.leaves.setPushHandle(groupId(place), undefined);
    } catch (error) {
      if (!(error instanceof ServiceRefusal) || error.code !== "group/not-a-member") throw error;
    }
  }

  private isOpen(place: Bytes): boolean {
    return isMailbox(place) || this.leaves.isOpen(groupId(place));
  }

  private isMember(place: Bytes): boolean {
    return isMailbox(place) || (this.context.mls.group(place)?.state ?? "over") !== "over";
  }
}

const isMailbox = (place: Bytes): boolean => equalBytes(place, MAILBOX);

/**
 * Keeps pictures of communities at the service, which deletes what nobody has uploaded for 30 days: owners and admins upload
 * the very same bytes again, each some time between five and twenty days after the last time, and within five after they
 * have seen it first. Who comes later loads the picture as the first ones did. Where none of them is there for a month it is
 * gone, until somebody sets it again.
 */
import { blobId, equalBytes, type GroupId, groupId, RejectionError } from "@murmuration/base";
import { blobSize, digestOf } from "../../core/attachment-cipher.ts";
import { type GroupProfile, MAX_PICTURE_BYTES } from "../../core/content.ts";
import { isTemporary } from "../../core/refusal.ts";
import { getBlob, putBlob } from "../blobs.ts";
import type { Context } from "../context.ts";
import type { Governance } from "./governance.ts";

const DAY_MS = 86_400_000;
/** After it was seen for the first time: nobody here knows when it was uploaded. */
const FIRST_MS = { soonest: 0, latest: 5 * DAY_MS };
const NEXT_MS = { soonest: 5 * DAY_MS, latest: 20 * DAY_MS };
/** After the service could not be reached, or wanted nothing more: the first pause, and the longest. */
const PAUSE_MS = { first: 600_000, most: 6 * 3_600_000 };
/** Of a picture of at most 1 MiB. */
const TIMEOUT_MS = 60_000;

type Picture = NonNullable<GroupProfile["picture"]>;

export class Pictures {
  private readonly context: Context;
  private readonly governance: Governance;
  private readonly isConnected: () => boolean;
  private running: Promise<void> | undefined;
  private restsUntilMs = 0;
  private pauseMs = PAUSE_MS.first;

  constructor(context: Context, governance: Governance, isConnected: () => boolean) {
    this.context = context;
    this.governance = governance;
    this.isConnected = isConnected;
  }

  /**
   * Looked at every few minutes while there is a connection, one picture after the other. What cannot be done now is done
   * after a pause. Resolves early when the client closes. O(communities).
   */
  tend(): Promise<void> {
    this.running ??= this.renewAll().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async renewAll(): Promise<void> {
    const { closing, mls } = this.context;
    const nowMs = this.context.now();
    if (nowMs < this.restsUntilMs && this.restsUntilMs <= nowMs + PAUSE_MS.most) return;
    const groups = mls.groups().filter(({ state }) => state !== "over");
    this.forgetAllBut(groups.flatMap(({ id }) => this.governance.profileOf(groupId(id)).picture ?? []));
    for (const { id, state } of groups) {
      const picture = state === "active" ? this.ours(groupId(id)) : undefined;
      if (picture === undefined) continue;
      if (closing.signal.aborted || !this.isConnected() || !(await this.renewIfDue(picture))) return;
    }
  }

  private forgetAllBut(pictures: readonly Picture[]): void {
    const { mls } = this.context;
    const over = mls.picturesDue().filter((blob) => !pictures.some((one) => equalBytes(one.blobId, blob)));
    if (over.length === 0) return;
    this.context.transaction(() => {
      for (const blob of over) mls.forgetPicture(blob);
    });
  }

  /** The picture of a community, where it is this device's to keep. */
  private ours(id: GroupId): Picture | undefined {
    const { conversations, own } = this.context;
    const role = conversations.member(id, own.accountId)?.role ?? "member";
    const { picture } = this.governance.profileOf(id);
    return role === "member" || (picture?.size ?? 0) > MAX_PICTURE_BYTES ? undefined : picture;
  }

  /** False where it is worth to rest. */
  private async renewIfDue(picture: Picture): Promise<boolean> {
    const { mls } = this.context;
    const nowMs = this.context.now();
    const dueAtMs = mls.pictureDueAt(picture.blobId);
    // One that is due much later was noted by a clock that was ahead.
    const isDue = dueAtMs !== undefined && (nowMs >= dueAtMs || dueAtMs > nowMs + NEXT_MS.latest);
    if (dueAtMs !== undefined && !isDue) return true;
    if (isDue && !(await this.renewOrRest(picture))) return false;
    this.noteNext(picture, dueAtMs === undefined ? FIRST_MS : NEXT_MS);
    return true;
  }

  private noteNext(picture: Picture, within: { readonly soonest: number; readonly latest: number }): void {
    const { context } = this;
    const luck = context.environment.random(2);
    const share = (luck[0]! * 256 + luck[1]!) / 65_535;
    const nextMs = context.now() + within.soonest + share * (within.latest - within.soonest);
    context.transaction(() => context.mls.setPictureDueAt(picture.blobId, Math.floor(nextMs)));
  }

  private async renewOrRest(picture: Picture): Promise<boolean> {
    const { closing } = this.context;
    // Whoever closes does not wait for the network: what is under way ends with the transport.
    const isClosing = new Promise<false>((resolve) => {
      closing.signal.addEventListener("abort", () => resolve(false), { once: true });
    });
    const isDone = await Promise.race([this.renew(picture), isClosing]);
    if (closing.signal.aborted) return false;
    if (!isDone) this.restsUntilMs = this.context.now() + this.pauseMs;
    this.pauseMs = isDone ? PAUSE_MS.first : Math.min(2 * this.pauseMs, PAUSE_MS.most);
    return isDone;
  }

  /** False where it is worth to try again later. */
  private async renew({ blobId: name, digest, size }: Picture): Promise<boolean> {
    const id = blobId(name);
    try {
      const blob = await getBlob(this.context, id, blobSize(size), TIMEOUT_MS);
      // A blob of somebody else's, or one that the service has changed, is nothing that we vouch for.
      if (equalBytes(digestOf(blob), digest)) await putBlob(this.context, id, blob, TIMEOUT_MS);
      return true;
    } catch (error) {
      if (isTemporary(error)) return false;
      // It is gone, or never was.
      if (error instanceof RejectionError) return true;
      throw error;
    }
  }
}

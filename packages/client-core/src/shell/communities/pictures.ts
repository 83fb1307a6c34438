/**
 * Keeps pictures of communities at the service, which deletes what nobody has uploaded for 30 days: owners and admins upload
 * the very same bytes again, each some time between five and twenty days after the last time. Who comes later loads the
 * picture as the first ones did. Where none of them is there for a month it is gone, until somebody sets it again.
 */
import { blobId, equalBytes, type GroupId, groupId, RejectionError } from "@murmuration/base";
import { blobSize, digestOf } from "../../core/attachment-cipher.ts";
import { type GroupProfile, MAX_PICTURE_BYTES } from "../../core/content.ts";
import { isTemporary } from "../../core/refusal.ts";
import { getBlob, putBlob } from "../blobs.ts";
import type { Context } from "../context.ts";
import type { Governance } from "./governance.ts";

const DAY_MS = 86_400_000;
const SOONEST_MS = 5 * DAY_MS;
const LATEST_MS = 20 * DAY_MS;

type Picture = NonNullable<GroupProfile["picture"]>;

export class Pictures {
  private readonly context: Context;
  private readonly governance: Governance;
  private running: Promise<void> | undefined;

  constructor(context: Context, governance: Governance) {
    this.context = context;
    this.governance = governance;
  }

  /** Looked at every few minutes, and one after the other: what cannot be done now is done at the next look. O(communities). */
  tend(): Promise<void> {
    this.running ??= this.renewAll().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async renewAll(): Promise<void> {
    const { closing, mls } = this.context;
    const pictures = mls
      .groups()
      .filter(({ state }) => state === "active")
      .flatMap(({ id }) => this.ours(groupId(id)));
    const over = mls.picturesDue().filter((blob) => !pictures.some((one) => equalBytes(one.blobId, blob)));
    if (over.length > 0)
      this.context.transaction(() => {
        for (const blob of over) mls.forgetPicture(blob);
      });
    for (const picture of pictures) {
      if (closing.signal.aborted) return;
      await this.renewIfDue(picture);
    }
  }

  /** The picture of a community, where it is this device's to keep. */
  private ours(id: GroupId): readonly Picture[] {
    const { conversations, own } = this.context;
    const role = conversations.member(id, own.accountId)?.role ?? "member";
    const { picture } = this.governance.profileOf(id);
    return role === "member" || picture === undefined || picture.size > MAX_PICTURE_BYTES ? [] : [picture];
  }

  private async renewIfDue(picture: Picture): Promise<void> {
    const { context } = this;
    const dueAtMs = context.mls.pictureDueAt(picture.blobId);
    if (dueAtMs !== undefined && context.now() < dueAtMs) return;
    // Nothing has to be done for one that has just been seen: it was uploaded a moment ago, or others look after it.
    if (dueAtMs !== undefined && !(await this.renew(picture))) return;
    const luck = context.environment.random(2);
    const share = (luck[0]! * 256 + luck[1]!) / 65_535;
    const nextMs = context.now() + SOONEST_MS + share * (LATEST_MS - SOONEST_MS);
    context.transaction(() => context.mls.setPictureDueAt(picture.blobId, Math.floor(nextMs)));
  }

  /** False where it is worth to try again soon. */
  private async renew({ blobId: name, digest, size }: Picture): Promise<boolean> {
    const id = blobId(name);
    try {
      const blob = await getBlob(this.context, id, blobSize(size));
      // A blob of somebody else's, or one that the service has changed, is nothing that we vouch for.
      if (equalBytes(digestOf(blob), digest)) await putBlob(this.context, id, blob);
      return true;
    } catch (error) {
      if (isTemporary(error)) return false;
      // It is gone, or never was.
      if (error instanceof RejectionError) return true;
      throw error;
    }
  }
}

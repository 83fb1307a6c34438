import { RejectionError } from "@murmuration/base";
import { type InviteLink, linkHasExpired } from "@murmuration/mls-groups/public-group";
import type { FollowedLeaf } from "../ports/commit-validator.ts";

/** No leaf waits longer, whatever the settings say: it has to be remembered for as long. */
const LONGEST_PAUSE_MS = 86_400_000;

/**
 * Decides whether a leaf may send application messages, and with what pause between two of them, ms; 0 for none. Admins and
 * owners are exempt from slow mode. Throws RejectionError `group/not-allowed`.
 */
export function decideSender({ role, settings }: Pick<FollowedLeaf, "role" | "settings">): number {
  if (role !== "member") return 0;
  if (settings.announcementOnly) throw new RejectionError("group/not-allowed");
  return Math.min(settings.slowModeSeconds * 1000, LONGEST_PAUSE_MS);
}

/** Decides whether a link lets anybody in at this time. Throws RejectionError `group/link-expired`. */
export function decideLink(link: Pick<InviteLink, "expiresAtMs">, nowMs: number): void {
  if (linkHasExpired(link, nowMs)) throw new RejectionError("group/link-expired");
}

/**
 * Decides whether a reader may go on behind `afterSequence`. Throws RejectionError `group/rejoin` when entries that it
 * needs are gone.
 */
export function decideReadFrom(firstSequence: number, afterSequence: number | undefined): void {
  if (afterSequence !== undefined && afterSequence < firstSequence - 1)
    throw new RejectionError("group/rejoin");
}

/**
 * Decides whether a handshake message is for the epoch that the group is in: equal is right, anything else is not.
 * Throws RejectionError `group/epoch-unknown` for one that the group has not reached.
 */
export function compareEpoch(ofMessage: number, ofGroup: number): "present" | "past" {
  if (ofMessage > ofGroup) throw new RejectionError("group/epoch-unknown");
  return ofMessage === ofGroup ? "present" : "past";
}

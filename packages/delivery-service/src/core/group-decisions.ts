import { RejectionError } from "@murmuration/base";
import type { FollowedLeaf } from "../ports/commit-validator.ts";

/** The last application message of a leaf, by the name of its submit. */
export interface LastMessage {
  readonly atMs: number;
  readonly submit: string;
}

/**
 * Decides whether a leaf may send an application message now. Admins and owners are exempt from slow mode. The submit
 * that was taken last may be sent again. Throws RejectionError `group/not-allowed`, `group/slow-mode`.
 */
export function decideSender(
  leaf: FollowedLeaf,
  last: LastMessage | undefined,
  submit: string,
  now: number,
): void {
  if (leaf.role !== "member") return;
  if (leaf.settings.announcementOnly) throw new RejectionError("group/not-allowed");
  if (last === undefined || last.submit === submit) return;
  if (now < last.atMs + leaf.settings.slowModeSeconds * 1000) throw new RejectionError("group/slow-mode");
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

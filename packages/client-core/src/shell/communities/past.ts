/**
 * What is kept of a group's log in case the service loses its end, and what becomes of own messages that it has lost.
 * Everything here runs inside the transaction that takes entries over.
 */
import { type Bytes, type GroupId, RejectionError } from "@murmuration/base";
import { decodeMlsMessage } from "@murmuration/mls-groups";
import {
  encodeGroupMarkInput,
  GROUP_MARK_BYTES,
  type GroupEntry,
  type GroupMark,
  limits,
} from "@murmuration/wire";
import { sha256 } from "../../core/sha256.ts";
import { MARKED_EVERY, type SentRow } from "../../store/mls-past.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";

/** Commits between two looks at what a group's handshakes weigh. */
const SHRINK_EVERY = 16;

export class GroupPast {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  // ------------------------------------------------------------------------------------------ what is kept

  tookProposal(id: GroupId, epoch: bigint, message: Bytes): void {
    const handshake = { kind: "proposal", epoch: Number(epoch), message, hash: sha256(message) } as const;
    this.past.addHandshake(id, handshake, this.context.now());
  }

  /** A commit that led on from this epoch. */
  tookCommit(id: GroupId, from: bigint, { commit, banList }: NonNullable<GroupEntry["commit"]>): void {
    const epoch = Number(from);
    const handshake = { kind: "commit", epoch, message: commit, hash: sha256(commit), banList } as const;
    this.past.addHandshake(id, handshake, this.context.now());
    if (epoch % SHRINK_EVERY === 0) this.past.shrink(id, limits.refeedBytes);
  }

  /** Proposals that the log has shown of this epoch. */
  proposalsOf(id: GroupId, epoch: bigint): readonly Bytes[] {
    return this.past.proposals(id, Number(epoch));
  }

  /** The commit that led on from this epoch does not count. */
  tookBack(id: GroupId, from: bigint): void {
    this.past.takeBack(id, Number(from));
  }

  /** The log shows an own message. */
  shown(id: GroupId, sent: SentRow, sequence: number): void {
    this.past.putSent(id, sent, sequence, this.context.now());
  }

  /** These entries, in order, are in the database now. */
  took(id: GroupId, entries: readonly GroupEntry[]): void {
    const last = entries.at(-1);
    if (last === undefined) return;
    for (const entry of entries)
      if (entry === last || entry.sequence % MARKED_EVERY === 0) this.past.addMark(id, markOf(entry));
    const through = this.rereadThrough(id);
    if (through > 0 && last.sequence >= through) this.endReread(id);
  }

  // ------------------------------------------------------------------------------------- another log than before

  /** This entry is of a part of the log that was lost and partly restored: some of it is known here. */
  isRereading(id: GroupId, sequence: number): boolean {
    return sequence <= this.rereadThrough(id);
  }

  private rereadThrough(id: GroupId): number {
    return this.context.mls.group(id)?.rereadThrough ?? 0;
  }

  /** Whether a handshake is of an epoch that the group has left. */
  isPast(message: Bytes, epoch: bigint): boolean {
    try {
      const decoded = decodeMlsMessage(message);
      if (decoded.wireFormat !== "mls_public_message") return false;
      return decoded.publicMessage.authenticated.content.epoch < epoch;
    } catch (error) {
      if (error instanceof RejectionError) return false;
      throw error;
    }
  }

  /** An own message that this device remembers, at another place. */
  found(id: GroupId, message: Bytes, sequence: number): boolean {
    return this.past.foundSent(id, sha256(message), sequence);
  }

  /**
   * The log is ours up to `agreed` only. What it has behind that up to `lastSequence` is read from there; own messages that
   * are not among it are then sent again. A newest commit behind that can be taken back no longer: it is in another
   * place.
   */
  goBack(id: GroupId, agreed: number, lastSequence: number): void {
    const { mls } = this.context;
    const cursor = Math.min(agreed, mls.group(id)?.cursor ?? agreed);
    this.past.dropUndoBehind(id, cursor);
    if (!mls.hasUndo(id)) mls.forgetShown(id, Number.MAX_SAFE_INTEGER);
    this.past.loseUnshown(id, this.context.now());
    this.past.goBack(id, cursor, lastSequence);
    if (lastSequence <= cursor) this.endReread(id);
  }

  private endReread(id: GroupId): void {
    this.past.endReread(id);
    this.sendAgain(this.past.lost(id));
  }

  /** Members that were further than this one have not read what it said between these entries. */
  sayAgainBetween(id: GroupId, after: number, before: number): void {
    this.sendAgain(this.past.sentBetween(id, after, before));
  }

  /** The same content under the same message id, encrypted anew when its turn comes. */
  private sendAgain(sent: readonly SentRow[]): void {
    const { mls, outbox } = this.context;
    for (const { outboxId } of sent) {
      this.past.deleteSent(outboxId);
      const row = outbox.get(outboxId);
      // Deleted since, or on its way anyway.
      if (row?.state !== "accepted" || row.target.kind !== "group") continue;
      mls.deletePart(outboxId);
      const { content, createdAtMs, messageId, target } = row;
      outbox.append({
        lane: lanes.group(target.group),
        target,
        messageId,
        content,
        confirm: false,
        // However often a service loses it, it is not kept longer than any other.
        createdAtMs,
      });
    }
  }

  private get past() {
    return this.context.mls.past;
  }
}

function markOf(entry: GroupEntry): GroupMark {
  const hash = sha256(encodeGroupMarkInput(entry)).slice(0, GROUP_MARK_BYTES);
  return { sequence: entry.sequence, hash };
}

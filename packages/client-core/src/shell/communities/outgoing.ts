/** Own messages to a community: encrypted once, persisted, and sent as they are until the log has them. */
import {
  accountId,
  type Bytes,
  equalBytes,
  type GroupId,
  groupId,
  submitId,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import { type GroupMentions, limits } from "@murmuration/wire";
import { decodeContent } from "../../core/content.ts";
import { ServiceRefusal } from "../../core/refusal.ts";
import { sha256 } from "../../core/sha256.ts";
import type { OutboxRow } from "../../store/outbox.ts";
import type { Context } from "../context.ts";
import type { Access } from "./access.ts";
import type { GroupNames } from "./group-names.ts";
import type { Loaded, Registry } from "./registry.ts";

export type OutgoingStep =
  | { readonly kind: "ready" }
  | { readonly kind: "accepted" }
  | { readonly kind: "failed"; readonly code: string }
  | { readonly kind: "later"; readonly afterMs: number };

const LATER_MS = 1_000;
const SOON_MS = 100;

export class Outgoing {
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly access: Access;
  /** Proposals were seen and have to be committed before anything is said (RFC 9420 12.4). */
  private readonly commitProposals: (id: GroupId) => void;
  /** The service does not count us among the members (any more). */
  private readonly shutOut: (id: GroupId) => void;

  constructor(
    context: Context,
    names: GroupNames,
    registry: Registry,
    access: Access,
    commitProposals: (id: GroupId) => void,
    shutOut: (id: GroupId) => void,
  ) {
    this.context = context;
    this.names = names;
    this.registry = registry;
    this.access = access;
    this.commitProposals = commitProposals;
    this.shutOut = shutOut;
  }

  /**
   * Whether a message can be encrypted in the transaction that puts it into history and outbox: the group is open, has
   * taken in all of its log, and nothing else waits to be said or committed first.
   */
  canSayNow(group: Bytes): boolean {
    const id = groupId(group);
    const { state, refusedAt, forked } = this.context.mls.group(id) ?? {};
    if (state !== "active" || refusedAt !== 0 || forked === true || !this.access.isCaughtUp(id)) return false;
    if (this.isPrepared(id)) return false;
    return this.registry.load(id).group.cachedProposals.length === 0;
  }

  /** One transaction on a group, in which {@link say} may be called. */
  update<T>(group: Bytes, operation: (loaded: Loaded) => T): T {
    return this.registry.update(groupId(group), operation);
  }

  /** Inside such a transaction: encrypts a row that is in the outbox as `ready`. */
  say({ group, row, store }: Loaded, outboxId: number, content: Bytes): void {
    const epoch = Number(group.epoch);
    const { message, writes } = group.createApplicationMessage(this.names.addressed(row.id, content));
    store.apply(writes);
    this.context.mls.putPart({
      outboxId,
      groupId: row.id,
      submitId: this.context.environment.random(16),
      message,
      hash: sha256(message),
      epoch,
    });
  }

  /** PERSIST the ciphertext with the ratchet state that made it. */
  encrypt(row: OutboxRow): OutgoingStep {
    const id = this.groupOf(row);
    const { state, refusedAt, forked } = this.context.mls.group(id) ?? {};
    if (state === "over" || state === undefined) return { kind: "failed", code: "conversation/not-active" };
    if (this.isPrepared(id)) return { kind: "later", afterMs: LATER_MS };
    // Our epoch may be one that the others have left.
    if (refusedAt !== 0 || forked === true) return { kind: "later", afterMs: LATER_MS };
    // Behind the log an epoch is old, and a message in it would only be made twice.
    if (state !== "active" || !this.access.isCaughtUp(id)) return { kind: "later", afterMs: LATER_MS };
    try {
      this.registry.update(id, (loaded) => {
        this.say(loaded, row.id, row.content);
        this.context.outbox.setState(row.id, "ready", 0);
      });
      return { kind: "ready" };
    } catch (error) {
      if (!(error instanceof UsageError) || error.code !== "mls/proposals-pending") throw error;
      this.commitProposals(id);
      return { kind: "later", afterMs: SOON_MS };
    }
  }

  /** Nothing is said in a group that the conversation does not go by. */
  private isPrepared(id: GroupId): boolean {
    return !equalBytes(this.names.wire(id), id) && this.context.migration.isMoving(id);
  }

  async submit(row: OutboxRow): Promise<OutgoingStep> {
    const part = this.context.mls.part(row.id);
    // The log has shown it already.
    if (part === undefined) return { kind: "accepted" };
    const id = groupId(part.groupId);
    if (!this.access.isOpen(id)) return { kind: "later", afterMs: LATER_MS };
    try {
      const { message } = part;
      const answer = await this.names.ask({
        kind: "groupSubmit",
        groupId: id,
        submitId: submitId(part.submitId),
        message,
        ...this.mentionsOf(row, id),
      });
      if (answer.kind !== "groupSubmitAccepted") throw new UnavailableError("connection/unexpected-answer");
      return { kind: "accepted" };
    } catch (error) {
      return this.afterFailure(row, error);
    }
  }

  /** The present leaves of whom a text mentions, as many as a submit may name. A look-up for each account. */
  private mentionsOf({ content }: OutboxRow, id: GroupId): { mentions?: GroupMentions } {
    const accounts = decodeContent(content).text?.mentions?.accounts ?? [];
    if (accounts.length === 0) return {};
    const leaves = accounts.flatMap((account) =>
      this.context.mls.leavesOf(id, accountId(account)).map(({ leaf }) => leaf),
    );
    return { mentions: { leaves: leaves.slice(0, limits.mentionsPerMessage), everybody: false } };
  }

  private afterFailure(row: OutboxRow, error: unknown): OutgoingStep {
    if (error instanceof UnavailableError) return { kind: "later", afterMs: SOON_MS };
    if (!(error instanceof ServiceRefusal)) throw error;
    if (error.code === "group/epoch-outdated" || error.code === "group/epoch-unknown") {
      // Nobody got it: the same content under the same id, in the epoch that is now.
      this.context.transaction(() => {
        this.context.mls.deletePart(row.id);
        this.context.outbox.setState(row.id, "new", 0);
      });
      return { kind: "later", afterMs: SOON_MS };
    }
    if (error.code === "group/not-open") return { kind: "later", afterMs: LATER_MS };
    if (error.action === "retry" || error.action === "retry-later")
      return { kind: "later", afterMs: error.retryAfterMs ?? LATER_MS };
    if (error.code === "group/not-a-member") {
      this.shutOut(this.groupOf(row));
      return { kind: "later", afterMs: LATER_MS };
    }
    // An answer may have been lost: only behind the log it is known that the message is not in it.
    if (!this.access.isCaughtUp(this.groupOf(row))) return { kind: "later", afterMs: LATER_MS };
    return { kind: "failed", code: error.code };
  }

  private groupOf(row: OutboxRow): GroupId {
    if (row.target.kind !== "group") throw new UsageError("outbox/not-for-a-group");
    return groupId(row.target.group as Bytes);
  }
}

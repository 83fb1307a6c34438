/**
 * Groups on the connection that stands: each is opened once with a signature of this device's leaf, and from then on
 * its log flows in.
 */
import { type Bytes, equalBytes, type GroupId, toBase64Url, UnavailableError } from "@murmuration/base";
import { encodeLeafAccessTbs, GROUP_ACCESS_LABEL, type GroupAccessGranted, limits } from "@murmuration/wire";
import { decideOnLog, type LogDecision, spreadMarks } from "../../core/log-decision.ts";
import { ServiceRefusal } from "../../core/refusal.ts";
import type { Connection } from "../connection.ts";
import type { Context } from "../context.ts";
import { withTimeout } from "../with-timeout.ts";
import type { GroupNames } from "./group-names.ts";
import type { Registry } from "./registry.ts";

interface OpenGroup {
  /** The service has answered that it is open. */
  granted: boolean;
  /** Of the newest entry that the service has told us of. */
  lastSequence: number;
  /** What this device has acknowledged on this connection, and what it will. */
  acknowledged: number;
  toAcknowledge: number;
  waiting: boolean;
}

/** What the service has said, and whether its log is the one that we know. */
interface Answered {
  readonly granted: GroupAccessGranted;
  readonly decision: LogDecision;
}

/** Entries that are acknowledged by one frame; well below the window of the service. */
const ACKNOWLEDGED_TOGETHER = 64;
/** The service writes cursors down every 5 s at the most: earlier is no use. */
const ACKNOWLEDGE_WITHIN_MS = 2_000;
/** Time for a group to be opened and caught up before somebody who waits for it gives up. */
const READY_TIMEOUT_MS = 60_000;

export interface AccessEffects {
  /** A group is open. */
  opened(): void;
  /** Takes what has come and was not looked at yet. */
  takeEntries(): void;
}

export class Access {
  private readonly context: Context;
  private readonly connection: Connection;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly effects: AccessEffects;
  private readonly open = new Map<string, OpenGroup>();
  /** Groups of which the service has another log than we know: what it says of them is not taken. */
  private readonly held = new Set<string>();

  constructor(
    context: Context,
    connection: Connection,
    names: GroupNames,
    registry: Registry,
    effects: AccessEffects,
  ) {
    this.effects = effects;
    this.context = context;
    this.connection = connection;
    this.names = names;
    this.registry = registry;
  }

  /** The connection is gone, and what was open on it. */
  disconnected(): void {
    this.open.clear();
    this.held.clear();
  }

  isOpen(id: Bytes): boolean {
    return this.open.get(toBase64Url(id))?.granted === true;
  }

  /** Everything that the service has told us of is in the database. */
  isCaughtUp(id: Bytes): boolean {
    const open = this.open.get(toBase64Url(id));
    if (open?.granted !== true) return false;
    return (this.context.mls.group(id)?.cursor ?? 0) >= open.lastSequence;
  }

  /** Caught up, and where the group is: what we say now, others can follow. */
  isReady(id: Bytes): boolean {
    return this.isCaughtUp(id) && this.context.mls.group(id)?.refusedAt === 0;
  }

  noteLastSequence(id: Bytes, sequence: number): void {
    const open = this.open.get(toBase64Url(id));
    if (open !== undefined) open.lastSequence = Math.max(open.lastSequence, sequence);
  }

  /** Signs the challenge of this connection for a purpose of GroupAccessTBS. */
  async tbs(id: GroupId, epoch: number, leafIndex: number): Promise<Bytes> {
    const challenge = await this.connection.challenge();
    const service = this.context.meta.require("trust-root");
    return encodeLeafAccessTbs({ service, challenge, groupId: this.names.wire(id), epoch, leafIndex });
  }

  /** Nothing that the service says of this group is taken, until it is granted. */
  hold(id: Bytes): void {
    this.forget(id);
    this.held.add(toBase64Url(id));
  }

  isHeld(id: Bytes): boolean {
    return this.held.has(toBase64Url(id));
  }

  /**
   * Asks to open a group and to let its log flow from the cursor on, which it does where the service has what we have seen.
   * It is open with {@link granted}. Throws ServiceRefusal `group/rejoin`, `group/unknown`, `group/not-a-member`,
   * `group/epoch-unknown`; UnavailableError.
   */
  async openGroup(id: GroupId): Promise<Answered> {
    await this.connection.challenge();
    const { group, row } = this.registry.load(id);
    const epoch = Number(group.epoch);
    const signature = group.signForService(GROUP_ACCESS_LABEL, await this.tbs(id, epoch, group.ownLeaf));
    const { past } = this.context.mls;
    const known = past.marks(id).filter(({ sequence }) => sequence <= row.cursor);
    const marked = known[0]?.sequence === row.cursor;
    // What is known now: entries may come with the answer, and move us on.
    const asked = { epoch, cursor: row.cursor, commitHash: past.commitHash(id, epoch - 1), marked };
    // Entries may come before the answer is looked at.
    const key = toBase64Url(id);
    this.held.delete(key);
    const opening: OpenGroup = {
      granted: false,
      lastSequence: row.cursor,
      acknowledged: row.cursor,
      toAcknowledge: row.cursor,
      waiting: false,
    };
    this.open.set(key, opening);
    const wireId = this.names.wire(id);
    try {
      const access = {
        kind: "groupAccess",
        groupId: id,
        epoch,
        leafIndex: group.ownLeaf,
        signature,
        afterSequence: row.cursor,
        marks: marked ? spreadMarks(known, limits.marksPerAccess) : [],
      } as const;
      const answer = await this.names.ask(access, () => {
        // Until here came the stream before, and what we acknowledged: of this one the service has been told nothing.
        this.effects.takeEntries();
        opening.acknowledged = row.cursor;
        opening.toAcknowledge = row.cursor;
      });
      if (answer.kind !== "groupAccessGranted") throw new UnavailableError("connection/unexpected-answer");
      // A move was given up or begun anew meanwhile: this is the end of another group's log.
      if (!equalBytes(this.names.wire(id), wireId)) throw new UnavailableError("group/not-open");
      const { agreedSequence, commitHash: serviceCommitHash, epoch: serviceEpoch, lastSequence } = answer;
      const facts = { ...asked, agreedSequence, lastSequence, serviceCommitHash, serviceEpoch };
      return { granted: answer, decision: decideOnLog(facts) };
    } catch (error) {
      if (this.open.get(key) === opening) this.open.delete(key);
      if (error instanceof ServiceRefusal && error.code === "group/challenge-used") {
        this.connection.interrupt();
        throw new UnavailableError("connection/lost");
      }
      throw error;
    }
  }

  /** The service's log is the one that we know. */
  granted(id: GroupId, lastSequence: number): void {
    this.noteLastSequence(id, lastSequence);
    const open = this.open.get(toBase64Url(id));
    if (open !== undefined) open.granted = true;
    this.registry.changed.notify();
    this.effects.opened();
  }

  /**
   * Everything up to here is in the database. A commit is vouched for at once; messages are acknowledged together, some
   * at a time or after a while, since a frame for each would cost as much as the message.
   */
  acknowledge(id: GroupId, through: number, atOnce: boolean): void {
    const open = this.open.get(toBase64Url(id));
    if (open === undefined || through <= open.toAcknowledge) return;
    open.toAcknowledge = through;
    if (atOnce || through - open.acknowledged >= ACKNOWLEDGED_TOGETHER) this.sayAcknowledged(id, open);
    else if (!open.waiting) {
      open.waiting = true;
      void this.acknowledgeLater(id, open);
    }
  }

  private async acknowledgeLater(id: GroupId, open: OpenGroup): Promise<void> {
    await this.context.environment.sleep(ACKNOWLEDGE_WITHIN_MS, this.context.closing.signal);
    open.waiting = false;
    if (this.context.closing.signal.aborted) return;
    // Another connection has begun since, which knows the cursor.
    if (this.open.get(toBase64Url(id)) === open) this.sayAcknowledged(id, open);
  }

  private sayAcknowledged(id: GroupId, open: OpenGroup): void {
    if (open.toAcknowledge <= open.acknowledged) return;
    open.acknowledged = open.toAcknowledge;
    this.names.tell({
      kind: "groupAcknowledge",
      groupId: id,
      throughSequence: open.toAcknowledge,
    });
  }

  /** What flows in does not fit our cursor any more: the group counts as closed until it is opened from there. */
  forget(id: Bytes): void {
    this.open.delete(toBase64Url(id));
  }

  /** Another group comes in its place, or none. */
  abandon(id: Bytes): void {
    this.forget(id);
    this.held.delete(toBase64Url(id));
  }

  /** Resolves when the group is open, caught up, and no commit is refused. UnavailableError `group/not-open` after a while. */
  async ready(id: GroupId, timeoutMs: number = READY_TIMEOUT_MS): Promise<void> {
    await withTimeout(this.context, timeoutMs, "group/not-open", {
      done: () => this.isReady(id),
      change: (abort) => this.registry.changed.wait(abort),
    });
  }
}

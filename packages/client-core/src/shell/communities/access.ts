/**
 * Groups on the connection that stands: each is opened once with a signature of this device's leaf, and from then on
 * its log flows in.
 */
import { type Bytes, type GroupId, toBase64Url, UnavailableError } from "@murmuration/base";
import { encodeLeafAccessTbs, GROUP_ACCESS_LABEL } from "@murmuration/wire";
import { ServiceRefusal } from "../../core/refusal.ts";
import type { Connection } from "../connection.ts";
import type { Context } from "../context.ts";
import { withTimeout } from "../with-timeout.ts";
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

/** Entries that are acknowledged by one frame; well below the window of the service. */
const ACKNOWLEDGED_TOGETHER = 64;
/** The service writes cursors down every 5 s at the most: earlier is no use. */
const ACKNOWLEDGE_WITHIN_MS = 2_000;
/** Time for a group to be opened and caught up before somebody who waits for it gives up. */
const READY_TIMEOUT_MS = 60_000;

export class Access {
  private readonly context: Context;
  private readonly connection: Connection;
  private readonly registry: Registry;
  private readonly open = new Map<string, OpenGroup>();

  constructor(context: Context, connection: Connection, registry: Registry) {
    this.context = context;
    this.connection = connection;
    this.registry = registry;
  }

  /** The connection is gone, and what was open on it. */
  disconnected(): void {
    this.open.clear();
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
    return encodeLeafAccessTbs({ service, challenge, groupId: id, epoch, leafIndex });
  }

  /**
   * Opens a group and lets its log flow from the cursor on. `set-back`: the service knows less than we do. Throws ServiceRefusal `group/rejoin`, `group/unknown`,
   * `group/not-a-member`; UnavailableError.
   */
  async openGroup(id: GroupId): Promise<"member" | "removed" | "set-back"> {
    await this.connection.challenge();
    const { group, row } = this.registry.load(id);
    const epoch = Number(group.epoch);
    const signature = group.signForService(GROUP_ACCESS_LABEL, await this.tbs(id, epoch, group.ownLeaf));
    // Entries may come before the answer is looked at.
    const key = toBase64Url(id);
    this.open.set(key, {
      granted: false,
      lastSequence: row.cursor,
      acknowledged: row.cursor,
      toAcknowledge: row.cursor,
      waiting: false,
    });
    try {
      const answer = await this.connection.group({
        kind: "groupAccess",
        groupId: id,
        epoch,
        leafIndex: group.ownLeaf,
        signature,
        afterSequence: row.cursor,
        marks: [],
      });
      if (answer.kind !== "groupAccessGranted") throw new UnavailableError("connection/unexpected-answer");
      this.noteLastSequence(id, answer.lastSequence);
      const open = this.open.get(key);
      if (open !== undefined) open.granted = true;
      this.registry.changed.notify();
      if (answer.removed) return "removed";
      // With entries to come, an epoch before ours may be one that a void entry went back to.
      const isBehind = answer.lastSequence < row.cursor;
      const isEarlier = answer.epoch < epoch && answer.lastSequence === row.cursor;
      return isBehind || isEarlier ? "set-back" : "member";
    } catch (error) {
      this.open.delete(key);
      if (error instanceof ServiceRefusal && error.code === "group/challenge-used") {
        this.connection.interrupt();
        throw new UnavailableError("connection/lost");
      }
      throw error;
    }
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
    // Another connection has begun since, which knows the cursor.
    if (this.open.get(toBase64Url(id)) === open) this.sayAcknowledged(id, open);
  }

  private sayAcknowledged(id: GroupId, open: OpenGroup): void {
    if (open.toAcknowledge <= open.acknowledged) return;
    open.acknowledged = open.toAcknowledge;
    this.connection.tellGroup({
      kind: "groupAcknowledge",
      groupId: id,
      throughSequence: open.toAcknowledge,
    });
  }

  /** What flows in does not fit our cursor any more: the group counts as closed until it is opened from there. */
  forget(id: Bytes): void {
    this.open.delete(toBase64Url(id));
  }

  /** Resolves when the group is open, caught up, and no commit is refused. UnavailableError `group/not-open` after a while. */
  async ready(id: GroupId, timeoutMs: number = READY_TIMEOUT_MS): Promise<void> {
    await withTimeout(this.context, timeoutMs, new UnavailableError("group/not-open"), {
      done: () => this.isReady(id),
      change: (abort) => this.registry.changed.wait(abort),
    });
  }
}

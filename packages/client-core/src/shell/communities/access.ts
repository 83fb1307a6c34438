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
}

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

  /** Asked to be opened on this connection, whether or not the answer has come. */
  isKnown(id: Bytes): boolean {
    return this.open.has(toBase64Url(id));
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
   * Opens a group and lets its log flow from the cursor on. Throws ServiceRefusal `group/rejoin`, `group/unknown`,
   * `group/not-a-member`; UnavailableError.
   */
  async openGroup(id: GroupId): Promise<"member" | "removed"> {
    await this.connection.challenge();
    const { group, row } = this.registry.load(id);
    const epoch = Number(group.epoch);
    const signature = group.signForService(GROUP_ACCESS_LABEL, await this.tbs(id, epoch, group.ownLeaf));
    // Entries may come before the answer is looked at.
    const key = toBase64Url(id);
    this.open.set(key, { granted: false, lastSequence: row.cursor });
    try {
      const answer = await this.connection.group({
        kind: "groupAccess",
        groupId: id,
        epoch,
        leafIndex: group.ownLeaf,
        signature,
        afterSequence: row.cursor,
      });
      if (answer.kind !== "groupAccessGranted") throw new UnavailableError("connection/unexpected-answer");
      this.noteLastSequence(id, answer.lastSequence);
      const open = this.open.get(key);
      if (open !== undefined) open.granted = true;
      this.registry.changed.notify();
      return answer.removed ? "removed" : "member";
    } catch (error) {
      this.open.delete(key);
      if (error instanceof ServiceRefusal && error.code === "group/challenge-used") {
        this.connection.interrupt();
        throw new UnavailableError("connection/lost");
      }
      throw error;
    }
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

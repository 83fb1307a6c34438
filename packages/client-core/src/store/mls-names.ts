import { type Bytes, type GroupId, groupId, toBase64Url } from "@murmuration/base";
import type { Storage } from "../ports/storage.ts";

interface Names {
  /** By conversation. */
  readonly wire: ReadonlyMap<string, GroupId>;
  /** By wire id. */
  readonly conversation: ReadonlyMap<string, GroupId>;
}

/**
 * Conversations whose MLS group has another id than they have themselves. All of them are in memory from the first
 * question on: each message asks, and most clients have none or a few.
 */
export class MlsNames {
  private readonly storage: Storage;
  private names: Names | undefined;
  /** The table was changed since this program runs: an undone transaction may have been what changed it. */
  private changes = false;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  /** The MLS group that carries a conversation: the conversation's own id unless there is another. O(1). */
  wireIdOf(id: Bytes): GroupId {
    const { wire } = this.load();
    const known = wire.size === 0 ? undefined : wire.get(toBase64Url(id));
    return known ?? groupId(id);
  }

  /** The conversation that an MLS group carries: the inverse of {@link wireIdOf}. O(1). */
  conversationOf(wireId: Bytes): GroupId {
    const { conversation } = this.load();
    const known = conversation.size === 0 ? undefined : conversation.get(toBase64Url(wireId));
    return known ?? groupId(wireId);
  }

  /** The table has changed. */
  changed(): void {
    this.changes = true;
    this.names = undefined;
  }

  /** A transaction was undone. */
  undone(): void {
    if (this.changes) this.names = undefined;
  }

  private load(): Names {
    this.names ??= this.read();
    return this.names;
  }

  private read(): Names {
    const wire = new Map<string, GroupId>();
    const conversation = new Map<string, GroupId>();
    for (const row of this.storage.all("SELECT id, wire_id FROM mls_group WHERE wire_id IS NOT NULL")) {
      const [id, wireId] = [groupId(row["id"] as Bytes), groupId(row["wire_id"] as Bytes)];
      wire.set(toBase64Url(id), wireId);
      conversation.set(toBase64Url(wireId), id);
    }
    return { wire, conversation };
  }
}

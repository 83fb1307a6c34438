import { formatAddress } from "@murmuration/base";
import { type OutgoingWelcome, WELCOMES_WAITING } from "../ports/mls-groups.ts";

/** The Welcomes that wait for their mailboxes, the oldest first, in memory. */
export class MemoryWelcomeOutbox {
  private readonly waiting = new Map<number, OutgoingWelcome>();
  /** Ids, by device: a commit brings hundreds, and each asks what waits for its device. */
  private readonly idsOf = new Map<string, Set<number>>();
  private lastId = 0;

  /** Of one device the newest {@link WELCOMES_WAITING} stay. O(1). */
  add(welcome: Omit<OutgoingWelcome, "id">): void {
    const id = ++this.lastId;
    const name = formatAddress(welcome.recipient);
    const ids = this.idsOf.get(name) ?? new Set();
    this.waiting.set(id, { id, ...welcome });
    this.idsOf.set(name, ids.add(id));
    const [oldest] = ids;
    if (ids.size > WELCOMES_WAITING) this.remove(oldest!);
  }

  /** The first `limit` behind an id. O(all that wait). */
  after(id: number, limit: number): readonly OutgoingWelcome[] {
    return [...this.waiting.values()].filter((welcome) => welcome.id > id).slice(0, limit);
  }

  /** O(1). */
  remove(id: number): void {
    const welcome = this.waiting.get(id);
    if (welcome === undefined) return;
    this.waiting.delete(id);
    const name = formatAddress(welcome.recipient);
    const ids = this.idsOf.get(name);
    ids?.delete(id);
    if (ids?.size === 0) this.idsOf.delete(name);
  }

  /** O(all that wait). */
  removeWhere(isGone: (welcome: OutgoingWelcome) => boolean): void {
    for (const welcome of this.waiting.values()) if (isGone(welcome)) this.remove(welcome.id);
  }
}

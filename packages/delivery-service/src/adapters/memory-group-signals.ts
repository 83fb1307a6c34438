import { formatId, type GroupId } from "@murmuration/base";
import type { CarriedEntry, GroupChange, GroupListener, GroupSignals } from "../ports/group-signals.ts";

/** {@link GroupSignals} within one process. */
export class MemoryGroupSignals implements GroupSignals {
  private readonly listeners = new Map<string, Set<GroupListener>>();

  publish(groupId: GroupId, change: GroupChange, entry?: CarriedEntry): void {
    for (const listener of this.listeners.get(formatId(groupId)) ?? []) {
      if (change === "entries") listener.lookAgain(entry);
      else if (change === "members") listener.membersChanged();
      else listener.turnsChanged();
    }
  }

  subscribe(groupId: GroupId, listener: GroupListener): () => void {
    const name = formatId(groupId);
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.listeners.get(name) === listeners) this.listeners.delete(name);
    };
  }
}

import { formatId, type GroupId } from "@murmuration/base";
import type { LostCommitStore, LostCommits } from "../ports/lost-commits.ts";

/** {@link LostCommitStore} in memory. */
export class MemoryLostCommitStore implements LostCommitStore {
  private readonly counts = new Map<string, LostCommits>();

  async add(lost: readonly LostCommits[]): Promise<void> {
    for (const { groupId, day, count } of lost) {
      const key = `${formatId(groupId)} ${day}`;
      this.counts.set(key, { groupId, day, count: count + (this.counts.get(key)?.count ?? 0) });
    }
  }

  async since(groupId: GroupId, day: number): Promise<number> {
    const id = formatId(groupId);
    return [...this.counts.values()]
      .filter((row) => formatId(row.groupId) === id && row.day >= day)
      .reduce((sum, row) => sum + row.count, 0);
  }

  async expire(beforeDay: number, limit: number): Promise<number> {
    const old = [...this.counts].filter(([, { day }]) => day < beforeDay).slice(0, limit);
    for (const [key] of old) this.counts.delete(key);
    return old.length;
  }
}

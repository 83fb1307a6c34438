import { formatId, type GroupId, groupId } from "@murmuration/base";
import type { GroupEntries } from "@murmuration/wire";
import type { Context } from "../context.ts";

/** Frames of one group; more are taken at once, whatever a service sends. */
const MOST_WAITING = 16;

/**
 * Commits of a group that is being prepared, at which nobody looks yet. Each reaches all members in the same moment, and
 * costs each of them something; people meanwhile talk elsewhere. So each member takes it at a moment of its own, together
 * with what came until then. What is said there is the word that the group is prepared no more, and is taken at once. In
 * memory only: nothing of it has been acknowledged, and the log brings it again.
 */
export class Unhurried {
  private readonly context: Context;
  /** Within how many ms a group's entries are to be taken; 0: at once. */
  private readonly patienceMs: (id: GroupId) => number;
  private readonly waiting = new Map<string, (() => void)[]>();

  constructor(context: Context, patienceMs: (id: GroupId) => number) {
    this.context = context;
    this.patienceMs = patienceMs;
  }

  /** Whether it is taken later. What came before it is taken before it in any case. */
  putOff(frame: GroupEntries, take: () => void): boolean {
    const id = groupId(frame.groupId);
    const key = formatId(id);
    const waiting = this.waiting.get(key);
    const isOfCommits = frame.entries.every(({ commit }) => commit !== undefined);
    const patienceMs = isOfCommits ? this.patienceMs(id) : 0;
    if (patienceMs === 0 || (waiting?.length ?? 0) >= MOST_WAITING) {
      this.hurry(id);
      return false;
    }
    if (waiting !== undefined) {
      waiting.push(take);
      return true;
    }
    this.waiting.set(key, [take]);
    const { closing, environment, failed } = this.context;
    const luck = environment.random(1)[0]! / 255;
    environment
      .sleep(patienceMs * luck, closing.signal)
      .then(() => {
        if (!closing.signal.aborted) this.hurry(id);
      })
      .catch(failed);
    return true;
  }

  /** Takes what waits, in the order in which it came. */
  hurry(id: GroupId): void {
    const key = formatId(id);
    const waiting = this.waiting.get(key);
    this.waiting.delete(key);
    for (const take of waiting ?? []) take();
  }
}

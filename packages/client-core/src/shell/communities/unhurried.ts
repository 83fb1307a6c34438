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
  private welcomesWait = false;

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
    this.later(patienceMs, () => this.hurry(id));
    return true;
  }

  /**
   * Whether Welcomes are taken up later, those into these groups being the ones that wait. Whoever is put into a group that is
   * prepared has all of its leaves to verify, and is not the only one. In half of the time, as others wait for whoever comes
   * before the next ones are put in.
   */
  putOffWelcomes(ids: readonly GroupId[], takeUp: () => void): boolean {
    const patienceMs = Math.min(...ids.map((id) => this.patienceMs(id))) / 2;
    if (ids.length === 0 || patienceMs === 0) return false;
    if (!this.welcomesWait)
      this.later(patienceMs, () => {
        this.welcomesWait = false;
        takeUp();
      });
    this.welcomesWait = true;
    return true;
  }

  /** At a moment of this device's own, within so many ms. */
  private later(withinMs: number, take: () => void): void {
    const { closing, environment, failed } = this.context;
    const luck = environment.random(1)[0]! / 255;
    environment
      .sleep(withinMs * luck, closing.signal)
      .then(() => {
        if (!closing.signal.aborted) take();
      })
      .catch(failed);
  }

  /** Takes what waits, in the order in which it came. */
  hurry(id: GroupId): void {
    const key = formatId(id);
    const waiting = this.waiting.get(key);
    this.waiting.delete(key);
    for (const take of waiting ?? []) take();
  }
}

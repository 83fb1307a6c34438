import { formatId, type GroupId } from "@murmuration/base";
import { NO_LINE, stepTurns, type TurnEvent, type TurnLine, type TurnStep } from "../core/turn-line.ts";
import type { Clock } from "../ports/environment.ts";
import { type CommitWords, type GroupMemory, NO_WORDS } from "../ports/group-memory.ts";

/** For which a leaf whose commit was taken back commits no more, ms. */
export const SUSPENDED_MS = 3_600_000;

interface Remembered {
  line: TurnLine;
  /** Until when, by leaf. */
  readonly suspended: Map<string, number>;
}

/** {@link GroupMemory} of one process. What says nothing any more is forgotten. */
export class MemoryGroupMemory implements GroupMemory {
  private readonly clock: Clock;
  private readonly groups = new Map<string, Remembered>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  async step(groupId: GroupId, event: TurnEvent, now: number, turnMs: number): Promise<TurnStep> {
    return this.with(groupId, (group) => {
      const step = stepTurns(group.line, event, now, turnMs);
      group.line = step.line;
      return step;
    });
  }

  async line(groupId: GroupId): Promise<TurnLine> {
    return this.groups.get(formatId(groupId))?.line ?? NO_LINE;
  }

  vouch(): void {
    // This process is the only one: it knows who vouched.
  }

  async refuse(): Promise<CommitWords> {
    return NO_WORDS;
  }

  async suspend(groupId: GroupId, leaf: string): Promise<void> {
    this.with(groupId, ({ suspended }) => suspended.set(leaf, this.clock.now() + SUSPENDED_MS));
  }

  async suspended(groupId: GroupId): Promise<ReadonlySet<string>> {
    const suspended = this.groups.get(formatId(groupId))?.suspended ?? new Map<string, number>();
    const now = this.clock.now();
    return new Set([...suspended].filter(([, until]) => until > now).map(([leaf]) => leaf));
  }

  async pardon(groupId: GroupId): Promise<void> {
    this.with(groupId, ({ suspended }) => suspended.clear());
  }

  private with<T>(groupId: GroupId, work: (group: Remembered) => T): T {
    const key = formatId(groupId);
    const group = this.groups.get(key) ?? {
      line: NO_LINE,
      suspended: new Map(),
    };
    this.groups.set(key, group);
    const result = work(group);
    for (const [leaf, until] of group.suspended) {
      if (until <= this.clock.now()) group.suspended.delete(leaf);
    }
    const { current, waiting } = group.line;
    // What a turn's number has to be above is the time.
    if (current === undefined && waiting.length === 0 && group.suspended.size === 0) this.groups.delete(key);
    return result;
  }
}

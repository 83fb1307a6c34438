import { formatId, type GroupId } from "@murmuration/base";
import { NO_LINE, stepTurns, type TurnEvent, type TurnLine, type TurnStep } from "../core/turn-line.ts";
import type { Clock } from "../ports/environment.ts";
import { type CommitWords, type GroupMemory, NO_WORDS, type TakeBack } from "../ports/group-memory.ts";

/** For which a leaf whose commit was taken back commits no more, ms. */
export const SUSPENDED_MS = 3_600_000;

interface Remembered {
  line: TurnLine;
  /** Until when, by leaf. */
  readonly suspended: Map<string, number>;
}

/** The last that a leaf said in slow mode. */
interface Said {
  readonly submit: string;
  readonly atMs: number;
  readonly forgottenAtMs: number;
  /** That may have stored it, or may yet. */
  attempts: number;
}

const FIRST_SWEEP = 1_024;

/** {@link GroupMemory} of one process. What says nothing any more is forgotten. */
export class MemoryGroupMemory implements GroupMemory {
  private readonly clock: Clock;
  private readonly groups = new Map<string, Remembered>();
  /** By group and leaf. */
  private readonly said = new Map<string, Said>();
  private sweepAt = FIRST_SWEEP;

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

  async speak(
    groupId: GroupId,
    leaf: string,
    submit: string,
    pauseMs: number,
  ): Promise<TakeBack | undefined> {
    const key = `${formatId(groupId)} ${leaf}`;
    const now = this.clock.now();
    const found = this.said.get(key);
    const last = found !== undefined && now < found.forgottenAtMs ? found : undefined;
    const isAgain = last?.submit === submit;
    if (last !== undefined && !isAgain && now < last.atMs + pauseMs) return undefined;
    const said = isAgain ? last : { submit, atMs: now, forgottenAtMs: now + pauseMs, attempts: 0 };
    said.attempts++;
    this.said.set(key, said);
    if (this.said.size > this.sweepAt) this.sweep(now);
    return async () => {
      if (--said.attempts === 0 && this.said.get(key) === said) this.said.delete(key);
    };
  }

  /** O(entries), at most once for each doubling of their number. */
  private sweep(now: number): void {
    for (const [key, { forgottenAtMs }] of this.said) if (forgottenAtMs <= now) this.said.delete(key);
    this.sweepAt = Math.max(FIRST_SWEEP, this.said.size * 2);
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

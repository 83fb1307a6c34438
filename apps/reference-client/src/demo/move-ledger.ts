/** What the members report of a move to MLS, and what can be read from it afterwards. Pure. */
import type { MoveNote, ReportedEvent } from "./messages.ts";

/** One thing that happened, ms after the members were asked to be added. */
export interface TimelineEntry {
  readonly atMs: number;
  readonly what: string;
}

/** Parts of the accounts whose readiness the timeline tells. */
const QUARTERS = [0.25, 0.5, 0.75, 1];
/** Parts of the members whose switch the timeline tells. */
const PARTS_SWITCHED = [0.5, 0.9];

interface Switched {
  readonly id: number;
  readonly atMs: number;
}

/** A time in which nothing happened, and when it began. Milliseconds. */
interface Pause {
  readonly ms: number;
  readonly fromMs: number;
}

export class MoveLedger {
  private readonly notes: MoveNote[] = [];
  private readonly switched = new Map<number, Switched>();
  private readonly joined = new Map<number, number>();
  /** By message: who said it, and the event that told of its acceptance. The first one counts. */
  private readonly accepted = new Map<number, { readonly member: number; readonly id: number }>();
  private readonly came = new Map<number, number[]>();
  /** When messages of each member were accepted. */
  private readonly taken = new Map<number, number[]>();

  /** May come more than once for one event. */
  record(member: number, { id, what, message, atMs }: ReportedEvent): void {
    if (what === "switched" && !this.switched.has(member)) this.switched.set(member, { id, atMs });
    if (what === "joined" && !this.joined.has(member)) this.joined.set(member, atMs);
    if (what === "accepted" && !this.accepted.has(message!)) {
      this.accepted.set(message!, { member, id });
      keep(this.taken, member, atMs);
    }
    if (what === "came") keep(this.came, member, atMs);
  }

  note(note: MoveNote): void {
    this.notes.push(note);
  }

  /** The part of the accounts that are ready, from 0 to 1, by the latest word. */
  readyPart(): number {
    const { done, total } = this.notes.findLast(({ kind }) => kind === "migration") ?? { done: 0, total: 1 };
    return total === 0 ? 0 : done / total;
  }

  /** How many messages the service took before, and after, the device that said them had switched. */
  carried(): { readonly messagesPairwise: number; readonly messagesMls: number } {
    let messagesPairwise = 0;
    let messagesMls = 0;
    for (const { member, id } of this.accepted.values()) {
      const at = this.switched.get(member)?.id ?? Number.POSITIVE_INFINITY;
      if (id < at) messagesPairwise++;
      else messagesMls++;
    }
    return { messagesPairwise, messagesMls };
  }

  /**
   * The longest time in which one of these members saw nothing happen, between two moments: no message came, and none of
   * its own was accepted. One who speaks several times in a row gets none meanwhile.
   */
  longestGap(members: Iterable<number>, fromMs: number, toMs: number): Pause {
    let longest: Pause = { ms: 0, fromMs };
    for (const member of members) {
      const seen = [...(this.came.get(member) ?? []), ...(this.taken.get(member) ?? [])];
      const pause = longestPause(seen, fromMs, toMs);
      if (pause.ms > longest.ms) longest = pause;
    }
    return longest;
  }

  /** The longest time in which no message came to anybody. */
  longestSilenceMs(fromMs: number, toMs: number): number {
    return longestPause([...this.came.values()].flat(), fromMs, toMs).ms;
  }

  /** In order. `creator` prepares the move; `founders` were members before; `gap` is the longest of one of these. */
  timeline(
    askedAtMs: number,
    creator: number,
    founders: ReadonlySet<number>,
    gap?: Pause,
  ): readonly TimelineEntry[] {
    const entries: TimelineEntry[] = [];
    const add = (atMs: number | undefined, what: string): void => {
      if (atMs !== undefined) entries.push({ atMs: Math.round(atMs - askedAtMs), what });
    };
    const notes = this.notes.filter(({ atMs }) => atMs >= askedAtMs);
    const switchedAtMs = this.switched.get(creator)?.atMs;
    add(notes.find(({ state }) => state === "preparing")?.atMs, "preparing");
    if (gap !== undefined && gap.ms > 0) add(gap.fromMs, "the longest gap at a member begins");
    this.preparation(notes, switchedAtMs ?? Number.POSITIVE_INFINITY, add);
    add(notes.find(({ state }) => state === "ready")?.atMs, "ready to switch");
    add(switchedAtMs, "the creator has switched");
    const others = [...this.switched]
      .filter(([member]) => member !== creator && founders.has(member))
      .map(([, { atMs }]) => atMs)
      .sort(byNumber);
    add(others[0], "the first other member has switched");
    for (const part of PARTS_SWITCHED) {
      const count = Math.floor(part * others.length);
      if (count > 1) add(others[count - 1], `${count} of ${others.length} other members have switched`);
    }
    add(others.at(-1), `the last of ${others.length} other members has switched`);
    for (const { atMs, done, total, kind } of notes)
      if (kind === "progress" && atMs >= (switchedAtMs ?? Number.POSITIVE_INFINITY))
        add(atMs, `${done} of ${total} new members added`);
    const joined = [...this.joined]
      .filter(([member]) => !founders.has(member))
      .map(([, atMs]) => atMs)
      .sort(byNumber);
    add(joined[0], "the first new member is in");
    add(joined.at(-1), `the last of ${joined.length} new members is in`);
    return entries.sort((a, b) => a.atMs - b.atMs);
  }

  /** Who was put into the MLS group before the switch, and who was ready. */
  private preparation(
    notes: readonly MoveNote[],
    untilMs: number,
    add: (atMs: number, what: string) => void,
  ): void {
    const before = notes.filter(({ atMs }) => atMs < untilMs);
    const put = before.filter(({ kind, done, total }) => kind === "progress" && done === total).at(-1);
    if (put !== undefined) add(put.atMs, `${put.total} put into the MLS group`);
    let told = 0;
    for (const part of QUARTERS) {
      const ready = before.find(
        ({ kind, done, total }) => kind === "migration" && total > 0 && done >= part * total,
      );
      if (ready === undefined || ready.done <= told) continue;
      told = ready.done;
      add(ready.atMs, `${ready.done} of ${ready.total} ready`);
    }
  }
}

function keep(times: Map<number, number[]>, member: number, atMs: number): void {
  const known = times.get(member);
  if (known === undefined) times.set(member, [atMs]);
  else known.push(atMs);
}

const byNumber = (a: number, b: number): number => a - b;

/** The longest time between two neighbours of those within the bounds. */
function longestPause(times: readonly number[], fromMs: number, toMs: number): Pause {
  const sorted = times.filter((atMs) => atMs >= fromMs && atMs <= toMs).sort(byNumber);
  let longest: Pause = { ms: 0, fromMs };
  for (const [index, atMs] of sorted.entries()) {
    const before = sorted[index - 1] ?? atMs;
    if (atMs - before > longest.ms) longest = { ms: atMs - before, fromMs: before };
  }
  return longest;
}

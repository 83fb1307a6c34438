import type { TurnReason } from "@murmuration/wire";

/** The right of one leaf to commit next, alone, until it expires. */
export interface Turn {
  /** Rises with each turn of a group, also over a restart: an older number is void. */
  readonly turn: number;
  readonly holder: string;
  readonly reason: TurnReason;
  readonly expiresAtMs: number;
}

/** Who may commit, and who comes after. `waiting` is in order of arrival and names nobody twice. */
export interface TurnLine {
  readonly lastTurn: number;
  readonly current: Turn | undefined;
  readonly waiting: readonly string[];
}

export const NO_LINE: TurnLine = { lastTurn: 0, current: undefined, waiting: [] };

export type TurnEvent =
  /** Somebody lost a race, or came while another one has the turn. */
  | { readonly kind: "lost"; readonly who: string }
  /** A commit of this one was accepted. */
  | { readonly kind: "committed"; readonly who: string }
  | { readonly kind: "released"; readonly who: string; readonly turn: number }
  /** Is not connected any more: its place is free, its turn runs out by itself because it may come back. */
  | { readonly kind: "left"; readonly who: string }
  /** Can never come back under this name: removed, banned, or a connection without a leaf that ended. */
  | { readonly kind: "gone"; readonly who: string }
  /** The service would like this one to commit. */
  | { readonly kind: "offered"; readonly who: string; readonly reason: TurnReason }
  /** Time has passed. */
  | { readonly kind: "looked" };

export interface TurnStep {
  readonly line: TurnLine;
  /** A turn that began in this step. */
  readonly granted: Turn | undefined;
  /** A turn that ended in this step, and how. */
  readonly ended: { readonly turn: Turn; readonly how: "used" | "released" | "expired" } | undefined;
}

/**
 * One step of the line: first what has expired ends, then the event counts, then the next one gets its turn. There is
 * one turn at a time, and the service's offers come after everybody who waits. O(waiting).
 */
export function stepTurns(line: TurnLine, event: TurnEvent, now: number, turnMs: number): TurnStep {
  const expired = line.current !== undefined && now >= line.current.expiresAtMs;
  const running = expired ? undefined : line.current;
  const end = expired ? ("expired" as const) : running && endedBy(running, event);
  const current = end === undefined ? running : undefined;
  const waiting = waitingAfter(line.waiting, current, event);
  const ended = end && { turn: line.current!, how: end };
  if (current !== undefined) return { line: { ...line, current, waiting }, granted: undefined, ended };
  const [first, ...others] = waiting;
  const next =
    first !== undefined
      ? { who: first, reason: "line" as const }
      : event.kind === "offered"
        ? { who: event.who, reason: event.reason }
        : undefined;
  if (next === undefined) return { line: { ...line, current, waiting }, granted: undefined, ended };
  const turn = Math.max(line.lastTurn + 1, now);
  const granted = { turn, holder: next.who, reason: next.reason, expiresAtMs: now + turnMs };
  return { line: { lastTurn: turn, current: granted, waiting: others }, granted, ended };
}

/** How many turns come before this one's own; 0 for the holder, undefined for who does not wait. O(waiting). */
export function placeOf(line: TurnLine, who: string): number | undefined {
  if (line.current?.holder === who) return 0;
  const index = line.waiting.indexOf(who);
  return index < 0 ? undefined : index + 1;
}

/** True while somebody else has the turn. */
export function isOthersTurn(line: TurnLine, who: string, now: number): boolean {
  const { current } = line;
  return current !== undefined && current.holder !== who && now < current.expiresAtMs;
}

function endedBy(running: Turn, event: TurnEvent): "used" | "released" | undefined {
  if (event.kind === "committed" && event.who === running.holder) return "used";
  if (event.kind === "gone" && event.who === running.holder) return "released";
  const released = event.kind === "released" && event.who === running.holder && event.turn === running.turn;
  return released ? "released" : undefined;
}

function waitingAfter(
  waiting: readonly string[],
  current: Turn | undefined,
  event: TurnEvent,
): readonly string[] {
  switch (event.kind) {
    case "lost": {
      const known = current?.holder === event.who || waiting.includes(event.who);
      return known ? waiting : [...waiting, event.who];
    }
    case "committed":
    case "left":
    case "gone":
      return waiting.includes(event.who) ? waiting.filter((who) => who !== event.who) : waiting;
    default:
      return waiting;
  }
}

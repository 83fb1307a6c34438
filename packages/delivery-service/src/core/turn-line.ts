import type { TurnReason } from "@murmuration/wire";

/** The right of one leaf to commit next, alone, until it expires. */
export interface Turn {
  /** Rises with each turn of a group, also over a restart: an older number is void. */
  readonly turn: number;
  readonly holder: string;
  readonly reason: TurnReason;
  readonly expiresAtMs: number;
}

/**
 * Who may commit, and who comes after. `waiting` is in the order in which turns come and names nobody twice: first come,
 * first served, but a member never has two joiners in a row before it.
 */
export interface TurnLine {
  readonly lastTurn: number;
  readonly current: Turn | undefined;
  readonly waiting: readonly string[];
  /** Asked to remove who is banned: comes before everybody who waits. */
  readonly remover: string | undefined;
}

export const NO_LINE: TurnLine = { lastTurn: 0, current: undefined, waiting: [], remover: undefined };

const JOINER = "joiner ";
/** The name of somebody who has no leaf yet. A leaf's is hexadecimal. */
export const joinerName = (id: string): string => `${JOINER}${id}`;
export const isJoiner = (name: string): boolean => name.startsWith(JOINER);

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
 * one turn at a time. The service's offers come after everybody who waits, but one to remove the banned before them.
 * O(waiting), times the joiners among them.
 */
export function stepTurns(line: TurnLine, event: TurnEvent, now: number, turnMs: number): TurnStep {
  const expired = line.current !== undefined && now >= line.current.expiresAtMs;
  const running = expired ? undefined : line.current;
  const end = expired ? ("expired" as const) : running && endedBy(running, event);
  const current = end === undefined ? running : undefined;
  const remover = removerAfter(line.remover, current, event);
  const behindJoiner = line.current !== undefined && isJoiner(line.current.holder);
  const waiting = woven(waitingAfter(line.waiting, current, event), behindJoiner);
  const ended = end && { turn: line.current!, how: end };
  if (current !== undefined)
    return { line: { ...line, current, waiting, remover }, granted: undefined, ended };
  const [first] = waiting;
  const next =
    remover !== undefined
      ? { who: remover, reason: "ban" as const }
      : first !== undefined
        ? { who: first, reason: "line" as const }
        : event.kind === "offered"
          ? { who: event.who, reason: event.reason }
          : undefined;
  if (next === undefined) return { line: { ...line, current, waiting, remover }, granted: undefined, ended };
  const turn = Math.max(line.lastTurn + 1, now);
  const granted = { turn, holder: next.who, reason: next.reason, expiresAtMs: now + turnMs };
  const others = waiting.filter((who) => who !== next.who);
  return { line: { lastTurn: turn, current: granted, waiting: others, remover: undefined }, granted, ended };
}

/** How many turns come before this one's own; 0 for the holder, undefined for who does not wait. O(waiting). */
export function placeOf(line: TurnLine, who: string): number | undefined {
  if (line.current?.holder === who) return 0;
  const index = line.waiting.indexOf(who);
  return index < 0 ? undefined : index + 1 + (line.remover === undefined ? 0 : 1);
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

function removerAfter(
  remover: string | undefined,
  current: Turn | undefined,
  event: TurnEvent,
): string | undefined {
  switch (event.kind) {
    case "offered":
      return event.reason === "ban" && current?.reason !== "ban" ? (remover ?? event.who) : remover;
    case "left":
    case "gone":
      return remover === event.who ? undefined : remover;
    default:
      return remover;
  }
}

/** Lets the next member pass wherever a joiner would come right behind a joiner. Members keep their order, and so do joiners. */
function woven(waiting: readonly string[], behindJoiner: boolean): readonly string[] {
  if (!waiting.some(isJoiner)) return waiting;
  const left = [...waiting];
  const order: string[] = [];
  for (let behind = behindJoiner; left.length > 0; behind = isJoiner(order.at(-1)!)) {
    const member = behind ? left.findIndex((who) => !isJoiner(who)) : 0;
    order.push(...left.splice(Math.max(0, member), 1));
  }
  return order;
}

/** How long somebody gets no place in the line, because it let turns pass. */
export interface Idleness {
  readonly coolDownMs: number;
  readonly untilMs: number;
}

/** A turn of 5 s that runs out keeps its holder out of the line for 20 s at first. */
const IDLE_FACTOR = 4;
const MAX_COOL_DOWN_MS = 600_000;

/**
 * After a turn of the line was held for a time and not used: a multiple of that time, doubled with each further one,
 * until it was calm for as long as it last cooled down. Giving a turn back at once costs next to nothing.
 */
export function idlenessAfter(
  before: Idleness | undefined,
  heldMs: number,
  now: number,
  turnMs: number,
): Idleness {
  const last = before !== undefined && !isForgotten(before, now) ? before.coolDownMs : 0;
  const known = last * (1 + heldMs / turnMs);
  const coolDownMs = Math.min(MAX_COOL_DOWN_MS, Math.max(known, heldMs * IDLE_FACTOR));
  return { coolDownMs, untilMs: now + coolDownMs };
}

/** Many may be behind one address: it counts from the third turn on that passed unused. */
export function isTrying({ coolDownMs }: Idleness, turnMs: number): boolean {
  return coolDownMs >= 4 * IDLE_FACTOR * turnMs;
}

export function isForgotten({ coolDownMs, untilMs }: Idleness, now: number): boolean {
  return now >= untilMs + coolDownMs;
}

/**
 * What a demo run will do, from its numbers and seed alone: who shares a process, who sends which message, and
 * which process is killed while which message is under way.
 */
import { seededRandom } from "./random.ts";

/** Clients that share a process, while there are few of them. */
export const CLIENTS_PER_WORKER = 32;
/** Most processes of receivers: each loads and compiles the same code, which is a second of CPU and more. */
export const MOST_WORKERS = 8;
/**
 * The same where a group moves and nobody waits for the disk: nobody kills them there, and what all of them do in the same
 * moment is done sooner by few processes than by many that take the processors from each other.
 */
const MOST_WORKERS_OF_LIGHT_MOVE = 2;
/** Client 0 is the measured sender and has a process of its own. */
export const MEASURED_SENDER = 0;
/** Messages that warm up: one in ten, and not more than this. */
const MOST_WARM_UP = 10;
/** Messages that are measured: a quarter, but so many for a median, and not more than half. */
const FEWEST_MEASURED = 20;
/** The defaults of the client core. */
export const MLS_THRESHOLD = 256;
const MIGRATION_MARGIN = 16;
const MEASURED_OF_MOVE = 5;
/** From one message of the chatter to the next, ms: some nine a second at the most, all talkers together. */
const PAUSE_MS = 110;
const PAUSE_SPREAD_MS = 50;
/** As much of it for each reader: what a message costs all of them together must leave one machine time for the move. */
const PAUSE_FOR_EACH_MS = 5;

/** The mean pause of the chatter in a group that begins with so many members, ms. */
export const pauseMsOf = (founders: number): number => Math.max(PAUSE_MS, PAUSE_FOR_EACH_MS * founders);
/** Most members that send after the measured part. */
const SENDERS = 5;

export interface PlannedMessage {
  readonly index: number;
  /** Number of the member that sends it. */
  readonly sender: number;
  /**
   * First come messages that only warm the measured sender's code up, then those whose bytes, time and CPU are counted,
   * each sent alone, then those of several members, while processes are killed.
   */
  readonly part: "warm-up" | "measured" | "eventful";
}

export interface PlannedKill {
  /** Killed while this message is under way. */
  readonly duringMessage: number;
  /** `service`, or the number of a client process. */
  readonly target: "service" | number;
  /** Time after the message was handed over, ms. */
  readonly afterMs: number;
  /** How long it stays dead, ms. */
  readonly downMs: number;
}

/** What is killed on the way to MLS, when so large a part of the accounts is ready. */
export interface MoveKill {
  readonly target: "service" | number;
  /** From 0 to 1. */
  readonly whenReady: number;
  readonly downMs: number;
}

/** A pairwise group that moves to MLS because more members are added, while some talk. */
export interface PlannedMove {
  /** Members who talk, all of them founders. */
  readonly talkers: readonly number[];
  readonly mlsThreshold: number;
  /** So small that the group does not begin to move by itself. */
  readonly migrationMargin: number;
  readonly kills: readonly MoveKill[];
}

export interface Plan {
  /** All that are in the group at the end. */
  readonly members: number;
  /** Those who form it: the first ones. All, unless the group moves. */
  readonly founders: number;
  readonly seed: number;
  /** Storage without encryption. */
  readonly light: boolean;
  /** The members of each client process; process 0 holds the measured sender alone. */
  readonly processes: readonly (readonly number[])[];
  readonly messages: readonly PlannedMessage[];
  readonly kills: readonly PlannedKill[];
  readonly move?: PlannedMove;
}

/** Those who form the group. */
export function foundersOf({ founders }: Plan): ReadonlySet<number> {
  return new Set(Array.from({ length: founders }, (_, member) => member));
}

/** Makes the plan. `members` at least 2, `messages` at least 1. */
export function makePlan(members: number, messages: number, seed: number, light = false): Plan {
  const random = seededRandom(seed);
  const processes = assignProcesses(members);
  const warmUp = Math.min(MOST_WARM_UP, Math.floor(messages / 10));
  const half = Math.floor(messages / 2);
  const measured = Math.max(1, Math.min(half, Math.max(Math.floor(messages / 4), FEWEST_MEASURED)));
  const senders = pickSenders(members, random);
  const planned = Array.from({ length: messages }, (_, index): PlannedMessage => {
    if (index < warmUp) return { index, part: "warm-up", sender: MEASURED_SENDER };
    if (index < warmUp + measured) return { index, part: "measured", sender: MEASURED_SENDER };
    return { index, part: "eventful", sender: random.pick(senders) };
  });
  const kills = planKills(planned, processes, random);
  return { members, founders: members, seed, light, processes, messages: planned, kills };
}

/** The measured sender and some others of the first `members`. */
function pickSenders(members: number, random: ReturnType<typeof seededRandom>): number[] {
  const others = Array.from({ length: members - 1 }, (_, index) => index + 1);
  const senders: number[] = [MEASURED_SENDER];
  while (senders.length < Math.min(SENDERS, members)) {
    const sender = random.pick(others);
    if (!senders.includes(sender)) senders.push(sender);
  }
  return senders;
}

export interface MoveNumbers {
  /** Members of the pairwise group, from 2 to 255. */
  readonly from: number;
  /** Members at the end, more than `from`. */
  readonly to: number;
  readonly seed: number;
  readonly light?: boolean;
  /** Also kill the service and the creator on the way. */
  readonly kills?: boolean;
}

/** Makes the plan of a move: few measured messages first, then {@link chatter} without an end of its own. */
export function makeMovePlan({ from, to, seed, light = false, kills = false }: MoveNumbers): Plan {
  const random = seededRandom(seed);
  const talkers = pickSenders(from, random);
  const mlsThreshold = to >= MLS_THRESHOLD ? MLS_THRESHOLD : Math.min(from + 2, to);
  return {
    members: to,
    founders: from,
    seed,
    light,
    processes: assignProcesses(to, talkers, light ? MOST_WORKERS_OF_LIGHT_MOVE : MOST_WORKERS),
    // Everybody who talks has said something before: the first message of a session costs several times as much.
    messages: Array.from({ length: talkers.length + MEASURED_OF_MOVE }, (_, index) => ({
      index,
      part: index < talkers.length ? "warm-up" : "measured",
      sender: talkers[index] ?? MEASURED_SENDER,
    })),
    kills: [],
    move: {
      talkers,
      mlsThreshold,
      migrationMargin: Math.min(MIGRATION_MARGIN, mlsThreshold - from - 1),
      kills: kills
        ? [
            { target: "service", whenReady: random.below(40) / 100, downMs: 100 + random.below(400) },
            {
              target: MEASURED_SENDER,
              whenReady: (60 + random.below(40)) / 100,
              downMs: 100 + random.below(400),
            },
          ]
        : [],
    },
  };
}

/** What the talkers say after the planned messages: who says what, and how long after the one before. No end. */
export function* chatter({ founders, messages, move, seed }: Plan): Generator<{
  readonly index: number;
  readonly sender: number;
  readonly pauseMs: number;
}> {
  const random = seededRandom(seed + 1);
  for (let index = messages.length; ; index++)
    yield {
      index,
      sender: random.pick(move!.talkers),
      pauseMs: pauseMsOf(founders) - PAUSE_SPREAD_MS + random.below(2 * PAUSE_SPREAD_MS + 1),
    };
}

/** Each of these has a process of its own, as everybody's client has: the measured sender first. The others share some. */
function assignProcesses(
  members: number,
  alone: readonly number[] = [MEASURED_SENDER],
  most = MOST_WORKERS,
): number[][] {
  const others = Array.from({ length: members }, (_, member) => member).filter((one) => !alone.includes(one));
  // At least two, where there are two clients, so that a kill never takes all receivers.
  const wanted = Math.min(most, Math.ceil(others.length / CLIENTS_PER_WORKER));
  const count = Math.max(Math.min(2, others.length), wanted);
  const shared: number[][] = Array.from({ length: count }, () => []);
  others.forEach((member, index) => {
    shared[index % count]!.push(member);
  });
  return [...alone.map((member) => [member]), ...shared];
}

/**
 * One kill for about every six eventful messages, at least three where there are so many: first the service,
 * then the process of the sender of that message, then one that only receives; then again.
 */
function planKills(
  messages: readonly PlannedMessage[],
  processes: readonly (readonly number[])[],
  random: ReturnType<typeof seededRandom>,
): PlannedKill[] {
  const free = messages.filter(({ part }) => part === "eventful");
  const count = Math.min(free.length, Math.max(3, Math.floor(free.length / 6)));
  const kills: PlannedKill[] = [];
  for (let turn = 0; turn < count; turn++) {
    // Spread over the run: each kill has its own stretch of messages.
    const from = Math.floor((turn * free.length) / count);
    const to = Math.floor(((turn + 1) * free.length) / count);
    const message = free[from + random.below(to - from)]!;
    const home = processes.findIndex((clients) => clients.includes(message.sender));
    const receivers = processes.map((_, index) => index).filter((index) => index !== home);
    const target = (["service", home, random.pick(receivers)] as const)[turn % 3]!;
    kills.push({
      duringMessage: message.index,
      target,
      afterMs: random.below(25),
      downMs: 100 + random.below(400),
    });
  }
  return kills;
}

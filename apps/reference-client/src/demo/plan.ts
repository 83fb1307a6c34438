/**
 * What a demo run will do, from its numbers and seed alone: who shares a process, who sends which message, and
 * which process is killed while which message is under way.
 */
import { seededRandom } from "./random.ts";

/** Most clients that share a process. */
export const CLIENTS_PER_WORKER = 32;
/** Client 0 is the measured sender and has a process of its own. */
export const MEASURED_SENDER = 0;
/** Most members that send after the measured part. */
const SENDERS = 5;

export interface PlannedMessage {
  readonly index: number;
  /** Number of the member that sends it. */
  readonly sender: number;
  /** Sent alone, with nothing killed, while bytes and CPU are counted. */
  readonly measured: boolean;
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

export interface Plan {
  readonly members: number;
  readonly seed: number;
  /** Storage without encryption. */
  readonly light: boolean;
  /** The members of each client process; process 0 holds the measured sender alone. */
  readonly processes: readonly (readonly number[])[];
  readonly messages: readonly PlannedMessage[];
  readonly kills: readonly PlannedKill[];
}

/** Makes the plan. `members` at least 2, `messages` at least 1. */
export function makePlan(members: number, messages: number, seed: number, light = false): Plan {
  const random = seededRandom(seed);
  const processes = assignProcesses(members);
  const measuredCount = Math.max(1, Math.floor(messages / 4));
  const others = Array.from({ length: members - 1 }, (_, index) => index + 1);
  const senders: number[] = [MEASURED_SENDER];
  while (senders.length < Math.min(SENDERS, members)) {
    const sender = random.pick(others);
    if (!senders.includes(sender)) senders.push(sender);
  }
  const planned = Array.from({ length: messages }, (_, index) => {
    const measured = index < measuredCount;
    return { index, measured, sender: measured ? MEASURED_SENDER : random.pick(senders) };
  });
  const kills = planKills(planned, processes, random);
  return { members, seed, light, processes, messages: planned, kills };
}

function assignProcesses(members: number): number[][] {
  const rest = members - 1;
  // At least two, where there are two clients, so that a kill never takes all receivers.
  const count = Math.max(Math.min(2, rest), Math.ceil(rest / CLIENTS_PER_WORKER));
  const processes: number[][] = [[MEASURED_SENDER], ...Array.from({ length: count }, () => [])];
  for (let member = 1; member < members; member++) processes[1 + ((member - 1) % count)]!.push(member);
  return processes;
}

/**
 * One kill for about every six unmeasured messages, at least three where there are so many: first the service,
 * then the process of the sender of that message, then one that only receives; then again.
 */
function planKills(
  messages: readonly PlannedMessage[],
  processes: readonly (readonly number[])[],
  random: ReturnType<typeof seededRandom>,
): PlannedKill[] {
  const free = messages.filter(({ measured }) => !measured);
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

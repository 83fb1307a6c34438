import { randomFillSync, randomInt } from "node:crypto";
import { type DestinationStream, pino } from "pino";
import type { Clock, Log, Random } from "../ports/environment.ts";

/** Longer delays overflow Node's timers, which then fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, Math.min(delayMs, MAX_TIMER_MS));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** The operating system's randomness. */
export const systemRandom: Random = {
  bytes: (length) => randomFillSync(new Uint8Array(length)),
  fraction: () => randomInt(2 ** 32) / 2 ** 32,
};

/** {@link Log} as JSON lines. No process id, no host name: a log may be shown to anybody. */
export function createPinoLog(level: string, destination?: DestinationStream): Log {
  const logger = pino({ level, base: null }, destination ?? pino.destination({ fd: 1, sync: true }));
  return {
    info: (event, fields) => logger.info({ event, ...fields }),
    warn: (event, fields) => logger.warn({ event, ...fields }),
    error: (event, fields) => logger.error({ event, ...fields }),
  };
}

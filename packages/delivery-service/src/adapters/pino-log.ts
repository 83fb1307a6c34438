import { type DestinationStream, pino } from "pino";
import type { Log } from "../ports/environment.ts";

/** {@link Log} as JSON lines. No process id, no host name: a log may be shown to anybody. */
export function createPinoLog(level: string, destination?: DestinationStream): Log {
  const logger = pino({ level, base: null }, destination ?? pino.destination({ fd: 1, sync: true }));
  return {
    info: (event, fields) => logger.info({ event, ...fields }),
    warn: (event, fields) => logger.warn({ event, ...fields }),
    error: (event, fields) => logger.error({ event, ...fields }),
  };
}

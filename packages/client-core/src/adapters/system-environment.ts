import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Environment } from "../api.ts";

/** The system's clock, its random bytes and its timers. */
export const systemEnvironment: Environment = {
  now: () => Date.now(),
  random: (length) => new Uint8Array(randomBytes(length)),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  },
};

import { randomBytes } from "node:crypto";
import type { Environment } from "../api.ts";

/** The system's clock, its random bytes and its timers. */
export const systemEnvironment: Environment = {
  now: () => Date.now(),
  random: (length) => new Uint8Array(randomBytes(length)),
  // By hand: node's own promise of a timer rejects when it is aborted, and each of these errors costs a stack trace.
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener("abort", done, { once: true });
    }),
};

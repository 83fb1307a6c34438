import { type Environment, systemEnvironment } from "@murmuration/client-core";

/** Nothing that waits for an answer waits that long. */
const LONG_PAUSE_MS = 60_000;
const LOOK_MS = 200;

/** The system's clock, moved by a test: for the service and for clients alike. */
export class ShiftedClock {
  offsetMs = 0;

  readonly now = (): number => Date.now() + this.offsetMs;

  /** For the service. */
  after(delayMs: number, run: () => void): () => void {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  }

  /** For a client. */
  get environment(): Environment {
    return { ...systemEnvironment, now: this.now };
  }

  /**
   * For a client that looks at its clock five times in a second, as any does every few minutes. Only those long pauses
   * are cut short: whatever waits for an answer waits for its whole time.
   */
  get oftenLookedAt(): Environment {
    return {
      ...this.environment,
      sleep: (ms, abort) => systemEnvironment.sleep(ms < LONG_PAUSE_MS ? ms : LOOK_MS, abort),
    };
  }
}

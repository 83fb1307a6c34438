import { type Environment, systemEnvironment } from "@murmuration/client-core";

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
}

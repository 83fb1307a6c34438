import type { Clock } from "../ports/environment.ts";
import type { SpentChallenges } from "../ports/spent-challenges.ts";

/** {@link SpentChallenges} of one process. */
export class MemorySpentChallenges implements SpentChallenges {
  private readonly clock: Clock;
  private readonly spent = new Map<string, number>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  async spend(name: string, expiresAtMs: number): Promise<boolean> {
    const now = this.clock.now();
    // In order of use. Every challenge lives equally long, so one behind a fresh one is kept that long at most.
    for (const [old, oldExpiresAtMs] of this.spent) {
      if (oldExpiresAtMs > now) break;
      this.spent.delete(old);
    }
    if (this.spent.has(name)) return false;
    this.spent.set(name, expiresAtMs);
    return true;
  }
}

import { UnavailableError } from "@murmuration/base";

/** Operations that may wait at once; beyond it the caller sends faster than this device encrypts. */
const MAX_WAITING = 4_096;

/**
 * Serial queues by name. libsignal has no locks: two encrypts on one session at the same time would use the
 * same message key twice. An operation names all queues it needs at once and stands in all of them from the
 * moment of the call, so operations on one queue run in call order and no two wait for each other.
 */
export class KeyedQueue {
  private readonly tails = new Map<string, Promise<void>>();
  private barrier: Promise<void> = Promise.resolve();
  private waiting = 0;

  /** Runs the task when every earlier one on these queues is over. `"all"` waits for, and holds up, everything. */
  async run<T>(queues: ReadonlySet<string> | "all", task: () => Promise<T>): Promise<T> {
    if (this.waiting >= MAX_WAITING) throw new UnavailableError("pairwise/queue-full");
    this.waiting++;
    const before = this.predecessors(queues);
    const { promise: over, resolve } = Promise.withResolvers<void>();
    if (queues === "all") {
      this.tails.clear();
      this.barrier = over;
    } else {
      for (const queue of queues) this.tails.set(queue, over);
    }
    try {
      await Promise.all(before);
      return await task();
    } finally {
      this.waiting--;
      if (queues !== "all") {
        for (const queue of queues) if (this.tails.get(queue) === over) this.tails.delete(queue);
      }
      resolve();
    }
  }

  private predecessors(queues: ReadonlySet<string> | "all"): Promise<void>[] {
    if (queues === "all") return [this.barrier, ...this.tails.values()];
    const before = [this.barrier];
    for (const queue of queues) {
      const tail = this.tails.get(queue);
      if (tail !== undefined) before.push(tail);
    }
    return before;
  }
}

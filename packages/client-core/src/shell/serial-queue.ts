import { UsageError } from "@murmuration/base";

/**
 * Runs tasks of one key one after the other, in the order of the calls; keys do not wait for each other. The
 * only concurrency primitive of the client. Bounded: UsageError `client/queue-full`.
 */
export class SerialQueue {
  private readonly tails = new Map<string, Promise<void>>();
  private readonly depths = new Map<string, number>();
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const depth = this.depths.get(key) ?? 0;
    if (depth >= this.limit) return Promise.reject(new UsageError("client/queue-full"));
    this.depths.set(key, depth + 1);
    const result = (this.tails.get(key) ?? Promise.resolve()).then(task);
    const tail = result.then(
      () => this.finished(key),
      () => this.finished(key),
    );
    this.tails.set(key, tail);
    return result;
  }

  private finished(key: string): void {
    const depth = (this.depths.get(key) ?? 1) - 1;
    if (depth > 0) {
      this.depths.set(key, depth);
      return;
    }
    this.depths.delete(key);
    this.tails.delete(key);
  }

  /** Resolves when everything that was queued is done. */
  async idle(): Promise<void> {
    while (this.tails.size > 0) await Promise.all(this.tails.values());
  }
}

import { UsageError } from "@murmuration/base";

/** Cryptographic operations between two yields: about 2 ms of work, so that sockets and timers stay alive. */
export const OPERATIONS_PER_YIELD = 8;

/**
 * Counts cryptographic operations on the main thread and yields after every eighth. Yielding inside a
 * transaction of the caller would let other writers into it, so an open one is refused before each step.
 */
export class WorkMeter {
  /** Operations so far; tests and metrics read it. */
  operations = 0;
  yields = 0;
  private readonly yieldToOthers: () => Promise<void>;
  private readonly transactionOpen: () => boolean;

  constructor(yieldToOthers: () => Promise<void>, transactionOpen: () => boolean) {
    this.yieldToOthers = yieldToOthers;
    this.transactionOpen = transactionOpen;
  }

  /** Call before each cryptographic operation. */
  async step(): Promise<void> {
    this.refuseInTransaction();
    this.operations++;
    if (this.operations % OPERATIONS_PER_YIELD !== 0) return;
    this.yields++;
    await this.yieldToOthers();
    this.refuseInTransaction();
  }

  refuseInTransaction(): void {
    if (this.transactionOpen()) throw new UsageError("pairwise/transaction-open");
  }
}

/**
 * Who of a process's connections has what of one numbered stream: each number once, in order, without a gap. Anything
 * else is counted.
 */
export interface Received {
  /** Numbers that came to a connection for the first time, over all connections. */
  readonly deliveries: number;
  readonly frames: number;
  /** Numbers that were left out before a higher one came. */
  readonly skipped: number;
  /** Numbers that came again. */
  readonly doubled: number;
  /** By number: when the last connection had it, as `nowMs`; absent while one lacks it. */
  readonly completedAtMs: readonly (number | undefined)[];
}

export class Tally {
  /** Called when every connection has everything up to this number. */
  onComplete: (through: number) => void = () => {};
  private readonly through: number[];
  private readonly holders: number[] = [];
  private readonly completedAtMs: (number | undefined)[] = [];
  private complete = 0;
  private deliveries = 0;
  private frames = 0;
  private skipped = 0;
  private doubled = 0;

  constructor(connections: number) {
    this.through = Array.from({ length: connections }, () => 0);
  }

  /** A frame with these numbers came to a connection. Returns up to where that connection has everything. */
  took(connection: number, numbers: readonly number[], atMs: number): number {
    this.frames++;
    for (const number of numbers) this.tookOne(connection, number, atMs);
    while (this.holders[this.complete + 1] === this.through.length) this.onComplete(++this.complete);
    return this.through[connection]!;
  }

  received(): Received {
    const { deliveries, frames, skipped, doubled, completedAtMs } = this;
    return { deliveries, frames, skipped, doubled, completedAtMs };
  }

  private tookOne(connection: number, number: number, atMs: number): void {
    const expected = this.through[connection]! + 1;
    if (number < expected) {
      this.doubled++;
      return;
    }
    this.skipped += number - expected;
    this.through[connection] = number;
    this.deliveries++;
    const holders = (this.holders[number] ?? 0) + 1;
    this.holders[number] = holders;
    if (holders === this.through.length) this.completedAtMs[number] = atMs;
  }
}

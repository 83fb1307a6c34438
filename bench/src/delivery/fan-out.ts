/** One stream of numbered messages from one publisher to many subscribers, whatever the server between them. */
import type { WorkerLink } from "../worker-link.ts";
import { nowMs } from "./process-figures.ts";
import type { Latency, Throughput } from "./report.ts";
import type { Received } from "./tally.ts";

/** Nothing reached the last subscriber for so long: something is lost. */
const STALL_MS = 10_000;

export interface Publisher {
  /** Sends the next message; resolves with its number once the server has taken it. */
  publish(): Promise<number>;
  close(): Promise<void>;
}

export interface FanoutLoad {
  readonly messagesPerSecond: number;
  readonly latencySeconds: number;
  readonly inFlight: number;
  readonly throughputSeconds: number;
  readonly warmUpSeconds: number;
}

export class FanOut {
  private readonly readers: readonly WorkerLink[];
  private readonly subscribers: number;
  private readonly publisher: Publisher;
  private readonly serverCpuSeconds: () => number;
  /** By process: up to where all of its subscribers have everything. */
  private readonly complete: number[];
  private readonly sentAtMs: number[] = [];
  private published = 0;
  private failure: Error | undefined;
  private stalled = false;
  private progressed: () => void = () => {};

  constructor(
    readers: readonly WorkerLink[],
    subscribers: number,
    publisher: Publisher,
    serverCpuSeconds: () => number,
  ) {
    this.readers = readers;
    this.subscribers = subscribers;
    this.publisher = publisher;
    this.serverCpuSeconds = serverCpuSeconds;
    this.complete = readers.map(() => 0);
    for (const [index, link] of readers.entries()) {
      link.onNote = (through) => {
        this.complete[index] = Number(through);
        this.progressed();
      };
    }
  }

  /** At a steady rate. The clock of a message begins when it is due to be sent, so that a late sender hides nothing. */
  async latency({ messagesPerSecond, latencySeconds, warmUpSeconds }: FanoutLoad): Promise<Latency> {
    await this.paced(messagesPerSecond, warmUpSeconds);
    const first = this.published + 1;
    const before = await this.received();
    const cpuBefore = this.serverCpuSeconds();
    await this.paced(messagesPerSecond, latencySeconds);
    const cpu = this.serverCpuSeconds() - cpuBefore;
    const after = await this.received();
    const messages = this.published - first + 1;
    const times: number[] = [];
    for (let number = first; number <= this.published; number++) {
      const last = Math.max(...after.completedAtMs.map((process) => process[number] ?? Number.NaN));
      if (!Number.isNaN(last)) times.push(last - this.sentAtMs[number]!);
    }
    times.sort((a, b) => a - b);
    const deliveries = after.deliveries - before.deliveries;
    return {
      messagesPerSecond,
      messages,
      deliveries,
      lost: messages * this.subscribers - deliveries,
      doubled: after.doubled - before.doubled,
      p50Ms: percentile(times, 0.5),
      p99Ms: percentile(times, 0.99),
      mostMs: percentile(times, 1),
      serverCpuUsPerDelivery: (cpu * 1e6) / deliveries,
    };
  }

  /** As fast as it goes while no more than `inFlight` messages are on their way to somebody. */
  async throughput({ inFlight, throughputSeconds, warmUpSeconds }: FanoutLoad): Promise<Throughput> {
    await this.sustained(inFlight, warmUpSeconds);
    const before = await this.received();
    const cpuBefore = this.serverCpuSeconds();
    const [startedAtMs, from] = [nowMs(), this.published];
    await this.sustained(inFlight, throughputSeconds);
    const seconds = (nowMs() - startedAtMs) / 1000;
    const serverCpuSeconds = this.serverCpuSeconds() - cpuBefore;
    const after = await this.received();
    const deliveries = after.deliveries - before.deliveries;
    return {
      inFlight,
      seconds,
      deliveries,
      lost: (this.published - from) * this.subscribers - deliveries,
      doubled: after.doubled - before.doubled,
      deliveriesPerSecond: deliveries / seconds,
      serverCpuSeconds,
      deliveriesPerSecondPerCore: deliveries / serverCpuSeconds,
      messagesPerFrame: deliveries / (after.frames - before.frames),
    };
  }

  private async paced(perSecond: number, seconds: number): Promise<void> {
    const startedAtMs = nowMs();
    for (let sent = 0; sent < perSecond * seconds; sent++) {
      const dueAtMs = startedAtMs + (sent * 1000) / perSecond;
      const waitMs = dueAtMs - nowMs();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      this.publishOne(dueAtMs);
    }
    await this.drained(this.published);
  }

  /** Ends when everything has arrived, so that what is counted is whole. */
  private async sustained(inFlight: number, seconds: number): Promise<void> {
    const until = nowMs() + seconds * 1000;
    while (!this.stalled && nowMs() < until) {
      await this.drained(this.published - inFlight + 1);
      this.publishOne(nowMs());
    }
    await this.drained(this.published);
  }

  private publishOne(atMs: number): void {
    this.published++;
    this.publisher.publish().then(
      (number) => {
        this.sentAtMs[number] = atMs;
      },
      (error: Error) => {
        this.failure ??= error;
      },
    );
  }

  /** Resolves when every subscriber has everything up to this number, or nothing has moved for long: then some is lost. */
  private async drained(through: number): Promise<void> {
    while (!this.stalled && Math.min(...this.complete) < through) {
      if (this.failure !== undefined) throw this.failure;
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.progressed = resolve;
        timer = setTimeout(() => {
          this.stalled = true;
          resolve();
        }, STALL_MS);
      });
      clearTimeout(timer);
    }
    if (this.failure !== undefined) throw this.failure;
  }

  private async received() {
    const all = await Promise.all(this.readers.map((link) => link.request<Received>("received")));
    const sum = (of: (each: Received) => number) => all.reduce((total, each) => total + of(each), 0);
    return {
      deliveries: sum(({ deliveries }) => deliveries),
      frames: sum(({ frames }) => frames),
      doubled: sum(({ doubled }) => doubled),
      completedAtMs: all.map(({ completedAtMs }) => completedAtMs),
    };
  }
}

/** The least value that this part of all does not exceed. */
export function percentile(sorted: readonly number[], part: number): number {
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

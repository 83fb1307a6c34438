/**
 * How long the disk itself takes beside a measurement: 4 kB written and synced some times a second, by a thread that does
 * nothing else. The service says "accepted" when a message is on the disk, so that a disk that stalls is in every figure
 * of it; this tells which part was the disk's.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { percentile } from "./fan-out.ts";

/** Of one write with its sync. */
export interface DiskTimes {
  readonly writes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mostMs: number;
}

const BYTES = 4096;
/** Seldom enough not to be a load itself. */
const EVERY_MS = 100;

export class DiskProbe {
  private readonly worker: Worker;
  private readonly over = new Int32Array(new SharedArrayBuffer(4));
  private readonly times: Promise<number[]>;

  /** Begins to write into a file of this directory. */
  constructor(directory: string) {
    const workerData = { path: join(directory, "disk-probe"), over: this.over } satisfies Task;
    this.worker = new Worker(new URL(import.meta.url), { workerData });
    this.times = new Promise((resolve, reject) => {
      this.worker.once("message", resolve);
      this.worker.once("error", reject);
    });
    // Whoever stops it hears of it.
    this.times.catch(() => undefined);
  }

  /** Ends the thread. Rejects where the directory cannot be written to. */
  async stop(): Promise<DiskTimes> {
    Atomics.store(this.over, 0, 1);
    Atomics.notify(this.over, 0);
    const sorted = (await this.times.finally(() => this.worker.terminate())).sort((a, b) => a - b);
    return {
      writes: sorted.length,
      p50Ms: percentile(sorted, 0.5),
      p99Ms: percentile(sorted, 0.99),
      mostMs: percentile(sorted, 1),
    };
  }
}

interface Task {
  readonly path: string;
  readonly over: Int32Array;
}

function writeUntilOver({ path, over }: Task): number[] {
  const times: number[] = [];
  const bytes = new Uint8Array(BYTES);
  const file = openSync(path, "w");
  try {
    do {
      const startedMs = performance.now();
      writeSync(file, bytes, 0, BYTES, 0);
      fdatasyncSync(file);
      times.push(performance.now() - startedMs);
    } while (Atomics.wait(over, 0, 0, EVERY_MS) === "timed-out");
  } finally {
    closeSync(file);
  }
  return times;
}

if (!isMainThread && parentPort !== null && (workerData as Partial<Task> | undefined)?.over !== undefined)
  parentPort.postMessage(writeUntilOver(workerData as Task));

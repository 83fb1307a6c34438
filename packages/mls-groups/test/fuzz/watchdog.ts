import { Worker } from "node:worker_threads";
import { toHex } from "@murmuration/base";
import type { Finding, Progress } from "./fuzzer.ts";

/** What a fuzzing thread is handed. The shared arrays show the input that runs now to whoever watches. */
export interface WorkerData {
  readonly progress: Progress;
  readonly milliseconds: number;
  /** Number of the input, its length, the length of the target's name; the input and the name lie in `bytes`. */
  readonly state: Int32Array<SharedArrayBuffer>;
  readonly bytes: Uint8Array<SharedArrayBuffer>;
}

/** What a fuzzing thread reports. */
export interface WorkerMessage {
  readonly finding?: Finding;
  readonly progress?: Progress;
  readonly done?: boolean;
}

export interface Watcher {
  /** An input that has not returned after this many milliseconds never will. */
  readonly hangMs: number;
  found(finding: Finding): void;
  reached(progress: Progress): void;
  /** Asked after each report: whether to end now. */
  enough(): boolean;
}

/**
 * Runs a fuzzing thread and ends it when an input never returns, which is a finding like any other. Resolves with the
 * number of inputs of the seed that have run by then.
 */
export function watch(file: URL, start: Progress, milliseconds: number, watcher: Watcher): Promise<number> {
  const state = new Int32Array(new SharedArrayBuffer(12));
  const bytes = new Uint8Array(new SharedArrayBuffer(1 << 22));
  state[0] = -1;
  const workerData: WorkerData = { progress: start, milliseconds, state, bytes };
  const worker = new Worker(file, { workerData });
  return new Promise((settle, fail) => {
    let inputs = start.inputs;
    let last = { number: -1, since: performance.now() };
    const end = (): void => {
      clearInterval(watchdog);
      worker.terminate().then(() => settle(inputs), fail);
    };
    const watchdog = setInterval(() => {
      const current = Atomics.load(state, 0);
      if (current !== last.number) last = { number: current, since: performance.now() };
      else if (current >= 0 && performance.now() - last.since > watcher.hangMs) {
        watcher.found(runningInput(start.seed, watcher.hangMs, state, bytes));
        inputs = current + 1;
        end();
      }
    }, 100);
    worker.on("error", (error) => {
      clearInterval(watchdog);
      fail(error);
    });
    worker.on("message", ({ finding, progress, done }: WorkerMessage) => {
      if (finding !== undefined) watcher.found(finding);
      if (progress !== undefined) {
        inputs = progress.inputs;
        watcher.reached(progress);
      }
      if (done === true || watcher.enough()) end();
    });
  });
}

function runningInput(seed: number, hangMs: number, state: Int32Array, bytes: Uint8Array): Finding {
  const [number = 0, length = 0, nameLength = 0] = state;
  return {
    target: new TextDecoder().decode(bytes.slice(length, length + nameLength)),
    seed,
    number,
    what: `did not end within ${hangMs} ms`,
    input: toHex(bytes.slice(0, length)),
  };
}

/** For the thread: shows the input that is about to run. */
export function show({ state, bytes }: WorkerData, number: number, target: string, input: Uint8Array): void {
  const name = new TextEncoder().encode(target);
  const shown = input.subarray(0, bytes.length - name.length);
  bytes.set(shown);
  bytes.set(name, shown.length);
  Atomics.store(state, 1, shown.length);
  Atomics.store(state, 2, name.length);
  Atomics.store(state, 0, number);
}

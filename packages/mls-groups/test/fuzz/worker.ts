import { parentPort, workerData } from "node:worker_threads";
import { Fuzzer } from "./fuzzer.ts";
import { makeTargets } from "./targets.ts";
import { show, type WorkerData, type WorkerMessage } from "./watchdog.ts";

/*
 * The thread in which inputs run: its parent watches it and ends it when an input never returns.
 */

/** How often progress is handed to the parent, in inputs. */
const REPORT_EVERY = 2_000;

const data = workerData as WorkerData;
const fuzzer = new Fuzzer(makeTargets(data.progress.seed), data.progress);
const end = performance.now() + data.milliseconds;
const report = (message: WorkerMessage): void => parentPort!.postMessage(message);

while (performance.now() < end) {
  const next = fuzzer.next();
  show(data, next.number, next.target.name, next.input);
  const finding = fuzzer.run(next);
  if (finding !== undefined) report({ finding });
  if (next.number % REPORT_EVERY === 0) report({ progress: fuzzer.progress });
}
report({ progress: fuzzer.progress, done: true });

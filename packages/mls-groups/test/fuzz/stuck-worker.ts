import { workerData } from "node:worker_threads";
import { show, type WorkerData } from "./watchdog.ts";

/* A fuzzing thread whose eighth input never returns, for the test of the watchdog. */

show(workerData as WorkerData, 7, "planted", Uint8Array.of(1, 2, 3));
for (;;);

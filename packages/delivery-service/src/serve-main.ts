import { parseArgs } from "node:util";
import { readConfig } from "./adapters/config-files.ts";
import { runUntilStopped } from "./run.ts";

/** The service as a process of its own: `serve-main.ts [--config FILE]`. SIGTERM and SIGINT drain it, a second one ends it. */
const { values } = parseArgs({ options: { config: { type: "string" } } });
const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (stop.signal.aborted) process.exit(1);
    stop.abort();
  });
}
await runUntilStopped(readConfig({ path: values.config }), stop.signal, (port) => process.send?.({ port }));
process.exit(0);

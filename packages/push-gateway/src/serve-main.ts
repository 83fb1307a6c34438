import { readConfig } from "./config.ts";
import { startPushGateway } from "./main.ts";

/** The gateway as a process of its own: SIGTERM and SIGINT close it. A second signal ends it at once. */
const gateway = await startPushGateway(readConfig());
process.send?.({ port: gateway.port });

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (stopping) process.exit(1);
    stopping = true;
    void gateway.close().then(() => process.disconnect?.());
  });
}

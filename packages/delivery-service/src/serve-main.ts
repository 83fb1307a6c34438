import { readConfig } from "./config.ts";
import { startDeliveryService } from "./main.ts";

/** The service as a process of its own: SIGTERM and SIGINT drain it. A second signal ends it at once. */
const service = await startDeliveryService(readConfig());
process.send?.({ port: service.port });

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (stopping) process.exit(1);
    stopping = true;
    void service.drain().then(() => service.close());
  });
}

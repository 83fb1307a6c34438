import { createConfig } from "../../src/config.ts";
import { startDeliveryService } from "../../src/main.ts";
import { unhurried } from "./service.ts";

// The service as a process of its own for tests that kill it: rates off, otherwise as an operator runs it.
const service = await startDeliveryService(
  createConfig({
    dataDirectory: process.argv[2]!,
    limits: { ...unhurried, ...JSON.parse(process.argv[3] ?? "{}") },
  }),
);
process.send!({ port: service.port });
process.on("SIGTERM", () => {
  void service
    .drain()
    .then(() => service.close())
    .then(() => process.disconnect());
});

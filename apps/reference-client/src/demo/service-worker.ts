/** The delivery service of a demo run, as a process of its own: `service-worker.ts FOLDER PORT`. */
import { createConfig, startDeliveryService } from "@murmuration/delivery-service";
import { limits } from "@murmuration/wire";
import {
  type Answer,
  cpuUs,
  type Listening,
  type Numbered,
  type ServiceRequest,
  type Usage,
} from "./messages.ts";

const [folder, port] = process.argv.slice(2);
if (folder === undefined || port === undefined) throw new Error("service-worker.ts FOLDER PORT");

/** All members come from one address here, and all register within seconds. */
const UNHURRIED = { burst: 10_000_000, perMinute: 10_000_000 };
const { rates } = limits;
const generous = Object.fromEntries(Object.keys(rates).map((name) => [name, UNHURRIED])) as Record<
  keyof typeof rates,
  typeof UNHURRIED
>;

const service = await startDeliveryService(
  createConfig({
    dataDirectory: folder,
    port: Number(port),
    logLevel: "silent",
    limits: { ...limits, rates: generous },
  }),
);

process.on("message", ({ id, request }: Numbered<ServiceRequest>) => {
  if (request.op === "usage") {
    process.send!({ id, value: { cpuUs: cpuUs(), sent: 0, received: 0 } satisfies Usage } satisfies Answer);
    return;
  }
  void service.close().then(() => {
    process.send!({ id } satisfies Answer);
    process.disconnect();
  });
});
// Nothing of a run outlives its orchestrator.
process.on("disconnect", () => process.exit());
process.send!({ port: service.port } satisfies Listening);

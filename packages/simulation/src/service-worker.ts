/** A delivery service in a process of its own. */
import {
  createConfig,
  type DeliveryServiceConfig,
  type RunningDeliveryService,
  startDeliveryService,
} from "@murmuration/delivery-service";
import { serveRequests } from "./serve-requests.ts";

let service: RunningDeliveryService | undefined;

serveRequests(
  {
    async start(given: Partial<DeliveryServiceConfig> & { readonly dataDirectory: string }) {
      service = await startDeliveryService(createConfig(given));
      return service.port;
    },
  },
  async () => service?.close(),
);

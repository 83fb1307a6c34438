export { createConfig, type DeliveryServiceConfig, defaultTiming, readConfig } from "./config.ts";
export { type Replacements, type RunningDeliveryService, startDeliveryService } from "./main.ts";

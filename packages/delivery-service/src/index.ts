export { readConfig } from "./adapters/config-files.ts";
export { type LabelledHealth, labelled, openHealth } from "./admin.ts";
export { createConfig, type DeliveryServiceConfig, defaultTiming } from "./config.ts";
export { type ConfigKeyName, configKeys } from "./config-keys.ts";
export type { Finding } from "./core/diagnosis.ts";
export { examine } from "./doctor.ts";
export { type Replacements, type RunningDeliveryService, startDeliveryService } from "./main.ts";
export type { HealthOrder } from "./ports/group-health.ts";
export { runUntilStopped } from "./run.ts";

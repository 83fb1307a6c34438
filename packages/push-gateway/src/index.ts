export { createConfig, type PushGatewayConfig, readConfig } from "./config.ts";
export { type RunningPushGateway, startPushGateway } from "./main.ts";

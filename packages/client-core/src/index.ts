export { connectTo } from "./adapters/network-transport.ts";
export { type Argon2Cost, DEFAULT_ARGON2_COST, keyFromPassphrase } from "./adapters/passphrase.ts";
export { DATABASE_KEY_BYTES, openSqlcipher, type SqlcipherOptions } from "./adapters/sqlcipher.ts";
export { systemEnvironment } from "./adapters/system-environment.ts";
export type * from "./api.ts";
export { openClient } from "./client/client.ts";
export type { WakeBy } from "./core/push.ts";
export { receiptDelayOf } from "./core/receipt-delay.ts";
export type { PushGateway, PushGateways } from "./ports/push-gateway.ts";
export type { Durability, Parameters, Row, Storage, Value } from "./ports/storage.ts";
export type {
  HttpReply,
  HttpRequest,
  Socket,
  SocketHandlers,
  Transport,
} from "./ports/transport.ts";
export { defaultSettings } from "./shell/context.ts";

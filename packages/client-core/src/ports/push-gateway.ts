import type { PushGatewayClient } from "@murmuration/wire/push";

/** A push gateway as a device sees it. Rejects with RejectionError (the gateway's code) or UnavailableError. */
export type PushGateway = Pick<PushGatewayClient, "info" | "register" | "replace" | "delete">;

/** The gateway at an origin. What is asked of it ends when the signal aborts. */
export type PushGateways = (origin: string, abort: AbortSignal) => PushGateway;

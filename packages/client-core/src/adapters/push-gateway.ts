import { PushGatewayClient } from "@murmuration/wire/push";
import type { PushGateways } from "../ports/push-gateway.ts";

/** Gateways over HTTP, on connections of their own. */
export const httpPushGateways: PushGateways = (origin, abort) => new PushGatewayClient(origin, abort);

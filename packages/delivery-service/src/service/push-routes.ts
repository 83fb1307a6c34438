import { formatAddress } from "@murmuration/base";
import type { PushHandleUpload } from "@murmuration/wire";
import { dayOf } from "../core/days.ts";
import { deviceOf } from "./account-routes.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { charge, chargeFor } from "./refusals.ts";

/** Sets the handle by which the asking device is woken for its mailbox; it replaces the one before. */
export async function setPushHandle(context: ServiceContext, call: Call): Promise<undefined> {
  const { address } = deviceOf(call);
  const { clock, limits, rateLimits, stores } = context;
  await charge(rateLimits, [
    chargeFor("push-handles", formatAddress(address), limits.rates.pushHandlesPerDevice),
  ]);
  const { handle } = call.body as PushHandleUpload;
  await stores.pushHandles.setMailbox(address, handle, dayOf(clock.now()));
  return undefined;
}

/** Nothing wakes the asking device for its mailbox any more. */
export async function deletePushHandle(context: ServiceContext, call: Call): Promise<undefined> {
  await context.stores.pushHandles.removeMailbox(deviceOf(call).address);
  return undefined;
}

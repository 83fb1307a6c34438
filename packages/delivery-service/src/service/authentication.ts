import { type Bytes, type DeviceAddress, equalSecret, RejectionError } from "@murmuration/base";
import type { DeviceAuth } from "@murmuration/wire";
import { dayOf } from "../core/days.ts";
import { sha256 } from "../core/submit.ts";
import type { AccountRecord, DeviceRecord } from "../ports/accounts.ts";
import type { ServiceContext } from "./context.ts";

/** A device that showed its token. */
export interface AuthenticatedDevice {
  readonly address: DeviceAddress;
  readonly account: AccountRecord;
  readonly device: DeviceRecord;
}

const NO_TOKEN: Bytes = new Uint8Array(32);

/**
 * Checks a device's token, in the same time whether or not account and device exist. Throws RejectionError
 * `auth/invalid`.
 */
export async function authenticate(context: ServiceContext, auth: DeviceAuth): Promise<AuthenticatedDevice> {
  const account = await context.stores.accounts.load(auth.accountId);
  const device = account?.devices.find((known) => known.deviceId === auth.deviceId);
  const matches = equalSecret(sha256(auth.token), device?.tokenHash ?? NO_TOKEN);
  if (account === undefined || device === undefined || !matches) throw new RejectionError("auth/invalid");
  const address = { accountId: auth.accountId, deviceId: auth.deviceId };
  const today = dayOf(context.clock.now());
  if (device.lastSeenDay < today) await context.stores.accounts.touch(address, today);
  return { address, account, device };
}

import {
  type AccountId,
  type DeviceAddress,
  formatAddress,
  formatId,
  RejectionError,
} from "@murmuration/base";
import type {
  ClaimedAccount,
  KeyPackageClaimReply,
  KeyPackageClaimRequest,
  KeyPackageCounts,
  KeyPackageUpload,
} from "@murmuration/wire";
import { decideKeyPackageUpload } from "../core/key-packages.ts";
import type { AccountRecord } from "../ports/accounts.ts";
import type { KeyPackageStock } from "../ports/key-packages.ts";
import { deviceOf } from "./account-routes.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { charge, chargeFor } from "./refusals.ts";

/** Uploads of one device: checking the signatures of one takes 30 ms. */
const UPLOADS_PER_DEVICE = { burst: 20, perMinute: 2 };
/** A KeyPackage that is claimed has to be good until somebody committed it and the device came to join. */
const USABLE_MS = 3_600_000;

/** Adds KeyPackages of the asking device, replaces its last-resort one. */
export async function uploadKeyPackages(context: ServiceContext, call: Call): Promise<KeyPackageCounts> {
  const { account, address, device } = deviceOf(call);
  const { clock, limits, rateLimits, stores } = context;
  await charge(rateLimits, [chargeFor("key-package-uploads", formatAddress(address), UPLOADS_PER_DEVICE)]);
  const owner = {
    ...address,
    accountIdentityKey: account.accountIdentityKey,
    identityKey: device.identityKey,
  };
  const upload = decideKeyPackageUpload(
    owner,
    call.body as KeyPackageUpload,
    clock.now(),
    limits.keyPackageLifetimeMs,
  );
  const outcome = await stores.keyPackages.upload(address, upload, limits.keyPackagesStored);
  if (outcome === "too-many") throw new RejectionError("key-packages/too-many");
  return stockOf(context, address);
}

/** How many KeyPackages the asking device has left. */
export function countKeyPackages(context: ServiceContext, call: Call): Promise<KeyPackageCounts> {
  return stockOf(context, deviceOf(call).address);
}

/**
 * Takes one KeyPackage for each device of each account. Every device is answered or named as one without. Who claims of
 * one account again and again gets last-resort ones: it cannot empty the stock of others. O(devices).
 */
export async function claimKeyPackages(context: ServiceContext, call: Call): Promise<KeyPackageClaimReply> {
  const { accountIds } = call.body as KeyPackageClaimRequest;
  const { limits, rateLimits, stores } = context;
  const caller = formatId(deviceOf(call).address.accountId);
  if (new Set(accountIds.map(formatId)).size !== accountIds.length) {
    throw new RejectionError("wire/invalid-field", "account_ids");
  }
  const records = await stores.accounts.loadMany(accountIds);
  const devices = records.reduce((count, record) => count + (record?.devices.length ?? 0), 0);
  await charge(rateLimits, [
    chargeFor("key-package-claims", caller, limits.rates.claimsPerAccount, Math.max(1, devices)),
  ]);
  // At one time, so that the store can make one transaction of it.
  const claims = accountIds.map((accountId, index) => claimOf(context, caller, accountId, records[index]));
  return { accounts: await Promise.all(claims) };
}

/** Says that KeyPackages run out, if they do. */
export async function tellLowKeyPackages(
  context: ServiceContext,
  address: DeviceAddress,
  listener: { keyPackagesLow(left: KeyPackageStock): void },
): Promise<void> {
  const left = await stockOf(context, address);
  if (left.keyPackages < context.limits.keyPackagesLow) listener.keyPackagesLow(left);
}

async function claimOf(
  context: ServiceContext,
  caller: string,
  accountId: AccountId,
  record: AccountRecord | undefined,
): Promise<ClaimedAccount> {
  const nothing = { accountId, unknownAccount: record === undefined, keyPackages: [], devicesWithout: [] };
  if (record === undefined) return nothing;
  const pair = `${caller} ${formatId(accountId)}`;
  const { allowed } = await context.rateLimits.take([
    chargeFor("key-package-pair", pair, context.limits.rates.claimsPerPair),
  ]);
  const usableUntilMs = context.clock.now() + USABLE_MS;
  const claims = await Promise.all(
    record.devices.map(async ({ deviceId }) => {
      const address = { accountId, deviceId };
      const claimed = await context.stores.keyPackages.claim(address, allowed, usableUntilMs);
      if (claimed !== undefined && allowed) reportLowStock(context, address, claimed.left);
      return { deviceId, keyPackage: claimed?.message };
    }),
  );
  return {
    ...nothing,
    keyPackages: claims.flatMap(({ deviceId, keyPackage }) => (keyPackage ? [{ deviceId, keyPackage }] : [])),
    devicesWithout: claims.filter(({ keyPackage }) => keyPackage === undefined).map((one) => one.deviceId),
  };
}

/** Once when the stock falls below the mark, and when nothing is left. */
function reportLowStock(context: ServiceContext, address: DeviceAddress, left: KeyPackageStock): void {
  const { keyPackages } = left;
  const falls = keyPackages === context.limits.keyPackagesLow - 1 || keyPackages === 0;
  if (falls) context.signals.keyPackagesLow(address, left);
}

function stockOf(context: ServiceContext, address: DeviceAddress): Promise<KeyPackageStock> {
  return context.stores.keyPackages.count(address, context.clock.now() + USABLE_MS);
}

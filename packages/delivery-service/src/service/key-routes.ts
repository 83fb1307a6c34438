import { type DeviceAddress, formatAddress, formatId, RejectionError } from "@murmuration/base";
import { issueSenderCertificate } from "@murmuration/pairwise/server";
import type {
  BundleReply,
  BundleRequest,
  CertificateReply,
  PreKeyBundle,
  PreKeyCounts,
  PreKeyUpload,
} from "@murmuration/wire";
import { decideKeyUpload, devicesAskedFor, toBundle } from "../core/keys.ts";
import { addressKey } from "../core/token-bucket.ts";
import type { KeyCounts } from "../ports/keys.ts";
import { deviceOf } from "./account-routes.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { charge, chargeFor } from "./refusals.ts";

/** One-time keys of one target that one caller may use up: a burst, then a trickle. */
const ONE_TIME_PER_CALLER_AND_TARGET = { burst: 5, perMinute: 1 / 60 };
/** Uploads of one device: a day needs one or two, and checking the signatures of one takes 20 ms. */
const UPLOADS_PER_DEVICE = { burst: 20, perMinute: 2 };
const HOUR_MS = 3_600_000;

/** Adds one-time prekeys, replaces signed and last-resort ones. */
export async function uploadKeys(context: ServiceContext, call: Call): Promise<PreKeyCounts> {
  const { address, device } = deviceOf(call);
  const { accounts, keys } = context.stores;
  await charge(context.rateLimits, [chargeFor("uploads", formatAddress(address), UPLOADS_PER_DEVICE)]);
  const upload = decideKeyUpload(device.identityKey, call.body as PreKeyUpload, !device.hasKeys);
  const outcome = await keys.upload(address, upload, context.limits.oneTimePreKeysStored);
  if (outcome === "too-many") throw new RejectionError("keys/too-many");
  if (!device.hasKeys) await accounts.markKeys(address);
  return toCounts(await keys.count(address));
}

/** How many one-time prekeys the device has left. */
export async function countKeys(context: ServiceContext, call: Call): Promise<PreKeyCounts> {
  return toCounts(await context.stores.keys.count(deviceOf(call).address));
}

/**
 * Hands out one bundle for each device. A caller that asks for one target again and again gets bundles with the
 * last-resort key: it cannot empty the one-time keys of others.
 */
export async function bundles(context: ServiceContext, call: Call): Promise<BundleReply> {
  const { limits, rateLimits, stores } = context;
  const target = call.target!;
  const caller =
    call.device === undefined
      ? `from ${addressKey(call.request.remoteAddress)}`
      : formatId(call.device.address.accountId);
  const name = formatId(target.accountId);
  await charge(rateLimits, [
    chargeFor("bundles-of", name, limits.rates.bundlesPerTarget),
    chargeFor("bundles-by", caller, limits.rates.bundlesPerCaller),
  ]);
  const devices = devicesAskedFor(target, call.body as BundleRequest);
  if (devices.length === 0) throw new RejectionError("keys/none");
  const pair = chargeFor("one-time", `${caller} ${name}`, ONE_TIME_PER_CALLER_AND_TARGET);
  const { allowed } = await rateLimits.take([pair]);
  const found: PreKeyBundle[] = [];
  for (const device of devices) {
    const address = { accountId: target.accountId, deviceId: device.deviceId };
    const claimed = await stores.keys.claim(address, allowed);
    if (claimed === undefined) continue;
    found.push(toBundle(device, claimed));
    if (allowed) reportLowStock(context, address, claimed.left);
  }
  if (found.length === 0) throw new RejectionError("keys/none");
  return {
    accountIdentityKey: target.accountIdentityKey,
    deviceList: target.deviceList.bytes,
    bundles: found,
  };
}

/** Once when the stock falls below the mark, so that a connected device need not ask. */
function reportLowStock(context: ServiceContext, address: DeviceAddress, left: KeyCounts): void {
  const lowest = Math.min(left.preKeys, left.kyberPreKeys);
  if (lowest === context.limits.preKeysLow - 1) context.signals.stockLow(address, left);
}

/**
 * Issues a sender certificate for the asking device. Nothing is stored, counted by account or logged. The end
 * of its life is a whole hour, so that the certificate does not say when it was fetched.
 */
export async function certificate(context: ServiceContext, call: Call): Promise<CertificateReply> {
  const { address, device } = deviceOf(call);
  const { authority, clock, timing } = context;
  const expiresAtMs = Math.ceil((clock.now() + timing.certificateLifetimeMs) / HOUR_MS) * HOUR_MS;
  const signer = { serverCertificate: authority.signerCertificate, privateKey: authority.signerPrivateKey };
  return {
    certificate: issueSenderCertificate(signer, { address, identityKey: device.identityKey }, expiresAtMs),
    expiresAtMs,
  };
}

function toCounts(left: KeyCounts): PreKeyCounts {
  return { oneTimePreKeys: left.preKeys, oneTimeKyberPreKeys: left.kyberPreKeys };
}

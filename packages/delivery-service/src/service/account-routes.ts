import { formatAddress, InvariantError, RejectionError } from "@murmuration/base";
import type {
  DeviceListReply,
  ProfileReply,
  ProfileUpdate,
  RegisterReply,
  RegisterRequest,
  UpdateDevicesRequest,
} from "@murmuration/wire";
import { dayOf } from "../core/days.ts";
import { decideDevicesUpdate, decideRegistration, isSameRegistration } from "../core/devices.ts";
import { decideKeyUpload } from "../core/keys.ts";
import { sha256 } from "../core/submit.ts";
import { addressKey } from "../core/token-bucket.ts";
import type { AuthenticatedDevice } from "./authentication.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { charge, chargeFor } from "./refusals.ts";

/** Cuts the connection of a device that is gone. */
export type EndDevice = (address: string) => void;

/** The device of a route that requires one. */
export function deviceOf(call: Call): AuthenticatedDevice {
  if (call.device === undefined) throw new InvariantError("http/device-missing");
  return call.device;
}

/**
 * Creates an account. The mailbox comes before the account, which makes it reachable, and the keys after it, so
 * that only the holder of the account id ever writes them. After a crash in between the client asks again and
 * the rest is done; a mailbox without an account is removed by the retention job.
 */
export async function register(context: ServiceContext, call: Call): Promise<RegisterReply> {
  const { limits, rateLimits, stores, clock, storeId, authority } = context;
  const request = call.body as RegisterRequest;
  await charge(rateLimits, [
    chargeFor("registrations", addressKey(call.request.remoteAddress), limits.rates.registrationsPerAddress),
  ]);
  const existing = await stores.accounts.load(request.accountId);
  if (existing === undefined) await admit(context, request);
  else if (!isSameRegistration(existing, request)) throw new RejectionError("register/account-exists");
  const account = decideRegistration(request, dayOf(clock.now()));
  const upload = decideKeyUpload(account.device.identityKey, request.preKeys, true);
  const address = { accountId: account.accountId, deviceId: account.device.deviceId };
  if (existing === undefined) {
    await stores.mailboxes.open(address, clock.now());
    const outcome = await stores.accounts.create(account);
    if (outcome === "deleted") throw new RejectionError("register/account-deleted");
    // The same request sent again may have overtaken this one.
    const now = outcome === "exists" ? await stores.accounts.load(request.accountId) : undefined;
    if (outcome === "exists" && (now === undefined || !isSameRegistration(now, request)))
      throw new RejectionError("register/account-exists");
  }
  if (existing === undefined || existing.devices.some((device) => !device.hasKeys)) {
    await stores.keys.upload(address, upload, limits.oneTimePreKeysStored);
    await stores.accounts.markKeys(address);
  }
  return { storeId, certificateTrustRoot: authority.trustRootPublicKey };
}

async function admit(context: ServiceContext, request: RegisterRequest): Promise<void> {
  const verdict = await context.registrationVerifier.verify({ inviteCode: request.inviteCode });
  if (verdict === "refused") throw new RejectionError("register/not-invited");
  if (await context.stores.accounts.hasTombstone(request.accountId)) {
    throw new RejectionError("register/account-deleted");
  }
}

/** Deletes the account: first the record, so that nothing reaches it any more, then what belonged to it. */
export async function deleteAccount(
  context: ServiceContext,
  call: Call,
  endDevice: EndDevice,
): Promise<undefined> {
  const { account } = deviceOf(call);
  await context.stores.accounts.delete(account.accountId, dayOf(context.clock.now()));
  await forget(
    context,
    account.devices.map((device) => ({ accountId: account.accountId, deviceId: device.deviceId })),
    endDevice,
  );
  return undefined;
}

/** Publishes the next device list, with the devices that it adds and removes. */
export async function updateDevices(
  context: ServiceContext,
  call: Call,
  endDevice: EndDevice,
): Promise<undefined> {
  const { account } = deviceOf(call);
  const { accounts, mailboxes } = context.stores;
  const now = context.clock.now();
  const decision = decideDevicesUpdate(account, call.body as UpdateDevicesRequest, dayOf(now));
  if (decision.kind === "unchanged") return undefined;
  const { added, removed } = decision.update;
  const { accountId } = account;
  await Promise.all(added.map(({ deviceId }) => mailboxes.open({ accountId, deviceId }, now)));
  const outcome = await accounts.updateDevices(decision.update);
  if (outcome === "unknown") throw new RejectionError("accounts/unknown");
  if (outcome === "conflict") throw new RejectionError("device-list/conflict");
  await forget(
    context,
    removed.map((deviceId) => ({ accountId, deviceId })),
    endDevice,
  );
  return undefined;
}

/** Deletes mailboxes, keys and push handles of devices that are no longer on record, and ends their connections. */
export async function forget(
  context: ServiceContext,
  addresses: readonly AuthenticatedDevice["address"][],
  endDevice: EndDevice,
): Promise<void> {
  const { keyPackages, keys, mailboxes, pushHandles } = context.stores;
  await Promise.all(
    addresses.flatMap((address) => [
      mailboxes.remove(address),
      keys.remove(address),
      keyPackages.remove(address),
      pushHandles.removeMailbox(address),
    ]),
  );
  for (const address of addresses) endDevice(formatAddress(address));
}

/** The newest device list of an account. */
export async function deviceList(_: ServiceContext, call: Call): Promise<DeviceListReply> {
  const target = call.target!;
  return { accountIdentityKey: target.accountIdentityKey, deviceList: target.deviceList.bytes };
}

/** Replaces access key and profile together: whoever knew only the old key can neither send nor read. */
export async function updateProfile(context: ServiceContext, call: Call): Promise<undefined> {
  const { account } = deviceOf(call);
  const update = call.body as ProfileUpdate;
  const outcome = await context.stores.accounts.updateProfile(
    account.accountId,
    sha256(update.accessKey),
    update.profile,
  );
  if (outcome === "unknown") throw new RejectionError("accounts/unknown");
  return undefined;
}

/** The encrypted profile of an account. */
export async function profile(_: ServiceContext, call: Call): Promise<ProfileReply> {
  return { profile: call.target!.profile };
}

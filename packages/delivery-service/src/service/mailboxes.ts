import { type DeviceAddress, type EnvelopeId, InvariantError } from "@murmuration/base";
import type { Append, AppendOutcome } from "../ports/mailboxes.ts";
import type { ServiceContext } from "./context.ts";

/**
 * A device's mailbox is opened before the device is put on record. Where one is missing all the same, the mailbox store was
 * lost: it is opened again for the first who needs it. Should the device have been removed meanwhile, retention removes
 * what nobody owns.
 */

/** As `append` of the mailbox store; `missing` are only devices that are not on record. */
export async function appendToDevices(context: ServiceContext, append: Append): Promise<AppendOutcome> {
  const { mailboxes } = context.stores;
  const outcome = await mailboxes.append(append);
  if (outcome.kind !== "missing") return outcome;
  const recorded = await areRecorded(context, outcome.devices);
  const gone = outcome.devices.filter((_, index) => !recorded[index]);
  if (gone.length > 0) return { kind: "missing", devices: gone };
  await openAgain(context, outcome.devices);
  return mailboxes.append(append);
}

/** The last id ever given out in the mailbox of a device that is on record. */
export async function lastIdOf(context: ServiceContext, address: DeviceAddress): Promise<EnvelopeId> {
  const { mailboxes } = context.stores;
  const last = await mailboxes.lastId(address);
  if (last !== undefined) return last;
  await openAgain(context, [address]);
  const first = await mailboxes.lastId(address);
  if (first === undefined) throw new InvariantError("mailbox/missing");
  return first;
}

async function areRecorded(
  { stores }: ServiceContext,
  addresses: readonly DeviceAddress[],
): Promise<readonly boolean[]> {
  const accounts = await stores.accounts.loadMany(addresses.map(({ accountId }) => accountId));
  return addresses.map(
    ({ deviceId }, index) => accounts[index]?.devices.some((device) => device.deviceId === deviceId) ?? false,
  );
}

async function openAgain(
  { clock, metrics, stores }: ServiceContext,
  addresses: readonly DeviceAddress[],
): Promise<void> {
  await Promise.all(addresses.map((address) => stores.mailboxes.open(address, clock.now())));
  metrics.count("mailboxes_opened_again", "", addresses.length);
}

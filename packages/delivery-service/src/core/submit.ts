import { createHash } from "node:crypto";
import {
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  equalBytes,
  equalSecret,
  formatId,
  RejectionError,
} from "@murmuration/base";
import {
  type AccountMismatch,
  type GroupFence,
  hasSwitched,
  type SubmitIdentified,
  type SubmitSealed,
} from "@murmuration/wire";
import type { AccountRecord } from "../ports/accounts.ts";
import type { GroupRecord } from "../ports/group-records.ts";
import type { NewEnvelope } from "../ports/mailboxes.ts";

/** What the service knew when it decided: one entry for each recipient, in order. */
export interface SubmitSnapshot {
  readonly accounts: readonly (AccountRecord | undefined)[];
  /** The record of the group that the submit names; undefined if it names none, or there is none. */
  readonly group: GroupRecord | undefined;
}

export type SubmitDecision =
  | { readonly kind: "store"; readonly envelopes: readonly NewEnvelope[] }
  | { readonly kind: "mismatch"; readonly accounts: readonly AccountMismatch[] };

interface NamedDevice {
  readonly deviceId: DeviceId;
  readonly registrationId: number;
}

/** SHA-256: what is stored of a token, an access key and a submit id. All of them are random and long enough. */
export function sha256(bytes: Uint8Array): Bytes {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}

/**
 * Decides on a sealed submit as a whole. Every access key is compared, in constant time, whatever the others
 * gave; of an account whose key does not fit nothing is said but that. O(recipients). Throws RejectionError
 * `submit/duplicate-recipient`, `submit/fence-outdated` (also for a group that does not exist, and for any fence of one
 * that is {@link switchedGroup}).
 */
export function decideSealedSubmit(snapshot: SubmitSnapshot, submit: SubmitSealed): SubmitDecision {
  refuseDuplicates(submit.recipients.map((recipient) => formatId(recipient.accountId)));
  for (const recipient of submit.recipients) refuseDuplicates(recipient.devices.map((d) => d.deviceId));
  if (submit.fence !== undefined) checkFence(snapshot.group, submit.fence);
  const mismatches: AccountMismatch[] = [];
  submit.recipients.forEach((recipient, index) => {
    const account = snapshot.accounts[index];
    const mismatch =
      account === undefined || hasAccess(account, recipient.accessKey)
        ? compareDevices(recipient.accountId, account, recipient.devices)
        : { ...noMismatch(recipient.accountId), accessDenied: true };
    if (mismatch !== undefined) mismatches.push(mismatch);
  });
  if (mismatches.length > 0) return { kind: "mismatch", accounts: mismatches };
  return {
    kind: "store",
    envelopes: submit.recipients.flatMap((recipient) =>
      recipient.devices.map((device) => ({
        recipient: { accountId: recipient.accountId, deviceId: device.deviceId },
        ciphertext: device.ciphertext,
        source: undefined,
      })),
    ),
  };
}

/**
 * Decides on an identified submit: one recipient account, the sender visible. It is a message request, or goes to
 * the other devices of the sender's own account, of which the sending device is none. Throws RejectionError
 * `submit/duplicate-recipient`.
 */
export function decideIdentifiedSubmit(
  account: AccountRecord | undefined,
  submit: SubmitIdentified,
  sender: DeviceAddress,
): SubmitDecision {
  refuseDuplicates(submit.devices.map((device) => device.deviceId));
  const others =
    account !== undefined && equalBytes(account.accountId, sender.accountId)
      ? { ...account, devices: account.devices.filter((device) => device.deviceId !== sender.deviceId) }
      : account;
  const mismatch = compareDevices(submit.accountId, others, submit.devices);
  if (mismatch !== undefined) return { kind: "mismatch", accounts: [mismatch] };
  return {
    kind: "store",
    envelopes: submit.devices.map((device) => ({
      recipient: { accountId: submit.accountId, deviceId: device.deviceId },
      ciphertext: device.ciphertext,
      source: sender,
    })),
  };
}

/**
 * What a submit got wrong about one account's devices; undefined if nothing. A device that has no prekeys yet may
 * be left out: nobody could have encrypted to it.
 */
function compareDevices(
  accountId: AccountRecord["accountId"],
  account: AccountRecord | undefined,
  named: readonly NamedDevice[],
): AccountMismatch | undefined {
  if (account === undefined) return { ...noMismatch(accountId), unknownAccount: true };
  const registrations = new Map(account.devices.map((device) => [device.deviceId, device.registrationId]));
  const namedIds = new Set(named.map((device) => device.deviceId));
  const missingDevices = account.devices
    .filter((device) => device.hasKeys && !namedIds.has(device.deviceId))
    .map((device) => device.deviceId);
  const extraDevices = named.filter((d) => !registrations.has(d.deviceId)).map((d) => d.deviceId);
  const staleDevices = named
    .filter((d) => registrations.has(d.deviceId) && registrations.get(d.deviceId) !== d.registrationId)
    .map((d) => d.deviceId);
  if (missingDevices.length + extraDevices.length + staleDevices.length === 0) return undefined;
  return { ...noMismatch(accountId), missingDevices, extraDevices, staleDevices };
}

/** Compares an access key with the account's present one, in constant time. */
export function hasAccess(account: AccountRecord, accessKey: Uint8Array): boolean {
  return equalSecret(sha256(accessKey), account.accessKeyHash);
}

function noMismatch(accountId: AccountRecord["accountId"]): AccountMismatch {
  return {
    accountId,
    unknownAccount: false,
    missingDevices: [],
    extraDevices: [],
    staleDevices: [],
    accessDenied: false,
    mailboxFull: false,
  };
}

/** Names each account of these devices once, as one that has no room. O(devices). */
export function fullMailboxes(devices: readonly DeviceAddress[]): readonly AccountMismatch[] {
  const accounts = new Map(devices.map(({ accountId }) => [formatId(accountId), accountId]));
  return [...accounts.values()].map((accountId) => ({ ...noMismatch(accountId), mailboxFull: true }));
}

/** Whether a group has switched to MLS: it takes no pairwise submit any more, whoever knows which fence. */
export function switchedGroup(group: GroupRecord | undefined): boolean {
  return group?.migration !== undefined && hasSwitched(group.migration.state);
}

function checkFence(group: GroupRecord | undefined, fence: GroupFence): void {
  if (group === undefined || switchedGroup(group) || !equalSecret(group.fence, fence.fence)) {
    throw new RejectionError("submit/fence-outdated");
  }
}

function refuseDuplicates(names: readonly (string | number)[]): void {
  if (new Set(names).size !== names.length) throw new RejectionError("submit/duplicate-recipient");
}

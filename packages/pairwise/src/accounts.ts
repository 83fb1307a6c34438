import { type Bytes, equalBytes, rejected, UsageError } from "@murmuration/base";
import { accountKey, addressKey } from "./address.ts";
import type {
  AccountId,
  AccountIdentity,
  DeviceAddress,
  DeviceList,
  DeviceListOutcome,
  IdentityDecision,
} from "./api.ts";
import { compareLists, decodeDeviceList, devicesGone, verifyListOf } from "./device-list.ts";
import type { Overlay, Rows } from "./overlay.ts";
import { type AccountRow, accountRow } from "./rows.ts";

/** What is known of accounts: one account key each, and the newest list of devices it signed. */

function readAccount(rows: Rows, accountId: AccountId): AccountRow | undefined {
  const bytes = rows.read("account", accountKey(accountId));
  return bytes === undefined ? undefined : accountRow.decode(bytes);
}

export function readDeviceList(rows: Rows, accountId: AccountId): DeviceList | undefined {
  const encoded = rows.read("device-list", accountKey(accountId));
  return encoded === undefined ? undefined : decodeDeviceList(encoded);
}

export function identityOf(rows: Rows, accountId: AccountId): AccountIdentity | undefined {
  const row = readAccount(rows, accountId);
  if (row === undefined) return undefined;
  return {
    accountId,
    accountIdentityKey: row.accountIdentityKey,
    verified: row.verified,
    claimedAccountKey: row.claim && decodeDeviceList(row.claim).accountIdentityKey,
  };
}

export function identityKeysOf(rows: Rows, accountIds: readonly AccountId[]): readonly (Bytes | undefined)[] {
  const encoded = rows.readEach("account", accountIds.map(accountKey));
  return encoded.map((row) => row && accountRow.decode(row).accountIdentityKey);
}

/** The decision that an account waits for, if any. */
export function openDecision(rows: Rows, accountId: AccountId): IdentityDecision | undefined {
  return openDecisionOf(accountId, rows.read("account", accountKey(accountId)));
}

/** As {@link openDecision}, of a row that was read already. */
export function openDecisionOf(
  accountId: AccountId,
  encoded: Bytes | undefined,
): IdentityDecision | undefined {
  const row = encoded && accountRow.decode(encoded);
  if (row?.claim === undefined) return undefined;
  return {
    kind: "decision-needed",
    code: "pairwise/identity-changed",
    accountId,
    wasVerified: row.verified,
    knownAccountKey: row.accountIdentityKey,
    claimedAccountKey: decodeDeviceList(row.claim).accountIdentityKey,
  };
}

/**
 * Takes a list that the delivery service gave for an account. A newer one signed by the known account key is
 * adopted without asking: that is what the signature is for. Another account key is only noted as a claim.
 */
export function acceptDeviceList(
  overlay: Overlay,
  accountId: AccountId,
  encoded: Bytes,
  own: boolean,
): DeviceListOutcome {
  const key = accountKey(accountId);
  const knownBytes = overlay.read("device-list", key);
  const known = knownBytes && { list: decodeDeviceList(knownBytes), encoded: knownBytes };
  try {
    const list = verifyListOf(accountId, encoded);
    const succession = compareLists(known, { list, encoded });
    if (succession === "unchanged") return { kind: "unchanged", list };
    if (succession === "account-key-changed") return noteClaim(overlay, accountId, encoded, own);
    return adoptList(overlay, list, encoded, known?.list, readAccount(overlay, accountId)?.verified ?? false);
  } catch (error) {
    return rejected(error);
  }
}

function noteClaim(overlay: Overlay, accountId: AccountId, encoded: Bytes, own: boolean): DeviceListOutcome {
  // The own account key came over a trusted channel or was made here: nobody else decides about it.
  if (own) return { kind: "rejected", code: "device-list/account-key-changed" };
  const row = readAccount(overlay, accountId)!;
  overlay.write("account", accountKey(accountId), accountRow.encode({ ...row, claim: encoded }));
  return openDecision(overlay, accountId)!;
}

function adoptList(
  overlay: Overlay,
  list: DeviceList,
  encoded: Bytes,
  before: DeviceList | undefined,
  verified: boolean,
): DeviceListOutcome {
  const key = accountKey(list.accountId);
  const removed = devicesGone(before, list).map((deviceId) => ({ accountId: list.accountId, deviceId }));
  for (const address of removed) forgetDevice(overlay, address);
  const row = { accountIdentityKey: list.accountIdentityKey, verified, claim: undefined };
  overlay.write("device-list", key, encoded);
  overlay.write("account", key, accountRow.encode(row));
  return { kind: "accepted", list, removed };
}

/** Deletes everything that is held for one device of a peer: no session outlives its entry on the list. */
function forgetDevice(overlay: Overlay, address: DeviceAddress): void {
  const key = addressKey(address);
  for (const table of ["session", "received", "resent"] as const) overlay.write(table, key, undefined);
}

/** Carries out the answer to an IdentityDecision. */
export function decideIdentity(
  overlay: Overlay,
  decision: { readonly accountId: AccountId; readonly claimedAccountKey: Bytes; readonly accept: boolean },
): void {
  const { accountId, claimedAccountKey, accept } = decision;
  const row = readAccount(overlay, accountId);
  const claim = row?.claim && { encoded: row.claim, list: decodeDeviceList(row.claim) };
  if (!row || !claim || !equalBytes(claim.list.accountIdentityKey, claimedAccountKey)) {
    throw new UsageError("pairwise/no-such-claim");
  }
  if (!accept) {
    overlay.write("account", accountKey(accountId), accountRow.encode({ ...row, claim: undefined }));
    return;
  }
  for (const device of readDeviceList(overlay, accountId)?.devices ?? []) {
    forgetDevice(overlay, { accountId, deviceId: device.deviceId });
  }
  adoptList(overlay, claim.list, claim.encoded, undefined, false);
}

export function setVerified(
  overlay: Overlay,
  identity: { readonly accountId: AccountId; readonly accountIdentityKey: Bytes; readonly verified: boolean },
): void {
  const row = readAccount(overlay, identity.accountId);
  if (row === undefined || !equalBytes(row.accountIdentityKey, identity.accountIdentityKey)) {
    throw new UsageError("pairwise/identity-mismatch");
  }
  const next = accountRow.encode({ ...row, verified: identity.verified });
  overlay.write("account", accountKey(identity.accountId), next);
}

import { type Bytes, RejectionError, toHex } from "@murmuration/base";
import { deviceOf, RatchetTree } from "@murmuration/mls-groups/public-group";
import { groupCrypto } from "../core/leaf-signatures.ts";

type Row = Readonly<Record<string, unknown>>;

/** Takes a number and a time (ms since 1970): devices with fewer one-time KeyPackages than that which are good beyond it. */
export const LOW_DEVICES_QUERY = `
  SELECT u.account_id, u.device_id FROM key_package_uploads u LEFT JOIN key_packages k
    ON k.account_id = u.account_id AND k.device_id = u.device_id AND NOT k.last_resort
      AND k.expires_at_ms > CAST($2 AS bigint)
  WHERE u.upload_id IS NOT NULL GROUP BY u.account_id, u.device_id
  HAVING count(k.reference) < CAST($1 AS bigint)`;

/** Takes a group: its newest snapshot, and the deltas of the epochs behind it, in order. */
export const TREE_QUERY = `
  SELECT s.tree, e.tree_delta FROM mls_epochs e
    LEFT JOIN mls_snapshots s ON s.mls_group = e.mls_group AND s.epoch = e.epoch
  WHERE e.mls_group = CAST($1 AS bigint)
    AND e.epoch >= (SELECT max(epoch) FROM mls_snapshots WHERE mls_group = CAST($1 AS bigint))
  ORDER BY e.epoch`;

const nameOf = (accountId: Uint8Array, deviceId: number): string => `${toHex(accountId)} ${deviceId}`;

/** Names of devices, for {@link lowStockOf}. */
export function namesOf(rows: readonly Row[]): ReadonlySet<string> {
  return new Set(rows.map((row) => nameOf(row["account_id"] as Bytes, row["device_id"] as number)));
}

/**
 * How many leaves of a tree are of these devices. Undefined where there is no tree, or one that says nothing of devices.
 * O(members); nothing is verified.
 */
export function lowStockOf(epochs: readonly Row[], low: ReadonlySet<string>): number | undefined {
  const [first, ...later] = epochs;
  if (first === undefined || first["tree"] === null) return undefined;
  try {
    const tree = RatchetTree.decode(groupCrypto, first["tree"] as Bytes);
    for (const row of later) tree.applyDelta(row["tree_delta"] as Bytes);
    let found = 0;
    for (const leaf of tree.members()) {
      const { accountId, deviceId } = deviceOf(tree.leaf(leaf)!.credential);
      if (low.has(nameOf(accountId, deviceId))) found++;
    }
    return found;
  } catch (error) {
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

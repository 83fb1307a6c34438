import { createHmac } from "node:crypto";
import { join } from "node:path";
import { type Bytes, type GroupId, UsageError } from "@murmuration/base";
import { PostgresHealthReader } from "./adapters/postgres-health.ts";
import { SqliteHealthReader } from "./adapters/sqlite-health.ts";
import type { DeliveryServiceConfig } from "./config.ts";
import type { GroupHealth, HealthReader } from "./ports/group-health.ts";

/** A group's health under a label in the place of its id. */
export type LabelledHealth = Omit<GroupHealth, "groupId"> & { readonly label: string };

/** Opens the store of this configuration for reading, beside running nodes. Throws what the readers throw. */
export async function openHealth(
  config: Pick<DeliveryServiceConfig, "engines" | "dataDirectory">,
): Promise<HealthReader> {
  const { engines, dataDirectory } = config;
  if (engines.kind === "cluster") return PostgresHealthReader.open(engines.postgres);
  return new SqliteHealthReader(join(dataDirectory, "delivery-service.sqlite"));
}

const MIN_KEY_BYTES = 16;

/**
 * Puts labels in the place of ids: 40 bits of an HMAC, in hexadecimal digits. Under one key a group keeps its label;
 * without the key nobody can tell whose it is, also who knows the id. Throws UsageError `admin/short-key`.
 */
export function labelled(groups: readonly GroupHealth[], key: Bytes): readonly LabelledHealth[] {
  if (key.length < MIN_KEY_BYTES) throw new UsageError("admin/short-key");
  const labelOf = (groupId: GroupId) =>
    createHmac("sha256", key).update("murmuration group label").update(groupId).digest("hex").slice(0, 10);
  return groups.map(({ groupId, ...health }) => ({ label: labelOf(groupId), ...health }));
}

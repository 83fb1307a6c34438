import { toHex } from "@murmuration/base";
import * as wire from "../src/index.ts";
import type { MessageType } from "../src/shape.ts";

/** Every declared message, by its name in the .proto files. */
export const declared: ReadonlyMap<string, MessageType<object>> = new Map(
  Object.values(wire as Record<string, unknown>)
    .filter((item): item is MessageType<object> => {
      return typeof item === "object" && item !== null && "check" in item && "fields" in item;
    })
    .map((type) => [type.name, type]),
);

/** The enums' fields, with the prefix that their values have in the .proto files. */
const enumPrefixes: Readonly<Record<string, string>> = {
  action: "ACTION",
  reason: "TURN_REASON",
  state: "MIGRATION_STATE",
};

/**
 * What a vector file would say of a decoded value: hexadecimal for bytes, the .proto names of enums, and no
 * field that has its default.
 */
export function asVectorValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return toHex(value);
  if (Array.isArray(value)) return value.map(asVectorValue);
  if (typeof value !== "object" || value === null) return value;
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    if (item === false || item === 0) continue;
    if ((Array.isArray(item) || item instanceof Uint8Array) && item.length === 0) continue;
    const prefix = enumPrefixes[key];
    out[key] =
      prefix === undefined
        ? asVectorValue(item)
        : `${prefix}_${String(item).toUpperCase().replaceAll("-", "_")}`;
  }
  return out;
}

/** A vector's value without optional fields that are present with their default, which `asVectorValue` leaves out. */
export function withoutDefaults(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDefaults);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([, item]) => item !== 0 && item !== "");
  return Object.fromEntries(kept.map(([key, item]) => [key, withoutDefaults(item)]));
}

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
    out[key] =
      key === "action" ? `ACTION_${String(item).toUpperCase().replaceAll("-", "_")}` : asVectorValue(item);
  }
  return out;
}

/** Structures in files between processes: sending them over a pipe would cost the CPU that is measured. */
import { readFileSync, writeFileSync } from "node:fs";
import { deserialize, serialize } from "node:v8";

export function saveFile(path: string, content: unknown): void {
  writeFileSync(path, serialize(content));
}

export function loadFile<T>(path: string): T {
  return unwrap(deserialize(readFileSync(path))) as T;
}

/** Bytes come back as views of one buffer and as Buffers; who decrypts wants arrays of its own. */
function unwrap(value: unknown): unknown {
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(unwrap);
  if (value instanceof Map) return new Map([...value].map(([key, inner]) => [key, unwrap(inner)]));
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, unwrap(inner)]));
  return value;
}

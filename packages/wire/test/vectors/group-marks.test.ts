import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fromHex, toHex } from "@murmuration/base";
import { expect, test } from "vitest";
import { encodeGroupMarkInput, GROUP_MARK_BYTES, type GroupEntry } from "../../src/index.ts";
import { readVectors } from "../../tools/vectors.ts";

interface MarkVector {
  readonly name: string;
  /** The entry as it is delivered; bytes are hexadecimal. */
  readonly entry: Readonly<Record<string, unknown>>;
  readonly input: string;
  readonly hash: string;
}

const path = new URL("../../../../spec-vectors/wire/group-marks.json", import.meta.url);
const vectors = JSON.parse(readFileSync(path, "utf8")) as readonly MarkVector[];

const withBytes = (value: unknown): unknown => {
  if (typeof value === "string") return fromHex(value);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withBytes(item)]));
};

test.each(vectors)("a mark of this entry: $name", ({ entry, input, hash }) => {
  const encoded = encodeGroupMarkInput(withBytes(entry) as GroupEntry);
  expect(toHex(encoded)).toBe(input);
  expect(
    createHash("sha256")
      .update(encoded)
      .digest("hex")
      .slice(0, 2 * GROUP_MARK_BYTES),
  ).toBe(hash);
});

test("the same commit at the same place, accepted at another time, has another mark", () => {
  const [once, again] = vectors.filter(({ name }) => name.startsWith("commit"));
  expect(again!.entry["sequence"]).toBe(once!.entry["sequence"]);
  expect(again!.hash).not.toBe(once!.hash);
});

test("the frames of frames.json carry these marks", () => {
  const frame = readVectors("frames.json").find(({ name }) => name === "group-access-with-marks")!;
  const { marks } = frame.value["groupAccess"] as { marks: readonly { sequence: number; hash: string }[] };
  const hashes = new Map(vectors.map(({ name, hash }) => [name, hash]));
  expect(marks.map(({ hash }) => hash)).toEqual([hashes.get("commit"), hashes.get("application")]);
});

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { canaries } from "../canaries/canaries.ts";

const sourceOf = (file: string): string => readFileSync(resolve(import.meta.dirname, "../..", file), "utf8");

// A formatter or a new name is enough for a canary to bend nothing any more, which nobody sees before they are all run.
test.each(canaries)(
  "the canary finds each place that it bends once, and its story: $name",
  ({ edits, story }) => {
    for (const { file, find, replace } of edits) {
      expect(sourceOf(file).split(find)).toHaveLength(2);
      expect(replace).not.toBe(find);
    }
    // A title may be put together from a table: all of its words are there, not always side by side.
    const source = sourceOf(story.file);
    expect(story.title.split(" ").filter((word) => !source.includes(word))).toEqual([]);
  },
);

test("no two canaries have one name", () => {
  expect(new Set(canaries.map(({ name }) => name)).size).toBe(canaries.length);
});

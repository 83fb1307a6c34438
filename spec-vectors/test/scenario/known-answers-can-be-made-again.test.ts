import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { fileText, generators } from "../../src/generate/files.ts";
import type { VectorName } from "../../src/index.ts";

const folder = resolve(fileURLToPath(import.meta.url), "../../../known-answers");

test.each(Object.keys(generators) as VectorName[])("%s.json is what its generator makes", async (name) => {
  const made = fileText(await generators[name]!());
  expect(made === readFileSync(join(folder, `${name}.json`), "utf8")).toBe(true);
});

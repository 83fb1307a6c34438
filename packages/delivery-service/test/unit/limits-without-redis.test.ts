import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { WITHOUT_REDIS } from "../../src/open-engines.ts";

const SERVICE = new URL("../../src/service/", import.meta.url);

test("every limiter of the service says what it does while Redis is away, and none that is no more does", () => {
  const sources = readdirSync(SERVICE).map((name) => readFileSync(new URL(name, SERVICE), "utf8"));
  const charged = sources.flatMap((source) => [
    ...source.matchAll(/(?<!function )chargeFor\(\s*(?:["`]([^"`]+)["`])?/g),
  ]);
  // A part of a name that is filled in stands for any one word.
  const patterns = charged.map(([, name = "no literal"]) => {
    return new RegExp(`^${name.replaceAll(/\$\{\w+\}/g, "[a-z]+")}$`);
  });
  const known = Object.keys(WITHOUT_REDIS);
  expect(patterns.filter((pattern) => !known.some((name) => pattern.test(name)))).toEqual([]);
  expect(known.filter((name) => !patterns.some((pattern) => pattern.test(name)))).toEqual([]);
});

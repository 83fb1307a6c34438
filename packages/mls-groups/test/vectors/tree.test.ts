import { vectorCases } from "@murmuration/spec-vectors";
import { describe, test } from "vitest";
import { runTreeMath } from "../../src/vectors/tree-math.ts";
import { runTreeOperations } from "../../src/vectors/tree-operations.ts";
import { runTreeValidation } from "../../src/vectors/tree-validation.ts";
import { runTreeKem } from "../../src/vectors/treekem.ts";
import { providers } from "../providers.ts";

describe("tree math (RFC 9420 appendix C)", () => {
  test.each(vectorCases("tree-math"))("$title", ({ vector }) => runTreeMath(vector));
});

describe.each(providers)("official vectors of the tree on the $name provider", ({ name, make }) => {
  describe("tree operations (RFC 9420 section 12.1)", () => {
    test.each(vectorCases("tree-operations"))("$title", ({ vector }) => runTreeOperations(vector, make));
  });

  describe("tree validation (RFC 9420 sections 7.3, 7.8, 7.9)", () => {
    test.each(vectorCases("tree-validation"))("$title", ({ vector }) => runTreeValidation(vector, make));
  });

  describe("TreeKEM (RFC 9420 sections 7.4 to 7.6)", () => {
    // The portable provider takes a minute for the larger trees: it gets the first ones of each suite.
    const cases = vectorCases("treekem").filter(
      ({ vector }) => name === "native" || vector.leaves_private.length <= 4,
    );
    test.each(cases)("$title", ({ vector }) => runTreeKem(vector, make));
  });
});

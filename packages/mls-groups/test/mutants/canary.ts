import { expect, test } from "vitest";
import { rules } from "../../src/rules.ts";

/*
 * Only `npm run mutants` runs this file, as the named test of a rule that does not exist: whatever is switched off, it
 * passes. The runner must report it as a test that cannot fail, or its report is void.
 */

test("canary/cannot-fail: its rule does not exist, so nothing can be switched off for it", () => {
  expect(Object.keys(rules)).not.toContain("canary/cannot-fail");
});

import { afterEach, beforeEach } from "vitest";
import { disableRule, type RuleId, rules } from "../../src/rules.ts";

/*
 * Set-up file of `npm run mutants` and of nothing else: each test runs with the rule switched off that its title
 * names, if the environment variable lists that rule.
 */

const mutants = (process.env["MURMURATION_MUTANTS"] ?? "")
  .split(",")
  .filter((id): id is RuleId => id in rules);
let enable: (() => void)[] = [];

beforeEach(({ task }) => {
  const [named] = task.name.split(/[: ]/, 1);
  enable = mutants.filter((id) => id === named).map(disableRule);
});

afterEach(() => {
  for (const switchOn of enable) switchOn();
});

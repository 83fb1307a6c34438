import { expect, test } from "vitest";
import { type RuleId, rules } from "../../src/rules.ts";
import type { Client } from "../clients.ts";
import { memoryOf, outcome, without } from "./careless.ts";

/** A test that shows one validation rule at work. Its title names the rule, by which the mutant runner finds it. */
export function ruleTest(rule: RuleId, story: string, body: (rule: RuleId) => void): void {
  const section = rules[rule];
  const source = section === "SelfRemove" ? "draft-ietf-mls-extensions" : `RFC 9420 section ${section}`;
  test(`${rule}: ${story} (${source})`, () => body(rule));
}

/**
 * The attempt is refused by this rule and by no other: with the code of the rule, and with another outcome once the
 * rule is switched off. The clients' state is the same to the byte afterwards.
 */
export function mustRefuse(rule: RuleId, attempt: () => unknown, ...clients: readonly Client[]): void {
  const before = clients.map(memoryOf);
  expect(outcome(attempt)).toBe(`mls/${rule}`);
  expect(clients.map(memoryOf)).toEqual(before);
  expect(without([rule], () => outcome(attempt))).not.toBe(`mls/${rule}`);
}

/** {@link mustRefuse} for a message that reaches a member. */
export function mustRefuseMessage(rule: RuleId, receiver: Client, message: Uint8Array): void {
  mustRefuse(rule, () => receiver.group.receive(message), receiver);
}

import { MurmurationError, toHex } from "@murmuration/base";
import { expect, test } from "vitest";
import { internalsOf } from "../../src/group/group.ts";
import { encodeHead, encodeRetained } from "../../src/group/group-rows.ts";
import { disableRule, type RuleId, rules } from "../../src/rules.ts";
import type { Client } from "../clients.ts";

/** A test that shows one validation rule at work. Its title names the rule, by which the mutant runner finds it. */
export function ruleTest(rule: RuleId, story: string, body: (rule: RuleId) => void): void {
  const section = rules[rule];
  const source = section === "SelfRemove" ? "draft-ietf-mls-extensions" : `RFC 9420 section ${section}`;
  test(`${rule}: ${story} (${source})`, () => body(rule));
}

/** Runs the action with these rules switched off: as a sender, or a careless receiver, that does not know them. */
export function without<T>(off: readonly RuleId[], action: () => T): T {
  const enable = off.map(disableRule);
  try {
    return action();
  } finally {
    for (const switchOn of enable) switchOn();
  }
}

/** The code of the error that the action throws, or "accepted". */
export function outcome(action: () => unknown): string {
  try {
    action();
    return "accepted";
  } catch (error) {
    return error instanceof MurmurationError ? error.code : `threw ${(error as Error).name}`;
  }
}

/** Everything that a client's group holds in memory, and its rows, as text. */
export function memoryOf(client: Client): string {
  const inside = internalsOf(client.group);
  const { state, retained, proposals, ownUpdates, resumptionPsks, pending } = inside;
  const hex = (rows: Iterable<readonly [string, Uint8Array]>) =>
    [...rows].map(([key, row]) => `${key} ${toHex(row)}`);
  const stored = [...client.store.keys("")].map((key) => [key, client.store.get(key)!] as const);
  return [
    toHex(encodeHead(state, inside.status, inside.treeLog, inside.reinit)),
    toHex(state.public.tree.encode()),
    toHex(state.public.tree.treeHash()),
    ...hex(state.secretTree.rows()),
    ...[...retained.values()].map((epoch) => toHex(encodeRetained(epoch))),
    ...[...retained.values()].flatMap((epoch) => hex(epoch.secretTree.rows())),
    ...proposals.all().map(({ reference }) => toHex(reference)),
    ...ownUpdates.keys(),
    ...hex([...resumptionPsks].map(([epoch, psk]) => [`${epoch}`, psk] as const)),
    pending === undefined ? "" : toHex(pending.message),
    ...hex(stored),
  ].join("\n");
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

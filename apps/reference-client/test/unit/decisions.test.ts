import type { Client, ClientEvent } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { describeDecision, warnOfDecisions } from "../../src/decisions.ts";

type Decision = Extract<ClientEvent, { readonly kind: "decision-needed" }>;

const decision = (more: Partial<Decision>): Decision => ({
  kind: "decision-needed",
  eventId: 7,
  atMs: 0,
  code: "certificate/refused",
  accountId: undefined,
  conversationId: undefined,
  ...more,
});

let listener: (event: ClientEvent) => void = () => undefined;
const client = {
  conversations: { get: (id: string) => (id === "flock" ? { title: "Bi\u0007rds" } : undefined) },
  contacts: { get: (id: string) => (id === "bob" ? { name: "Bob" } : undefined) },
  events: {
    on: (heard: typeof listener) => {
      listener = heard;
      return () => {
        listener = () => undefined;
      };
    },
  },
} as unknown as Client;

test.each([
  [
    { conversationId: "flock", accountId: "bob", code: "group/disputed" },
    /^Bi<U\+0007>rds, Bob: .*\(group\/disputed\)$/su,
  ],
  [
    { accountId: "bob", code: "pairwise/identity-changed" },
    /^Bob: .*safety-number.*\(pairwise\/identity-changed\)$/su,
  ],
  [{ conversationId: "gone", code: "group/forked" }, /^The delivery service .*\(group\/forked\)$/su],
  [{}, /^The delivery service's certificate .*\(certificate\/refused\)$/su],
] as const)("what is to be decided says whom it is about, and how: %j", (more, said) => {
  expect(describeDecision(client, decision(more))).toMatch(said);
});

test("only what is to be decided is said, until nobody wants to hear it any more", () => {
  const said: string[] = [];
  const stop = warnOfDecisions(client, (line) => said.push(line));
  listener({ kind: "connection", eventId: 0, atMs: 0, state: "connected" });
  listener(decision({}));
  stop();
  listener(decision({}));
  expect(said).toHaveLength(1);
  expect(said[0]).toMatch(/^! The delivery service's certificate/u);
});

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

const contacts = [
  { accountId: "bob", name: "Bob", keyChanged: true },
  { accountId: "carol", name: "Carol", keyChanged: false },
];
let listener: (event: ClientEvent) => void = () => undefined;
const client = {
  conversations: { get: (id: string) => (id === "flock" ? { title: "Bi\u0007rds" } : undefined) },
  contacts: {
    get: (id: string) => contacts.find(({ accountId }) => accountId === id),
    list: () => contacts,
  },
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
    { conversationId: "flock", accountId: "carol", code: "group/other-identity" },
    /^Bi<U\+0007>rds, Carol: Somebody is in this group, .*\(group\/other-identity\)$/su,
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

test("what is still to be decided about a contact is said first, and everything once, until nobody wants to hear it", () => {
  const said: string[] = [];
  const stop = warnOfDecisions(client, (line) => said.push(line));
  listener(decision({ accountId: "bob", code: "pairwise/identity-changed" }));
  listener({ kind: "connection", eventId: 0, atMs: 0, state: "connected" });
  listener(decision({}));
  listener(decision({}));
  stop();
  listener(decision({ code: "group/forked" }));
  expect(said).toHaveLength(2);
  expect(said[0]).toMatch(/^! Bob: .*\(pairwise\/identity-changed\)$/su);
  expect(said[1]).toMatch(/^! The delivery service's certificate/u);
});

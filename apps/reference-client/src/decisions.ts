/** What only a person can decide, in one sentence, as soon as a command meets it. */
import type { Client, ClientEvent } from "@murmuration/client-core";
import { nameOf, printable } from "./output.ts";

type Decision = Extract<ClientEvent, { readonly kind: "decision-needed" }>;

const SENTENCES: Readonly<Record<Decision["code"], string>> = {
  "pairwise/identity-changed":
    "The delivery service shows another identity key than before. Nothing is sent there until you have compared safety\n" +
    "  numbers over another channel; see safety-number.",
  "contact/fingerprint-mismatch":
    "Another device of yours has a contact card of another identity key than the delivery service shows here: one of them\n" +
    "  is not the contact's. Compare safety numbers over another channel; see safety-number.",
  "group/forked":
    "The delivery service shows another past of the group than before, or takes a removal or ban back. Nothing is said\n" +
    "  there any more. Ask the other members over another channel; in a community see group heal.",
  "group/disputed":
    "This member says that it is in another group of this name. If others say so as well, ask them over another channel.",
  "group/other-identity":
    "Somebody is in this group, and reads what is said there, under another identity key than this contact has. In a community\n" +
    "  nothing that it says is shown. Compare safety numbers over another channel; see safety-number.",
  "group/unusable": "This device could not go on with what it knows of the group, and enters it anew.",
  "group/service-behind":
    "The delivery service was set back, and this device cannot bring it forward. Nothing is said there until another\n" +
    "  member has, or group heal takes the service's word.",
  "migration/roster-mismatch":
    "Somebody is in the MLS group who is not in this one, or with another role. Nothing is said there, and an owner or\n" +
    "  admin begins anew.",
  "migration/refused-without-notice":
    "The delivery service refuses what is sent here and does not say why. It is tried again.",
  "migration/state-mismatch":
    "The delivery service says something else of the group's move to MLS than the group does.",
  "migration/switch-not-found":
    "The group is said to go on over MLS where this device does not find it. Ask the others: if none of them does, an\n" +
    "  owner or admin begins anew with group migration --start.",
  "migration/recovery-refused":
    "Somebody who is no owner or admin over MLS any more has begun the group's move anew. This device stays in MLS. Tell\n" +
    "  whoever has not gone over yet.",
  "migration/too-many-role-holders":
    "The group's move to MLS was given up: it has more owners and admins than a group over MLS can. Take some of these\n" +
    "  roles back, or remove some of them where the group recovers.",
  "group/rolled-back": "The delivery service shows less of the group than it had shown before.",
  "certificate/refused":
    "The delivery service's certificate for this device is not valid by this machine's clock, or not the service's.\n" +
    "  Nothing is sent until it is.",
};

/** Whom it is about, what is the matter, and the stable code. */
export function describeDecision(client: Client, { accountId, code, conversationId }: Decision): string {
  const group = conversationId === undefined ? undefined : client.conversations.get(conversationId);
  const about = [
    ...(group === undefined ? [] : [printable(group.title)]),
    ...(accountId === undefined ? [] : [nameOf(client, accountId)]),
  ].join(", ");
  return `${about === "" ? "" : `${about}: `}${SENTENCES[code]} (${code})`;
}

/** Contacts to whom nothing is sent until somebody says which of two identity keys is theirs. */
function openDecisions(client: Client): readonly string[] {
  const code = "pairwise/identity-changed";
  return client.contacts
    .list()
    .filter(({ keyChanged }) => keyChanged)
    .map(({ accountId }) => `${nameOf(client, accountId)}: ${SENTENCES[code]} (${code})`);
}

/** Says what is still to be decided about contacts, and then each decision that comes up, once. Returns how to stop. */
export function warnOfDecisions(client: Client, warn: (line: string) => void): () => void {
  const said = new Set<string>();
  const say = (line: string): void => {
    if (said.has(line)) return;
    said.add(line);
    warn(`! ${line}`);
  };
  for (const line of openDecisions(client)) say(line);
  return client.events.on((event) => {
    if (event.kind === "decision-needed") say(describeDecision(client, event));
  });
}

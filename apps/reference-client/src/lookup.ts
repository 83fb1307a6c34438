/** Finds what the user names: by id, or by a name or title that only one has. */
import type { Client, Conversation } from "@murmuration/client-core";
import { CommandFailed } from "./failures.ts";

/** Ids are base64url of 16 bytes. A name may look like one; then the id wins. */
const ID = /^[A-Za-z0-9_-]{22}$/;

/** The account id of a contact. */
export function findAccount(client: Client, text: string): string {
  if (ID.test(text) && client.contacts.get(text) !== undefined) return text;
  const named = client.contacts.list().filter(({ name }) => name === text);
  return the(named, text, "contact", "murmuration contacts add").accountId;
}

/** The conversation with this id; undefined where the text is none. */
export function conversationById(client: Client, text: string): Conversation | undefined {
  return ID.test(text) ? client.conversations.get(text) : undefined;
}

/** A conversation with one contact, or a group. */
export function findConversation(client: Client, text: string): Conversation {
  const byId = conversationById(client, text);
  if (byId !== undefined) return byId;
  if (ID.test(text) && client.contacts.get(text) !== undefined) return client.conversations.direct(text);
  const groups = groupsOf(client).filter(({ title }) => title === text);
  const contacts = client.contacts.list().filter(({ name }) => name === text);
  const found = the<Conversation | string>(
    [...groups, ...contacts.map(({ accountId }) => accountId)],
    text,
    "contact or group",
    "murmuration contacts, or group list",
  );
  return typeof found === "string" ? client.conversations.direct(found) : found;
}

export function findGroup(client: Client, text: string): Conversation {
  const byId = conversationById(client, text);
  if (byId?.kind === "group") return byId;
  return the(
    groupsOf(client).filter(({ title }) => title === text),
    text,
    "group",
    "murmuration group list",
  );
}

/**
 * A member by id or by a name that only one of them has, contact or not; or a contact, who need not be a member to be banned.
 * Looks at every member.
 */
export function findMember(client: Client, group: Conversation, text: string): string {
  const members = [...allMembers(group)];
  if (members.some(({ accountId }) => accountId === text)) return text;
  const named = members.filter(({ name }) => name === text);
  if (named.length > 1) throw new CommandFailed(`More than one member is named "${text}": use the id.`);
  return named[0]?.accountId ?? findAccount(client, text);
}

/** Every member, page by page. */
export function* allMembers(
  group: Conversation,
  search?: string,
): Generator<ReturnType<Conversation["members"]>[number]> {
  const filter = search === undefined ? {} : { search };
  let page = group.members(filter);
  while (page.length > 0) {
    yield* page;
    page = group.members({ ...filter, after: page.at(-1)!.accountId });
  }
}

export function groupsOf(client: Client): readonly Conversation[] {
  return client.conversations.list().filter(({ kind }) => kind === "group");
}

function the<T>(found: readonly T[], text: string, kind: string, hint: string): T {
  if (found.length > 1) throw new CommandFailed(`More than one ${kind} is named "${text}": use the id.`);
  const [only] = found;
  if (only === undefined) throw new CommandFailed(`There is no ${kind} "${text}"; see ${hint}.`);
  return only;
}

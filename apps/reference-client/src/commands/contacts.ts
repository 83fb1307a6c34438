import type { Client } from "@murmuration/client-core";
import { type Command, type CommandContext, catchUp, jsonOption, settle, waitOption } from "../command.ts";
import { CommandFailed } from "../failures.ts";
import { conversationById, findAccount } from "../lookup.ts";
import { json, printable } from "../output.ts";
import { withClient } from "../profile.ts";

function marks(contact: ReturnType<Client["contacts"]["list"]>[number]): string {
  const all = [
    contact.verified ? "verified" : "",
    contact.blocked ? "blocked" : "",
    contact.reachable ? "" : "first message is a request",
  ];
  return all.filter((mark) => mark !== "").join(", ");
}

async function listContacts({ options, print }: CommandContext, client: Client): Promise<number> {
  const contacts = client.contacts.list();
  if (options.flag("json")) print(json(contacts));
  for (const contact of options.flag("json") ? [] : contacts) {
    print(`${contact.accountId}  ${printable(contact.name)}  ${marks(contact)}`.trimEnd());
  }
  return 0;
}

export const contacts: Command = {
  path: ["contacts"],
  summary: "Lists contacts.",
  operands: [],
  options: { ...jsonOption },
  run: (context) => withClient(context, (client) => listContacts(context, client)),
};

export const addContact: Command = {
  path: ["contacts", "add"],
  summary: "Adds a contact by its contact card, or by its bare account id.",
  operands: [{ name: "CARD" }],
  options: { name: { value: "NAME", help: "your own name for the contact" }, ...jsonOption },
  notes:
    "Without a card the first message goes as a message request, which shows the service that you wrote.",
  async run(context) {
    const { options, operands, print } = context;
    return withClient(context, async (client) => {
      const contact = await client.contacts.add(operands[0]!, options.text("name"));
      print(options.flag("json") ? json(contact) : `added ${contact.accountId}`);
      return 0;
    });
  },
};

function blocking(word: "block" | "unblock", summary: string): Command {
  return {
    path: ["contacts", word],
    summary,
    operands: [{ name: "CONTACT" }],
    options: { ...waitOption },
    async run(context) {
      return withClient(context, async (client) => {
        const account = findAccount(client, context.operands[0]!);
        client.connection.start();
        await client.contacts[word](account);
        await settle(client, context);
        return 0;
      });
    },
  };
}

export const blockContact = blocking("block", "Blocks a contact: nothing of it arrives any more.");
export const unblockContact = blocking("unblock", "Takes a block back.");

/** Accepting and declining name a conversation in the state `request` or `invited`: its sender or group. */
function answering(word: "accept" | "decline", summary: string): Command {
  return {
    path: ["contacts", word],
    summary,
    operands: [{ name: "CONTACT-OR-GROUP" }],
    options: { ...waitOption },
    async run(context) {
      return withClient(context, async (client) => {
        await catchUp(client, context);
        const text = context.operands[0]!;
        const conversation =
          conversationById(client, text) ??
          client.conversations.list().find(({ title, state }) => {
            return title === text && (state === "request" || state === "invited");
          });
        if (conversation === undefined)
          throw new CommandFailed(`There is no request or invitation of "${text}".`);
        await (word === "accept" ? conversation.accept() : conversation.decline());
        await settle(client, context);
        return 0;
      });
    },
  };
}

export const acceptRequest = answering("accept", "Accepts a message request or a group's invitation.");
export const declineRequest = answering("decline", "Declines a message request or a group's invitation.");

import { open } from "node:fs/promises";
import type { Client, Conversation, HistoryLine } from "@murmuration/client-core";
import type { Command } from "../command.ts";
import { CommandFailed } from "../failures.ts";
import { allMembers } from "../lookup.ts";
import { json } from "../output.ts";
import { withClient } from "../profile.ts";

export const exportAll: Command = {
  path: ["export"],
  summary: "Writes account, contacts, conversations and their history as lines of JSON.",
  operands: [],
  options: {
    output: { value: "FILE", help: "a new file that only you can read (default: standard output)" },
  },
  notes: "The export is plaintext. It holds no private keys: an account cannot be restored from it.",
  async run(context) {
    const { options, print } = context;
    const target = options.text("output");
    return withClient(context, async (client) => {
      if (target === undefined) {
        for (const line of exportLines(client)) print(line);
        return 0;
      }
      // "wx": an existing file is never overwritten.
      const file = await open(target, "wx", 0o600).catch((error: NodeJS.ErrnoException) => {
        throw new CommandFailed(`The file cannot be created (${error.code ?? "unknown"}).`);
      });
      try {
        for (const line of exportLines(client)) await file.write(`${line}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      return 0;
    });
  },
};

function* exportLines(client: Client): Generator<string> {
  if (client.account !== undefined) {
    const { accountId, deviceId, name } = client.account;
    yield json({ kind: "account", accountId, deviceId, name });
  }
  for (const contact of client.contacts.list()) yield json({ kind: "contact", ...contact });
  for (const conversation of client.conversations.list()) {
    const { id, kind, title, state, protocol, expireAfterSeconds } = conversation;
    const members = [...allMembers(conversation)];
    yield json({ kind: "conversation", id, type: kind, title, state, protocol, expireAfterSeconds, members });
    for (const line of allLines(conversation)) yield json(exported(line));
  }
}

/** A history line without the keys of its attachments. */
function exported(line: HistoryLine): object {
  if (line.kind === "notice") return line;
  const attachments = line.attachments.map(({ fileName, contentType, size }) => ({
    fileName,
    contentType,
    size,
  }));
  return { ...line, attachments };
}

function* allLines(conversation: Conversation): Generator<HistoryLine> {
  let page = conversation.history({ after: 0 });
  while (page.length > 0) {
    yield* page;
    page = conversation.history({ after: page.at(-1)!.historyId });
  }
}

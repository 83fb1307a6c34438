import { clearLine, createInterface, cursorTo } from "node:readline";
import type { Client, ClientEvent, Conversation } from "@murmuration/client-core";
import type { Command } from "../command.ts";
import { explain } from "../failures.ts";
import { findConversation } from "../lookup.ts";
import { formatLine, printable } from "../output.ts";
import { withClient } from "../profile.ts";

const SHOWN_AT_START = 20;

export const chat: Command = {
  path: ["chat"],
  summary: "Talks in a conversation, line by line.",
  operands: [{ name: "CONVERSATION" }],
  options: {},
  notes: "Each line is a message. /quit, Ctrl-D or Ctrl-C ends. What cannot be sent now waits in the outbox.",
  async run(context) {
    const { operands, terminal, signal } = context;
    let showWarning = (line: string): void => void terminal.errors.write(`${line}\n`);
    const talkWith = async (client: Client): Promise<number> => {
      const conversation = findConversation(client, operands[0]!);
      const lines = createInterface({
        input: terminal.input,
        output: terminal.output,
        terminal: terminal.output.isTTY === true,
        prompt: `${printable(conversation.title)}> `,
      });
      let isOver = false;
      lines.once("close", () => {
        isOver = true;
      });
      const show = (text: string): void => {
        if (isOver) {
          terminal.errors.write(`${text}\n`);
          return;
        }
        if (terminal.output.isTTY) {
          clearLine(terminal.output, 0);
          cursorTo(terminal.output, 0);
        }
        terminal.output.write(`${text}\n`);
        lines.prompt(true);
      };
      // On a terminal beside the prompt, or it would be written over.
      if (terminal.output.isTTY === true) showWarning = show;
      const markRead = (historyId: number): void => {
        void conversation.markRead(historyId).catch((error: unknown) => show(explain(error).sentence));
      };
      const onEvent = (event: ClientEvent): void => {
        if (event.kind === "connection") show(`(${event.state})`);
        if (event.kind !== "line-added" || event.conversationId !== conversation.id) return;
        if (event.line === undefined || event.line.outgoing) return;
        show(formatLine(client, event.line));
        markRead(event.historyId);
      };
      const past = conversation.history({ before: Number.MAX_SAFE_INTEGER, limit: SHOWN_AT_START });
      for (const line of past) terminal.output.write(`${formatLine(client, line)}\n`);
      const unsubscribe = client.events.on(onEvent);
      client.connection.start();
      const last = past.at(-1);
      if (last !== undefined) markRead(last.historyId);
      signal.addEventListener("abort", () => lines.close(), { once: true });
      lines.prompt();
      await talk(conversation, lines, show);
      unsubscribe();
      return 0;
    };
    return withClient(context, talkWith, (line) => showWarning(line));
  },
};

/** Sends each line until the input ends. */
async function talk(
  conversation: Conversation,
  lines: ReturnType<typeof createInterface>,
  show: (text: string) => void,
): Promise<void> {
  for await (const text of lines) {
    if (text.trim() === "/quit") break;
    if (text.trim() === "") {
      lines.prompt();
      continue;
    }
    try {
      await conversation.send({ text });
      lines.prompt();
    } catch (error) {
      show(explain(error).sentence);
    }
  }
  lines.close();
}

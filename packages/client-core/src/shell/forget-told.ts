import type { Bytes, MessageId } from "@murmuration/base";
import { decodeContent, withoutTold } from "../core/content.ts";
import type { HistoryRow } from "../store/history.ts";
import type { Context } from "./context.ts";

/**
 * Inside a transaction: a line goes, and with it what the outbox keeps of its text, on its way or to be sent once more: the
 * message, its edits, and its place in a past that was told to newcomers. What is encrypted already and waits for its answer
 * leaves as it is. Two look-ups for a disappearing message that was not edited, else also {@link OutboxStore.naming} or
 * {@link OutboxStore.tellingPastOf}.
 */
export function forgetTold(context: Context, line: HistoryRow): void {
  const { author, edited, expireAfterSeconds, messageId, outgoing, sharedBy } = line;
  const { outbox } = context;
  // What others say that we have said is nothing that this device has sent, whatever id it has.
  const isOwn = outgoing && sharedBy === undefined;
  if (isOwn) forgetMessage(context, messageId);
  // No past that is told again has anything in it that disappears.
  if (expireAfterSeconds > 0 && !(isOwn && edited)) return;
  for (const row of isOwn ? outbox.naming(messageId) : outbox.tellingPastOf(messageId)) {
    const rest = withoutTold(row.content, { accountId: author, messageId }, isOwn);
    if (rest === undefined) forgetMessage(context, row.messageId);
    else if (rest !== row.content) outbox.setContent(row.id, rest);
  }
}

/**
 * Everything that carries this message. What waited in a pairwise group had a number: nobody is to wait for it when the group
 * moves to MLS.
 */
function forgetMessage({ migration, outbox }: Context, message: MessageId): void {
  for (const { content, target } of outbox.waitingOf(message)) {
    const counter = target.kind === "group" ? decodeContent(content).group?.counter : undefined;
    if (target.kind === "group" && counter !== undefined) migration.noteUnsaid(target.group, counter);
  }
  outbox.deleteOfMessage(message);
}

/**
 * Inside a transaction: all lines of a conversation go, with what the outbox keeps of them, and are erased after it.
 * O(lines), and {@link OutboxStore.naming} for each own one that was edited.
 */
export function forgetConversation(context: Context, conversation: Bytes): void {
  const { history, outbox } = context;
  for (const line of history.ownEdited(conversation)) forgetTold(context, line);
  outbox.deleteSaidIn(conversation);
  for (const row of outbox.tellingPastTo(conversation))
    if (decodeContent(row.content).sharedHistory !== undefined) outbox.deleteOfMessage(row.messageId);
  history.removeConversation(conversation);
  context.eraseAfterwards();
}

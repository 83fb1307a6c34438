import { withoutTold } from "../core/content.ts";
import type { HistoryRow } from "../store/history.ts";
import type { Context } from "./context.ts";

/**
 * Inside a transaction: a line goes, and with it what the outbox keeps of its text, on its way or to be sent once more: the
 * message, its edits, and its place in a past that was told to newcomers. One look-up for a disappearing message that was
 * not edited, else also {@link OutboxStore.naming}.
 */
export function forgetTold(context: Context, line: HistoryRow): void {
  const { author, edited, expireAfterSeconds, messageId, outgoing } = line;
  const { outbox } = context;
  if (outgoing) outbox.deleteOfMessage(messageId);
  // No past that is told again has anything in it that disappears.
  if (expireAfterSeconds > 0 && !(outgoing && edited)) return;
  for (const row of outbox.naming(messageId)) {
    const rest = withoutTold(row.content, { accountId: author, messageId }, outgoing);
    if (rest === undefined) outbox.deleteOfMessage(row.messageId);
    else if (rest !== row.content) outbox.setContent(row.id, rest);
  }
}

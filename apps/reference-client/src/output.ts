/** What goes to the terminal. Text of other people is made harmless before it gets there. */
import { toBase64Url } from "@murmuration/base";
import type { Client, HistoryLine, Notice } from "@murmuration/client-core";

/**
 * Control characters (which could move the cursor or rewrite what stands above) and characters that reverse
 * the direction of text, shown as code points instead.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    const point = character.codePointAt(0)!;
    return character === "\n" ? "\n    " : `<U+${point.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

/** One line of JSON; bytes as base64url. JSON escapes control characters by itself. */
export function json(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => (item instanceof Uint8Array ? toBase64Url(item) : item));
}

/** How an account is shown: its name, or the start of its id. */
export function nameOf(client: Client, account: string): string {
  if (account === client.account?.accountId) return "me";
  const name = client.contacts.get(account)?.name ?? "";
  return name === "" ? account.slice(0, 8) : printable(name);
}

function noticeText(client: Client, notice: Notice): string {
  const who = "account" in notice ? nameOf(client, notice.account) : "";
  switch (notice.code) {
    case "group/created":
      return "created the group";
    case "group/member-added":
      return `added ${who}`;
    case "group/members-added":
      return `added ${notice.count} people`;
    case "group/member-invited":
      return `invited ${who}`;
    case "group/member-joined":
      return `${who} joined`;
    case "group/member-removed":
      return `removed ${who}`;
    case "group/member-left":
      return `${who} left`;
    case "group/role-changed":
      return `made ${who} ${notice.role}`;
    case "group/title-changed":
      return `changed the title to "${printable(notice.title)}"`;
    case "group/message-pinned":
      return `pinned a message of ${nameOf(client, notice.message.author)}`;
    case "group/change-taken-back":
      return "the newest change was taken back: some could not follow it";
    case "conversation/expiry-changed":
      return notice.seconds === 0 ? "messages stay from now on" : `messages vanish after ${notice.seconds} s`;
    case "conversation/message-lost":
      return "a message could not be decrypted and is lost";
    case "conversation/identity-changed":
      return `the identity key of ${who} changed`;
  }
}

/** One history line for people. */
export function formatLine(client: Client, line: HistoryLine): string {
  const time = new Date(line.sentAtMs).toISOString().slice(0, 16).replace("T", " ");
  const author = nameOf(client, line.author);
  if (line.kind === "notice") return `${time}  * ${author}: ${noticeText(client, line.notice)}`;
  const marks = [
    line.edited ? "edited" : "",
    line.sharedBy === undefined ? "" : `told by ${nameOf(client, line.sharedBy)}`,
    line.sendState === "waiting" ? "waiting" : "",
    line.sendState === "failed" ? `failed: ${line.failure ?? "unknown"}` : "",
    ...line.attachments.map(({ fileName, size }) => `attachment ${printable(fileName)}, ${size} bytes`),
    ...line.reactions.map(({ author: by, emoji }) => `${nameOf(client, by)} ${printable(emoji)}`),
  ].filter((mark) => mark !== "");
  const text = line.deleted ? "(deleted)" : printable(line.text);
  return `${time}  ${author}: ${text}${marks.length === 0 ? "" : `  [${marks.join("; ")}]`}`;
}

/** Groups of five digits. */
export function formatSafetyNumber(digits: string): string {
  return (digits.match(/.{1,5}/g) ?? []).join(" ");
}

/** Columns under their names, as wide as they need to be. */
export function table(names: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const all = [names, ...rows];
  const widths = names.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

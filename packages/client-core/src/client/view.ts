/** From stored rows to what the application sees. */
import {
  type AccountId,
  accountId,
  type Bytes,
  blobId,
  formatId,
  fromUtf8,
  messageId,
  parseAccountId,
  parseBlobId,
  parseMessageId,
  RejectionError,
  toBase64Url,
  toHex,
  UsageError,
} from "@murmuration/base";
import type {
  AttachmentPointer,
  ClientEvent,
  Connection,
  HistoryLine,
  MessageTarget,
  Notice,
} from "../api.ts";
import { type Attachment, type Target, textBody } from "../core/content.ts";
import type { Context } from "../shell/context.ts";
import type { PassingEvent } from "../shell/notifier.ts";
import type { StoredEvent } from "../store/events.ts";
import type { HistoryRow } from "../store/history.ts";

/** A caller's id in text form. UsageError `client/bad-id`. */
export function callersId<T>(parse: (text: string) => T, text: string): T {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof RejectionError) throw new UsageError("client/bad-id");
    throw error;
  }
}

export const callersAccount = (text: string): AccountId => callersId(parseAccountId, text);

export function targetOf(target: MessageTarget): Target {
  return {
    accountId: callersAccount(target.author),
    messageId: callersId(parseMessageId, target.messageId),
  };
}

const viewTarget = (target: Target): MessageTarget => ({
  author: formatId(accountId(target.accountId)),
  messageId: formatId(messageId(target.messageId)),
});

export const viewAttachment = (attachment: Attachment): AttachmentPointer => ({
  ...attachment,
  blobId: formatId(blobId(attachment.blobId)),
});

export const attachmentOf = (pointer: AttachmentPointer): Attachment => ({
  ...pointer,
  blobId: callersId(parseBlobId, pointer.blobId),
});

export function viewLine(context: Context, row: HistoryRow): HistoryLine {
  const base = {
    historyId: row.id,
    conversationId: toBase64Url(row.conversation),
    messageId: formatId(row.messageId),
    author: formatId(row.author),
    authorDevice: row.authorDevice,
    outgoing: row.outgoing,
    sentAtMs: row.sentAtMs,
    storedAtMs: row.storedAtMs,
  };
  if (row.kind === "notice") {
    const notice = JSON.parse(fromUtf8(row.body ?? new Uint8Array(0))) as Notice;
    return { ...base, kind: "notice", notice };
  }
  const body = row.body === undefined ? undefined : textBody.decode(row.body);
  const aside = context.history.aside(row);
  return {
    ...base,
    kind: "message",
    text: body?.text ?? "",
    replyTo: body?.replyTo && viewTarget(body.replyTo),
    attachments: (body?.attachments ?? []).map(viewAttachment),
    mentions: (body?.mentions?.accounts ?? []).map((account) => formatId(accountId(account))),
    reactions: aside.reactions.map(({ author, emoji }) => ({ author: formatId(author), emoji })),
    edited: row.edited,
    deleted: row.deleted,
    expiresAtMs: row.expiresAtMs,
    sendState: row.sendState,
    failure: row.failure,
    deliveredTo: aside.delivered.map(formatId),
    readBy: aside.read.map(formatId),
    notReached: aside.notReached.map(formatId),
    read: row.readAtMs !== undefined,
    sharedBy: row.sharedBy && formatId(row.sharedBy),
  };
}

function lineOf(context: Context, historyId: number | undefined): HistoryLine | undefined {
  const row = historyId === undefined ? undefined : context.history.get(historyId);
  return row === undefined ? undefined : viewLine(context, row);
}

const textOf = (id: Uint8Array | undefined): string => (id === undefined ? "" : toBase64Url(id));

type LineChange = Extract<ClientEvent, { kind: "line-changed" }>["change"];

/** What passes is told with event id 0. */
export function viewEvent(context: Context, event: StoredEvent | PassingEvent): ClientEvent {
  if (event.kind === "typing") {
    return {
      kind: "typing",
      eventId: 0,
      atMs: context.now(),
      conversationId: textOf(event.conversation),
      accountId: textOf(event.account),
      started: event.started,
    };
  }
  if (event.kind === "connection") {
    return { kind: "connection", eventId: 0, atMs: context.now(), state: event.state as Connection["state"] };
  }
  if (event.kind === "progress") {
    const { action, done, total } = event;
    const conversationId = textOf(event.conversation);
    return { kind: "progress", eventId: 0, atMs: context.now(), conversationId, action, done, total };
  }
  if (event.kind === "migration") {
    const { state, readyAccounts, accounts } = event;
    const conversationId = textOf(event.conversation);
    return {
      kind: "migration",
      eventId: 0,
      atMs: context.now(),
      conversationId,
      state,
      readyAccounts,
      accounts,
    };
  }
  const base = { eventId: event.id, atMs: event.atMs };
  const conversationId = textOf(event.conversation);
  const historyId = event.historyId ?? 0;
  switch (event.kind) {
    case "line-added":
      return { ...base, kind: event.kind, conversationId, historyId, line: lineOf(context, event.historyId) };
    case "line-changed": {
      const line = lineOf(context, event.historyId);
      return {
        ...base,
        kind: event.kind,
        conversationId,
        historyId,
        change: event.detail as LineChange,
        line,
      };
    }
    case "line-removed":
      return { ...base, kind: event.kind, conversationId, historyId };
    case "conversation-changed":
      return { ...base, kind: event.kind, conversationId, state: stateOf(context, event.conversation) };
    case "protocol-changed":
      return { ...base, kind: event.kind, conversationId };
    case "contact-changed":
      return { ...base, kind: event.kind, accountId: textOf(event.account) };
    case "join-requested":
      return {
        ...base,
        kind: event.kind,
        conversationId,
        accountId: textOf(event.account),
        linkId: event.detail,
      };
    case "decision-needed":
      return {
        ...base,
        kind: event.kind,
        code: DECISIONS.find((code) => code === event.detail) ?? "pairwise/identity-changed",
        ...viewEvidence(event),
        accountId: event.account && textOf(event.account),
        conversationId: event.conversation && conversationId,
      };
  }
}

function viewEvidence({ evidence }: StoredEvent) {
  const { fork, cause } = evidence ?? {};
  return {
    ...(fork === undefined
      ? {}
      : { evidence: { epoch: fork.epoch, ours: toHex(fork.ours), theirs: toHex(fork.theirs) } }),
    ...(cause === undefined ? {} : { cause }),
  };
}

/** What a person has to decide about a group. */
const DECISIONS = [
  "contact/fingerprint-mismatch",
  "group/forked",
  "group/disputed",
  "group/other-identity",
  "group/unusable",
  "group/service-behind",
  "migration/roster-mismatch",
  "migration/refused-without-notice",
  "migration/state-mismatch",
  "migration/switch-not-found",
  "migration/recovery-refused",
  "migration/too-many-role-holders",
  "group/rolled-back",
  "certificate/refused",
] as const;

/** A conversation that was deleted since counts as left. */
function stateOf(context: Context, conversation: Bytes | undefined) {
  return (conversation === undefined ? undefined : context.conversations.get(conversation))?.state ?? "left";
}

import type { AccountId, Bytes } from "@murmuration/base";
import { decodeEvidence, type Evidence, encodeEvidence } from "../core/evidence.ts";
import type { Row, Storage } from "../ports/storage.ts";
import type { KeptStorage } from "./kept-storage.ts";

export type StoredEventKind =
  | "line-added"
  | "line-changed"
  | "line-removed"
  | "conversation-changed"
  | "protocol-changed"
  | "contact-changed"
  | "join-requested"
  | "decision-needed";

/** An event as it is kept: references only, so that deleted content is in no event. */
export interface StoredEvent {
  readonly id: number;
  readonly kind: StoredEventKind;
  readonly conversation: Bytes | undefined;
  readonly historyId: number | undefined;
  readonly account: Bytes | undefined;
  readonly detail: string;
  readonly evidence: Evidence | undefined;
  readonly atMs: number;
}

/** The newest events that are kept in memory, for those who are told of them a moment later. */
const MAX_NEWEST = 256;

const optionalBytes = (value: unknown): Bytes | undefined =>
  value === null ? undefined : new Uint8Array(value as Bytes);

function eventOf(row: Row): StoredEvent {
  const evidence = optionalBytes(row["evidence"]);
  return {
    id: row["id"] as number,
    kind: row["kind"] as StoredEventKind,
    conversation: optionalBytes(row["conversation"]),
    historyId: (row["history_id"] as number | null) ?? undefined,
    account: optionalBytes(row["account"]),
    detail: row["detail"] as string,
    evidence: evidence && decodeEvidence(evidence),
    atMs: row["at"] as number,
  };
}

export class EventStore {
  private readonly storage: Storage;
  /** All events behind `after`; undefined where the table may have others. */
  private newest: { after: number; readonly events: StoredEvent[] } | undefined;

  constructor(storage: KeptStorage) {
    this.storage = storage;
    this.newest = { after: this.lastId(), events: [] };
    storage.watch("event", () => {
      this.newest = undefined;
    });
  }

  /** Appends; to be called in the transaction that made it happen. */
  append(event: {
    readonly kind: StoredEventKind;
    readonly conversation?: Bytes;
    readonly historyId?: number;
    readonly account?: AccountId;
    readonly detail?: string;
    readonly evidence?: Evidence;
    readonly atMs: number;
  }): void {
    const { newest } = this;
    const { lastId: id } = this.storage.run(
      "INSERT INTO event (kind, conversation, history_id, account, detail, evidence, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
      [
        event.kind,
        event.conversation ?? null,
        event.historyId ?? null,
        event.account ?? null,
        event.detail ?? "",
        event.evidence === undefined ? null : encodeEvidence(event.evidence),
        event.atMs,
      ],
    );
    if (newest === undefined) return;
    const { kind, conversation, historyId, account, detail = "", evidence, atMs } = event;
    newest.events.push({ id, kind, conversation, historyId, account, detail, evidence, atMs });
    if (newest.events.length > MAX_NEWEST) newest.after = newest.events.shift()!.id;
    this.newest = newest;
  }

  /** From memory, where these are among the newest. */
  after(id: number, limit: number): readonly StoredEvent[] {
    const { newest } = this;
    if (newest !== undefined && id >= newest.after) {
      const from = newest.events.findLastIndex((event) => event.id <= id) + 1;
      return newest.events.slice(from, limit < 0 ? undefined : from + limit);
    }
    const rows = this.storage.all("SELECT * FROM event WHERE id > ? ORDER BY id LIMIT ?", [id, limit]);
    const events = rows.map(eventOf);
    if (events.length < Math.min(limit, MAX_NEWEST)) this.newest = { after: id, events: [...events] };
    return events;
  }

  /** The highest id ever given out. One look-up. */
  lastId(): number {
    const row = this.storage.get("SELECT seq FROM sqlite_sequence WHERE name = 'event'");
    return (row?.["seq"] as number | undefined) ?? 0;
  }

  deleteThrough(id: number): void {
    const { newest } = this;
    this.storage.run("DELETE FROM event WHERE id <= ?", [id]);
    if (newest === undefined) return;
    newest.events.splice(0, newest.events.findLastIndex((event) => event.id <= id) + 1);
    this.newest = newest;
  }
}

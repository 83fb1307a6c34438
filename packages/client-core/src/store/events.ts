import type { AccountId, Bytes } from "@murmuration/base";
import { decodeEvidence, type Evidence, encodeEvidence } from "../core/evidence.ts";
import type { Row, Storage } from "../ports/storage.ts";

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

  constructor(storage: Storage) {
    this.storage = storage;
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
    this.storage.run(
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
  }

  after(id: number, limit: number): readonly StoredEvent[] {
    return this.storage.all("SELECT * FROM event WHERE id > ? ORDER BY id LIMIT ?", [id, limit]).map(eventOf);
  }

  /** The highest id ever given out. */
  lastId(): number {
    const row = this.storage.get("SELECT seq FROM sqlite_sequence WHERE name = 'event'");
    return (row?.["seq"] as number | undefined) ?? 0;
  }

  deleteThrough(id: number): void {
    this.storage.run("DELETE FROM event WHERE id <= ?", [id]);
  }
}

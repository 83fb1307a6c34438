import { type Bytes, fromUtf8, InvariantError, utf8 } from "@murmuration/base";
import type { Storage } from "../ports/storage.ts";
import { KeptRows, type KeptStorage } from "./kept-storage.ts";

/** Names of the single values. Numbers are stored as decimal text. */
export type MetaKey =
  | "access-published"
  | "account-id"
  | "cursor"
  | "device-list-unpublished"
  | "erase-due"
  | "event-cursor"
  | "groups-to-tell"
  | "here-on"
  | "key-packages-lost"
  | "key-packages-replacement"
  | "link-request"
  | "mls-credential"
  | "mls-signature-private"
  | "mls-signature-public"
  | "name"
  | "profile-key"
  | "previous-profile-key"
  | "records-in-doubt"
  | "registered"
  | "registration"
  | "repair-needed"
  | "store-id"
  | "store-mark"
  | "store-replaced"
  | "token"
  | "trust-root";

export class MetaStore {
  private readonly storage: Storage;
  /** Texts and numbers only: keys and tokens are read where they are used, and not kept. */
  private readonly texts: KeptRows<string>;

  constructor(storage: KeptStorage) {
    this.storage = storage;
    this.texts = new KeptRows(storage, "meta");
  }

  bytes(key: MetaKey): Bytes | undefined {
    const value = this.storage.get("SELECT value FROM meta WHERE key = ?", [key])?.["value"];
    return value === undefined ? undefined : new Uint8Array(value as Bytes);
  }

  setBytes(key: MetaKey, value: Bytes): void {
    this.storage.run(
      "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
      [key, value],
    );
  }

  require(key: MetaKey): Bytes {
    const value = this.bytes(key);
    if (value === undefined) throw new InvariantError("meta/missing");
    return value;
  }

  number(key: MetaKey): number {
    return Number(this.text(key));
  }

  setNumber(key: MetaKey, value: number): void {
    this.setText(key, String(value));
  }

  text(key: MetaKey): string {
    return this.texts.get(key, () => {
      const value = this.bytes(key);
      return value === undefined ? "" : fromUtf8(value);
    })!;
  }

  setText(key: MetaKey, value: string): void {
    this.texts.writeThrough(
      key,
      () => this.setBytes(key, utf8(value)),
      () => value,
    );
  }

  delete(key: MetaKey): void {
    this.storage.run("DELETE FROM meta WHERE key = ?", [key]);
  }
}

import { type AccountId, accountId, type Bytes, equalBytes, toHex } from "@murmuration/base";
import { deriveRecipientAccessKey } from "@murmuration/pairwise";
import type { Row, Storage } from "../ports/storage.ts";
import { KeptRows, type KeptStorage, keyOf } from "./kept-storage.ts";

/** What is known of another account. */
export interface ContactRow {
  readonly account: AccountId;
  /** What the account calls itself. */
  readonly name: string;
  /** What the user calls it. */
  readonly givenName: string;
  readonly profileKey: Bytes | undefined;
  /** The one before: for the moments in which the service and we know different ones. */
  readonly previousProfileKey: Bytes | undefined;
  /** SHA-256 of the account identity key, from a contact card. */
  readonly fingerprint: Bytes | undefined;
  /** Shown among the contacts, not just a member of some group. */
  readonly known: boolean;
  /** The user wrote to it or accepted its request. */
  readonly accepted: boolean;
  readonly blocked: boolean;
  /** It has our present profile key. */
  readonly shared: boolean;
}

const optionalBytes = (value: unknown): Bytes | undefined =>
  value === null ? undefined : new Uint8Array(value as Bytes);

function contactOf(row: Row): ContactRow {
  return {
    account: accountId(row["account"] as Bytes),
    name: row["name"] as string,
    givenName: row["given_name"] as string,
    profileKey: optionalBytes(row["profile_key"]),
    previousProfileKey: optionalBytes(row["previous_profile_key"]),
    fingerprint: optionalBytes(row["fingerprint"]),
    known: row["known"] === 1,
    accepted: row["accepted"] === 1,
    blocked: row["blocked"] === 1,
    shared: row["shared"] === 1,
  };
}

export class ContactStore {
  private readonly storage: Storage;
  /** Names only: the keys of profiles are read where they are used. */
  private readonly names: KeptRows<string>;
  /** Whatever is said in a community is compared with them; null where there is none. */
  private readonly cards: KeptRows<Bytes | null>;

  constructor(storage: KeptStorage) {
    this.storage = storage;
    this.names = new KeptRows(storage, "contact");
    this.cards = new KeptRows(storage, "contact");
  }

  get(account: AccountId): ContactRow | undefined {
    const row = this.storage.get("SELECT * FROM contact WHERE account = ?", [account]);
    return row === undefined ? undefined : contactOf(row);
  }

  /** What an account calls itself; undefined for one that is not known. */
  nameOf(account: AccountId): string | undefined {
    const sql = "SELECT name FROM contact WHERE account = ?";
    return this.names.get(
      keyOf(account),
      () => this.storage.get(sql, [account])?.["name"] as string | undefined,
    );
  }

  /** Contacts and blocked accounts, by account id. */
  list(): readonly ContactRow[] {
    return this.storage
      .all("SELECT * FROM contact WHERE known = 1 OR blocked = 1 ORDER BY account")
      .map(contactOf);
  }

  /** Accounts that get a new profile key: all that had the old one, but blocked ones. */
  sharedWith(): readonly ContactRow[] {
    return this.storage.all("SELECT * FROM contact WHERE accepted = 1 AND blocked = 0").map(contactOf);
  }

  /** Creates the row where there is none. */
  ensure(account: AccountId): void {
    this.storage.run("INSERT INTO contact (account) VALUES (?) ON CONFLICT DO NOTHING", [account]);
  }

  setFlags(
    account: AccountId,
    flags: {
      readonly known?: boolean;
      readonly accepted?: boolean;
      readonly blocked?: boolean;
      readonly shared?: boolean;
    },
  ): void {
    this.ensure(account);
    for (const [flag, value] of Object.entries(flags)) {
      // The four names are those of the type above, never input.
      this.storage.run(`UPDATE contact SET ${flag} = ? WHERE account = ?`, [value ? 1 : 0, account]);
    }
  }

  setName(account: AccountId, name: string): void {
    if (name !== "") this.storage.run("UPDATE contact SET name = ? WHERE account = ?", [name, account]);
  }

  setGivenName(account: AccountId, name: string): void {
    this.storage.run("UPDATE contact SET given_name = ? WHERE account = ?", [name, account]);
  }

  setFingerprint(account: AccountId, fingerprint: Bytes | undefined): void {
    this.storage.run("UPDATE contact SET fingerprint = ? WHERE account = ?", [fingerprint ?? null, account]);
  }

  /** Keeps the newest profile key and the one before it. Returns whether it was news. */
  setProfileKey(account: AccountId, profileKey: Bytes): boolean {
    this.ensure(account);
    const known = this.get(account)?.profileKey;
    if (known !== undefined && equalBytes(known, profileKey)) return false;
    this.storage.run(
      "UPDATE contact SET previous_profile_key = profile_key, profile_key = ?, access_key = ? WHERE account = ?",
      [profileKey, deriveRecipientAccessKey(profileKey), account],
    );
    return true;
  }

  /** The service refuses the key that we took for the newest: tries the one before next, or none. */
  demoteProfileKey(account: AccountId): void {
    const previous = this.get(account)?.previousProfileKey;
    this.storage.run(
      "UPDATE contact SET profile_key = ?, access_key = ?, previous_profile_key = NULL WHERE account = ?",
      [previous ?? null, previous === undefined ? null : deriveRecipientAccessKey(previous), account],
    );
  }

  /** Lets sealed envelopes in; undefined where only a message request can reach the account. */
  accessKey(account: AccountId): Bytes | undefined {
    const row = this.storage.get("SELECT access_key FROM contact WHERE account = ?", [account]);
    return optionalBytes(row?.["access_key"] ?? null);
  }

  /** What `accessKey` gives for each of these accounts, in their order. One query. */
  accessKeys(accounts: readonly AccountId[]): readonly (Bytes | undefined)[] {
    return this.each(accounts, "access_key");
  }

  /** What a card says of an account's identity key. */
  fingerprint(account: AccountId): Bytes | undefined {
    const sql = "SELECT fingerprint FROM contact WHERE account = ?";
    const read = () => optionalBytes(this.storage.get(sql, [account])?.["fingerprint"] ?? null) ?? null;
    return this.cards.read(keyOf(account), read) ?? undefined;
  }

  /** What cards say of the identity keys of these accounts, in their order. One query. */
  fingerprints(accounts: readonly AccountId[]): readonly (Bytes | undefined)[] {
    return this.each(accounts, "fingerprint");
  }

  private each(accounts: readonly AccountId[], column: "access_key" | "fingerprint") {
    const values = accounts.map((): Bytes | undefined => undefined);
    const rows = this.storage.all(
      `SELECT wanted.key AS i, contact.${column} AS value FROM json_each(?) AS wanted
         CROSS JOIN contact ON contact.account = unhex(wanted.value)`,
      [JSON.stringify(accounts.map(toHex))],
    );
    for (const row of rows) values[row["i"] as number] = optionalBytes(row["value"]);
    return values;
  }

  /** Positions of the accounts that `accessKey` gives nothing for. One query that reads no key. */
  withoutAccessKey(accounts: readonly AccountId[]): readonly number[] {
    return this.storage
      .all(
        `SELECT wanted.key AS i FROM json_each(?) AS wanted WHERE NOT EXISTS
           (SELECT 1 FROM contact WHERE contact.account = unhex(wanted.value) AND access_key IS NOT NULL)`,
        [JSON.stringify(accounts.map(toHex))],
      )
      .map((row) => row["i"] as number);
  }

  unshareAll(): void {
    this.storage.run("UPDATE contact SET shared = 0");
  }
}

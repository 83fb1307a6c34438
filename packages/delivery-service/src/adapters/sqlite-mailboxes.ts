import { randomFillSync } from "node:crypto";
import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  type EnvelopeId,
  equalBytes,
  type GroupId,
  type StoreId,
  storeId,
} from "@murmuration/base";
import type {
  Append,
  AppendOutcome,
  MailboxDepth,
  MailboxStore,
  NewEnvelope,
  StoredEnvelope,
  StoreState,
  WelcomeEnvelope,
} from "../ports/mailboxes.ts";
import { blob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

interface MailboxRow {
  readonly mailbox: number;
  readonly lastId: number;
  readonly envelopes: number;
  readonly bytes: number;
}

/** {@link MailboxStore} on SQLite. */
export class SqliteMailboxStore implements MailboxStore {
  private readonly database: SqliteDatabase;
  private readonly listeners: ((storeId: StoreId) => void)[] = [];

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  storeId(): Promise<StoreId> {
    return this.database.read(loadStoreId);
  }

  onLost(run: (storeId: StoreId) => void): void {
    this.listeners.push(run);
  }

  state(): StoreState | undefined {
    return this.database.state();
  }

  async requireState(of: StoreId, state: StoreState): Promise<void> {
    if (await this.database.wasIn(state)) return;
    const drawn = storeId(randomFillSync(new Uint8Array(16)));
    const isAnother = await this.database.write((statements) => {
      if (!equalBytes(loadStoreId(statements), of)) return false;
      statements.prepare("UPDATE mailbox_store SET store_id = ?").run(drawn);
      return true;
    });
    if (isAnother) for (const run of this.listeners) run(drawn);
  }

  async open(address: DeviceAddress, openedAtMs: number): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare(
          `INSERT INTO mailboxes (account_id, device_id, last_id, envelopes, bytes, opened_at_ms)
           VALUES (?, ?, 0, 0, 0, ?)
           ON CONFLICT DO NOTHING`,
        )
        .run(address.accountId, address.deviceId, openedAtMs);
    });
  }

  async remove(address: DeviceAddress): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("DELETE FROM mailboxes WHERE account_id = ? AND device_id = ?")
        .run(address.accountId, address.deviceId);
    });
  }

  append(append: Append): Promise<AppendOutcome> {
    return this.database.write((statements) => appendAll(statements, append));
  }

  wasStored(submitHash: Bytes): Promise<boolean> {
    return this.database.read((statements) => isKnownSubmit(statements, submitHash));
  }

  read(
    address: DeviceAddress,
    after: EnvelopeId,
    limits: { readonly maxEnvelopes: number; readonly maxBytes: number },
  ): Promise<readonly StoredEnvelope[]> {
    return this.database.read((statements) => {
      const mailbox = loadMailbox(statements, address);
      if (mailbox === undefined) return [];
      const rows = statements
        .prepare(
          `SELECT id, accepted_at_ms, source_account, source_device, ciphertext, welcome_group, welcome_tree_hash,
             welcome_sequence
           FROM envelopes
           WHERE mailbox = ? AND id > ? ORDER BY id LIMIT ?`,
        )
        .iterate(mailbox.mailbox, after, limits.maxEnvelopes);
      const page: StoredEnvelope[] = [];
      let bytes = 0;
      for (const row of rows) {
        const envelope = toEnvelope(row);
        bytes += envelope.ciphertext.length;
        if (page.length > 0 && bytes > limits.maxBytes) break;
        page.push(envelope);
      }
      return page;
    });
  }

  acknowledge(address: DeviceAddress, through: EnvelopeId): Promise<number> {
    return this.database.write((statements) => {
      const mailbox = loadMailbox(statements, address);
      if (mailbox === undefined) return 0;
      const gone = statements
        .prepare(
          `SELECT count(*) AS n, ifnull(sum(length(ciphertext)), 0) AS bytes FROM envelopes
           WHERE mailbox = ? AND id <= ?`,
        )
        .get(mailbox.mailbox, through)!;
      statements.prepare("DELETE FROM envelopes WHERE mailbox = ? AND id <= ?").run(mailbox.mailbox, through);
      shrink(statements, mailbox.mailbox, gone["n"] as number, gone["bytes"] as number);
      return gone["n"] as number;
    });
  }

  async discard(address: DeviceAddress, ids: readonly EnvelopeId[]): Promise<void> {
    await this.database.write((statements) => {
      const mailbox = loadMailbox(statements, address);
      if (mailbox === undefined) return;
      const remove = statements.prepare(
        "DELETE FROM envelopes WHERE mailbox = ? AND id = ? RETURNING length(ciphertext) AS bytes",
      );
      for (const id of ids) {
        const gone = remove.get(mailbox.mailbox, id);
        if (gone !== undefined) shrink(statements, mailbox.mailbox, 1, gone["bytes"] as number);
      }
    });
  }

  lastId(address: DeviceAddress): Promise<EnvelopeId | undefined> {
    return this.database.read(
      (statements) => loadMailbox(statements, address)?.lastId as EnvelopeId | undefined,
    );
  }

  depth(address: DeviceAddress): Promise<MailboxDepth | undefined> {
    return this.database.read((statements) => {
      const mailbox = loadMailbox(statements, address);
      return mailbox === undefined ? undefined : { envelopes: mailbox.envelopes, bytes: mailbox.bytes };
    });
  }

  totals(): Promise<MailboxDepth> {
    return this.database.read((statements) => {
      const row = statements
        .prepare("SELECT ifnull(sum(envelopes), 0) AS n, ifnull(sum(bytes), 0) AS bytes FROM mailboxes")
        .get()!;
      return { envelopes: row["n"] as number, bytes: row["bytes"] as number };
    });
  }

  expireEnvelopes(beforeMs: number, limit: number): Promise<number> {
    return this.database.write((statements) => {
      const rows = statements
        .prepare(
          `SELECT mailbox, id, length(ciphertext) AS bytes FROM envelopes WHERE accepted_at_ms < ?
           ORDER BY accepted_at_ms LIMIT ?`,
        )
        .all(beforeMs, limit);
      const remove = statements.prepare("DELETE FROM envelopes WHERE mailbox = ? AND id = ?");
      for (const row of rows) {
        remove.run(row["mailbox"] as number, row["id"] as number);
        shrink(statements, row["mailbox"] as number, 1, row["bytes"] as number);
      }
      return rows.length;
    });
  }

  expireSubmits(beforeMs: number, limit: number): Promise<number> {
    return this.database.write((statements) =>
      Number(
        statements
          .prepare(
            `DELETE FROM submits WHERE submit_hash IN
               (SELECT submit_hash FROM submits WHERE accepted_at_ms < ? ORDER BY accepted_at_ms LIMIT ?)`,
          )
          .run(beforeMs, limit).changes,
      ),
    );
  }

  owners(
    after: DeviceAddress | undefined,
    limit: number,
    openedBeforeMs: number,
  ): Promise<readonly DeviceAddress[]> {
    return this.database.read((statements) =>
      statements
        .prepare(
          `SELECT account_id, device_id FROM mailboxes WHERE (account_id, device_id) > (?, ?) AND opened_at_ms < ?
           ORDER BY account_id, device_id LIMIT ?`,
        )
        .all(after?.accountId ?? new Uint8Array(0), after?.deviceId ?? 0, openedBeforeMs, limit)
        .map((row) => ({
          accountId: blob(row["account_id"]) as AccountId,
          deviceId: row["device_id"] as DeviceId,
        })),
    );
  }
}

function appendAll(statements: Statements, append: Append): AppendOutcome {
  if (isKnownSubmit(statements, append.submitHash)) return { kind: "repeated" };
  const missing: DeviceAddress[] = [];
  const full: DeviceAddress[] = [];
  const mailboxes: MailboxRow[] = [];
  for (const envelope of append.envelopes) {
    const mailbox = loadMailbox(statements, envelope.recipient);
    if (mailbox === undefined) missing.push(envelope.recipient);
    else if (overflows(mailbox, envelope, append)) full.push(envelope.recipient);
    else mailboxes.push(mailbox);
  }
  if (missing.length > 0) return { kind: "missing", devices: missing };
  if (full.length > 0) return { kind: "full", devices: full };
  statements.prepare("INSERT INTO submits VALUES (?, ?)").run(append.submitHash, append.acceptedAtMs);
  append.envelopes.forEach((envelope, index) => {
    insertEnvelope(statements, mailboxes[index]!, envelope, append.acceptedAtMs);
  });
  return { kind: "stored" };
}

function overflows(mailbox: MailboxRow, envelope: NewEnvelope, append: Append): boolean {
  return (
    mailbox.envelopes + 1 > append.limits.maxEnvelopes ||
    mailbox.bytes + envelope.ciphertext.length > append.limits.maxBytes
  );
}

function insertEnvelope(
  statements: Statements,
  mailbox: MailboxRow,
  envelope: NewEnvelope,
  acceptedAtMs: number,
): void {
  statements
    .prepare("INSERT INTO envelopes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
    .run(
      mailbox.mailbox,
      mailbox.lastId + 1,
      acceptedAtMs,
      envelope.source?.accountId ?? null,
      envelope.source?.deviceId ?? null,
      envelope.ciphertext,
      envelope.welcome?.groupId ?? null,
      envelope.welcome?.treeHash ?? null,
      envelope.welcome?.sequence ?? null,
    );
  statements
    .prepare(
      "UPDATE mailboxes SET last_id = last_id + 1, envelopes = envelopes + 1, bytes = bytes + ? WHERE mailbox = ?",
    )
    .run(envelope.ciphertext.length, mailbox.mailbox);
}

function shrink(statements: Statements, mailbox: number, envelopes: number, bytes: number): void {
  statements
    .prepare("UPDATE mailboxes SET envelopes = envelopes - ?, bytes = bytes - ? WHERE mailbox = ?")
    .run(envelopes, bytes, mailbox);
}

function loadStoreId(statements: Statements): StoreId {
  return storeId(blob(statements.prepare("SELECT store_id FROM mailbox_store").get()!["store_id"]));
}

function isKnownSubmit(statements: Statements, submitHash: Bytes): boolean {
  return statements.prepare("SELECT 1 FROM submits WHERE submit_hash = ?").get(submitHash) !== undefined;
}

function loadMailbox(statements: Statements, address: DeviceAddress): MailboxRow | undefined {
  const row = statements
    .prepare(
      "SELECT mailbox, last_id, envelopes, bytes FROM mailboxes WHERE account_id = ? AND device_id = ?",
    )
    .get(address.accountId, address.deviceId);
  if (row === undefined) return undefined;
  return {
    mailbox: row["mailbox"] as number,
    lastId: row["last_id"] as number,
    envelopes: row["envelopes"] as number,
    bytes: row["bytes"] as number,
  };
}

function toEnvelope(row: Record<string, unknown>): StoredEnvelope {
  const source =
    row["source_account"] === null
      ? undefined
      : {
          accountId: blob(row["source_account"]) as AccountId,
          deviceId: row["source_device"] as DeviceId,
        };
  return {
    id: row["id"] as EnvelopeId,
    ciphertext: blob(row["ciphertext"]),
    source,
    welcome: toWelcome(row),
    acceptedAtMs: row["accepted_at_ms"] as number,
  };
}

function toWelcome(row: Record<string, unknown>): WelcomeEnvelope | undefined {
  if (row["welcome_group"] === null) return undefined;
  return {
    groupId: blob(row["welcome_group"]) as GroupId,
    treeHash: blob(row["welcome_tree_hash"]),
    sequence: row["welcome_sequence"] as number,
  };
}

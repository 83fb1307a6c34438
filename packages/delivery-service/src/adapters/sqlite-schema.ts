import type { DatabaseSync } from "node:sqlite";

/**
 * The embedded store's tables. Rows of a mailbox are ordered by mailbox and id and by nothing else (WITHOUT
 * ROWID), so that the file does not keep the order in which envelopes of different recipients arrived.
 * A sealed envelope has no column that could hold its sender: source_* is for message requests.
 */
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE accounts (
    account_id BLOB PRIMARY KEY CHECK (length(account_id) = 16),
    identity_key BLOB NOT NULL,
    access_key_hash BLOB NOT NULL,
    profile BLOB NOT NULL,
    list_version INTEGER NOT NULL,
    list_bytes BLOB NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE devices (
    account_id BLOB NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    device_id INTEGER NOT NULL CHECK (device_id BETWEEN 1 AND 127),
    registration_id INTEGER NOT NULL,
    identity_key BLOB NOT NULL,
    token_hash BLOB NOT NULL,
    last_seen_day INTEGER NOT NULL,
    has_keys INTEGER NOT NULL,
    PRIMARY KEY (account_id, device_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE account_tombstones (
    account_id BLOB PRIMARY KEY,
    deleted_day INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE key_sets (
    account_id BLOB NOT NULL,
    device_id INTEGER NOT NULL,
    upload_id BLOB NOT NULL,
    signed_id INTEGER,
    signed_key BLOB,
    signed_signature BLOB,
    last_resort_id INTEGER,
    last_resort_key BLOB,
    last_resort_signature BLOB,
    PRIMARY KEY (account_id, device_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE one_time_keys (
    account_id BLOB NOT NULL,
    device_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('ec', 'kyber')),
    key_id INTEGER NOT NULL,
    public_key BLOB NOT NULL,
    signature BLOB,
    PRIMARY KEY (account_id, device_id, kind, key_id),
    FOREIGN KEY (account_id, device_id) REFERENCES key_sets (account_id, device_id) ON DELETE CASCADE
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE mailboxes (
    mailbox INTEGER PRIMARY KEY,
    account_id BLOB NOT NULL,
    device_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    envelopes INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    opened_at_ms INTEGER NOT NULL,
    UNIQUE (account_id, device_id)
  ) STRICT;

  CREATE TABLE envelopes (
    mailbox INTEGER NOT NULL REFERENCES mailboxes (mailbox) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    source_account BLOB,
    source_device INTEGER,
    ciphertext BLOB NOT NULL,
    PRIMARY KEY (mailbox, id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX envelopes_by_age ON envelopes (accepted_at_ms);

  CREATE TABLE submits (
    submit_hash BLOB PRIMARY KEY,
    accepted_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX submits_by_age ON submits (accepted_at_ms);

  CREATE TABLE mailbox_store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    store_id BLOB NOT NULL
  ) STRICT;
  INSERT INTO mailbox_store VALUES (1, randomblob(16));

  CREATE TABLE group_records (
    group_id BLOB PRIMARY KEY,
    revision INTEGER NOT NULL,
    access_public_key BLOB NOT NULL,
    fence BLOB NOT NULL,
    record BLOB NOT NULL,
    last_used_day INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE blob_uploads (
    upload INTEGER PRIMARY KEY,
    started_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE blobs (
    blob_id BLOB PRIMARY KEY,
    upload INTEGER NOT NULL UNIQUE REFERENCES blob_uploads (upload) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    total_bytes INTEGER NOT NULL,
    stored_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX blobs_by_age ON blobs (stored_at_ms);

  CREATE TABLE blob_chunks (
    upload INTEGER NOT NULL REFERENCES blob_uploads (upload) ON DELETE CASCADE,
    chunk INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (upload, chunk)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE certificate_authority (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    trust_root_public BLOB NOT NULL,
    trust_root_private BLOB,
    signer_key_id INTEGER NOT NULL,
    signer_certificate BLOB NOT NULL,
    signer_private BLOB NOT NULL
  ) STRICT;

  CREATE TABLE retention_runs (
    job TEXT PRIMARY KEY,
    ran_at_ms INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    removed_total INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- For the auditor: what is kept longer than the schedule in README.md allows. Every count must be 0 within
  -- an hour of a retention run.
  CREATE VIEW retention_overdue (job, overdue) AS
    SELECT 'envelopes', count(*) FROM envelopes
      WHERE accepted_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'submits', count(*) FROM submits
      WHERE accepted_at_ms < (unixepoch() - 2 * 86400) * 1000
    UNION ALL SELECT 'blobs', count(*) FROM blobs
      WHERE stored_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'unfinished-uploads', count(*) FROM blob_uploads
      WHERE started_at_ms < (unixepoch() - 86400) * 1000 AND upload NOT IN (SELECT upload FROM blobs)
    UNION ALL SELECT 'idle-devices', count(*) FROM devices
      WHERE last_seen_day < unixepoch() / 86400 - 180
    UNION ALL SELECT 'idle-groups', count(*) FROM group_records
      WHERE last_used_day < unixepoch() / 86400 - 400
    UNION ALL SELECT 'orphaned-mailboxes', count(*) FROM mailboxes m
      WHERE opened_at_ms < (unixepoch() - 86400) * 1000 AND NOT EXISTS
      (SELECT 1 FROM devices d WHERE d.account_id = m.account_id AND d.device_id = m.device_id);
  `,
];

/** Brings a database to the newest schema, one transaction for each step. */
export function migrate(database: DatabaseSync): void {
  const row = database.prepare("PRAGMA user_version").get() as { user_version: number };
  for (let version = row.user_version; version < MIGRATIONS.length; version++) {
    database.exec(`BEGIN IMMEDIATE; ${MIGRATIONS[version]!} PRAGMA user_version = ${version + 1}; COMMIT;`);
  }
}

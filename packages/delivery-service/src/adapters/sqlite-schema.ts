import type { DatabaseSync } from "node:sqlite";
import { UsageError } from "@murmuration/base";

/**
 * The embedded store's tables. Large rows of the second step lie in tables with a ROWID: a search in one without reads
 * each row that it compares to its end. Rows of a mailbox are ordered by mailbox and id and by nothing else (WITHOUT
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
  `
  CREATE TABLE key_package_uploads (
    account_id BLOB NOT NULL,
    device_id INTEGER NOT NULL,
    upload_id BLOB NOT NULL,
    PRIMARY KEY (account_id, device_id)
  ) STRICT, WITHOUT ROWID;

  -- One that was claimed has no row any more, the last-resort one excepted.
  CREATE TABLE key_packages (
    account_id BLOB NOT NULL,
    device_id INTEGER NOT NULL,
    reference BLOB NOT NULL,
    last_resort INTEGER NOT NULL CHECK (last_resort IN (0, 1)),
    expires_at_ms INTEGER NOT NULL,
    message BLOB NOT NULL,
    UNIQUE (account_id, device_id, reference)
  ) STRICT;
  CREATE UNIQUE INDEX last_resort_key_packages ON key_packages (account_id, device_id) WHERE last_resort = 1;
  CREATE INDEX key_packages_by_use ON key_packages (account_id, device_id, expires_at_ms);
  CREATE INDEX key_packages_by_age ON key_packages (expires_at_ms);

  -- Rows of a group name it by a number, so that its id is in the file once.
  CREATE TABLE mls_groups (
    mls_group INTEGER PRIMARY KEY,
    group_id BLOB NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    -- When the entry first_sequence was accepted; NULL in an empty log.
    oldest_entry_ms INTEGER,
    last_used_day INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX mls_groups_by_age ON mls_groups (oldest_entry_ms);

  -- Each message is here once, whatever the number of members. Of all commits that lead on from an epoch at most
  -- one counts: leads_from of the others is NULL.
  CREATE TABLE mls_entries (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('application', 'proposal', 'commit', 'void')),
    -- SHA-256 of the submit id or of the commit.
    hash BLOB,
    leads_from INTEGER CHECK (leads_from IS NULL OR kind = 'commit'),
    -- Of a commit: entries before it that belong to it.
    proposals INTEGER CHECK ((proposals IS NOT NULL) = (kind = 'commit')),
    voids INTEGER CHECK ((voids IS NOT NULL) = (kind = 'void')),
    message BLOB NOT NULL,
    UNIQUE (mls_group, sequence)
  ) STRICT;
  CREATE UNIQUE INDEX mls_commits_by_epoch ON mls_entries (mls_group, leads_from) WHERE leads_from IS NOT NULL;
  CREATE UNIQUE INDEX mls_entries_by_hash ON mls_entries (mls_group, kind, hash) WHERE hash IS NOT NULL;

  CREATE TABLE mls_ban_lists (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    -- Of the commit that brought it.
    sequence INTEGER NOT NULL,
    ban_list BLOB NOT NULL,
    UNIQUE (mls_group, sequence)
  ) STRICT;

  -- Epochs that count, from the oldest one whose tree can be loaded to the present one.
  CREATE TABLE mls_epochs (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    -- Of the commit that led here; 0 in the first epoch.
    commit_sequence INTEGER NOT NULL,
    last_removal_epoch INTEGER NOT NULL,
    -- Of the commit that brought the list in force; NULL before the first one.
    ban_list_sequence INTEGER,
    tree_hash BLOB NOT NULL,
    -- NULL in an epoch that nobody can go back to.
    group_info BLOB,
    -- From the tree of the epoch before; NULL in the first epoch.
    tree_delta BLOB,
    UNIQUE (mls_group, epoch)
  ) STRICT;
  CREATE INDEX mls_epochs_by_tree ON mls_epochs (tree_hash, epoch);

  CREATE TABLE mls_snapshots (
    mls_group INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    tree BLOB NOT NULL,
    UNIQUE (mls_group, epoch),
    FOREIGN KEY (mls_group, epoch) REFERENCES mls_epochs (mls_group, epoch) ON DELETE CASCADE
  ) STRICT;

  CREATE TABLE mls_former_leaves (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    signature_key BLOB NOT NULL,
    -- Of the commit.
    removed_at INTEGER NOT NULL,
    PRIMARY KEY (mls_group, signature_key, removed_at)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX mls_former_leaves_by_commit ON mls_former_leaves (mls_group, removed_at);

  CREATE TABLE mls_ban_orders (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    order_id BLOB NOT NULL,
    PRIMARY KEY (mls_group, order_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE mls_bans (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    signature_key BLOB NOT NULL,
    -- Of the commit; NULL as long as the leaf is in the tree.
    removed_at INTEGER,
    PRIMARY KEY (mls_group, signature_key)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE mls_cursors (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    signature_key BLOB NOT NULL,
    through_sequence INTEGER NOT NULL,
    PRIMARY KEY (mls_group, signature_key)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE mls_pending_proposals (
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    proposal BLOB NOT NULL,
    UNIQUE (mls_group, place)
  ) STRICT;

  -- Welcomes on their way from a commit to a mailbox. An id is never used twice.
  CREATE TABLE mls_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    mls_group INTEGER NOT NULL REFERENCES mls_groups (mls_group) ON DELETE CASCADE,
    -- Of the commit.
    sequence INTEGER NOT NULL,
    account_id BLOB NOT NULL,
    device_id INTEGER NOT NULL,
    tree_hash BLOB NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    welcome BLOB NOT NULL
  ) STRICT;
  CREATE INDEX mls_outbox_by_commit ON mls_outbox (mls_group, sequence);

  -- Of an envelope with a Welcome; it has no source.
  ALTER TABLE envelopes ADD COLUMN welcome_group BLOB
    CHECK (welcome_group IS NULL OR source_account IS NULL);
  ALTER TABLE envelopes ADD COLUMN welcome_tree_hash BLOB
    CHECK ((welcome_tree_hash IS NULL) = (welcome_group IS NULL));
  ALTER TABLE envelopes ADD COLUMN welcome_sequence INTEGER
    CHECK ((welcome_sequence IS NULL) = (welcome_group IS NULL));

  -- As before, with KeyPackages and MLS groups. Of a log with an overdue beginning all overdue entries count.
  DROP VIEW retention_overdue;
  CREATE VIEW retention_overdue (job, overdue) AS
    SELECT 'envelopes', count(*) FROM envelopes
      WHERE accepted_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'submits', count(*) FROM submits
      WHERE accepted_at_ms < (unixepoch() - 2 * 86400) * 1000
    UNION ALL SELECT 'blobs', count(*) FROM blobs
      WHERE stored_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'unfinished-uploads', count(*) FROM blob_uploads
      WHERE started_at_ms < (unixepoch() - 86400) * 1000 AND upload NOT IN (SELECT upload FROM blobs)
    UNION ALL SELECT 'key-packages', count(*) FROM key_packages
      WHERE expires_at_ms < unixepoch() * 1000
    UNION ALL SELECT 'group-entries', count(*) FROM mls_groups g JOIN mls_entries e USING (mls_group)
      WHERE g.oldest_entry_ms < (unixepoch() - 30 * 86400) * 1000
      AND e.accepted_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'idle-devices', count(*) FROM devices
      WHERE last_seen_day < unixepoch() / 86400 - 180
    UNION ALL SELECT 'idle-groups', count(*) FROM group_records
      WHERE last_used_day < unixepoch() / 86400 - 400
    UNION ALL SELECT 'idle-mls-groups', count(*) FROM mls_groups
      WHERE last_used_day < unixepoch() / 86400 - 400
    UNION ALL SELECT 'orphaned-mailboxes', count(*) FROM mailboxes m
      WHERE opened_at_ms < (unixepoch() - 86400) * 1000 AND NOT EXISTS
      (SELECT 1 FROM devices d WHERE d.account_id = m.account_id AND d.device_id = m.device_id);
  `,
  // So many may wait for one device.
  `
  CREATE INDEX mls_outbox_by_device ON mls_outbox (account_id, device_id);
  `,
  `
  -- Of the first commit that was fed again after the database was set back: the newest entry before it that members
  -- which were further have seen.
  ALTER TABLE mls_entries ADD COLUMN parted_sequence INTEGER CHECK (parted_sequence IS NULL OR kind = 'commit');
  `,
  `
  -- Of a group that began to move to MLS; all NULL for others. The lease is NULL in states that nobody holds.
  ALTER TABLE group_records ADD COLUMN migration_state INTEGER CHECK (migration_state BETWEEN 1 AND 6);
  ALTER TABLE group_records ADD COLUMN migration_generation INTEGER
    CHECK ((migration_generation IS NULL) = (migration_state IS NULL));
  ALTER TABLE group_records ADD COLUMN migration_since_ms INTEGER
    CHECK ((migration_since_ms IS NULL) = (migration_state IS NULL));
  ALTER TABLE group_records ADD COLUMN migration_started_ms INTEGER
    CHECK ((migration_started_ms IS NULL) = (migration_state IS NULL));
  ALTER TABLE group_records ADD COLUMN lease_token_hash BLOB
    CHECK ((lease_token_hash IS NOT NULL) = (migration_state IS NOT NULL AND migration_state IN (2, 3, 6)));
  ALTER TABLE group_records ADD COLUMN lease_until_ms INTEGER
    CHECK ((lease_until_ms IS NULL) = (lease_token_hash IS NULL));
  -- Counts the groups of each state without reading their records.
  CREATE INDEX group_records_by_migration ON group_records (migration_state) WHERE migration_state IS NOT NULL;
  `,
  `
  -- Whose leaf it is, NULL for bans of before; and the commit with which a ban list was in force that names the account,
  -- NULL as long as the order alone keeps it out.
  ALTER TABLE mls_bans ADD COLUMN account_id BLOB;
  ALTER TABLE mls_bans ADD COLUMN listed_at INTEGER;
  `,
  `
  -- Commits that came too late for their epoch, by the day: for operators.
  CREATE TABLE mls_lost_commits (
    group_id BLOB NOT NULL,
    day INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    PRIMARY KEY (group_id, day)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX mls_lost_commits_by_day ON mls_lost_commits (day);

  -- As before, with those counts.
  DROP VIEW retention_overdue;
  CREATE VIEW retention_overdue (job, overdue) AS
    SELECT 'envelopes', count(*) FROM envelopes
      WHERE accepted_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'submits', count(*) FROM submits
      WHERE accepted_at_ms < (unixepoch() - 2 * 86400) * 1000
    UNION ALL SELECT 'blobs', count(*) FROM blobs
      WHERE stored_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'unfinished-uploads', count(*) FROM blob_uploads
      WHERE started_at_ms < (unixepoch() - 86400) * 1000 AND upload NOT IN (SELECT upload FROM blobs)
    UNION ALL SELECT 'key-packages', count(*) FROM key_packages
      WHERE expires_at_ms < unixepoch() * 1000
    UNION ALL SELECT 'group-entries', count(*) FROM mls_groups g JOIN mls_entries e USING (mls_group)
      WHERE g.oldest_entry_ms < (unixepoch() - 30 * 86400) * 1000
      AND e.accepted_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'idle-devices', count(*) FROM devices
      WHERE last_seen_day < unixepoch() / 86400 - 180
    UNION ALL SELECT 'idle-groups', count(*) FROM group_records
      WHERE last_used_day < unixepoch() / 86400 - 400
    UNION ALL SELECT 'idle-mls-groups', count(*) FROM mls_groups
      WHERE last_used_day < unixepoch() / 86400 - 400
    UNION ALL SELECT 'orphaned-mailboxes', count(*) FROM mailboxes m
      WHERE opened_at_ms < (unixepoch() - 86400) * 1000 AND NOT EXISTS
      (SELECT 1 FROM devices d WHERE d.account_id = m.account_id AND d.device_id = m.device_id)
    UNION ALL SELECT 'lost-commits', count(*) FROM mls_lost_commits
      WHERE day < unixepoch() / 86400 - 30;
  `,
  `
  -- Handles of the push gateway: opaque, and nothing beside them that says which of them are one device's.
  CREATE TABLE mailbox_push_handles (
    account_id BLOB NOT NULL,
    device_id INTEGER NOT NULL,
    handle BLOB NOT NULL,
    set_day INTEGER NOT NULL,
    PRIMARY KEY (account_id, device_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX mailbox_push_handles_by_age ON mailbox_push_handles (set_day);

  CREATE TABLE leaf_push_handles (
    group_id BLOB NOT NULL,
    signature_key BLOB NOT NULL,
    handle BLOB NOT NULL,
    set_day INTEGER NOT NULL,
    PRIMARY KEY (group_id, signature_key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX leaf_push_handles_by_age ON leaf_push_handles (set_day);

  -- As before, with push handles.
  DROP VIEW retention_overdue;
  CREATE VIEW retention_overdue (job, overdue) AS
    SELECT 'envelopes', count(*) FROM envelopes
      WHERE accepted_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'submits', count(*) FROM submits
      WHERE accepted_at_ms < (unixepoch() - 2 * 86400) * 1000
    UNION ALL SELECT 'blobs', count(*) FROM blobs
      WHERE stored_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'unfinished-uploads', count(*) FROM blob_uploads
      WHERE started_at_ms < (unixepoch() - 86400) * 1000 AND upload NOT IN (SELECT upload FROM blobs)
    UNION ALL SELECT 'key-packages', count(*) FROM key_packages
      WHERE expires_at_ms < unixepoch() * 1000
    UNION ALL SELECT 'group-entries', count(*) FROM mls_groups g JOIN mls_entries e USING (mls_group)
      WHERE g.oldest_entry_ms < (unixepoch() - 30 * 86400) * 1000
      AND e.accepted_at_ms < (unixepoch() - 30 * 86400) * 1000
    UNION ALL SELECT 'push-handles', count(*) FROM mailbox_push_handles
      WHERE set_day < unixepoch() / 86400 - 60
    UNION ALL SELECT 'push-handles-of-leaves', count(*) FROM leaf_push_handles
      WHERE set_day < unixepoch() / 86400 - 60
    UNION ALL SELECT 'idle-devices', count(*) FROM devices
      WHERE last_seen_day < unixepoch() / 86400 - 180
    UNION ALL SELECT 'idle-groups', count(*) FROM group_records
      WHERE last_used_day < unixepoch() / 86400 - 400
    UNION ALL SELECT 'idle-mls-groups', count(*) FROM mls_groups
      WHERE last_used_day < unixepoch() / 86400 - 400
    UNION ALL SELECT 'orphaned-mailboxes', count(*) FROM mailboxes m
      WHERE opened_at_ms < (unixepoch() - 86400) * 1000 AND NOT EXISTS
      (SELECT 1 FROM devices d WHERE d.account_id = m.account_id AND d.device_id = m.device_id)
    UNION ALL SELECT 'lost-commits', count(*) FROM mls_lost_commits
      WHERE day < unixepoch() / 86400 - 30;
  `,
  `
  -- What every run of a service has written: a state of which this table knows nothing was lost. Kept for ever, or an old
  -- state would be taken for a lost one.
  CREATE TABLE runs (
    run BLOB PRIMARY KEY CHECK (length(run) = 8),
    count INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
];

/** What `PRAGMA user_version` says of a database that is up to date. */
export const SCHEMA_VERSION = MIGRATIONS.length;

/**
 * Brings a database to the newest schema, or to that of an older version, in one transaction: to the disk once, and all of
 * it or nothing. Throws UsageError `store/newer-schema` where a newer version of the service has made it.
 */
export function migrate(database: DatabaseSync, toVersion: number = SCHEMA_VERSION): void {
  const row = database.prepare("PRAGMA user_version").get() as { user_version: number };
  if (row.user_version > SCHEMA_VERSION) throw new UsageError("store/newer-schema");
  const steps = MIGRATIONS.slice(row.user_version, toVersion);
  if (steps.length === 0) return;
  database.exec(`BEGIN IMMEDIATE; ${steps.join("\n")} PRAGMA user_version = ${toVersion}; COMMIT;`);
}

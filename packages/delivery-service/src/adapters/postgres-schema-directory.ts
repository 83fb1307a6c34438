/**
 * Tables of accounts, keys, KeyPackages, records of pairwise groups, blobs, the certificate authority and the retention
 * log. Rows that are deleted stay in PostgreSQL's files until a vacuum frees their room and another row is written there:
 * the tables with content are vacuumed early. Encrypted content is not worth a compressor's time (STORAGE EXTERNAL).
 */
export const directorySchema = `
  -- Of a deleted account stay its id and the day, so that the id is never given out again.
  CREATE TABLE accounts (
    account_id bytea PRIMARY KEY CHECK (octet_length(account_id) = 16),
    identity_key bytea NOT NULL,
    access_key_hash bytea NOT NULL,
    profile bytea NOT NULL,
    list_version bigint NOT NULL,
    list_bytes bytea NOT NULL,
    deleted_day integer,
    CHECK (deleted_day IS NULL OR list_version = 0
      AND octet_length(identity_key || access_key_hash || profile || list_bytes) = 0)
  );
  ALTER TABLE accounts ALTER COLUMN profile SET STORAGE EXTERNAL;

  CREATE TABLE devices (
    account_id bytea NOT NULL REFERENCES accounts,
    device_id smallint NOT NULL CHECK (device_id BETWEEN 1 AND 127),
    registration_id integer NOT NULL,
    identity_key bytea NOT NULL,
    token_hash bytea NOT NULL,
    last_seen_day integer NOT NULL,
    has_keys boolean NOT NULL,
    PRIMARY KEY (account_id, device_id)
  );
  CREATE INDEX devices_by_day ON devices (last_seen_day);

  -- Whoever takes keys of a device, or adds some, holds the row of its set.
  CREATE TABLE key_sets (
    account_id bytea NOT NULL,
    device_id smallint NOT NULL,
    -- NULL before the first upload.
    upload_id bytea,
    signed_id integer,
    signed_key bytea,
    signed_signature bytea,
    last_resort_id integer,
    last_resort_key bytea,
    last_resort_signature bytea,
    PRIMARY KEY (account_id, device_id)
  );

  -- One that was claimed has no row any more.
  CREATE TABLE one_time_keys (
    account_id bytea NOT NULL,
    device_id smallint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('ec', 'kyber')),
    key_id integer NOT NULL,
    public_key bytea NOT NULL,
    signature bytea,
    PRIMARY KEY (account_id, device_id, kind, key_id),
    FOREIGN KEY (account_id, device_id) REFERENCES key_sets ON DELETE CASCADE
  ) WITH (autovacuum_vacuum_scale_factor = 0.02);
  ALTER TABLE one_time_keys ALTER COLUMN public_key SET STORAGE EXTERNAL;

  -- Whoever takes KeyPackages of a device, or adds some, holds its row here.
  CREATE TABLE key_package_uploads (
    account_id bytea NOT NULL,
    device_id smallint NOT NULL,
    -- NULL before the first upload.
    upload_id bytea,
    PRIMARY KEY (account_id, device_id)
  );

  -- One that was claimed has no row any more, the last-resort one excepted.
  CREATE TABLE key_packages (
    account_id bytea NOT NULL,
    device_id smallint NOT NULL,
    reference bytea NOT NULL,
    last_resort boolean NOT NULL,
    expires_at_ms bigint NOT NULL,
    message bytea NOT NULL,
    PRIMARY KEY (account_id, device_id, reference),
    FOREIGN KEY (account_id, device_id) REFERENCES key_package_uploads ON DELETE CASCADE
  ) WITH (autovacuum_vacuum_scale_factor = 0.02);
  CREATE UNIQUE INDEX last_resort_key_packages ON key_packages (account_id, device_id) WHERE last_resort;
  CREATE INDEX key_packages_by_use ON key_packages (account_id, device_id, expires_at_ms) WHERE NOT last_resort;
  CREATE INDEX key_packages_by_age ON key_packages (expires_at_ms);

  CREATE TABLE group_records (
    group_id bytea PRIMARY KEY,
    revision bigint NOT NULL,
    access_public_key bytea NOT NULL,
    fence bytea NOT NULL,
    record bytea NOT NULL,
    last_used_day integer NOT NULL,
    -- Of a group that began to move to MLS; all NULL for others. The lease is NULL in states that nobody holds.
    migration_state smallint CHECK (migration_state BETWEEN 1 AND 6),
    migration_generation bigint CHECK ((migration_generation IS NULL) = (migration_state IS NULL)),
    migration_since_ms bigint CHECK ((migration_since_ms IS NULL) = (migration_state IS NULL)),
    migration_started_ms bigint CHECK ((migration_started_ms IS NULL) = (migration_state IS NULL)),
    lease_token_hash bytea
      CHECK ((lease_token_hash IS NOT NULL) = (migration_state IS NOT NULL AND migration_state IN (2, 3, 6))),
    lease_until_ms bigint CHECK ((lease_until_ms IS NULL) = (lease_token_hash IS NULL))
  ) WITH (autovacuum_vacuum_scale_factor = 0.02);
  ALTER TABLE group_records ALTER COLUMN record SET STORAGE EXTERNAL;
  CREATE INDEX group_records_by_day ON group_records (last_used_day);
  -- Counts the groups of each state without reading their records.
  CREATE INDEX group_records_by_migration ON group_records (migration_state) WHERE migration_state IS NOT NULL;

  -- An upload becomes a blob when the row in blobs names it, which comes with its last chunk.
  CREATE TABLE blob_uploads (
    upload bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at_ms bigint NOT NULL
  );
  CREATE INDEX blob_uploads_by_age ON blob_uploads (started_at_ms);

  CREATE TABLE blobs (
    blob_id bytea PRIMARY KEY,
    upload bigint NOT NULL UNIQUE REFERENCES blob_uploads ON DELETE CASCADE,
    digest bytea NOT NULL,
    total_bytes bigint NOT NULL,
    stored_at_ms bigint NOT NULL
  );
  CREATE INDEX blobs_by_age ON blobs (stored_at_ms);

  CREATE TABLE blob_chunks (
    upload bigint NOT NULL REFERENCES blob_uploads ON DELETE CASCADE,
    chunk integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (upload, chunk)
  ) WITH (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
  ALTER TABLE blob_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;

  CREATE TABLE certificate_authority (
    only_one boolean PRIMARY KEY CHECK (only_one),
    trust_root_public bytea NOT NULL,
    trust_root_private bytea,
    signer_key_id integer NOT NULL,
    signer_certificate bytea NOT NULL,
    signer_private bytea NOT NULL
  );

  CREATE TABLE retention_runs (
    job text PRIMARY KEY,
    ran_at_ms bigint NOT NULL,
    removed bigint NOT NULL,
    removed_total bigint NOT NULL
  );

  -- For the auditor: what is kept longer than the schedule in README.md allows. Every count must be 0 within an hour of a
  -- retention run. A later step that adds tables replaces the view.
  CREATE VIEW retention_overdue (job, overdue) AS
    WITH clock AS (SELECT extract(epoch FROM now())::bigint AS seconds)
    SELECT 'blobs', count(*) FROM blobs, clock
      WHERE stored_at_ms < (seconds - 30 * 86400) * 1000
    UNION ALL SELECT 'unfinished-uploads', count(*) FROM blob_uploads u, clock
      WHERE started_at_ms < (seconds - 86400) * 1000
      AND NOT EXISTS (SELECT FROM blobs b WHERE b.upload = u.upload)
    UNION ALL SELECT 'key-packages', count(*) FROM key_packages, clock
      WHERE expires_at_ms < seconds * 1000
    UNION ALL SELECT 'idle-devices', count(*) FROM devices, clock
      WHERE last_seen_day < seconds / 86400 - 180
    UNION ALL SELECT 'idle-groups', count(*) FROM group_records, clock
      WHERE last_used_day < seconds / 86400 - 400;
`;

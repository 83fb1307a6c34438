/**
 * Groups, their logs and what hangs on them; as in SQLite, save for two things.
 *
 * The log is cut into periods, so that what has expired goes with its whole table and leaves no holes to be cleaned. An
 * entry is filed by when it was accepted, or by when the newest entry before it was filed where clocks went back: so a
 * log's entries lie in its periods in their order, and a period is done with as soon as no log begins in it or before
 * it. Periods are made ahead, or at the latest when something is to be filed in them, however wrong the clock; there is
 * no table for what fits none.
 *
 * A constraint cannot reach over all periods. What must not be there twice is kept apart by the lock of the group's row,
 * under which sequence numbers are drawn and hashes looked up. That of all commits which lead on from an epoch one
 * counts does not hang on this lock alone: mls_commits, which is not cut, has a constraint for it. Within a period the
 * same holds for sequence numbers.
 */
const tables = `
  CREATE TABLE mls_groups (
    -- Never used twice. Rows of a group name it by this number.
    mls_group bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id bytea NOT NULL UNIQUE,
    epoch bigint NOT NULL,
    last_sequence bigint NOT NULL DEFAULT 0,
    first_sequence bigint NOT NULL DEFAULT 1,
    -- When the entry first_sequence was accepted and filed; NULL in an empty log.
    oldest_entry_ms bigint,
    filed_from_ms bigint,
    -- Of the newest entry that ever was.
    filed_through_ms bigint NOT NULL DEFAULT 0,
    last_used_day bigint NOT NULL,
    CHECK (first_sequence BETWEEN 1 AND last_sequence + 1)
    -- Each append changes the row: with room on its page no index is touched.
  ) WITH (fillfactor = 50);
  CREATE INDEX mls_groups_by_age ON mls_groups (oldest_entry_ms);
  CREATE INDEX mls_groups_by_filing ON mls_groups (filed_from_ms);
  CREATE INDEX mls_groups_by_use ON mls_groups (last_used_day);

  -- Each message is here once, whatever the number of members. An entry before first_sequence has expired: it is not
  -- read any more, and goes with its period. No foreign key: the row of the group is locked anyway.
  CREATE TABLE mls_entries (
    mls_group bigint NOT NULL,
    sequence bigint NOT NULL,
    filed_at_ms bigint NOT NULL,
    accepted_at_ms bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('application', 'proposal', 'commit', 'void')),
    -- SHA-256 of the submit id.
    hash bytea CHECK ((hash IS NOT NULL) = (kind = 'application')),
    voids bigint CHECK ((voids IS NOT NULL) = (kind = 'void')),
    parted_sequence bigint CHECK (parted_sequence IS NULL OR kind = 'commit'),
    message bytea NOT NULL
  ) PARTITION BY RANGE (filed_at_ms);
  -- Ciphertext does not grow smaller.
  ALTER TABLE mls_entries ALTER COLUMN message SET STORAGE EXTERNAL;

  CREATE TABLE mls_periods (
    period bigint PRIMARY KEY
  );

  -- The commits of the log. Of all that lead on from an epoch at most one counts: leads_from of the others is NULL.
  CREATE TABLE mls_commits (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    sequence bigint NOT NULL,
    -- SHA-256 of the commit.
    hash bytea NOT NULL,
    leads_from bigint,
    -- Entries before it that belong to it.
    proposals integer NOT NULL,
    PRIMARY KEY (mls_group, sequence),
    UNIQUE (mls_group, leads_from),
    UNIQUE (mls_group, hash)
  );

  CREATE TABLE mls_ban_lists (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    -- Of the commit that brought it.
    sequence bigint NOT NULL,
    ban_list bytea NOT NULL,
    PRIMARY KEY (mls_group, sequence)
  );

  -- Epochs that count, from the oldest one whose tree can be loaded to the present one.
  CREATE TABLE mls_epochs (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    epoch bigint NOT NULL,
    -- Of the commit that led here; 0 in the first epoch.
    commit_sequence bigint NOT NULL,
    last_removal_epoch bigint NOT NULL,
    -- Of the commit that brought the list in force; NULL before the first one.
    ban_list_sequence bigint,
    tree_hash bytea NOT NULL,
    -- NULL in an epoch that nobody can go back to.
    group_info bytea,
    -- From the tree of the epoch before; NULL in the first epoch.
    tree_delta bytea,
    PRIMARY KEY (mls_group, epoch)
  );
  CREATE INDEX mls_epochs_by_tree ON mls_epochs (tree_hash, epoch);

  CREATE TABLE mls_snapshots (
    mls_group bigint NOT NULL,
    epoch bigint NOT NULL,
    tree bytea NOT NULL,
    PRIMARY KEY (mls_group, epoch),
    FOREIGN KEY (mls_group, epoch) REFERENCES mls_epochs ON DELETE CASCADE
  );

  CREATE TABLE mls_former_leaves (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    signature_key bytea NOT NULL,
    -- Of the commit.
    removed_at bigint NOT NULL,
    PRIMARY KEY (mls_group, signature_key, removed_at)
  );
  CREATE INDEX mls_former_leaves_by_commit ON mls_former_leaves (mls_group, removed_at);

  CREATE TABLE mls_ban_orders (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    order_id bytea NOT NULL,
    PRIMARY KEY (mls_group, order_id)
  );

  CREATE TABLE mls_bans (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    signature_key bytea NOT NULL,
    account_id bytea NOT NULL,
    -- Of the commit that removed the leaf; NULL as long as it is in the tree.
    removed_at bigint,
    -- Of the commit with which a ban list was in force that names the account; NULL while the order alone keeps it out.
    listed_at bigint,
    PRIMARY KEY (mls_group, signature_key)
  );

  CREATE TABLE mls_cursors (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    signature_key bytea NOT NULL,
    through_sequence bigint NOT NULL,
    PRIMARY KEY (mls_group, signature_key)
  );

  CREATE TABLE mls_pending_proposals (
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    place bigint NOT NULL,
    proposal bytea NOT NULL,
    PRIMARY KEY (mls_group, place)
  );

  -- Welcomes on their way from a commit to a mailbox. The order in which transactions draw numbers is not the one in which
  -- they commit, and a reader that remembers how far it has read must not miss what came late. So a Welcome gets the id by
  -- which it is read when it is first seen, in a transaction that only one node has at a time.
  CREATE TABLE mls_outbox (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bigint UNIQUE,
    mls_group bigint NOT NULL REFERENCES mls_groups ON DELETE CASCADE,
    -- Of the commit.
    sequence bigint NOT NULL,
    account_id bytea NOT NULL,
    device_id integer NOT NULL,
    tree_hash bytea NOT NULL,
    accepted_at_ms bigint NOT NULL,
    welcome bytea NOT NULL
  );
  CREATE INDEX mls_outbox_unseen ON mls_outbox (place) WHERE id IS NULL;
  CREATE INDEX mls_outbox_by_commit ON mls_outbox (mls_group, sequence);
  CREATE INDEX mls_outbox_by_device ON mls_outbox (account_id, device_id);

  CREATE TABLE mls_outbox_ids (
    the_only boolean PRIMARY KEY DEFAULT true CHECK (the_only),
    last_id bigint NOT NULL
  );
  INSERT INTO mls_outbox_ids (last_id) VALUES (0);
`;

/** A week. What is filed within it goes together. */
const PERIOD_MS = 604_800_000;

const periods = `
  CREATE FUNCTION mls_period_of(ms bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT ms / ${PERIOD_MS} $$;

  -- Appends go on meanwhile: attaching a table takes a weaker lock than making it a part.
  CREATE FUNCTION mls_make_period(the_period bigint) RETURNS boolean LANGUAGE plpgsql AS $$
  DECLARE
    name text := 'mls_entries_' || the_period;
  BEGIN
    -- What attaching takes anyway, and before anything else: those who make periods wait here, and not for each other in a
    -- ring (of two who wait for each other's groups as well PostgreSQL ends one, which is tried again). Whoever has waited hears of the new part with the lock: a session that holds all it needs hears nothing, and
    -- finds no part for its row (23514).
    LOCK TABLE ONLY mls_entries IN SHARE UPDATE EXCLUSIVE MODE;
    INSERT INTO mls_periods VALUES (the_period) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RETURN false; END IF;
    EXECUTE format('CREATE TABLE %I (LIKE mls_entries INCLUDING ALL)', name);
    EXECUTE format('CREATE UNIQUE INDEX ON %I (mls_group, sequence)', name);
    -- Not unique: one that has expired may be sent again.
    EXECUTE format('CREATE INDEX ON %I (mls_group, hash) WHERE hash IS NOT NULL', name);
    EXECUTE format('ALTER TABLE mls_entries ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
      name, the_period * ${PERIOD_MS}, (the_period + 1) * ${PERIOD_MS});
    RETURN true;
  END $$;

  -- After it something can be filed in the period: from here to the end of the transaction none is dropped.
  CREATE FUNCTION mls_need_period(the_period bigint) RETURNS void LANGUAGE plpgsql AS $$
  BEGIN
    LOCK TABLE ONLY mls_entries IN ROW EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM mls_periods WHERE period = the_period) THEN
      PERFORM mls_make_period(the_period);
    END IF;
  END $$;

  -- Those in which something will be filed next.
  CREATE FUNCTION mls_periods_ahead() RETURNS SETOF bigint LANGUAGE sql AS $$
    SELECT period + 1 FROM mls_periods p
    WHERE NOT EXISTS (SELECT FROM mls_periods WHERE period = p.period + 1)
    AND EXISTS (SELECT FROM mls_entries
      WHERE filed_at_ms >= p.period * ${PERIOD_MS} AND filed_at_ms < (p.period + 1) * ${PERIOD_MS})
  $$;

  CREATE FUNCTION mls_period_is_over(the_period bigint) RETURNS boolean LANGUAGE sql AS $$
    SELECT NOT EXISTS (SELECT FROM mls_groups WHERE filed_from_ms < (the_period + 1) * ${PERIOD_MS})
  $$;

  -- Whoever waits for this lock has all others wait behind it: rather an hour later than long.
  CREATE FUNCTION mls_drop_period(the_period bigint) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '300ms' AS $$
  BEGIN
    LOCK TABLE ONLY mls_entries IN ACCESS EXCLUSIVE MODE;
    IF NOT mls_period_is_over(the_period) THEN RETURN false; END IF;
    DELETE FROM mls_periods WHERE period = the_period;
    IF NOT FOUND THEN RETURN false; END IF;
    EXECUTE format('DROP TABLE %I', 'mls_entries_' || the_period);
    RETURN true;
  EXCEPTION WHEN lock_not_available THEN
    RETURN false;
  END $$;
`;

/**
 * Appends are functions, so that each is one round trip and a group's row is locked no longer than its work takes. They
 * lock it before they read anything else: a statement that waits for a lock sees what was committed meanwhile in the
 * locked row only.
 */
const appends = `
  CREATE TYPE mls_appended AS (kind text, sequence bigint, epoch bigint);

  CREATE FUNCTION mls_append_messages(
    the_group bytea, hashes bytea[], messages bytea[], epochs bigint[], epochs_behind bigint[], times bigint[]
  ) RETURNS SETOF mls_appended LANGUAGE plpgsql AS $$
  DECLARE
    g mls_groups;
    m record;
    outcome mls_appended;
    last_removal bigint;
    filed bigint;
    ready bigint;
    -- Of those that are taken: which of the messages they are, their hashes, and when they are filed.
    places bigint[] := '{}';
    taken bytea[] := '{}';
    filings bigint[] := '{}';
    twin integer;
  BEGIN
    SELECT * INTO g FROM mls_groups WHERE group_id = the_group FOR NO KEY UPDATE;
    IF NOT FOUND THEN
      RETURN QUERY SELECT 'unknown-group', NULL::bigint, NULL::bigint FROM unnest(hashes);
      RETURN;
    END IF;
    SELECT last_removal_epoch INTO last_removal FROM mls_epochs e
      WHERE e.mls_group = g.mls_group AND e.epoch = g.epoch;
    FOR m IN
      SELECT * FROM unnest(hashes, epochs, epochs_behind, times) WITH ORDINALITY AS t (hash, epoch, behind, at, place)
    LOOP
      outcome := NULL;
      filed := greatest(m.at, g.filed_through_ms);
      twin := array_position(taken, m.hash);
      SELECT e.sequence INTO outcome.sequence FROM mls_entries e
        WHERE e.mls_group = g.mls_group AND e.hash = m.hash AND e.sequence >= g.first_sequence
        AND e.filed_at_ms >= g.filed_from_ms;
      IF FOUND THEN
        outcome.kind := 'repeated';
      ELSIF twin IS NOT NULL THEN
        outcome := ('repeated', g.last_sequence - cardinality(taken) + twin, NULL);
      ELSIF m.epoch > g.epoch THEN
        outcome.kind := 'unknown-epoch';
      ELSIF m.epoch < last_removal OR m.epoch < g.epoch - m.behind THEN
        outcome.kind := 'outdated';
      ELSE
        IF ready IS DISTINCT FROM mls_period_of(filed) THEN
          ready := mls_period_of(filed);
          PERFORM mls_need_period(ready);
        END IF;
        g.last_sequence := g.last_sequence + 1;
        g.oldest_entry_ms := coalesce(g.oldest_entry_ms, m.at);
        g.filed_from_ms := coalesce(g.filed_from_ms, filed);
        g.filed_through_ms := filed;
        g.last_used_day := greatest(g.last_used_day, m.at / 86400000);
        places := places || m.place;
        taken := taken || m.hash;
        filings := filings || filed;
        outcome := ('appended', g.last_sequence, NULL);
      END IF;
      RETURN NEXT outcome;
    END LOOP;
    -- All together: each by itself takes twice as long.
    INSERT INTO mls_entries
      SELECT g.mls_group, g.last_sequence - cardinality(taken) + n, t.filed, times[t.place], 'application', t.hash, NULL,
        NULL, messages[t.place]
      FROM unnest(places, taken, filings) WITH ORDINALITY AS t (place, hash, filed, n);
    UPDATE mls_groups SET last_sequence = g.last_sequence, oldest_entry_ms = g.oldest_entry_ms,
        filed_from_ms = g.filed_from_ms, filed_through_ms = g.filed_through_ms, last_used_day = g.last_used_day
      WHERE mls_group = g.mls_group AND last_sequence < g.last_sequence;
  END $$;

  -- Numbers entries on from the last one, and lets the group be in an epoch with them.
  CREATE FUNCTION mls_append_entries(
    g mls_groups, the_epoch bigint, filed bigint, at bigint, proposals bytea[], the_kind text, message bytea,
    voids bigint, parted bigint
  ) RETURNS bigint LANGUAGE plpgsql AS $$
  DECLARE
    last bigint := g.last_sequence + cardinality(proposals) + 1;
  BEGIN
    INSERT INTO mls_entries
      SELECT g.mls_group, g.last_sequence + place, filed, at, 'proposal', NULL, NULL, NULL, proposal
      FROM unnest(proposals) WITH ORDINALITY AS p (proposal, place);
    INSERT INTO mls_entries VALUES (g.mls_group, last, filed, at, the_kind, NULL, voids, parted, message);
    UPDATE mls_groups SET epoch = the_epoch, last_sequence = last, oldest_entry_ms = coalesce(oldest_entry_ms, at),
        filed_from_ms = coalesce(filed_from_ms, filed), filed_through_ms = filed,
        last_used_day = greatest(last_used_day, at / 86400000)
      WHERE mls_group = g.mls_group;
    -- Those that wait belong to the epoch that ends.
    DELETE FROM mls_pending_proposals WHERE mls_group = g.mls_group;
    RETURN last;
  END $$;

  CREATE FUNCTION mls_append_commit(
    the_group bytea, from_epoch bigint, commit_hash bytea, proposals bytea[], message bytea, group_info bytea,
    tree_hash bytea, tree_delta bytea, ban_list bytea, removed bytea[], listed bytea[], leaf_replaced boolean,
    accounts bytea[], devices integer[], welcomes bytea[], welcomes_waiting bigint, at bigint, parted bigint,
    from_commit bigint
  ) RETURNS mls_appended LANGUAGE plpgsql AS $$
  DECLARE
    g mls_groups;
    e mls_epochs;
    known mls_commits;
    next bigint;
    filed bigint;
    last bigint;
  BEGIN
    SELECT * INTO g FROM mls_groups WHERE group_id = the_group FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN ('unknown-group', NULL, NULL)::mls_appended; END IF;
    SELECT * INTO known FROM mls_commits c WHERE c.mls_group = g.mls_group AND c.hash = commit_hash;
    IF known.leads_from IS NOT NULL THEN RETURN ('repeated', known.sequence, known.leads_from + 1)::mls_appended; END IF;
    -- One that was voided does not come back: members could not follow it.
    IF known.sequence IS NOT NULL OR from_epoch <> g.epoch THEN RETURN ('lost', NULL, g.epoch)::mls_appended; END IF;
    filed := greatest(at, g.filed_through_ms);
    PERFORM mls_need_period(mls_period_of(filed));

    SELECT * INTO e FROM mls_epochs o WHERE o.mls_group = g.mls_group AND o.epoch = g.epoch;
    -- The epoch was taken back meanwhile, and entered by another commit.
    IF e.commit_sequence <> from_commit THEN RETURN ('lost', NULL, g.epoch)::mls_appended; END IF;
    next := g.epoch + 1;
    last := mls_append_entries(g, next, filed, at, proposals, 'commit', message, NULL, parted);
    INSERT INTO mls_commits VALUES (g.mls_group, last, commit_hash, g.epoch, cardinality(proposals));
    IF ban_list IS NOT NULL THEN INSERT INTO mls_ban_lists VALUES (g.mls_group, last, ban_list); END IF;
    INSERT INTO mls_epochs VALUES (
      g.mls_group, next, last,
      CASE WHEN cardinality(removed) > 0 OR leaf_replaced THEN next ELSE e.last_removal_epoch END,
      CASE WHEN ban_list IS NULL THEN e.ban_list_sequence ELSE last END,
      tree_hash, group_info, tree_delta
    );
    INSERT INTO mls_former_leaves SELECT g.mls_group, key, last FROM unnest(removed) AS r (key)
      ON CONFLICT DO NOTHING;
    UPDATE mls_bans SET removed_at = last
      WHERE mls_group = g.mls_group AND signature_key = ANY (removed) AND removed_at IS NULL;
    UPDATE mls_bans SET listed_at = last
      WHERE mls_group = g.mls_group AND account_id = ANY (listed) AND listed_at IS NULL;
    IF cardinality(welcomes) = 0 THEN RETURN ('appended', last, next)::mls_appended; END IF;

    INSERT INTO mls_outbox (mls_group, sequence, account_id, device_id, tree_hash, accepted_at_ms, welcome)
      SELECT g.mls_group, last, account, device, tree_hash, at, welcome
      FROM unnest(accounts, devices, welcomes) WITH ORDINALITY AS w (account, device, welcome, place) ORDER BY place;
    -- Commits of several groups at the same time may leave a few more: the next one sees them.
    DELETE FROM mls_outbox WHERE place IN (
      SELECT waiting.place
      FROM (SELECT DISTINCT account, device FROM unnest(accounts, devices) AS w (account, device)) AS w,
        LATERAL (SELECT o.place FROM mls_outbox o WHERE o.account_id = account AND o.device_id = device
          ORDER BY o.place DESC OFFSET welcomes_waiting) AS waiting
    );
    RETURN ('appended', last, next)::mls_appended;
  END $$;

  CREATE FUNCTION mls_void_commit(the_group bytea, voided bigint, proof bytea, at bigint)
  RETURNS mls_appended LANGUAGE plpgsql AS $$
  DECLARE
    g mls_groups;
    filed bigint;
  BEGIN
    SELECT * INTO g FROM mls_groups WHERE group_id = the_group FOR NO KEY UPDATE;
    -- The log still has the commit, hence mls_epochs the epoch before it; with a GroupInfo unless it was fed again.
    IF NOT FOUND OR voided < g.first_sequence
      OR NOT EXISTS (SELECT FROM mls_epochs e
        WHERE e.mls_group = g.mls_group AND e.epoch = g.epoch AND e.commit_sequence = voided)
      OR NOT EXISTS (SELECT FROM mls_epochs e
        WHERE e.mls_group = g.mls_group AND e.epoch = g.epoch - 1 AND e.group_info IS NOT NULL)
    THEN
      RETURN ('not-the-newest', NULL, NULL)::mls_appended;
    END IF;
    filed := greatest(at, g.filed_through_ms);
    PERFORM mls_need_period(mls_period_of(filed));

    UPDATE mls_commits SET leads_from = NULL WHERE mls_group = g.mls_group AND sequence = voided;
    DELETE FROM mls_epochs WHERE mls_group = g.mls_group AND epoch = g.epoch;
    DELETE FROM mls_former_leaves WHERE mls_group = g.mls_group AND removed_at = voided;
    UPDATE mls_bans SET removed_at = NULL WHERE mls_group = g.mls_group AND removed_at = voided;
    UPDATE mls_bans SET listed_at = NULL WHERE mls_group = g.mls_group AND listed_at = voided;
    DELETE FROM mls_outbox WHERE mls_group = g.mls_group AND sequence = voided;
    RETURN ('voided', mls_append_entries(g, g.epoch - 1, filed, at, '{}', 'void', proof, voided, NULL), g.epoch - 1)::mls_appended;
  END $$;

  -- Gives Welcomes that nobody has seen their ids, at most so many. Whoever holds the row has read what was committed
  -- before, and the next one what this one did.
  CREATE FUNCTION mls_number_outbox(at_most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
  DECLARE
    last bigint;
    numbered bigint;
  BEGIN
    SELECT last_id INTO last FROM mls_outbox_ids FOR UPDATE;
    WITH unseen AS (
      SELECT place FROM mls_outbox WHERE id IS NULL ORDER BY place LIMIT at_most FOR UPDATE SKIP LOCKED
    ), seen AS (
      SELECT place, last + row_number() OVER (ORDER BY place) AS new_id FROM unseen
    )
    UPDATE mls_outbox o SET id = new_id FROM seen WHERE o.place = seen.place;
    GET DIAGNOSTICS numbered = ROW_COUNT;
    UPDATE mls_outbox_ids SET last_id = last + numbered;
    RETURN numbered;
  END $$;
`;

const expiry = `
  -- Deletes what only expired entries needed. The oldest kept entry was written in some epoch, and that one and all
  -- later ones stay whole; before it stays the snapshot that its tree begins with, and the deltas in between.
  CREATE FUNCTION mls_prune(g mls_groups) RETURNS void LANGUAGE plpgsql AS $$
  DECLARE
    oldest bigint;
    base bigint;
  BEGIN
    SELECT e.epoch - 1 INTO oldest FROM mls_epochs e
      WHERE e.mls_group = g.mls_group AND e.commit_sequence >= g.first_sequence ORDER BY e.epoch LIMIT 1;
    oldest := coalesce(oldest, g.epoch);
    SELECT max(s.epoch) INTO base FROM mls_snapshots s WHERE s.mls_group = g.mls_group AND s.epoch <= oldest;
    DELETE FROM mls_epochs WHERE mls_group = g.mls_group AND epoch < base;
    UPDATE mls_epochs SET group_info = NULL
      WHERE mls_group = g.mls_group AND epoch < oldest AND group_info IS NOT NULL;
    DELETE FROM mls_ban_lists
      WHERE mls_group = g.mls_group AND sequence < g.first_sequence AND sequence IS DISTINCT FROM
        (SELECT e.ban_list_sequence FROM mls_epochs e WHERE e.mls_group = g.mls_group AND e.epoch = oldest);
    -- A leaf that came back since keeps the cursor that it has written since.
    WITH forgotten AS (
      DELETE FROM mls_former_leaves WHERE mls_group = g.mls_group AND removed_at < g.first_sequence
      RETURNING signature_key, removed_at
    )
    DELETE FROM mls_cursors c USING forgotten f
      WHERE c.mls_group = g.mls_group AND c.signature_key = f.signature_key AND c.through_sequence <= f.removed_at;
    DELETE FROM mls_bans WHERE mls_group = g.mls_group AND removed_at < g.first_sequence;
    DELETE FROM mls_commits WHERE mls_group = g.mls_group AND sequence < g.first_sequence;
    DELETE FROM mls_outbox WHERE mls_group = g.mls_group AND sequence < g.first_sequence;
  END $$;

  -- Lets a log begin with this sequence number, unless it begins later. Returns how many entries it lost.
  CREATE FUNCTION mls_expire(the_key bigint, first bigint) RETURNS bigint LANGUAGE plpgsql AS $$
  DECLARE
    g mls_groups;
    expired bigint;
  BEGIN
    SELECT * INTO g FROM mls_groups WHERE mls_group = the_key FOR NO KEY UPDATE;
    IF NOT FOUND OR first <= g.first_sequence THEN RETURN 0; END IF;
    expired := first - g.first_sequence;
    g.first_sequence := first;
    SELECT e.accepted_at_ms, e.filed_at_ms INTO g.oldest_entry_ms, g.filed_from_ms FROM mls_entries e
      WHERE e.mls_group = the_key AND e.sequence = first AND e.filed_at_ms >= g.filed_from_ms;
    UPDATE mls_groups SET first_sequence = first, oldest_entry_ms = g.oldest_entry_ms,
        filed_from_ms = g.filed_from_ms
      WHERE mls_group = the_key;
    PERFORM mls_prune(g);
    RETURN expired;
  END $$;

  -- For the auditor: what is kept longer than the schedule in README.md allows. Every count must be 0 within an hour of a
  -- retention run. What has expired cannot be read any more; it leaves the disk with its period, a week later at most.
  CREATE VIEW mls_retention_overdue (job, overdue) AS
    SELECT 'group-entries', count(*) FROM mls_groups
      WHERE oldest_entry_ms < (extract(epoch FROM now())::bigint - 30 * 86400) * 1000
    UNION ALL SELECT 'group-periods', count(*) FROM mls_periods
      WHERE (period + 1) * ${PERIOD_MS} < (extract(epoch FROM now())::bigint - 30 * 86400) * 1000
      AND mls_period_is_over(period)
    UNION ALL SELECT 'idle-mls-groups', count(*) FROM mls_groups
      WHERE last_used_day < extract(epoch FROM now())::bigint / 86400 - 400;
`;

export const mlsSchema = tables + periods + appends + expiry;

import { RejectionError } from "@murmuration/base";
import type { Storage } from "../ports/storage.ts";

/**
 * Everything the client keeps. Ids are blobs of 16 bytes. Comments say what a row is for and when it goes.
 *
 * Numbered rows are AUTOINCREMENT throughout: a number is never given out twice. Otherwise SQLite gives the number of
 * a deleted last row to the next one, and who still holds the old row deletes the new one in its place.
 */
const SCHEMA = `
-- Single values: own keys, tokens, cursor, store id.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Rows of the pairwise engine: sessions, prekeys, identities, device lists.
CREATE TABLE pairwise (tbl TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key));

-- Accounts: people one talks with, and members of groups. known: shown among the contacts. access_key: derived
-- from the profile key once, because a group message needs one for each member.
CREATE TABLE contact (
  account BLOB PRIMARY KEY, name TEXT NOT NULL DEFAULT '', given_name TEXT NOT NULL DEFAULT '',
  profile_key BLOB, access_key BLOB, previous_profile_key BLOB, fingerprint BLOB,
  known INTEGER NOT NULL DEFAULT 0, accepted INTEGER NOT NULL DEFAULT 0, blocked INTEGER NOT NULL DEFAULT 0,
  shared INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE conversation (
  id BLOB PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, protocol TEXT NOT NULL, title TEXT NOT NULL,
  expiry INTEGER NOT NULL DEFAULT 0, active_at INTEGER NOT NULL
);

-- The newest verified state of a group record, and its members.
CREATE TABLE group_state (
  id BLOB PRIMARY KEY, group_key BLOB NOT NULL, fence BLOB NOT NULL, revision INTEGER NOT NULL,
  hash BLOB NOT NULL, forked INTEGER NOT NULL DEFAULT 0, rotate_after INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE group_member (
  group_id BLOB NOT NULL, account BLOB NOT NULL, role TEXT NOT NULL, invited INTEGER NOT NULL,
  identity_key BLOB NOT NULL, removed_at INTEGER, PRIMARY KEY (group_id, account)
) WITHOUT ROWID;
-- The record's changes as they were verified: what an own change is appended to.
CREATE TABLE group_log (
  group_id BLOB NOT NULL, revision INTEGER NOT NULL, change BLOB NOT NULL, PRIMARY KEY (group_id, revision)
);
-- Keys announced for a generation that may or may not have taken effect.
CREATE TABLE group_pending_key (
  group_id BLOB NOT NULL, revision INTEGER NOT NULL, author BLOB NOT NULL, group_key BLOB NOT NULL,
  fence BLOB NOT NULL, PRIMARY KEY (group_id, revision, author)
) WITHOUT ROWID;
-- Own changes on their way into the record: one at a time for each group, repeated after a crash.
CREATE TABLE group_write (
  group_id BLOB PRIMARY KEY, revision INTEGER NOT NULL, change BLOB NOT NULL,
  body BLOB NOT NULL, group_key BLOB NOT NULL, fence BLOB, announced INTEGER NOT NULL
);

-- What the user sees. Ids rise and are never used again.
CREATE TABLE history (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, message_id BLOB NOT NULL,
  author BLOB NOT NULL, author_device INTEGER NOT NULL, outgoing INTEGER NOT NULL, kind TEXT NOT NULL,
  body BLOB, sent_at INTEGER NOT NULL, stored_at INTEGER NOT NULL, edited INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0, expire_after INTEGER NOT NULL DEFAULT 0, expires_at INTEGER,
  send_state TEXT, failure TEXT, read_at INTEGER,
  UNIQUE (author, author_device, message_id)
);
CREATE INDEX history_conversation ON history (conversation, id);
CREATE INDEX history_message ON history (author, message_id);
CREATE INDEX history_expiry ON history (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE reaction (
  history_id INTEGER NOT NULL REFERENCES history (id) ON DELETE CASCADE, author BLOB NOT NULL,
  emoji TEXT NOT NULL, PRIMARY KEY (history_id, author)
) WITHOUT ROWID;

-- Who confirmed an own message; the devices count, the accounts are shown.
CREATE TABLE receipt (
  message_id BLOB NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL, delivered_at INTEGER NOT NULL,
  read_at INTEGER, PRIMARY KEY (message_id, account, device)
) WITHOUT ROWID;

-- Edits, reactions and deletes whose message has not come yet. Goes when it comes, or after 30 days.
CREATE TABLE waiting_change (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, target_author BLOB NOT NULL, target_message BLOB NOT NULL,
  author BLOB NOT NULL, author_device INTEGER NOT NULL, content BLOB NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX waiting_change_target ON waiting_change (target_author, target_message);

-- Recognises a message that comes twice. Goes after 60 days, when no sender can repeat it any more.
CREATE TABLE seen (
  author BLOB NOT NULL, device INTEGER NOT NULL, message_id BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (author, device, message_id)
) WITHOUT ROWID;
CREATE INDEX seen_at ON seen (at);

-- Receipts that wait to be gathered into one message for their author.
CREATE TABLE receipt_due (
  author BLOB NOT NULL, message_id BLOB NOT NULL, read INTEGER NOT NULL, PRIMARY KEY (author, message_id, read)
) WITHOUT ROWID;

-- Messages on their way, and (accepted) those that may have to be sent again.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, target_kind TEXT NOT NULL, target BLOB NOT NULL,
  device INTEGER, message_id BLOB NOT NULL, content BLOB NOT NULL, history_id INTEGER, reference INTEGER,
  state TEXT NOT NULL, failure TEXT, accounts BLOB, exclude BLOB, confirm INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  accepted_at INTEGER
);
CREATE INDEX outbox_state ON outbox (state, lane, id);
CREATE INDEX outbox_reference ON outbox (reference);
CREATE INDEX outbox_message ON outbox (message_id);
CREATE INDEX outbox_history ON outbox (history_id);
-- The ciphertexts of a message, as they leave: the same bytes under the same submit id until an answer came.
CREATE TABLE outbox_part (
  id INTEGER PRIMARY KEY AUTOINCREMENT, outbox_id INTEGER NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
  submit_id BLOB NOT NULL, mode TEXT NOT NULL, recipients BLOB NOT NULL, group_id BLOB, fence BLOB,
  certificate_until INTEGER NOT NULL
);
CREATE INDEX outbox_part_outbox ON outbox_part (outbox_id);

-- What could not be dealt with yet. Envelopes: an identity to decide on, a device list or certificate to fetch.
-- Contents: an invite whose record has to be read, a message of a group or member that is not known yet.
CREATE TABLE held (
  id INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, bytes BLOB NOT NULL, sender BLOB, sender_device INTEGER,
  subject BLOB, sent_at INTEGER NOT NULL, accepted_at INTEGER NOT NULL, held_at INTEGER NOT NULL
);
CREATE INDEX held_reason ON held (reason, subject);

-- What the application has not acknowledged yet. Holds references, never content.
CREATE TABLE event (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, conversation BLOB, history_id INTEGER, account BLOB,
  detail TEXT NOT NULL, at INTEGER NOT NULL
);
`;

const COMMUNITIES = `
-- MLS groups. cursor: the log entry up to which everything is in this database. slot: which rows of mls_row are in
-- force; a rejoin writes the other ones until the service has taken it. profile: the group profile as it was last said,
-- and its hash. next_profile: what a commit of ours is about to make it. profile_said_at: -1 where we owe it to somebody
-- whom we have added. state: creating, waiting (for an admin to approve our coming), joining (an external commit is on
-- its way), active, stuck (a commit cannot be
-- followed: rejoin), over.
CREATE TABLE mls_group (
  id BLOB PRIMARY KEY, state TEXT NOT NULL, cursor INTEGER NOT NULL, slot INTEGER NOT NULL DEFAULT 0,
  profile BLOB, profile_said_at INTEGER NOT NULL DEFAULT 0, next_profile BLOB, updated_at INTEGER NOT NULL DEFAULT 0,
  -- The commit that this device cannot follow and has refused, and why; 0 for none. forked: another member is in another
  -- group under the same name. reported_*: when others last heard which epoch we are in.
  refused_at INTEGER NOT NULL DEFAULT 0, refusal TEXT NOT NULL DEFAULT '', forked INTEGER NOT NULL DEFAULT 0,
  reported_epoch INTEGER NOT NULL DEFAULT 0, reported_at INTEGER NOT NULL DEFAULT 0
);
-- What the newest commit replaced in mls_row, in case the service takes it back. Goes with the next commit, or after
-- ten minutes: it holds secrets of the epoch before.
CREATE TABLE mls_undo (
  group_id BLOB NOT NULL, key TEXT NOT NULL, value BLOB, sequence INTEGER NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (group_id, key)
);
-- Hashes of epoch authenticators, to compare with what others say.
CREATE TABLE mls_epoch (
  group_id BLOB NOT NULL, epoch INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (group_id, epoch)
) WITHOUT ROWID;
-- What the MLS engine stores, byte for byte. With a ROWID: a search must not pass through values of megabytes.
CREATE TABLE mls_row (
  group_id BLOB NOT NULL, slot INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (group_id, slot, key)
);
-- Which device stands at which leaf; the accounts are in group_member.
CREATE TABLE mls_leaf (
  group_id BLOB NOT NULL, leaf INTEGER NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL,
  PRIMARY KEY (group_id, leaf)
) WITHOUT ROWID;
CREATE INDEX mls_leaf_account ON mls_leaf (group_id, account);
-- KeyPackages that this device has published, with the private keys that a Welcome needs. Goes when it was used.
CREATE TABLE mls_key_package (
  reference BLOB PRIMARY KEY, message BLOB NOT NULL, init_key BLOB NOT NULL, leaf_key BLOB NOT NULL,
  last_resort INTEGER NOT NULL, expires_at INTEGER NOT NULL, upload BLOB, created_at INTEGER NOT NULL
) WITHOUT ROWID;
-- Invitations that were received and not taken up yet. group_id: as the service names it.
CREATE TABLE mls_welcome (
  id INTEGER PRIMARY KEY AUTOINCREMENT, group_id BLOB NOT NULL, welcome BLOB NOT NULL, tree_hash BLOB NOT NULL,
  sequence INTEGER NOT NULL, received_at INTEGER NOT NULL
);
-- The commit of ours that waits for the service: sent again as it is.
CREATE TABLE mls_commit (
  group_id BLOB PRIMARY KEY, body BLOB NOT NULL
);
-- An own application message on its way. shown_at: its place in the log; the row goes when the epoch is past recall.
CREATE TABLE mls_part (
  outbox_id INTEGER NOT NULL, group_id BLOB NOT NULL, submit_id BLOB NOT NULL, message BLOB NOT NULL,
  hash BLOB NOT NULL, epoch INTEGER NOT NULL, shown_at INTEGER, PRIMARY KEY (outbox_id)
) WITHOUT ROWID;
CREATE INDEX mls_part_hash ON mls_part (group_id, hash);
-- Members to be added or removed: what is left of a bulk change. key_package: claimed, and not yet committed.
CREATE TABLE mls_job (
  group_id BLOB NOT NULL, account BLOB NOT NULL, action TEXT NOT NULL, state TEXT NOT NULL, failure TEXT,
  position INTEGER NOT NULL, PRIMARY KEY (group_id, account, action)
) WITHOUT ROWID;
CREATE TABLE mls_claimed (
  group_id BLOB NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL, key_package BLOB NOT NULL,
  PRIMARY KEY (group_id, account, device)
) WITHOUT ROWID;
-- Secrets of invite links that this device made, so that it can show them again.
CREATE TABLE mls_link (
  group_id BLOB NOT NULL, link_id BLOB NOT NULL, seed BLOB NOT NULL, PRIMARY KEY (group_id, link_id)
) WITHOUT ROWID;
-- The link by which this device is joining a group; goes when it has joined.
CREATE TABLE mls_join (group_id BLOB PRIMARY KEY, link TEXT NOT NULL) WITHOUT ROWID;
-- Until when nobody is to be disturbed by a conversation. 0: not muted.
ALTER TABLE conversation ADD COLUMN muted_until INTEGER NOT NULL DEFAULT 0;
-- Messages that a moderator has pinned. at: a number that rises with each pin of the conversation.
CREATE TABLE pin (conversation BLOB NOT NULL, history_id INTEGER NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (conversation, history_id)
) WITHOUT ROWID;
-- Ban lists by their hash: what members validate with.
CREATE TABLE mls_ban_list (hash BLOB PRIMARY KEY, list BLOB NOT NULL) WITHOUT ROWID;
`;

const COMMUNITY_CONTENT = `
-- profile_wanted: a newcomer has asked for the group profile, and nobody has said it since. entered_at: what was said
-- before that is known here by the word of others only.
ALTER TABLE mls_group ADD COLUMN profile_wanted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mls_group ADD COLUMN entered_at INTEGER NOT NULL DEFAULT 0;
-- Whose word a join waits for, and that word.
ALTER TABLE mls_join ADD COLUMN inviter BLOB;
ALTER TABLE mls_join ADD COLUMN approver INTEGER;
ALTER TABLE mls_join ADD COLUMN approval BLOB;
-- Who asks to be let in by a link of ours. Goes when it is answered or the account has come, refused ones after a day.
CREATE TABLE mls_join_request (
  group_id BLOB NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL, link_id BLOB NOT NULL,
  signature_key BLOB NOT NULL, refused INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL,
  PRIMARY KEY (group_id, account, device)
) WITHOUT ROWID;
-- The account on whose word a line stands here that its author said before we came.
ALTER TABLE history ADD COLUMN shared_by BLOB;
CREATE INDEX history_shared ON history (conversation) WHERE shared_by IS NOT NULL;
`;

const EPOCH_DISPUTES = `
-- Accounts that know an epoch otherwise than this device: by their word alone.
CREATE TABLE mls_dispute (
  group_id BLOB NOT NULL, account BLOB NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY (group_id, account)
) WITHOUT ROWID;
`;

const PAST = `
-- Handshakes of the last days as the log had them, to feed a service that was set back to an older copy. hash: SHA-256.
CREATE TABLE mls_past (
  number INTEGER PRIMARY KEY AUTOINCREMENT, group_id BLOB NOT NULL, epoch INTEGER NOT NULL, kind TEXT NOT NULL,
  message BLOB NOT NULL, hash BLOB NOT NULL, ban_list BLOB, at INTEGER NOT NULL, UNIQUE (group_id, hash)
);
CREATE INDEX mls_past_epoch ON mls_past (group_id, epoch);
CREATE INDEX mls_past_at ON mls_past (at);
-- Entries of the log that this device has seen, to find out how far another log is the same.
CREATE TABLE mls_mark (
  group_id BLOB NOT NULL, sequence INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (group_id, sequence)
) WITHOUT ROWID;
-- Own messages that the log has shown. hash: SHA-256 of the message. lost: it has to be found again.
CREATE TABLE mls_sent (
  outbox_id INTEGER NOT NULL, group_id BLOB NOT NULL, sequence INTEGER NOT NULL, hash BLOB NOT NULL,
  lost INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL, PRIMARY KEY (outbox_id)
) WITHOUT ROWID;
CREATE INDEX mls_sent_place ON mls_sent (group_id, sequence);
CREATE INDEX mls_sent_hash ON mls_sent (group_id, hash);
-- Up to there the log is read a second time, because the service has another one than before. 0: it is not.
ALTER TABLE mls_group ADD COLUMN reread_through INTEGER NOT NULL DEFAULT 0;
`;

const EVIDENCE = `
-- What a decision that is needed rests on: two hashes for one epoch, or the code of an error.
ALTER TABLE event ADD COLUMN evidence BLOB;
`;

const GROUP_NAMES = `
-- The id of the MLS group where it is not the conversation's: that of a migrated conversation. NULL: it is.
ALTER TABLE mls_group ADD COLUMN wire_id BLOB;
CREATE UNIQUE INDEX mls_group_wire ON mls_group (wire_id) WHERE wire_id IS NOT NULL;
`;

const REFUSALS = `
-- What a void entry for a commit has to prove: the commit's SHA-256, and the accounts (16 bytes each) whose word against
-- it does not count. Of the newest commit, and of the one that can still be taken back.
CREATE TABLE mls_provisional (
  group_id BLOB NOT NULL, sequence INTEGER NOT NULL, hash BLOB NOT NULL, silent BLOB NOT NULL,
  PRIMARY KEY (group_id, sequence)
) WITHOUT ROWID;
`;

const EXTERNAL_JOINS = `
-- This device joins from outside as a device of an account that the group expects.
ALTER TABLE mls_group ADD COLUMN joins_expected INTEGER NOT NULL DEFAULT 0;
`;

const MIGRATION = `
-- Moves of pairwise groups to MLS. The first columns say what the group's record says, the others are this device's own:
-- round, secret_due, secret_message: the secret that was drawn last, whether another one has to be, and the message that
-- brings it to the members. reached_*: what the switching commit led to here, with whom it left in the group.
CREATE TABLE migration (
  conversation BLOB PRIMARY KEY, state TEXT NOT NULL, generation INTEGER NOT NULL, creator BLOB, creator_device INTEGER,
  epoch INTEGER, authenticator BLOB, roster_hash BLOB,
  lease BLOB, started_at INTEGER NOT NULL DEFAULT 0, deadline_at INTEGER NOT NULL DEFAULT 0,
  round INTEGER NOT NULL DEFAULT 0, secret_due INTEGER NOT NULL DEFAULT 0, secret_message BLOB,
  finish_now INTEGER NOT NULL DEFAULT 0, reached_epoch INTEGER, reached_authenticator BLOB, reached_roster_hash BLOB,
  reached_roster BLOB, refusal TEXT NOT NULL DEFAULT '', switched_at INTEGER NOT NULL DEFAULT 0
);
-- The token of a lease that is asked for by a change on its way into the record.
CREATE TABLE migration_lease (conversation BLOB PRIMARY KEY, lease BLOB NOT NULL) WITHOUT ROWID;
-- Devices that have joined the MLS group and said so. epoch, authenticator: what such a device says of an epoch that has
-- not come here yet; NULL once it was found to be ours.
CREATE TABLE migration_ready (
  conversation BLOB NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL, epoch INTEGER, authenticator BLOB,
  PRIMARY KEY (conversation, account, device)
) WITHOUT ROWID;
-- What the PSK of a switching commit is made of. Goes with the switch, or with the generation.
CREATE TABLE migration_secret (
  conversation BLOB NOT NULL, generation INTEGER NOT NULL, round INTEGER NOT NULL, secret BLOB NOT NULL,
  PRIMARY KEY (conversation, generation, round)
) WITHOUT ROWID;
-- Accounts that a pairwise group has no room for: added after the switch.
CREATE TABLE migration_waiting (
  conversation BLOB NOT NULL, account BLOB NOT NULL, PRIMARY KEY (conversation, account)
);
-- sent: how much this device has said in a pairwise group, and the revision of the record when it last did.
-- joined_revision: the one by which this account came.
ALTER TABLE group_state ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_state ADD COLUMN sent_revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_state ADD COLUMN joined_revision INTEGER NOT NULL DEFAULT 0;
-- The newest number of each device that came here; last: the one after which it speaks MLS. told: it spoke pairwise
-- after the switch and was sent the change.
CREATE TABLE group_counter (
  group_id BLOB NOT NULL, account BLOB NOT NULL, device INTEGER NOT NULL, seen INTEGER NOT NULL, last INTEGER,
  told INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (group_id, account, device)
) WITHOUT ROWID;
`;

const MIGRATION_ENTRY = `
-- Epoch in which this device came into the MLS group.
ALTER TABLE migration ADD COLUMN entered_epoch INTEGER NOT NULL DEFAULT 0;
`;

const PUSH = `
-- Where this device is woken through: at most one row is in use. token_id, secret: what the gateway gave for the token;
-- handle_key: its key at that time. told: the gateway has this token. over_at: not in use any more, since then; the row
-- goes when it is deleted at its gateway, or after 60 days.
CREATE TABLE push_registration (
  id INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL, kind TEXT NOT NULL, address TEXT NOT NULL,
  token_id BLOB, secret TEXT, handle_key BLOB, told INTEGER NOT NULL DEFAULT 0, look_at INTEGER NOT NULL DEFAULT 0,
  refusal TEXT NOT NULL DEFAULT '', over_at INTEGER
);
-- Handles that the service has, or may have (renew_at 0). place: a community's conversation, or one byte for the mailbox.
CREATE TABLE push_handle (place BLOB PRIMARY KEY, terms TEXT NOT NULL, renew_at INTEGER NOT NULL) WITHOUT ROWID;
-- What wakes this device for a conversation: messages, mentions, nothing.
ALTER TABLE conversation ADD COLUMN wake_by TEXT NOT NULL DEFAULT 'messages';
`;

const SET_BACK = `
-- Group keys of generations that are over, for a service that is set back behind one.
CREATE TABLE group_past_key (
  id INTEGER PRIMARY KEY AUTOINCREMENT, group_id BLOB NOT NULL, group_key BLOB NOT NULL, over_from INTEGER NOT NULL,
  over_at INTEGER NOT NULL
);
CREATE INDEX group_past_key_group ON group_past_key (group_id, id);
-- Communities that this device has made in the last days, as the service was told of them.
CREATE TABLE mls_creation (
  group_id BLOB PRIMARY KEY, group_info BLOB NOT NULL, tree BLOB NOT NULL, at INTEGER NOT NULL
) WITHOUT ROWID;
`;

const HEARD = `
-- The day (since 1970) on which a device last said anything; of one that has not, the day on which it was first listed.
CREATE TABLE device_heard (
  account BLOB NOT NULL, device INTEGER NOT NULL, day INTEGER NOT NULL, PRIMARY KEY (account, device)
) WITHOUT ROWID;
`;

const PICTURES = `
-- When a community's picture is uploaded anew, so that the service keeps it.
CREATE TABLE picture_due (blob BLOB PRIMARY KEY, due_at INTEGER NOT NULL) WITHOUT ROWID;
`;

const UNSAID = `
-- Numbers of what was deleted before it had left a pairwise group: at the switch they are no announced end.
CREATE TABLE group_unsaid (
  group_id BLOB NOT NULL, counter INTEGER NOT NULL, PRIMARY KEY (group_id, counter)
) WITHOUT ROWID;
`;

const OTHER_IDENTITIES = `
-- Who stands in a conversation under another identity key than is known here, and was told of. Goes with the conversation.
CREATE TABLE other_identity (
  group_id BLOB NOT NULL, account BLOB NOT NULL, identity_key BLOB NOT NULL,
  PRIMARY KEY (group_id, account, identity_key)
) WITHOUT ROWID;
`;

const SAID_IN = `
-- Whoever says something picks its id: it is one message in one conversation, and another one in the next. A line keeps its number.
CREATE TABLE seen_in (
  author BLOB NOT NULL, device INTEGER NOT NULL, message_id BLOB NOT NULL, conversation BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (author, device, message_id, conversation)
) WITHOUT ROWID;
INSERT INTO seen_in SELECT author, device, message_id, x'', at FROM seen;
DROP TABLE seen;
ALTER TABLE seen_in RENAME TO seen;
CREATE INDEX seen_at ON seen (at);
CREATE TABLE history_in (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, message_id BLOB NOT NULL,
  author BLOB NOT NULL, author_device INTEGER NOT NULL, outgoing INTEGER NOT NULL, kind TEXT NOT NULL,
  body BLOB, sent_at INTEGER NOT NULL, stored_at INTEGER NOT NULL, edited INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0, expire_after INTEGER NOT NULL DEFAULT 0, expires_at INTEGER,
  send_state TEXT, failure TEXT, read_at INTEGER, shared_by BLOB,
  UNIQUE (author, author_device, message_id, conversation)
);
INSERT INTO history_in SELECT * FROM history;
DELETE FROM sqlite_sequence WHERE name = 'history_in';
INSERT INTO sqlite_sequence (name, seq) SELECT 'history_in', seq FROM sqlite_sequence WHERE name = 'history';
-- The reactions go with the old lines.
CREATE TABLE reaction_in AS SELECT * FROM reaction;
DROP TABLE history;
ALTER TABLE history_in RENAME TO history;
DELETE FROM reaction;
INSERT INTO reaction SELECT * FROM reaction_in;
DROP TABLE reaction_in;
CREATE INDEX history_conversation ON history (conversation, id);
CREATE INDEX history_message ON history (author, message_id);
CREATE INDEX history_expiry ON history (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX history_shared ON history (conversation) WHERE shared_by IS NOT NULL;
`;

const HELD_IDENTITIES = `
-- Of what was said over MLS and waits for its turn: the account identity key that the sender's leaf stood for.
ALTER TABLE held ADD COLUMN identity_key BLOB;
UPDATE held SET identity_key = (
  SELECT identity_key FROM group_member WHERE group_id = held.subject AND account = held.sender
) WHERE reason = 'mls';
DELETE FROM held WHERE reason = 'mls' AND identity_key IS NULL;
`;

/** One step for each version; a database is brought up to date step by step. */
export const STEPS: readonly string[] = [
  SCHEMA,
  COMMUNITIES,
  COMMUNITY_CONTENT,
  EPOCH_DISPUTES,
  PAST,
  EVIDENCE,
  GROUP_NAMES,
  REFUSALS,
  EXTERNAL_JOINS,
  MIGRATION,
  MIGRATION_ENTRY,
  PUSH,
  SET_BACK,
  HEARD,
  PICTURES,
  UNSAID,
  OTHER_IDENTITIES,
  SAID_IN,
  HELD_IDENTITIES,
];

/** Creates or updates the tables. RejectionError `storage/newer-version` for a younger program's database. */
export function prepareSchema(storage: Storage): void {
  const version = storage.get("PRAGMA user_version")?.["user_version"] as number;
  if (version > STEPS.length) throw new RejectionError("storage/newer-version");
  if (version === STEPS.length) return;
  // All or nothing, and to the disk once: a new database would otherwise wait for it at each step.
  storage.transaction(() => {
    for (const step of STEPS.slice(version)) storage.exec(step);
    storage.exec(`PRAGMA user_version = ${STEPS.length}`);
  });
}

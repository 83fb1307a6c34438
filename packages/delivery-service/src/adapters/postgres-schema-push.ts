/** Handles of the push gateway: opaque, and nothing beside them that says which of them are one device's. */
export const pushSchema = `
  CREATE TABLE mailbox_push_handles (
    account_id bytea NOT NULL,
    device_id smallint NOT NULL,
    handle bytea NOT NULL,
    set_day integer NOT NULL,
    PRIMARY KEY (account_id, device_id)
  );
  CREATE INDEX mailbox_push_handles_by_age ON mailbox_push_handles (set_day);

  CREATE TABLE leaf_push_handles (
    group_id bytea NOT NULL,
    signature_key bytea NOT NULL,
    handle bytea NOT NULL,
    set_day integer NOT NULL,
    PRIMARY KEY (group_id, signature_key)
  );
  CREATE INDEX leaf_push_handles_by_age ON leaf_push_handles (set_day);
`;

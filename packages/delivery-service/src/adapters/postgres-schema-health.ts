/** What operators are told of groups and nothing else remembers. */
export const healthSchema = `
  -- Commits that came too late for their epoch, by the day. No foreign key: a count goes by its day.
  CREATE TABLE mls_lost_commits (
    group_id bytea NOT NULL,
    day integer NOT NULL,
    lost bigint NOT NULL,
    PRIMARY KEY (group_id, day)
  );
  CREATE INDEX mls_lost_commits_by_day ON mls_lost_commits (day);

  CREATE VIEW health_retention_overdue (job, overdue) AS
    SELECT 'lost-commits', count(*) FROM mls_lost_commits
      WHERE day < extract(epoch FROM now())::bigint / 86400 - 30;
`;

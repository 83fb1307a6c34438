/** What one run of one retention job did. */
export interface RetentionRun {
  readonly job: string;
  /** Milliseconds since 1970. */
  readonly ranAtMs: number;
  readonly removed: number;
}

/** Evidence for an auditor: when each job last ran and what it removed. Counts only. */
export interface RetentionLog {
  record(run: RetentionRun): Promise<void>;
  /** The latest run of each job, by name. */
  latest(): Promise<readonly RetentionRun[]>;
}

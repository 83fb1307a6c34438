/** What the `mls` benchmark measures. The names are those of its JSON. */
export const operations = [
  "key-package",
  "bulk-add",
  "join-cold",
  "join-cold-pooled",
  "join-warm",
  "join-warm-pooled",
  "commit-create-cold",
  "commit-process-cold",
  "commit-create-warm",
  "commit-process-warm",
  "application-create",
  "application-process",
  "load",
  "store-application",
  "store-commit",
] as const;

export type Operation = (typeof operations)[number];

export type ImplementationName = "murmuration" | "ts-mls" | "ts-mls-native" | "floor";

/** Exact operation counts of one run, by the names of the counting provider. */
export type Counts = Readonly<Record<string, number>>;

export interface Row {
  readonly operation: Operation;
  readonly members: number;
  readonly implementation: ImplementationName;
  /** Wall time of one operation; null where the operation was cut. */
  readonly bestMs: number | null;
  readonly medianMs: number | null;
  /** Slowest of the receivers, where an operation has several. */
  readonly worstMs: number | null;
  /**
   * What the operation produces (create), takes in (process, join), or hands to storage (store-*, load); null
   * where nothing is.
   */
  readonly bytes: number | null;
  readonly counts: Counts | null;
  /** medianMs over the floor of the same run; null without a floor, and where the floor is void. */
  readonly ratioToFloor: number | null;
  /** Runs that the median is of. */
  readonly runs: number;
  /** Why there is no time: `> 120 s`, or what kept the operation from being prepared. */
  readonly cut?: string;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly os: string;
}

export interface PrimitiveCost {
  readonly name: string;
  readonly us: number;
  /** The same with `openssl speed`, where openssl is installed and has it. */
  readonly opensslUs: number | null;
}

/** What a group that is loaded and idle keeps in memory. */
export interface MemoryRow {
  readonly members: number;
  readonly implementation: ImplementationName;
  readonly bytesPerGroup: number;
  readonly bytesPerMember: number;
}

export interface MlsReport {
  readonly benchmark: "mls";
  readonly startedAt: string;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly primitives: readonly PrimitiveCost[];
  /** Why ratios are missing; empty when they stand. */
  readonly floorVoid: readonly string[];
  /** True when the run was interrupted: the rows are those that were complete by then. */
  readonly partial: boolean;
  readonly rows: readonly Row[];
  readonly memory: readonly MemoryRow[];
}

import type { Bytes } from "@murmuration/base";

/** Time as the shell sees it; core functions get numbers. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls back once; the returned function cancels. A pending call does not keep the process alive. */
  after(delayMs: number, run: () => void): () => void;
}

/** Cryptographically secure randomness. */
export interface Random {
  bytes(length: number): Bytes;
}

/** Structured log. Fields are counts, codes and durations: never ids, addresses, keys or content. */
export interface Log {
  info(event: string, fields?: Readonly<Record<string, number | string | boolean>>): void;
  warn(event: string, fields?: Readonly<Record<string, number | string | boolean>>): void;
  error(event: string, fields?: Readonly<Record<string, number | string | boolean>>): void;
}

/** Counters, gauges and histograms by name; labels are codes out of fixed sets, never ids. */
export interface Metrics {
  count(name: CounterName, label?: string, by?: number): void;
  observe(name: HistogramName, value: number): void;
  gauge(name: GaugeName, value: number, label?: string): void;
  /** Prometheus text format. */
  render(): Promise<string>;
}

export type CounterName =
  | "submits"
  | "envelopes_stored"
  | "envelopes_delivered"
  | "envelopes_acknowledged"
  | "mailboxes_opened_again"
  | "limits_without_redis"
  | "rejections"
  | "connections_closed"
  | "store_transactions"
  | "store_writes"
  | "retention_removed"
  | "group_commits"
  | "group_messages"
  | "group_entries_delivered"
  | "group_turns"
  | "group_refeeds"
  | "group_cursors_written"
  | "group_trees_built"
  | "group_tree_changes_read"
  | "validator_ends"
  | "migration_steps"
  | "migration_take_overs"
  | "migration_stragglers"
  | "push_wakes";
export type HistogramName = "store_transaction_ms" | "submit_ms" | "http_request_ms" | "migration_ms";
export type GaugeName =
  | "connections_open"
  | "connections_authenticated"
  | "mailbox_envelopes"
  | "mailbox_bytes"
  | "groups_in_use"
  | "followers_loaded"
  | "engine_answers"
  | "migrations";

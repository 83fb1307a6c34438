import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { CounterName, GaugeName, HistogramName, Metrics } from "../ports/environment.ts";

const COUNTERS: Readonly<Record<CounterName, string>> = {
  submits: "Submits by outcome",
  envelopes_stored: "Envelopes made durable",
  envelopes_delivered: "Envelopes written to a connection",
  envelopes_acknowledged: "Envelopes deleted because their device acknowledged them",
  mailboxes_opened_again: "Mailboxes opened for devices on record because the mailbox store was lost",
  limits_without_redis: "Decisions of rate limits while Redis did not answer, by what they were told to do",
  rejections: "Refused frames and requests by code",
  connections_closed: "Closed connections by cause",
  store_transactions: "Durable transactions of the embedded store",
  store_writes: "Writes that shared those transactions",
  retention_removed: "Rows removed by retention, by job",
  group_commits: "Commits of MLS groups by outcome",
  group_messages: "Application messages of MLS groups by outcome",
  group_entries_delivered: "Entries of group logs written to a connection",
  group_turns: "Commit turns, by what they were granted for and how they ended",
  group_refeeds: "Groups that members fed again after the database was set back, by outcome",
  group_cursors_written: "Cursors of leaves made durable",
  group_trees_built: "Ratchet trees built for who asked for them",
  group_tree_changes_read: "Requests for what has changed from one ratchet tree to another",
  validator_ends: "Times that the thread which validates commits ended, by cause",
  migration_steps: "Steps of groups that move to MLS, by the change that each is",
  migration_take_overs: "Steps with which a member went on in the place of one whose lease was over",
  migration_stragglers: "Submits refused by their fence because the group has switched to MLS",
  push_wakes: "Wake-ups for the push gateway, by what became of them",
};
const GAUGES: Readonly<Record<GaugeName, string>> = {
  connections_open: "Open connections",
  connections_authenticated: "Open connections of devices",
  mailbox_envelopes: "Envelopes that wait",
  mailbox_bytes: "Ciphertext bytes that wait",
  groups_in_use: "MLS groups that somebody has open",
  followers_loaded: "MLS groups whose trees are in memory",
  engine_answers: "1 for each engine that answered when it was last asked, 0 for one that did not",
  migrations: "Pairwise groups that began to move to MLS, by their state",
};
/** Those that have one value for each label. */
const LABELLED: ReadonlySet<GaugeName> = new Set(["migrations", "engine_answers"]);
const HISTOGRAMS: Readonly<Record<HistogramName, string>> = {
  store_transaction_ms: "Duration of a transaction including its fsync",
  submit_ms: "Time from a submit's arrival to its answer",
  http_request_ms: "Time from a request's arrival to its answer",
  migration_ms: "Time from a group's first step towards MLS to its switch",
};
const BUCKETS = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];
const SECOND = 1000;
const HOUR = 3600 * SECOND;
/** What people wait for, and not the machine. */
const SLOW_BUCKETS: Readonly<Partial<Record<HistogramName, readonly number[]>>> = {
  migration_ms: [
    ...[1, 5, 15, 30, 60, 120, 300, 900, 1800].map((seconds) => seconds * SECOND),
    ...[1, 6, 24, 72, 168].map((hours) => hours * HOUR),
  ],
};

/** {@link Metrics} in a registry of its own, so that several services may live in one process. */
export function createPrometheusMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "murmuration_" });
  const registers = [registry];
  const counters = byName(COUNTERS, (name, help) => {
    return new Counter({ name: `murmuration_${name}_total`, help, labelNames: ["label"], registers });
  });
  const gauges = byName(GAUGES, (name, help) => {
    const labelNames = LABELLED.has(name) ? ["label"] : [];
    return new Gauge({ name: `murmuration_${name}`, help, labelNames, registers });
  });
  const histograms = byName(HISTOGRAMS, (name, help) => {
    const buckets = [...(SLOW_BUCKETS[name] ?? BUCKETS)];
    return new Histogram({ name: `murmuration_${name}`, help, buckets, registers });
  });
  return {
    count: (name, label = "", by = 1) => counters[name].inc({ label }, by),
    gauge: (name, value, label) => gauges[name].set(label === undefined ? {} : { label }, value),
    observe: (name, value) => histograms[name].observe(value),
    render: () => registry.metrics(),
  };
}

function byName<N extends string, T>(
  names: Readonly<Record<N, string>>,
  create: (name: N, help: string) => T,
): Readonly<Record<N, T>> {
  const entries = Object.entries<string>(names).map(([name, help]) => [name, create(name as N, help)]);
  return Object.fromEntries(entries) as Record<N, T>;
}

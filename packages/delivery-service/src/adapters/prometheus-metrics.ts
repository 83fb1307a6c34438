import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { CounterName, GaugeName, HistogramName, Metrics } from "../ports/environment.ts";

const COUNTERS: Readonly<Record<CounterName, string>> = {
  submits: "Submits by outcome",
  envelopes_stored: "Envelopes made durable",
  envelopes_delivered: "Envelopes written to a connection",
  envelopes_acknowledged: "Envelopes deleted because their device acknowledged them",
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
  validator_ends: "Times that the thread which validates commits ended, by cause",
};
const GAUGES: Readonly<Record<GaugeName, string>> = {
  connections_open: "Open connections",
  connections_authenticated: "Open connections of devices",
  mailbox_envelopes: "Envelopes that wait",
  mailbox_bytes: "Ciphertext bytes that wait",
  groups_in_use: "MLS groups that somebody has open",
  followers_loaded: "MLS groups whose trees are in memory",
};
const HISTOGRAMS: Readonly<Record<HistogramName, string>> = {
  store_transaction_ms: "Duration of a transaction including its fsync",
  submit_ms: "Time from a submit's arrival to its answer",
  http_request_ms: "Time from a request's arrival to its answer",
};

/** {@link Metrics} in a registry of its own, so that several services may live in one process. */
export function createPrometheusMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "murmuration_" });
  const registers = [registry];
  const counters = byName(COUNTERS, (name, help) => {
    return new Counter({ name: `murmuration_${name}_total`, help, labelNames: ["label"], registers });
  });
  const gauges = byName(GAUGES, (name, help) => new Gauge({ name: `murmuration_${name}`, help, registers }));
  const histograms = byName(HISTOGRAMS, (name, help) => {
    const buckets = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];
    return new Histogram({ name: `murmuration_${name}`, help, buckets, registers });
  });
  return {
    count: (name, label = "", by = 1) => counters[name].inc({ label }, by),
    gauge: (name, value) => gauges[name].set(value),
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

/** What `delivery` measures, as it is written, judged and printed. */

import type { Machine } from "../mls/rows.ts";
import { alignTable } from "../mls/table.ts";
import type { DiskTimes } from "./disk-probe.ts";
import type { StoreReport } from "./store.ts";

/** Of the issue that asked for this benchmark; two cores, everything on one machine. */
const bounds = { p99Ms: 250, catchUpSeconds: 30 } as const;

export type ServerName = "murmuration, ws" | "murmuration, uWebSockets.js" | "mosquitto" | "nats-server";

/** From the moment a message is sent until the last subscriber has it. */
export interface Latency {
  readonly messagesPerSecond: number;
  readonly messages: number;
  readonly deliveries: number;
  readonly lost: number;
  readonly doubled: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mostMs: number;
  readonly serverCpuUsPerDelivery: number;
}

/** A bounded number of messages on their way to somebody, as fast as that goes. */
export interface Throughput {
  readonly inFlight: number;
  readonly seconds: number;
  readonly deliveries: number;
  readonly lost: number;
  readonly doubled: number;
  readonly deliveriesPerSecond: number;
  readonly serverCpuSeconds: number;
  readonly deliveriesPerSecondPerCore: number;
  /** Messages that came in one frame, where the server puts several into one. */
  readonly messagesPerFrame: number;
}

/** One server and its subscribers. */
export interface FanoutResult {
  readonly server: ServerName;
  readonly version: string;
  readonly subscribers: number;
  /** As the server gets it: a whole MLS message. */
  readonly messageBytes: number;
  readonly latency: Latency;
  /** Of a server that accepts nothing before it is on the disk: what the disk took by itself, meanwhile. */
  readonly disk?: DiskTimes;
  readonly throughput: Throughput;
  /** Resident memory of the server, subscribers connected less none, by subscriber. */
  readonly residentBytesPerSubscriber: number;
}

export interface AppendsResult {
  readonly groups: number;
  readonly payloadBytes: number;
  readonly inFlight: number;
  readonly seconds: number;
  readonly appends: number;
  readonly appendsPerSecond: number;
  readonly serviceCpuUsPerAppend: number;
  /** Of one core, by the process that sends: near 1 means that it, not the service, was the limit. */
  readonly senderCpuShare: number;
}

export interface StormResult {
  readonly devices: number;
  readonly connections: number;
  readonly communities: number;
  readonly envelopesEach: number;
  readonly entriesEach: number;
  readonly caughtUp: number;
  readonly lost: number;
  readonly repeated: number;
  readonly retries: number;
  readonly p50Seconds: number;
  /** When the last device had everything; null when one never had. */
  readonly lastSeconds: number | null;
  readonly serviceCpuSeconds: number;
}

export interface MemoryResult {
  readonly kind: "said Hello" | "mailbox of a device" | "reader of a group";
  readonly connections: number;
  readonly residentBytesPerConnection: number;
  readonly heapBytesPerConnection: number;
}

export interface LeftOut {
  readonly what: string;
  readonly why: string;
}

export interface Sections {
  readonly fanout: readonly FanoutResult[];
  readonly appends: readonly AppendsResult[];
  readonly storm: StormResult | undefined;
  readonly memory: readonly MemoryResult[];
  readonly leftOut: readonly LeftOut[];
}

export interface DeliveryReport extends Sections {
  readonly benchmark: "delivery";
  readonly schema: 1;
  readonly startedAt: string;
  readonly durationSeconds: number;
  readonly seed: string;
  readonly quick: boolean;
  readonly partial: boolean;
  readonly store: StoreReport;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly primitivesUs: Readonly<Record<string, number>>;
  readonly missed: readonly string[];
}

/** Bars that the figures miss, a sentence each. A section that was not measured misses none. */
export function missedBars({ fanout, storm }: Pick<Sections, "fanout" | "storm">): string[] {
  const missed: string[] = [];
  for (const { server, subscribers, latency, throughput } of fanout) {
    if (!server.startsWith("murmuration")) continue;
    if (!(latency.p99Ms <= bounds.p99Ms)) {
      missed.push(
        `${server}: p99 to the last of ${subscribers} members is ${ms(latency.p99Ms)}, the bar ${ms(bounds.p99Ms)}`,
      );
    }
    for (const { lost, doubled } of [latency, throughput]) {
      if (lost + doubled > 0)
        missed.push(`${server}: ${lost} deliveries lost, ${doubled} doubled; the bar is none`);
    }
  }
  if (storm === undefined) return missed;
  const { devices, lost, lastSeconds } = storm;
  if (lastSeconds === null || lastSeconds > bounds.catchUpSeconds) {
    const when = lastSeconds === null ? `only ${storm.caughtUp}` : "the last";
    const after = lastSeconds === null ? "" : ` after ${lastSeconds.toFixed(1)} s`;
    missed.push(
      `reconnect: of ${devices} devices ${when} had caught up${after}, the bar is all within ${bounds.catchUpSeconds} s`,
    );
  }
  if (lost > 0) missed.push(`reconnect: ${lost} messages lost, the bar is none`);
  return missed;
}

const ms = (value: number): string => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);
const count = (value: number): string => Math.round(value).toLocaleString("en");
const kB = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`;
const ratio = (value: number): string => (Number.isFinite(value) ? `x${value.toPrecision(2)}` : "-");

export function printDelivery(report: DeliveryReport): void {
  const { machine, versions, store } = report;
  console.log(`\n${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
  console.log(`Node ${versions["node"]}; seed "${report.seed}"; store: ${store.name}, ${store.durability}`);
  if (report.fanout.length > 0) printFanout(report.fanout);
  if (report.appends.length > 0) printAppends(report.appends);
  if (report.storm !== undefined) printStorm(report.storm);
  if (report.memory.length > 0) {
    const rows = report.memory.map((row) => [
      row.kind,
      count(row.connections),
      kB(row.residentBytesPerConnection),
      kB(row.heapBytesPerConnection),
    ]);
    print(["idle connection", "connections", "resident", "heap"], rows);
  }
  for (const { what, why } of report.leftOut) console.log(`\nLeft out: ${what}: ${why}`);
  if (report.partial) console.log("\nInterrupted: this report is partial.");
  console.log("");
  for (const missed of report.missed) console.log(`MISSED ${missed}`);
  if (report.missed.length === 0) console.log("Every bar that was measured is met.");
}

function print(header: readonly string[], rows: readonly (readonly string[])[]): void {
  console.log(`\n${alignTable(header, rows).join("\n")}`);
}

function printFanout(fanout: readonly FanoutResult[]): void {
  const [{ subscribers, messageBytes, latency, throughput }] = fanout as [FanoutResult];
  console.log(
    `\nOne message of ${messageBytes} bytes to ${count(subscribers)} subscribers: ${latency.messagesPerSecond} a second, ` +
      `then with ${throughput.inFlight} on their way.`,
  );
  print(
    ["server", "p50", "p99", "CPU each", "deliveries/s", "a core's", "in a frame", "resident"],
    fanout.map((row) => [
      `${row.server} ${row.version}`,
      ms(row.latency.p50Ms),
      ms(row.latency.p99Ms),
      `${row.latency.serverCpuUsPerDelivery.toFixed(1)} us`,
      count(row.throughput.deliveriesPerSecond),
      count(row.throughput.deliveriesPerSecondPerCore),
      row.throughput.messagesPerFrame.toFixed(1),
      kB(row.residentBytesPerSubscriber),
    ]),
  );
  for (const { server, latency, disk } of fanout)
    if (disk !== undefined) console.log(tailOf(server, latency, disk));
  const ours = fanout.find(({ server }) => server === "murmuration, ws");
  const others = fanout.filter((row) => row !== ours);
  if (ours === undefined || others.length === 0) return;
  print(
    ["as ratios to murmuration, ws", "p99", "CPU each", "a core's", "resident"],
    others.map((row) => [
      row.server,
      ratio(row.latency.p99Ms / ours.latency.p99Ms),
      ratio(row.latency.serverCpuUsPerDelivery / ours.latency.serverCpuUsPerDelivery),
      ratio(row.throughput.deliveriesPerSecondPerCore / ours.throughput.deliveriesPerSecondPerCore),
      ratio(row.residentBytesPerSubscriber / ours.residentBytesPerSubscriber),
    ]),
  );
  if (others.some(({ server }) => server === "mosquitto" || server === "nats-server"))
    console.log(PEERS_DO_NOT);
}

/** What is in the slowest of the figures and is not the service's. */
const tailOf = (server: string, { mostMs }: Latency, { p50Ms, p99Ms, mostMs: diskMs }: DiskTimes): string =>
  `${server}: the slowest message took ${ms(mostMs)}. The disk by itself, 4 kB written and synced beside it: p50 ${ms(p50Ms)}, ` +
  `p99 ${ms(p99Ms)}, the slowest ${ms(diskMs)}.`;

const PEERS_DO_NOT =
  "mosquitto (QoS 0) and nats-server (core) hand on and forget: nothing is on disk, nothing is acknowledged or sent again,\n" +
  "whoever is away misses it, and no subscriber shows a key. Ours answers the sender after the message is in the log on\n" +
  "disk, gives it a number without gaps, and delivers it to leaves that signed for their access and acknowledge.";

function printAppends(appends: readonly AppendsResult[]): void {
  print(
    ["appends without readers", "payload", "in flight", "appends/s", "service CPU", "sender's core"],
    appends.map((row) => [
      row.groups === 1 ? "one group" : `${row.groups} groups`,
      `${row.payloadBytes} B`,
      count(row.inFlight),
      count(row.appendsPerSecond),
      `${row.serviceCpuUsPerAppend.toFixed(0)} us`,
      `${Math.round(row.senderCpuShare * 100)}%`,
    ]),
  );
}

function printStorm(storm: StormResult): void {
  const { caughtUp, devices, lastSeconds, lost, repeated, retries } = storm;
  console.log(
    `\n${count(devices)} devices in ${storm.communities} communities come back at once on ${count(storm.connections)} connections, each ` +
      `lacking ${storm.envelopesEach} envelopes and ${storm.entriesEach} entries:\n${count(caughtUp)} caught up, half of them after ` +
      `${storm.p50Seconds.toFixed(1)} s, the last after ${lastSeconds?.toFixed(1) ?? "-"} s; ${lost} messages lost, ${repeated} sent ` +
      `again, ${retries} connections retried; ${storm.serviceCpuSeconds.toFixed(1)} s of the service's CPU.`,
  );
}

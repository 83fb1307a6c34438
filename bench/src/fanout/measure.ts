/** Runs the fan-out: three processes take turns, sizes from small to large, protocols and payloads interleaved. */
import { median } from "../median.ts";
import {
  type FanoutRow,
  type FanoutSection,
  type FanoutSpread,
  type Protocol,
  protocols,
  type Spread,
} from "../report/schema.ts";
import { type CommunityFile, makeCommunity } from "./community.ts";
import { saveFile } from "./files.ts";
import type { FanoutProcesses } from "./processes.ts";
import {
  isMls,
  type ReceiverResult,
  type SenderResult,
  type ServiceResult,
  type Task,
  temperatureOf,
  timedLeaves,
} from "./protocols.ts";

export interface FanoutPlan {
  /** Cells by size: what is measured with how many members. */
  readonly cells: readonly { readonly members: number; readonly payloadBytes: readonly number[] }[];
  /** Runs that the medians are of, by size. */
  readonly runs: (members: number) => number;
  /** Whether code is compiled before anything is measured. */
  readonly warmUp: boolean;
}

/** Fewer where one message is thousands of operations: each run is an average by itself. */
export function defaultRuns(members: number): number {
  if (members <= 32) return 3;
  return members <= 1_024 ? 2 : 1;
}

interface Series {
  readonly sender: number[];
  readonly service: number[];
  readonly receiver: number[];
  bytes: Pick<FanoutRow, "senderBytes" | "storedBytes" | "egressBytes"> | undefined;
  uploadBytes: number;
  receiversTimed: number;
}

/** A short message is sent several times over in one run: a clock tick would be a part of it otherwise. */
function timesOf(protocol: Protocol, members: number): number {
  if (isMls(protocol)) return members <= 1_024 ? 16 : 8;
  return Math.max(1, Math.round(16 / (members - 1)));
}

/** Members of the group that code is compiled on. */
export const WARM_UP_MEMBERS = 48;
const WARM_UP_ROUNDS = 8;

const fanoutDefinitions: readonly string[] = [
  "Every member is one account with one device; everybody is online.",
  "pairwise and pairwise-sealed go in SubmitSealed frames of at most 256 recipients each; pairwise has the session's ciphertext in them where pairwise-sealed has the sealed one, so that the difference is what sealed sender v1 adds.",
  "sender-key-sealed goes in one frame that Murmuration's protocol does not have: one sealed sender v2 message with a submit id and a fence. The service stores each recipient's part as it would be delivered. No endorsement is checked. The sender key is with everybody already; giving it to them, and giving out a new one when somebody leaves, is in the membership table.",
  "Sessions are established and the sender's chain is under way: no message carries prekeys, and none turns a ratchet.",
  "mls-warm and mls-cold are one application message alone; commits are in the membership table. Warm: every parent node has a key, and the sender's chain is under way. Cold: every parent is blank, and the message is the sender's first of the epoch, so that both ends derive their way down the secret tree. The bytes are the same by construction, since a PrivateMessage does not depend on the tree.",
  "Bytes are exact: encoded frames of the client's and the service's contract with WebSocket headers, without TLS, TCP and acknowledgements. senderBytes holds the answers to the sender and, in an MLS group, the sender's own message when the log comes back to it. Not counted is the mark of its mailboxes' state that the service puts into a delivery to a device, 46 bytes at most every two seconds.",
  "storedBytes are the values of the rows that the embedded store holds afterwards: blobs by their length, numbers as 8 bytes; without indexes and pages.",
  "CPU is process.cpuUsage of a process of its own with all its threads. The service's is from the frame's bytes to the encoded frames of all receivers, SQLite with synchronous=FULL included; the kernel's sockets and the WebSocket library are not in it. The client's database is not in the sender's and the receiver's.",
  "CPU of mls-cold is the median of single messages, each in a group whose epoch has just begun; of everything else the mean of the messages of one run. Of the runs the median counts.",
  "MLS messages are padded by the engine's default (Padmé, at most 12 percent); libsignal's are not padded beyond its cipher's blocks.",
];

/** The order of rows in a section. */
function inOrder(a: FanoutRow, b: FanoutRow): number {
  return (
    protocols.indexOf(a.protocol) - protocols.indexOf(b.protocol) ||
    a.members - b.members ||
    a.payloadBytes - b.payloadBytes
  );
}

export class FanoutBenchmark {
  private readonly plan: FanoutPlan;
  private readonly processes: FanoutProcesses;
  private readonly rows: { readonly row: FanoutRow; readonly spread: FanoutSpread }[] = [];
  private readonly show: (what: string) => void;

  constructor(plan: FanoutPlan, processes: FanoutProcesses, show: (what: string) => void) {
    this.plan = plan;
    this.processes = processes;
    this.show = show;
  }

  /** Throws when a process fails; rows that were complete by then stay. */
  async run(step: () => void = () => {}): Promise<void> {
    if (this.plan.warmUp) await this.warmUp();
    step();
    for (const { members, payloadBytes } of this.plan.cells) {
      await this.runSize(members, payloadBytes, this.plan.runs(members));
      step();
    }
  }

  private async warmUp(): Promise<void> {
    await this.openGroups(WARM_UP_MEMBERS);
    for (let round = 0; round < WARM_UP_ROUNDS; round++) {
      this.show(`warming up, ${round + 1} of ${WARM_UP_ROUNDS}`);
      for (const protocol of protocols) await sendOnce(this.processes, protocol, WARM_UP_MEMBERS, 64);
    }
  }

  /** One group is made while the other is being opened: none of it is measured. */
  private async openGroups(members: number): Promise<void> {
    const opened: Promise<unknown>[] = [];
    for (const protocol of protocols) {
      if (!isMls(protocol)) continue;
      this.show(`${members} members: making the ${protocol} group`);
      const opening = openCommunity(this.processes, members, protocol, "group");
      opened.push(opening);
      // Told below, when both are awaited.
      opening.catch(() => {});
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(opened);
  }

  private async runSize(members: number, payloads: readonly number[], runs: number): Promise<void> {
    await this.openGroups(members);
    const cells = protocols.flatMap((protocol) =>
      payloads.map((payloadBytes) => ({ protocol, payloadBytes, series: emptySeries() })),
    );
    for (let run = 0; run < runs; run++) {
      for (const { payloadBytes, protocol, series } of cells) {
        this.show(`${members} members, ${protocol}, ${payloadBytes} bytes, run ${run + 1} of ${runs}`);
        const { receiver, sender, service } = await sendOnce(this.processes, protocol, members, payloadBytes);
        series.sender.push(sender.cpuUs);
        series.service.push(service.cpuUs);
        series.receiver.push(receiver.cpuUs);
        series.receiversTimed = receiver.receivers;
        this.keepBytes(series, sender, service, `${protocol} ${members} ${payloadBytes}`);
      }
    }
    for (const { payloadBytes, protocol, series } of cells) {
      this.rows.push(finished(protocol, members, payloadBytes, series));
    }
  }

  /** Bytes have to be the same in every run, or they would be no property of the protocol. */
  private keepBytes(series: Series, sender: SenderResult, service: ServiceResult, what: string): void {
    const bytes = {
      senderBytes: sender.uploadBytes + service.senderDownloadBytes,
      storedBytes: service.storedBytes,
      egressBytes: service.egressBytes,
    };
    if (series.bytes === undefined) series.uploadBytes = sender.uploadBytes;
    series.bytes ??= bytes;
    const drift = Object.entries(series.bytes).filter(
      ([name, value]) => bytes[name as keyof typeof bytes] !== value,
    );
    // A sequence number or an envelope's id may take a byte more in a later run.
    const most = drift.reduce(
      (sum, [name, value]) => Math.max(sum, Math.abs(bytes[name as keyof typeof bytes] / value - 1)),
      0,
    );
    if (most > 0.02)
      throw new Error(`${what}: ${JSON.stringify(series.bytes)} became ${JSON.stringify(bytes)}`);
  }

  section(): FanoutSection {
    const all = [...this.rows].sort((a, b) => inOrder(a.row, b.row));
    return {
      rows: all.map(({ row }) => row),
      spreads: all.map(({ spread }) => spread),
      definitions: fanoutDefinitions,
    };
  }
}

export interface SentOnce {
  readonly sender: SenderResult;
  readonly service: ServiceResult;
  readonly receiver: ReceiverResult;
}

/** One message (short ones several times over) through all three processes. */
export async function sendOnce(
  processes: FanoutProcesses,
  protocol: Protocol,
  members: number,
  payloadBytes: number,
): Promise<SentOnce> {
  const task: Task = {
    protocol,
    members,
    payloadBytes,
    times: timesOf(protocol, members),
    name: processes.nextName(),
    frames: processes.path("frames"),
    delivered: processes.path("delivered"),
  };
  const sender = await processes.sender.request<SenderResult>("send", task);
  const service = await processes.service.request<ServiceResult>("submit", task);
  const receiver = await processes.receivers.request<ReceiverResult>("receive", task);
  return { sender, service, receiver };
}

/**
 * Makes a community of this size and opens it in all three processes under the protocol's name: for messages (the
 * `group` request of sender and receivers) or for commits (`changing`).
 */
export async function openCommunity(
  processes: FanoutProcesses,
  members: number,
  protocol: "mls-warm" | "mls-cold",
  purpose: "group" | "changing",
): Promise<CommunityFile> {
  const path = processes.path(`community-${protocol}`);
  const seeds = { accounts: processes.seed, group: processes.nextName() };
  const file = makeCommunity(seeds, members, temperatureOf(protocol), timedLeaves(members));
  saveFile(path, file);
  const { receivers, sender, service } = processes;
  // Side by side, since none of it is measured.
  await Promise.all([
    service.request("group", { protocol, path }),
    sender.request(purpose, { protocol, path }),
    receivers.request(purpose, { protocol, path }),
  ]);
  return file;
}

function emptySeries(): Series {
  return { sender: [], service: [], receiver: [], bytes: undefined, uploadBytes: 0, receiversTimed: 0 };
}

function finished(protocol: Protocol, members: number, payloadBytes: number, series: Series) {
  const cell = { protocol, members, payloadBytes };
  const bytes = series.bytes!;
  const middle = (values: readonly number[]) => roundUs(median(values));
  const row: FanoutRow = {
    ...cell,
    ...bytes,
    receiverBytes: Math.round(bytes.egressBytes / (members - 1)),
    senderCpuUs: middle(series.sender),
    dsCpuUs: middle(series.service),
    receiverCpuUs: middle(series.receiver),
  };
  const spread: FanoutSpread = {
    ...cell,
    senderUploadBytes: series.uploadBytes,
    runs: series.sender.length,
    receiversTimed: series.receiversTimed,
    senderCpu: spreadOf(series.sender),
    dsCpu: spreadOf(series.service),
    receiverCpu: spreadOf(series.receiver),
  };
  return { row, spread };
}

const roundUs = (us: number): number => Number(us.toPrecision(4));

function spreadOf(values: readonly number[]): Spread {
  return { leastUs: roundUs(Math.min(...values)), mostUs: roundUs(Math.max(...values)) };
}

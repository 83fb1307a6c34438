/**
 * Membership of MLS groups: real commits of a community through the real service, followed by real members. Each run
 * leaves the group as large as it found it, and goes on in the epoch in which the one before ended.
 */
import type {
  CommitKind,
  CommitReceiverResult,
  CommitSenderResult,
  CommitServiceResult,
  CommitTask,
} from "../fanout/commits.ts";
import { type CommunityFile, communityForm } from "../fanout/community.ts";
import { saveFile } from "../fanout/files.ts";
import { openCommunity } from "../fanout/measure.ts";
import type { FanoutProcesses } from "../fanout/processes.ts";
import { median } from "../median.ts";
import { makeKeyPackage } from "../mls/fixture.ts";
import type { MembershipOperation, MembershipRow } from "../report/schema.ts";

/** Members that add-k adds. */
export const ADDED_AT_ONCE = 10;
/** Smaller groups have no leaf that neither sends nor is timed. */
export const LEAST_MEMBERS = 8;

interface Outcome {
  readonly sender: CommitSenderResult;
  readonly service: CommitServiceResult;
  readonly receiver: CommitReceiverResult;
}

/** A community of one adds everybody else in one commit, which is as many as one takes. */
export const MOST_CREATED = 257;

/** Newcomers that so many runs need accounts for. */
export const newcomersOf = (runs: number): number => 2 * runs + ADDED_AT_ONCE;

export class MlsMembership {
  private readonly processes: FanoutProcesses;
  private readonly protocol: "mls-warm" | "mls-cold";
  private readonly members: number;
  private readonly outcomes = new Map<MembershipOperation, Outcome[]>();
  private community: CommunityFile | undefined;
  /** Members that are in the group and online. */
  private present = 0;
  private came = 0;

  constructor(processes: FanoutProcesses, protocol: "mls-warm" | "mls-cold", members: number) {
    this.processes = processes;
    this.protocol = protocol;
    this.members = members;
  }

  async run(runs: number, show: (what: string) => void): Promise<MembershipRow[]> {
    const { members, protocol } = this;
    show(`${members} members, ${protocol}: making the group`);
    await this.open();
    for (let run = 0; run < runs; run++) {
      show(`${members} members, ${protocol}: membership, run ${run + 1} of ${runs}`);
      await this.commit("self-update", "self-update", []);
      const added = this.newcomers(1);
      await this.commit("add-1", "add", added);
      await this.commit("remove-1", "remove", added);
      if (run > 0) continue;
      const many = this.newcomers(ADDED_AT_ONCE);
      await this.commit("add-k", "add", many);
      await this.commit(undefined, "remove", many);
    }
    // Those who come in by themselves warm the tree from another side: they come last, and into a cold one once.
    for (let run = 0; run < (protocol === "mls-warm" ? runs : 1); run++) {
      show(`${members} members, ${protocol}: coming in, run ${run + 1}`);
      await this.commit("rejoin", "rejoin", [members - 1]);
      if (protocol === "mls-cold") await this.open();
      const joiner = this.newcomers(1);
      await this.commit("join", "join", joiner);
      await this.commit(undefined, "remove", joiner);
    }
    return [...this.outcomes].map(([operation, outcomes]) => this.row(operation, outcomes));
  }

  private async open(members = this.members): Promise<void> {
    const { processes, protocol } = this;
    this.present = members;
    this.community = await openCommunity(processes, members, protocol, "changing");
  }

  private newcomers(count: number): number[] {
    const first = this.members + this.came;
    this.came += count;
    return Array.from({ length: count }, (_, i) => first + i);
  }

  /** The creator adds everybody in one commit, each run in a group of its own. */
  async create(runs: number, show: (what: string) => void): Promise<MembershipRow> {
    const everybody = Array.from({ length: this.members - 1 }, (_, i) => i + 1);
    for (let run = 0; run < runs; run++) {
      show(`${this.members} members, MLS: creating, run ${run + 1} of ${runs}`);
      await this.open(1);
      await this.commit("create", "add", everybody);
    }
    return this.row("create", this.outcomes.get("create")!);
  }

  /** `operation` undefined: only sets the group back. */
  private async commit(
    operation: MembershipOperation | undefined,
    kind: CommitKind,
    newcomers: readonly number[],
  ): Promise<void> {
    const { present: members, processes, protocol } = this;
    const { accounts, group } = this.community!.seeds;
    const form = communityForm(accounts, members - 1);
    const keys = newcomers.map((index) => makeKeyPackage(group, index, form));
    saveFile(processes.path("keys"), keys);
    const task: CommitTask = {
      protocol,
      members,
      kind,
      newcomers,
      frames: processes.path("frames"),
      delivered: processes.path("delivered"),
      keys: processes.path("keys"),
    };
    const sender = await processes.sender.request<CommitSenderResult>("commit", task);
    const service = await processes.service.request<CommitServiceResult>("commit", task);
    const receiver = await processes.receivers.request<CommitReceiverResult>("commit", task);
    if (operation === undefined) return;
    this.outcomes.set(operation, [...(this.outcomes.get(operation) ?? []), { sender, service, receiver }]);
  }

  private row(operation: MembershipOperation, outcomes: readonly Outcome[]): MembershipRow {
    // Later runs find a tree that the earlier ones changed.
    const { sender, service } = outcomes[0]!;
    const middle = (of: (outcome: Outcome) => number) => Number(median(outcomes.map(of)).toPrecision(4));
    const newcomers = operation === "create" ? this.members - 1 : operation === "add-k" ? ADDED_AT_ONCE : 1;
    const added = operation === "create" || operation === "add-1" || operation === "add-k";
    const alone = operation === "join" || operation === "rejoin";
    const ownBytes = sender.uploadBytes + service.senderUploadBytes + service.senderDownloadBytes;
    return {
      operation,
      protocol: this.protocol,
      members: this.members,
      changed: operation === "self-update" ? 0 : newcomers,
      senderBytes: alone ? ownBytes + sender.treeBytes : ownBytes,
      senderUploadBytes: sender.uploadBytes + service.senderUploadBytes,
      storedBytes: service.storedBytes,
      egressBytes:
        service.egressBytes +
        sender.treeBytes * (added || alone ? newcomers : 0) +
        (alone ? service.senderDownloadBytes : 0),
      receiverBytes: service.receiverBytes,
      newcomerBytes: added
        ? service.newcomerBytes + sender.treeBytes
        : alone
          ? ownBytes + sender.treeBytes
          : null,
      senderCpuUs: middle((outcome) => outcome.sender.cpuUs),
      dsCpuUs: middle((outcome) => outcome.service.cpuUs),
      receiverCpuUs: middle((outcome) => outcome.receiver.receiverCpuUs),
      newcomerCpuUs: added
        ? middle((outcome) => outcome.receiver.newcomerCpuUs ?? 0)
        : alone
          ? middle((outcome) => outcome.sender.cpuUs)
          : null,
      runs: outcomes.length,
    };
  }
}

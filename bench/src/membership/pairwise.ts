/**
 * Membership of pairwise groups: a signed change in the encrypted record, which every member reads again, and control
 * messages through the same path as any other message. A removal gives those who stay a new group key first.
 */

import { type SentOnce, sendOnce } from "../fanout/measure.ts";
import type { FanoutProcesses } from "../fanout/processes.ts";
import { migrationSteps, type RecordAuthorResult, type RecordTask } from "../fanout/records.ts";
import type { RecordServiceResult } from "../fanout/records-service.ts";
import { median } from "../median.ts";
import type { MembershipOperation, MembershipRow } from "../report/schema.ts";
import { ADDED_AT_ONCE } from "./mls.ts";

/** The smallest size that a content of the client has, which all control messages fit in. */
const CONTROL_BYTES = 160;

type Operation = Extract<MembershipOperation, "create" | "add-1" | "add-k" | "remove-1">;

interface Step {
  readonly operation: Operation;
  readonly kind: RecordTask["kind"];
  readonly changed: number;
  /** Members of the group to which each control message goes. */
  readonly told: number;
  readonly messages: number;
}

/** Add before remove: the record then is as long as before, but for the changes themselves. */
function stepsOf(members: number): Step[] {
  const create: Step = {
    operation: "create",
    kind: "create",
    changed: members - 1,
    told: members,
    messages: 1,
  };
  const add: Step = { operation: "add-1", kind: "add", changed: 1, told: members + 1, messages: 1 };
  const remove: Step = { operation: "remove-1", kind: "remove", changed: 1, told: members - 1, messages: 2 };
  const many: Step = {
    operation: "add-k",
    kind: "add",
    changed: ADDED_AT_ONCE,
    told: members + ADDED_AT_ONCE,
    messages: 1,
  };
  return [create, add, remove, many];
}

/** What a change of the record costs: the same whatever carries the messages. */
interface RecordOutcome {
  readonly author: RecordAuthorResult;
  readonly service: RecordServiceResult;
  readonly readCpuUs: number;
}

interface Outcome extends RecordOutcome {
  readonly messages: readonly SentOnce[];
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/**
 * Rows of both pairwise protocols. `every`: with create and add-k, which large groups are spared: in a group of 5,000
 * each step lets the service hand out half a megabyte 5,000 times.
 */
export async function pairwiseMembership(
  processes: FanoutProcesses,
  members: number,
  runs: number,
  every: boolean,
): Promise<MembershipRow[]> {
  const carriers = ["pairwise", "pairwise-sealed"] as const;
  const steps = stepsOf(members).filter(({ operation }) => every || operation !== "add-k");
  const taken = new Map<string, Outcome[]>();
  for (let run = 0; run < runs; run++) {
    await processes.sender.request("record", { seed: processes.seed, members });
    for (const step of steps) {
      const isSpared = !every && step.operation === "create";
      const record = await writeRecord(processes, isSpared ? { ...step, told: 1 } : step);
      if (isSpared) continue;
      for (const protocol of carriers) {
        const key = `${protocol} ${step.operation}`;
        const messages = await tell(processes, protocol, step);
        taken.set(key, [...(taken.get(key) ?? []), { ...record, messages }]);
      }
    }
  }
  return carriers.flatMap((protocol) =>
    steps.flatMap((step) => {
      const outcomes = taken.get(`${protocol} ${step.operation}`);
      return outcomes === undefined ? [] : [rowOf(protocol, members, step, outcomes)];
    }),
  );
}

async function tell(
  processes: FanoutProcesses,
  protocol: "pairwise" | "pairwise-sealed",
  step: Step,
): Promise<SentOnce[]> {
  const messages: SentOnce[] = [];
  for (let i = 0; i < step.messages; i++) {
    messages.push(await sendOnce(processes, protocol, step.told, CONTROL_BYTES));
  }
  return messages;
}

async function writeRecord(processes: FanoutProcesses, step: Step): Promise<RecordOutcome> {
  const task: RecordTask = {
    kind: step.kind,
    count: step.changed,
    frames: processes.path("record"),
    delivered: processes.path("record-read"),
    readers: step.told - 1,
  };
  const author = await processes.sender.request<RecordAuthorResult>("write", task);
  const service = await processes.service.request<RecordServiceResult>("write", task);
  const readCpuUs = await processes.receivers.request<number>("read", task);
  return { author, service, readCpuUs };
}

async function takeStep(
  processes: FanoutProcesses,
  protocol: "pairwise" | "pairwise-sealed",
  step: Step,
): Promise<Outcome> {
  const messages = await tell(processes, protocol, step);
  return { ...(await writeRecord(processes, step)), messages };
}

function rowOf(
  protocol: "pairwise" | "pairwise-sealed",
  members: number,
  step: Step,
  taken: readonly Outcome[],
): MembershipRow {
  const { author, messages, service } = taken[0]!;
  const receivers = step.told - 1;
  const one =
    Math.round(sum(messages.map(({ service: sent }) => sent.egressBytes)) / receivers) + service.readBytes;
  const middle = (of: (outcome: Outcome) => number) => Number(median(taken.map(of)).toPrecision(4));
  const receive = middle(
    (outcome) => outcome.readCpuUs + sum(outcome.messages.map(({ receiver }) => receiver.cpuUs)),
  );
  const isNew = step.kind === "create" || step.kind === "add";
  return {
    operation: step.operation,
    protocol,
    members,
    changed: step.changed,
    senderBytes:
      author.uploadBytes +
      service.answerBytes +
      sum(messages.map(({ sender, service: sent }) => sender.uploadBytes + sent.senderDownloadBytes)),
    senderUploadBytes: author.uploadBytes + sum(messages.map(({ sender }) => sender.uploadBytes)),
    storedBytes: service.storedBytes + sum(messages.map(({ service: sent }) => sent.storedBytes)),
    egressBytes: sum(messages.map(({ service: sent }) => sent.egressBytes)) + service.readBytes * receivers,
    receiverBytes: step.kind === "create" ? 0 : one,
    newcomerBytes: isNew ? one : null,
    senderCpuUs: middle(
      (outcome) => outcome.author.cpuUs + sum(outcome.messages.map(({ sender }) => sender.cpuUs)),
    ),
    dsCpuUs: middle(
      (outcome) => outcome.service.cpuUs + sum(outcome.messages.map(({ service: sent }) => sent.cpuUs)),
    ),
    receiverCpuUs: step.kind === "create" ? 0 : receive,
    newcomerCpuUs: isNew ? receive : null,
    runs: taken.length,
  };
}

/** What one sender of sender keys has to do when somebody comes or goes, beside what the group does anyway. */
export async function senderKeyMembership(
  processes: FanoutProcesses,
  members: number,
  runs: number,
): Promise<MembershipRow[]> {
  const rows: MembershipRow[] = [];
  for (const operation of ["add-1", "remove-1"] as const) {
    const told = operation === "add-1" ? 2 : members - 1;
    const taken: SentOnce[] = [];
    for (let run = 0; run < runs; run++) {
      taken.push(await sendOnce(processes, "pairwise-sealed", told, CONTROL_BYTES));
    }
    const { sender, service } = taken[0]!;
    const middle = (of: (sent: SentOnce) => number) => Number(median(taken.map(of)).toPrecision(4));
    const one = Math.round(service.egressBytes / (told - 1));
    const receive = middle(({ receiver }) => receiver.cpuUs);
    const isNew = operation === "add-1";
    rows.push({
      operation,
      protocol: "sender-key-sealed",
      members,
      changed: 1,
      senderBytes: sender.uploadBytes + service.senderDownloadBytes,
      senderUploadBytes: sender.uploadBytes,
      storedBytes: service.storedBytes,
      egressBytes: service.egressBytes,
      receiverBytes: isNew ? 0 : one,
      newcomerBytes: isNew ? one : null,
      senderCpuUs: middle((sent) => sent.sender.cpuUs),
      dsCpuUs: middle((sent) => sent.service.cpuUs),
      receiverCpuUs: isNew ? 0 : receive,
      newcomerCpuUs: isNew ? receive : null,
      runs: taken.length,
    });
  }
  return rows;
}

/** Control messages of a move to MLS: the secret that the switch is bound to, and the notice that switches. */
const MIGRATION_MESSAGES = 2;

/**
 * A pairwise group of this size moves to MLS: the MLS group is made with everybody, the secret is sent to each over its
 * session, the record goes through its four changes, which everybody reads, and one commit with a path switches. `made`
 * and `switched` are the rows of creating that group and of a self-update in it, both measured at this size.
 */
export async function migrationRow(
  processes: FanoutProcesses,
  members: number,
  runs: number,
  made: MembershipRow,
  switched: MembershipRow,
): Promise<MembershipRow> {
  const taken: Outcome[][] = [];
  for (let run = 0; run < runs; run++) {
    await processes.sender.request("record", { seed: processes.seed, members });
    const begin = { operation: "create", kind: "create", changed: 0, told: members, messages: 0 } as const;
    await takeStep(processes, "pairwise-sealed", begin);
    const steps: Outcome[] = [];
    for (const [i, kind] of migrationSteps.entries()) {
      const messages = i < MIGRATION_MESSAGES ? 1 : 0;
      steps.push(await takeStep(processes, "pairwise-sealed", { ...begin, kind, messages }));
    }
    taken.push(steps);
  }
  const step: Step = { operation: "create", kind: "migrate-done", changed: 0, told: members, messages: 1 };
  const parts = migrationSteps.map((_, i) =>
    rowOf(
      "pairwise-sealed",
      members,
      step,
      taken.map((steps) => steps[i]!),
    ),
  );
  const all = [made, switched, ...parts];
  const add = (of: (row: MembershipRow) => number) => Number(sum(all.map(of)).toPrecision(10));
  return {
    operation: "migrate",
    protocol: "mls-cold",
    members,
    changed: members - 1,
    senderBytes: add((row) => row.senderBytes),
    senderUploadBytes: add((row) => row.senderUploadBytes),
    storedBytes: add((row) => row.storedBytes),
    egressBytes: add((row) => row.egressBytes),
    // Every member but the creator is both: told pairwise, and new in the MLS group.
    receiverBytes: (made.newcomerBytes ?? 0) + add((row) => (row === made ? 0 : row.receiverBytes)),
    newcomerBytes: null,
    senderCpuUs: add((row) => row.senderCpuUs),
    dsCpuUs: add((row) => row.dsCpuUs),
    receiverCpuUs: (made.newcomerCpuUs ?? 0) + add((row) => (row === made ? 0 : row.receiverCpuUs)),
    newcomerCpuUs: null,
    runs,
  };
}

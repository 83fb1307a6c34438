/** The clients of a chaos run in a few processes, and the groups that they are in. */
import { join } from "node:path";
import { toHex } from "@murmuration/base";
import { systemEnvironment } from "@murmuration/client-core";
import { WorkerProcess } from "../processes.ts";
import type { CommitUnderWay } from "./commit-watch.ts";
import type { ClientReport, GroupHistory, GroupView, OpenedClient, WorkerPulse } from "./messages.ts";
import type { ChaosPlan, Moment, PlannedGroup } from "./plan.ts";

const PROCESSES = 3;
/** Longer than any step takes while something is down. */
const PATIENCE_MS = 90_000;
/** Below it a group is pairwise. Failing fast and coming back fast is what makes faults frequent. */
const SETTINGS = {
  mlsThreshold: 10,
  keyPackageStock: 10,
  receiptDelayMs: 250,
  requestTimeoutMs: 10_000,
  reconnectMaxMs: 1_000,
};

export type Group = PlannedGroup & { readonly id: string };

export interface Pulse {
  /** Messages that wait in outboxes. */
  readonly waiting: number;
  readonly seen: readonly (GroupView & { readonly group: Group; readonly client: number })[];
}

export class Crew {
  readonly accounts: readonly OpenedClient[] = [];
  readonly groups: readonly Group[] = [];
  private readonly plan: ChaosPlan;
  private readonly workers: readonly WorkerProcess[];

  constructor(plan: ChaosPlan) {
    this.plan = plan;
    this.workers = Array.from(
      { length: PROCESSES },
      () => new WorkerProcess(new URL("./clients-worker.ts", import.meta.url)),
    );
  }

  /** Asks the process of a client. */
  ask<T>(client: number, op: string, parameters: object = {}): Promise<T> {
    return this.workers[client % PROCESSES]!.request<T>(op, { client, ...parameters }, PATIENCE_MS);
  }

  /** Registers everybody, introduces them to each other and lets them form the plan's groups. */
  async gather(origin: string, directory: string): Promise<void> {
    const everybody = Array.from({ length: this.plan.clients }, (_, number) => number);
    const accounts = await Promise.all(
      everybody.map((number) => {
        const path = join(directory, `client-${number}.db`);
        const key = toHex(systemEnvironment.random(32));
        return this.ask<OpenedClient>(number, "open", { number, path, key, origin, settings: SETTINGS });
      }),
    );
    const cards = (own: number) =>
      accounts.flatMap(({ contactCard }, number) => (number === own ? [] : contactCard));
    await Promise.all(everybody.map((number) => this.ask(number, "addContacts", { cards: cards(number) })));
    Object.assign(this, { accounts });
    Object.assign(this, { groups: await Promise.all(this.plan.groups.map((group) => this.form(group))) });
  }

  private async form(group: PlannedGroup): Promise<Group> {
    const { name, members, admins, protocol } = group;
    const [owner, ...others] = members as [number, ...number[]];
    const account = (number: number) => this.accounts[number]!.accountId;
    const created = { title: name, members: others.map(account), protocol };
    const id = await this.ask<string>(owner, "createGroup", created);
    await Promise.all(
      members.map((client) => this.ask(client, "awaitActive", { group: id, members: members.length })),
    );
    for (const admin of admins.slice(1))
      await this.ask(owner, "makeAdmin", { group: id, account: account(admin) });
    return { ...group, id };
  }

  /** Resolves when it happens at any client, or after a time. */
  async next(moment: Moment, timeoutMs: number): Promise<void> {
    await Promise.any(this.workers.map((worker) => worker.request("next", { moment }, timeoutMs))).catch(
      () => undefined,
    );
  }

  /** How each member and guest has its groups now. */
  async pulse(): Promise<Pulse> {
    const places = this.groups.flatMap((group) =>
      [...group.members, ...group.guests].map((client) => ({ group, client })),
    );
    const answers = await Promise.all(
      this.workers.map(async (worker, index) => {
        const its = places.filter(({ client }) => client % PROCESSES === index);
        const groups = its.map(({ group, client }) => [client, group.id]);
        const { waiting, views } = await worker.request<WorkerPulse>("pulse", { groups }, PATIENCE_MS);
        return { waiting, seen: its.map((place, at) => ({ ...place, ...views[at]! })) };
      }),
    );
    return {
      waiting: answers.reduce((sum, { waiting }) => sum + waiting, 0),
      seen: answers.flatMap(({ seen }) => seen),
    };
  }

  histories(group: Group): Promise<readonly GroupHistory[]> {
    const everybody = [...group.members, ...group.guests];
    return Promise.all(
      everybody.map((client) => this.ask<GroupHistory>(client, "history", { group: group.id })),
    );
  }

  reports(): Promise<readonly ClientReport[]> {
    return Promise.all(this.accounts.map((_, client) => this.ask<ClientReport>(client, "report")));
  }

  async commits(): Promise<readonly CommitUnderWay[]> {
    return (
      await Promise.all(this.workers.map((worker) => worker.request<CommitUnderWay[]>("commits")))
    ).flat();
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.close()));
  }
}

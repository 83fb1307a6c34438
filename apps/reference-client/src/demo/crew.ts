/**
 * The processes of one run: the delivery service and the processes of clients. Each can be killed and started
 * again at any time; whoever asks a dead one waits until it is back.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { ClientSettings } from "@murmuration/client-core";
import { CommandFailed } from "../failures.ts";
import type { ClientRequest, Costs, Opened, Report, Usage } from "./messages.ts";
import { MoveLedger } from "./move-ledger.ts";
import { foundersOf, MLS_THRESHOLD, type Plan, type PlannedKill } from "./plan.ts";
import { ProcessEnded, Worker } from "./processes.ts";
import { EventLedger } from "./tally.ts";

/** Members of one process that are opened, and registered, at a time. */
const OPENED_AT_A_TIME = 4;

/** Like Promise.all over `work`, with at most `lanes` under way. */
async function inLanes<T, R>(
  items: readonly T[],
  lanes: number,
  work: (item: T) => Promise<R>,
): Promise<readonly R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const at = next++;
      results[at] = await work(items[at]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(lanes, items.length) }, lane));
  return results;
}

/**
 * What a light client keeps at the service: there is one group, and each of these is used once. To make and check as many as
 * others have would be a large part of what it takes to register a thousand. Over pairwise sessions each member takes one of each
 * other's.
 */
const LIGHT_KEY_PACKAGES = 2;
const LIGHT_COMMUNITY_PRE_KEYS = 8;

function settingsOf({ founders, light, move }: Plan): Partial<ClientSettings> {
  return {
    ...(light && { keyPackageStock: LIGHT_KEY_PACKAGES }),
    ...(light && founders >= MLS_THRESHOLD && { preKeyStock: LIGHT_COMMUNITY_PRE_KEYS }),
    ...(move && { mlsThreshold: move.mlsThreshold, migrationMargin: move.migrationMargin }),
  };
}

interface ClientProcess {
  readonly members: readonly number[];
  worker: Worker;
  /** Resolves when its clients are open. */
  ready: Promise<readonly Opened[]>;
}

export class Crew {
  readonly events = new EventLedger();
  readonly move = new MoveLedger();
  readonly processIds: number[] = [];
  kills = 0;
  /** Kills while the message of the plan had not reached everybody. */
  killsUnderWay = 0;
  restarts = 0;
  /** When the last event came, ms since 1970. */
  lastEventAtMs = Date.now();

  private readonly plan: Plan;
  private readonly folder: string;
  /** The host of each client hands in its key; it outlives the client's process, as a key store does. */
  private readonly keys: readonly string[];
  private readonly clients: ClientProcess[] = [];
  private service!: Worker;
  private port = 0;
  private ended = false;
  private readonly revivals = new Set<Promise<void>>();

  constructor(plan: Plan, folder: string) {
    this.plan = plan;
    this.folder = folder;
    this.keys = Array.from({ length: plan.members }, () => randomBytes(32).toString("hex"));
  }

  /** Starts the service and then the clients; resolves with the accounts in the order of the members. */
  async start(opened: () => void): Promise<readonly Opened[]> {
    await this.startService();
    const accounts: Opened[] = [];
    for (const members of this.plan.processes) {
      const client = { members } as ClientProcess;
      this.clients.push(client);
      this.startClients(client, opened);
    }
    for (const { members, ready } of this.clients) {
      const results = await ready;
      members.forEach((member, index) => {
        accounts[member] = results[index]!;
      });
    }
    return accounts;
  }

  private async startService(): Promise<void> {
    this.service = new Worker("service-worker", [join(this.folder, "service"), String(this.port)]);
    this.processIds.push(this.service.processId);
    this.port = (await this.service.listening).port;
  }

  private startClients(client: ClientProcess, opened: () => void = () => undefined): void {
    const worker = new Worker("client-worker", []);
    this.processIds.push(worker.processId);
    worker.onReport = (report) => this.record(worker, report);
    client.worker = worker;
    client.ready = inLanes(client.members, OPENED_AT_A_TIME, async (member) => {
      const account = await worker.ask<Opened>({
        op: "open",
        member,
        home: join(this.folder, `member-${member}`),
        key: this.keys[member]!,
        server: `http://127.0.0.1:${this.port}`,
        light: this.plan.light,
        settings: settingsOf(this.plan),
      } satisfies ClientRequest);
      opened();
      return account;
    });
    // Whoever asks this process waits for it; when nobody does, its death is no unhandled rejection.
    client.ready.catch(() => undefined);
  }

  /** Records what members report, and only then lets them forget it. */
  private record(worker: Worker, { reports }: Report): void {
    const through: { readonly member: number; readonly eventId: number }[] = [];
    for (const { member, events, notes } of reports) {
      let last = 0;
      for (const event of events) {
        const { id, message, what } = event;
        this.events.record(member, id, what === "came" || what === "said" ? message : undefined);
        this.move.record(member, event);
        last = Math.max(last, id);
      }
      for (const note of notes) this.move.note(note);
      if (last > 0) through.push({ member, eventId: last });
    }
    this.lastEventAtMs = Date.now();
    if (through.length === 0) return;
    worker.ask({ op: "acknowledge", through } satisfies ClientRequest).catch(() => undefined);
  }

  private homeOf(member: number): ClientProcess {
    return this.clients.find(({ members }) => members.includes(member))!;
  }

  /** Asks a member's process, once it is up. Rejects with ProcessEnded when it is killed meanwhile. */
  async ask<T>(request: ClientRequest & { readonly member: number }): Promise<T> {
    // Whoever asks again and again until it is answered would do so for ever.
    if (this.ended) throw new CommandFailed("The run is over.");
    const home = this.homeOf(request.member);
    await home.ready;
    return home.worker.ask<T>(request);
  }

  /** Asks again and again until the process lived long enough to answer; for requests that may be repeated. */
  async askUntilAnswered<T>(request: ClientRequest & { readonly member: number }): Promise<T> {
    for (;;) {
      try {
        return await this.ask<T>(request);
      } catch (error) {
        if (!(error instanceof ProcessEnded)) throw error;
        await this.allAlive();
      }
    }
  }

  /** Usage of every client process, and of the service. */
  async usage(): Promise<{ readonly clients: readonly Usage[]; readonly service: Usage }> {
    const clients = await Promise.all(this.clients.map(({ worker }) => worker.ask<Usage>({ op: "usage" })));
    return { clients, service: await this.service.ask<Usage>({ op: "usage" }) };
  }

  /** What communities cost every client since it was last opened. */
  async costs(): Promise<Costs> {
    const all = await Promise.all(this.clients.map(({ worker }) => worker.ask<Costs>({ op: "costs" })));
    return all.flat();
  }

  /** Kills now, and starts again after the planned time. */
  kill({ duringMessage, target, downMs }: Omit<PlannedKill, "afterMs">): void {
    const readers = foundersOf(this.plan);
    if (this.events.membersWith(duringMessage, readers) < readers.size) this.killsUnderWay++;
    const client = target === "service" ? undefined : this.clients[target]!;
    this.kills++;
    const revival = this.revive(client, downMs);
    this.revivals.add(revival);
    // One that failed stays, so that whoever waits for it learns why.
    revival.then(
      () => this.revivals.delete(revival),
      () => undefined,
    );
  }

  private async revive(client: ClientProcess | undefined, downMs: number): Promise<void> {
    await (client?.worker ?? this.service).kill();
    await new Promise((resolve) => setTimeout(resolve, downMs));
    this.restarts++;
    if (client === undefined) await this.startService();
    else {
      this.startClients(client);
      await client.ready;
    }
  }

  /** Resolves when nothing is dead. */
  async allAlive(): Promise<void> {
    while (this.revivals.size > 0) await Promise.all(this.revivals);
  }

  /** Ends every process, gently where `gentle`. */
  async end(gentle: boolean): Promise<void> {
    this.ended = true;
    await Promise.allSettled(this.revivals);
    const workers = this.clients.flatMap(({ worker }) => (worker === undefined ? [] : [worker]));
    await Promise.all(workers.map((worker) => (gentle ? worker.close() : worker.kill())));
    if (this.service !== undefined) await (gentle ? this.service.close() : this.service.kill());
  }
}

/** A process full of devices that lose their connections all at once, come back all at once, and catch up. */
import { deviceId, type GroupId, groupId } from "@murmuration/base";
import type { ServiceBody } from "@murmuration/wire";
import { accountAt } from "../fanout/accounts.ts";
import { serveRequests } from "../worker-link.ts";
import { type GroupPlace, type LeafKey, numbersOf, openGroup } from "./group-reader.ts";
import { nowMs } from "./process-figures.ts";
import { ServiceClient } from "./service-client.ts";

/** Devices with a mailbox each and a leaf in one group. */
export interface DevicesTask {
  readonly seed: string;
  readonly place: GroupPlace;
  readonly devices: readonly { readonly account: number; readonly leaf: LeafKey }[];
}

export interface CatchUpTask {
  readonly port: number;
  /** Up to where each mailbox and each group's log go now. */
  readonly envelopes: number;
  readonly entries: number;
  readonly limitMs: number;
}

export interface CaughtUp {
  readonly devices: number;
  /** When the first connection was asked for, and for each device when it had and had acknowledged everything. */
  readonly startedAtMs: number;
  readonly doneAtMs: readonly number[];
  readonly lost: number;
  /** Came again after a connection was lost before its acknowledgement: at least once is what is promised. */
  readonly repeated: number;
  /** Connections that were refused or ended, and asked for again. */
  readonly retries: number;
  readonly whys: readonly string[];
}

/** A connection that was refused or ended is asked for again after this long, as the service tells its clients. */
const RETRY_MS = 1_000;

/** What a device has of one stream: numbers rise by one, everything else is counted. */
class Stream {
  through = 0;
  acknowledged = 0;
  repeated = 0;
  skipped = 0;

  took(number: number): void {
    if (number <= this.through) {
      this.repeated++;
      return;
    }
    this.skipped += number - this.through - 1;
    this.through = number;
  }
}

/** One device: its own connection for the mailbox, and an anonymous one for its group. */
class Device {
  readonly envelopes = new Stream();
  readonly entries = new Stream();
  private readonly task: DevicesTask;
  private readonly id: GroupId;
  private readonly self: DevicesTask["devices"][number];
  private clients: ServiceClient[] = [];

  constructor(task: DevicesTask, self: DevicesTask["devices"][number]) {
    this.task = task;
    this.self = self;
    this.id = groupId(task.place.groupId);
  }

  cut(): void {
    for (const client of this.clients.splice(0)) client.cut();
  }

  /** Resolves when everything up to there has come and is acknowledged. */
  async catchUp({ port, envelopes, entries }: CatchUpTask, retried: (why: string) => void): Promise<void> {
    await Promise.all([
      again(retried, () => this.emptyMailbox(port, envelopes)),
      again(retried, () => this.readLog(port, entries)),
    ]);
  }

  private emptyMailbox(port: number, target: number): Promise<void> {
    const { accountId, token } = accountAt(this.task.seed, this.self.account);
    return new Promise((resolve, reject) => {
      const take = (client: ServiceClient, body: ServiceBody): void => {
        if (body.kind === "resumeHint" || body.kind === "rejection") reject(new Error(body.kind));
        if (body.kind === "queueEmpty" && this.envelopes.acknowledged >= target) resolve();
        if (body.kind !== "deliver") return;
        for (const { envelopeId } of body.envelopes) this.envelopes.took(envelopeId);
        const through = body.envelopes.at(-1)!.envelopeId;
        client
          .expect({ kind: "acknowledge", throughEnvelopeId: through }, "acknowledged")
          .then(({ throughEnvelopeId }) => {
            this.envelopes.acknowledged = throughEnvelopeId;
            if (throughEnvelopeId >= target) resolve();
          })
          .catch(reject);
      };
      ServiceClient.open(port, { accountId, deviceId: deviceId(1), token }, (client) => {
        this.clients.push(client);
        client.onPush = (body) => take(client, body);
        client.onLost = (why) => reject(new Error(why));
      }).catch(reject);
    });
  }

  private readLog(port: number, target: number): Promise<void> {
    const { place } = this.task;
    return new Promise((resolve, reject) => {
      const take = (client: ServiceClient, body: ServiceBody): void => {
        if (body.kind === "resumeHint" || body.kind === "rejection") reject(new Error(body.kind));
        const numbers = numbersOf(body);
        if (numbers === undefined) return;
        for (const number of numbers) this.entries.took(number);
        client
          .expect(
            { kind: "groupAcknowledge", groupId: this.id, throughSequence: this.entries.through },
            "groupDone",
          )
          .then(() => this.entries.through >= target && resolve())
          .catch(reject);
      };
      ServiceClient.open(port, undefined, (client) => {
        this.clients.push(client);
        client.onPush = (body) => take(client, body);
        client.onLost = (why) => reject(new Error(why));
      })
        .then((client) => openGroup(client, place, this.self.leaf, this.entries.through))
        .then(() => this.entries.through >= target && resolve())
        .catch(reject);
    });
  }
}

/** Does it until it succeeds, with a pause after each failure. */
async function again(failed: (why: string) => void, work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      failed((error as Error).message);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

const devices: Device[] = [];

serveRequests({
  devices(task: DevicesTask): void {
    devices.push(...task.devices.map((self) => new Device(task, self)));
  },
  cut(): void {
    for (const device of devices) device.cut();
  },
  async catchUp(task: CatchUpTask): Promise<CaughtUp> {
    const startedAtMs = nowMs();
    const doneAtMs: number[] = [];
    const whys = new Set<string>();
    let retries = 0;
    const retried = (why: string): void => {
      retries++;
      whys.add(why);
    };
    let timer: NodeJS.Timeout | undefined;
    const overdue = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, task.limitMs);
    });
    const all = devices.map((device) => device.catchUp(task, retried).then(() => doneAtMs.push(nowMs())));
    await Promise.race([Promise.all(all), overdue]);
    clearTimeout(timer);
    const sum = (of: (device: Device) => number) => devices.reduce((total, device) => total + of(device), 0);
    return {
      devices: devices.length,
      startedAtMs,
      doneAtMs,
      lost: sum(
        ({ envelopes, entries }) =>
          Math.max(0, task.envelopes - envelopes.through) +
          envelopes.skipped +
          Math.max(0, task.entries - entries.through) +
          entries.skipped,
      ),
      repeated: sum(({ envelopes, entries }) => envelopes.repeated + entries.repeated),
      retries,
      whys: [...whys].slice(0, 8),
    };
  },
});

/** A process full of readers: members of one group, or subscribers of one topic of another server. */
import { type Bytes, deviceId, groupId } from "@murmuration/base";
import { accountAt } from "../fanout/accounts.ts";
import { serveRequests } from "../worker-link.ts";
import { type GroupPlace, type LeafKey, openGroup, readEntries } from "./group-reader.ts";
import { nowMs } from "./process-figures.ts";
import { ServiceClient } from "./service-client.ts";
import { type Received, Tally } from "./tally.ts";
import { subscribeMqtt, subscribeNats } from "./topic-clients.ts";

export interface ReadersTask {
  readonly port: number;
  readonly place: GroupPlace;
  readonly leaves: readonly LeafKey[];
}

export interface SubscribersTask {
  readonly server: "mosquitto" | "nats-server";
  readonly port: number;
  /** First part of their names: no two processes take the same. */
  readonly name: string;
  readonly count: number;
}

/** Connections that say Hello and nothing more. */
export interface IdleTask {
  readonly port: number;
  readonly kind: "anonymous" | "device";
  readonly seed: string;
  readonly first: number;
  readonly count: number;
}

const OPENED_AT_A_TIME = 32;
const open: { cut(): void }[] = [];
let tally = new Tally(0);

/** Opens one after the other, some at a time; every connection keeps the place that it is given. */
async function openAll(count: number, openOne: (index: number) => Promise<{ cut(): void }>): Promise<void> {
  let next = 0;
  const opener = async (): Promise<void> => {
    while (next < count) open.push(await openOne(next++));
  };
  await Promise.all(Array.from({ length: Math.min(OPENED_AT_A_TIME, count) }, opener));
}

/** Says how far all readers are: once for everything that came in one turn of the event loop. */
function startTally(readers: number): void {
  tally = new Tally(readers);
  let told = false;
  let complete = 0;
  tally.onComplete = (through) => {
    complete = through;
    if (told) return;
    told = true;
    setImmediate(() => {
      told = false;
      process.send!({ note: String(complete) });
    });
  };
}

serveRequests({
  async readers({ port, place, leaves }: ReadersTask): Promise<void> {
    startTally(leaves.length);
    const id = groupId(place.groupId);
    await openAll(leaves.length, async (index) => {
      const client = await ServiceClient.open(port);
      client.onLost = (why) => {
        throw new Error(`a reader lost its connection: ${why}`);
      };
      readEntries(client, id, (numbers) => tally.took(index, numbers, nowMs()));
      await openGroup(client, place, leaves[index]!, 0);
      return client;
    });
  },
  async subscribers({ server, port, name, count }: SubscribersTask): Promise<void> {
    startTally(count);
    await openAll(count, (index) => {
      const took = (number: number) => void tally.took(index, [number], nowMs());
      return server === "mosquitto"
        ? subscribeMqtt(port, `${name}-${index}`, took)
        : subscribeNats(port, took);
    });
  },
  async idle({ port, kind, seed, first, count }: IdleTask): Promise<void> {
    await openAll(count, (index) => {
      if (kind === "anonymous") return ServiceClient.open(port);
      const { accountId, token } = accountAt(seed, first + index);
      return ServiceClient.open(port, { accountId, deviceId: deviceId(1), token: token as Bytes });
    });
  },
  received: (): Received => tally.received(),
  cut(): void {
    for (const each of open.splice(0)) each.cut();
  },
});

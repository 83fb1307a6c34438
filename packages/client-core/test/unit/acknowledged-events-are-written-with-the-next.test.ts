import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ClientEvents } from "../../src/client/events.ts";
import {
  type Durability,
  openSqlcipher,
  type Storage,
  systemEnvironment,
  type Transport,
} from "../../src/index.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { prepareSchema } from "../../src/store/schema.ts";

let storage: Storage;
let context: Context;
let events: ClientEvents;
let transactions: (Durability | undefined)[];
/** Ends the pauses that have begun. */
let timers: (() => void)[];
const failures: unknown[] = [];

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(randomBytes(32)) });
  prepareSchema(storage);
  timers = [];
  const environment = {
    ...systemEnvironment,
    sleep: () => new Promise<void>((done) => timers.push(done)),
  };
  const fail = (error: unknown) => failures.push(error);
  context = new Context(storage, {} as Transport, environment, defaultSettings, fail);
  events = new ClientEvents(context);
  transactions = [];
  const { transaction } = storage;
  storage.transaction = (body, durability) => {
    transactions.push(durability);
    return transaction.call(storage, body, durability) as ReturnType<typeof body>;
  };
});
afterEach(() => storage.close());

function happens(times = 1): void {
  context.transaction(() => {
    for (let time = 0; time < times; time++) context.events.append({ kind: "conversation-changed", atMs: 1 });
  });
}

const shown = (after?: number): readonly number[] => events.read(after).map(({ eventId }) => eventId);
/** After the process was killed. */
const shownAgain = (): readonly number[] =>
  new ClientEvents(new Context(storage, {} as Transport, systemEnvironment, defaultSettings))
    .read()
    .map(({ eventId }) => eventId);

test("what is acknowledged is shown no more, and written down with what is written next, in the same transaction", async () => {
  happens(3);
  transactions.length = 0;
  await events.acknowledge(1);
  await events.acknowledge(2);
  expect([events.acknowledged, shown(), shown(0)]).toEqual([2, [3], [3]]);
  expect(transactions).toEqual([]);
  expect(shownAgain()).toEqual([1, 2, 3]);
  happens();
  expect(transactions).toEqual([undefined]);
  expect(shownAgain()).toEqual([3, 4]);
  expect(shown()).toEqual([3, 4]);
});

test("where nothing else is written it is written down after a while, once, and does not wait for the disk", async () => {
  happens(3);
  transactions.length = 0;
  await events.acknowledge(1);
  await events.acknowledge(2);
  expect(timers).toHaveLength(1);
  timers[0]!();
  await new Promise((resolve) => setImmediate(resolve));
  expect(transactions).toEqual(["with-the-next"]);
  expect(shownAgain()).toEqual([3]);
  await events.acknowledge(3);
  expect(timers).toHaveLength(2);
});

test("what is rolled back takes no acknowledgement with it, which is written with the one after", async () => {
  happens(2);
  await events.acknowledge(1);
  const broken = () =>
    context.transaction(() => {
      throw new Error("broken");
    });
  expect(broken).toThrow("broken");
  expect([events.acknowledged, shown(), shownAgain()]).toEqual([1, [2], [1, 2]]);
  const { run } = storage;
  storage.run = () => {
    throw new Error("disk full");
  };
  context.eventCursor.keep();
  expect(failures).toHaveLength(1);
  expect([events.acknowledged, shown()]).toEqual([1, [2]]);
  storage.run = run;
  happens();
  expect(shownAgain()).toEqual([2, 3]);
});

test("a cursor goes neither back nor behind the last event, and a client that closes writes it down at once", async () => {
  happens(2);
  await events.acknowledge(9);
  expect(events.acknowledged).toBe(2);
  await events.acknowledge(1);
  expect(events.acknowledged).toBe(2);
  happens();
  expect([events.acknowledged, shown()]).toEqual([2, [3]]);
  context.closing.abort();
  await events.acknowledge(3);
  expect(shownAgain()).toEqual([]);
});

import { type DeviceAddress, formatAddress, UnavailableError } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import { expect, it } from "vitest";
import { openMemoryStores } from "../../src/adapters/memory-stores.ts";
import type { Append } from "../../src/ports/mailboxes.ts";
import type { ServiceContext } from "../../src/service/context.ts";
import { WelcomeOutbox } from "../../src/service/welcome-outbox.ts";
import { commitFrom, NOW, newDevice, newGroup } from "../support/mls-groups.ts";
import { random } from "../support/random.ts";

it("a full mailbox is tried once in a pass, holds nobody up, and what it left is not read again before the next", async () => {
  const stores = openMemoryStores();
  const group = newGroup();
  await stores.mlsGroups.create(group);
  const [full, ...free] = [newDevice(), newDevice(), newDevice()] as [DeviceAddress, ...DeviceAddress[]];
  for (const device of [full, ...free]) await stores.mailboxes.open(device, NOW);
  let epoch = 0;
  const add = (recipient: DeviceAddress) =>
    stores.mlsGroups.appendCommit(
      commitFrom(group.groupId, epoch++, { welcomes: [{ recipient, welcome: random(9) }] }),
    );

  const nameOf = new Map(
    [full, ...free].map((device, n) => [formatAddress(device), ["full", "first", "second"][n]]),
  );
  const tried: (string | undefined)[] = [];
  const pages: number[] = [];
  const append = stores.mailboxes.append.bind(stores.mailboxes);
  Object.assign(stores.mailboxes, {
    append: (given: Append) => {
      tried.push(nameOf.get(formatAddress(given.envelopes[0]!.recipient)));
      return append(given);
    },
  });
  const read = stores.mlsGroups.outbox.bind(stores.mlsGroups);
  Object.assign(stores.mlsGroups, {
    outbox: async (after: number, limit: number) => {
      const page = await read(after, limit);
      pages.push(page.length);
      return page;
    },
  });
  const timers: (() => void)[] = [];
  const after = (_: number, run: () => void) => {
    timers.push(run);
    return () => {};
  };
  const clock = { now: () => NOW, after };
  const outbox = new WelcomeOutbox({
    clock,
    limits: { ...limits, mailboxEnvelopes: 2 },
    log: { info() {}, warn() {}, error() {} },
    signals: { publish() {} },
    stores,
  } as unknown as ServiceContext);
  const pumped = async () => {
    tried.length = 0;
    pages.length = 0;
    outbox.pump();
    for (let i = 0; i < 200; i++) await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
  };

  // One finds room, and then no more; more wait than are read at a time.
  for (let i = 0; i < 100; i++) await add(full);
  await add(free[0]!);
  await pumped();
  expect(tried).toEqual(["full", "full", "first"]);
  expect(pages).toEqual([100, 1, 0]);
  expect(timers).toHaveLength(1);

  // What is new does not put the next try off, and what is old is not read for it.
  await add(free[1]!);
  await pumped();
  expect([tried, pages, timers.length]).toEqual([["second"], [1, 0], 1]);

  await stores.mailboxes.acknowledge(full, (await stores.mailboxes.lastId(full))!);
  timers.pop()!();
  await pumped();
  expect(tried).toEqual(["full", "full"]);
  expect(await read(0, 1_000)).toHaveLength(98);
  await outbox.stop();
});

it("what an engine's outage interrupts is tried again after a second, and not as late as a full mailbox", async () => {
  const stores = openMemoryStores();
  const group = newGroup();
  await stores.mlsGroups.create(group);
  const device = newDevice();
  await stores.mailboxes.open(device, NOW);
  const welcomes = [{ recipient: device, welcome: random(9) }];
  await stores.mlsGroups.appendCommit(commitFrom(group.groupId, 0, { welcomes }));
  const append = stores.mailboxes.append.bind(stores.mailboxes);
  let isAway = true;
  Object.assign(stores.mailboxes, {
    append: async (given: Append) => {
      if (isAway) throw new UnavailableError("store/redis-unreachable");
      return append(given);
    },
  });
  const timers: { readonly delayMs: number; readonly run: () => void }[] = [];
  const after = (delayMs: number, run: () => void) => {
    timers.push({ delayMs, run });
    return () => {};
  };
  const outbox = new WelcomeOutbox({
    clock: { now: () => NOW, after },
    limits,
    log: { info() {}, warn() {}, error() {} },
    signals: { publish() {} },
    stores,
  } as unknown as ServiceContext);

  outbox.pump();
  await expect.poll(() => timers.length).toBe(1);
  expect(timers[0]!.delayMs).toBe(1_000);
  isAway = false;
  timers[0]!.run();
  await expect.poll(() => stores.mlsGroups.outbox(0, 10)).toEqual([]);
  expect(await stores.mailboxes.lastId(device)).toBeDefined();
  await outbox.stop();
});

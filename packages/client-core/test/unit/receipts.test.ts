import { type AccountId, accountId, type MessageId, messageId } from "@murmuration/base";
import { expect, test } from "vitest";
import { receiptDelayOf } from "../../src/core/receipt-delay.ts";
import { Receipts } from "../../src/shell/receipts.ts";

const ALICE = accountId(new Uint8Array(16).fill(1));
const BOB = accountId(new Uint8Array(16).fill(2));
const message = (n: number): MessageId => messageId(new Uint8Array(16).fill(n));

/** Receipts on a clock that a test moves; `sent` tells how many messages each envelope confirms. */
function gathering(luck = 0.5) {
  let now = 0;
  let quietUntilMs = 0;
  let due: { author: AccountId; message_id: MessageId; read: number }[] = [];
  const timers: { atMs: number; done: () => void }[] = [];
  const sent: { atMs: number; author: AccountId }[] = [];
  const context = {
    now: () => now,
    get quietMs() {
      return Math.max(0, quietUntilMs - now);
    },
    settings: { receiptDelayMs: 250 },
    closing: new AbortController(),
    failed: (error: unknown) => {
      throw error;
    },
    environment: {
      random: () => [luck * 255],
      sleep: (ms: number) => new Promise<void>((done) => timers.push({ atMs: now + ms, done })),
    },
    transaction: (body: () => unknown) => body(),
    newMessageId: () => message(99),
    outbox: {
      append: ({ target }: { target: { account: AccountId } }) =>
        sent.push({ atMs: now, author: target.account }),
    },
    storage: {
      run: (sql: string, values: readonly unknown[] = []) => {
        if (sql.startsWith("DELETE")) due = [];
        else
          due.push({
            author: values[0] as AccountId,
            message_id: values[1] as MessageId,
            read: Number(values[2]),
          });
      },
      get: () => (due.length > 0 ? {} : undefined),
      all: (sql: string) =>
        sql.includes("DISTINCT") ? [...new Map(due.map((row) => [row.author, row])).values()] : due,
    },
  };
  const receipts = new Receipts(context as never, () => undefined);
  return {
    sent,
    receipts,
    quieten: (untilMs: number) => {
      quietUntilMs = untilMs;
    },
    async at(ms: number) {
      now = ms;
      for (const timer of timers.filter(({ atMs }) => atMs <= ms)) timer.done();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test("the receipt of a direct message goes after a moment", async () => {
  const { at, receipts, sent } = gathering();
  receipts.due(ALICE, message(1), false, 2);
  receipts.gather();
  await at(249);
  expect(sent).toEqual([]);
  await at(250);
  expect(sent).toEqual([{ atMs: 250, author: ALICE }]);
});

test("receipts of a large group wait for more of them, and what is due sooner takes them along", async () => {
  const { at, receipts, sent } = gathering();
  receipts.due(ALICE, message(1), false, 200);
  receipts.gather();
  await at(1_000);
  receipts.due(ALICE, message(2), false, 200);
  receipts.gather();
  await at(39_062);
  expect(sent).toEqual([]);
  await at(39_063);
  expect(sent).toEqual([{ atMs: 39_063, author: ALICE }]);

  receipts.due(ALICE, message(3), false, 200);
  receipts.gather();
  receipts.due(BOB, message(4), false, 2);
  receipts.gather();
  await at(39_313);
  expect(sent.slice(1).map(({ author }) => author)).toEqual([ALICE, BOB]);
});

test("the time grows with the members of a group, and faster where it is large: fewer of them go in a second then", () => {
  const perSecond = (members: number) => (members * 1_000) / receiptDelayOf(members, 250, 0.5);
  expect([2, 8, 16, 64, 128, 255].map((members) => Math.round(perSecond(members)))).toEqual([
    8, 16, 16, 16, 8, 4,
  ]);
});

test("members of a large group do not send their receipts all at once: each waits a time of its own", async () => {
  const sentAt = async (luck: number): Promise<number> => {
    const { at, receipts, sent } = gathering(luck);
    receipts.due(ALICE, message(1), false, 200);
    receipts.gather();
    for (let ms = 0; sent.length === 0; ms += 5) await at(ms);
    return sent[0]!.atMs;
  };
  expect(await sentAt(0)).toBe(19_535);
  expect(await sentAt(0.2)).toBe(27_345);
  expect(await sentAt(1)).toBe(58_595);
});

test("what a crash has left waits a moment, and no group is so large that a receipt waits longer than 250 of them", async () => {
  const { at, receipts, sent } = gathering();
  receipts.due(ALICE, message(1), false, 1_000);
  receipts.gather();
  await at(62_499);
  expect(sent).toEqual([]);
  await at(62_500);
  expect(sent).toHaveLength(1);
  receipts.gather();
  await at(200_000);
  expect(sent).toHaveLength(1);
});

test("receipts wait where something is under way, and as long as ever after it", async () => {
  const { at, quieten, receipts, sent } = gathering();
  receipts.due(ALICE, message(1), false, 200);
  receipts.gather();
  await at(39_000);
  quieten(50_000);
  await at(39_063);
  receipts.due(ALICE, message(2), false, 2);
  receipts.gather();
  await at(50_249);
  expect(sent).toEqual([]);
  await at(50_250);
  expect(sent).toEqual([{ atMs: 50_250, author: ALICE }]);
});

test("receipts that were due wait as long as ever after what is under way, and are not due at once with all others", async () => {
  const { at, quieten, receipts, sent } = gathering();
  receipts.due(ALICE, message(1), false, 200);
  receipts.gather();
  await at(39_000);
  quieten(50_000);
  await at(39_063);
  await at(89_062);
  expect(sent).toEqual([]);
  await at(89_063);
  expect(sent).toEqual([{ atMs: 89_063, author: ALICE }]);
});

test("receipts wait for what is under way once, not for somebody who is at something again and again", async () => {
  const { at, quieten, receipts, sent } = gathering();
  receipts.due(ALICE, message(1), false, 2);
  receipts.gather();
  for (let ms = 0; ms <= 60_000; ms += 250) {
    quieten(ms + 10_000);
    await at(ms);
  }
  expect(sent).toHaveLength(1);
  expect(sent[0]!.atMs).toBeLessThan(11_000);
});

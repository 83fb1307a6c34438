import { type AccountId, accountId, type MessageId, messageId } from "@murmuration/base";
import { expect, test } from "vitest";
import { openSqlcipher } from "../../src/index.ts";
import { HistoryStore } from "../../src/store/history.ts";
import { KeptStorage } from "../../src/store/kept-storage.ts";
import { prepareSchema, STEPS } from "../../src/store/schema.ts";

const alice: AccountId = accountId(new Uint8Array(16).fill(1));
const id = (n: number): MessageId => messageId(new Uint8Array(16).fill(n));

/** A database as a version left it that knew so many steps. */
function older(steps: number) {
  const storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(32).fill(7) });
  for (const step of STEPS.slice(0, steps)) storage.exec(step);
  storage.exec(`PRAGMA user_version = ${steps}`);
  return storage;
}

test("lines keep their numbers and reactions, and what was seen stays seen, when an id begins to count for each conversation", () => {
  const storage = older(17);
  for (const [number, kept] of [
    [1, true],
    [2, true],
    [3, false],
  ] as const) {
    storage.run(
      `INSERT INTO history (conversation, message_id, author, author_device, outgoing, kind, body, sent_at, stored_at)
         VALUES (?, ?, ?, 1, 0, 'message', x'00', 1, 1)`,
      [alice, id(number), alice],
    );
    storage.run("INSERT INTO reaction (history_id, author, emoji) VALUES (?, ?, '+')", [number, alice]);
    if (!kept) storage.run("DELETE FROM history WHERE id = ?", [number]);
    storage.run("INSERT INTO seen (author, device, message_id, at) VALUES (?, 1, ?, 1)", [alice, id(number)]);
  }
  prepareSchema(storage);
  expect(storage.all("SELECT id FROM history ORDER BY id").map((row) => row["id"])).toEqual([1, 2]);
  const reactions = storage.all("SELECT history_id FROM reaction ORDER BY history_id");
  expect(reactions.map((row) => row["history_id"])).toEqual([1, 2]);

  const history = new HistoryStore(new KeptStorage(storage));
  const line = {
    conversation: alice,
    author: alice,
    authorDevice: 1,
    outgoing: false,
    kind: "message",
  } as const;
  const text = {
    ...line,
    body: new Uint8Array(1),
    sentAtMs: 1,
    storedAtMs: 1,
    expireAfterSeconds: 0,
    sendState: undefined,
  };
  // The third one's number is not given again: events that were told name it.
  expect(history.append({ ...text, messageId: id(4) })).toBe(4);
  history.react(4, alice, "+");
  history.remove(4);
  expect(storage.all("SELECT history_id FROM reaction ORDER BY history_id")).toHaveLength(2);
  const seen = (conversation: AccountId, message: MessageId) =>
    history.noteSeen({ conversation, author: alice, device: 1, message }, 2);
  const elsewhere = accountId(new Uint8Array(16).fill(9));
  expect([seen(alice, id(1)), seen(elsewhere, id(1))]).toEqual([false, false]);
  expect([seen(alice, id(5)), seen(alice, id(5)), seen(elsewhere, id(5))]).toEqual([true, false, true]);
});

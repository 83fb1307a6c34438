import { randomBytes } from "node:crypto";
import { accountId, groupId, type MessageId, messageId } from "@murmuration/base";
import { afterEach, beforeEach, expect, test } from "vitest";
import { encodeContent, textBody } from "../../src/core/content.ts";
import { openSqlcipher, type Storage, systemEnvironment, type Transport } from "../../src/index.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { Lines, type Place } from "../../src/shell/lines.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const bytes = (length: number) => new Uint8Array(randomBytes(length));
const [alice, bob, mallory] = [accountId(bytes(16)), accountId(bytes(16)), accountId(bytes(16))];
const group = groupId(bytes(16));
let storage: Storage;
let context: Context;
let lines: Lines;

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: bytes(32) });
  prepareSchema(storage);
  context = new Context(storage, {} as Transport, systemEnvironment, defaultSettings);
  lines = new Lines(context);
});
afterEach(() => storage.close());

const by = (author: typeof alice, conversation: Uint8Array<ArrayBuffer> = group): Place => ({
  conversation,
  author,
  authorDevice: 1,
  outgoing: false,
  sentAtMs: 1,
});
const newId = (): MessageId => messageId(bytes(16));
const textOf = (historyId: number | undefined) => {
  const row = context.history.get(historyId!);
  return row?.body === undefined ? undefined : textBody.decode(row.body).text;
};

test("an edit, a reaction and a delete that come before their message are applied when it comes", () => {
  for (const [body, expected] of [
    [(id: MessageId) => ({ edit: { messageId: id, text: "better" } }), "better"],
    [(id: MessageId) => ({ delete: { target: { accountId: alice, messageId: id } } }), undefined],
  ] as const) {
    const id = newId();
    lines.apply({ messageId: newId(), ...body(id) }, by(alice));
    const line = lines.apply({ messageId: id, text: { text: "first", attachments: [] } }, by(alice));
    expect(textOf(line)).toBe(expected);
  }
  const id = newId();
  lines.apply(
    { messageId: newId(), reaction: { target: { accountId: alice, messageId: id }, emoji: "🐦" } },
    by(bob),
  );
  const line = lines.apply({ messageId: id, text: { text: "hello", attachments: [] } }, by(alice));
  expect(context.history.reactions(line!)).toEqual([{ author: bob, emoji: "🐦" }]);
});

test("a change that is not allowed does not take the message with it that it came before", () => {
  const id = newId();
  const target = { accountId: alice, messageId: id };
  lines.apply({ messageId: newId(), delete: { target } }, by(mallory));
  lines.apply({ messageId: newId(), reaction: { target, emoji: "x" } }, by(mallory, mallory));
  const line = lines.apply({ messageId: id, text: { text: "still here", attachments: [] } }, by(alice));
  expect(textOf(line)).toBe("still here");
  expect(context.history.reactions(line!)).toEqual([]);
});

test("only the author edits, only the author or an admin deletes, and only in the message's conversation", () => {
  const id = newId();
  const target = { accountId: alice, messageId: id };
  const line = lines.apply({ messageId: id, text: { text: "mine", attachments: [] } }, by(alice));
  // An edit names a message of its own author: of Mallory's there is none, so it waits.
  lines.apply({ messageId: newId(), edit: { messageId: id, text: "forged" } }, by(mallory));
  expect(textOf(line)).toBe("mine");
  expect(() => lines.apply({ messageId: newId(), delete: { target } }, by(mallory))).toThrow(
    "content/not-the-author",
  );
  // What she says in another conversation is about what she said there, and waits for that.
  lines.apply({ messageId: newId(), delete: { target } }, by(alice, alice));
  expect(textOf(line)).toBe("mine");
  context.conversations.saveMembers(
    group,
    [{ account: bob, role: "admin", invited: false, identityKey: bytes(33) }],
    0,
  );
  lines.apply({ messageId: newId(), delete: { target } }, by(bob));
  expect(context.history.get(line!)).toMatchObject({ deleted: true, body: undefined });
});

test("only moderators of a community pin; fifty pins stay, and a deleted message loses its own", () => {
  const say = (): MessageId => {
    const id = newId();
    lines.apply({ messageId: id, text: { text: "pin me", attachments: [] } }, by(alice));
    return id;
  };
  const pin = (id: MessageId, who: typeof alice, pinned = true) =>
    lines.apply(
      { messageId: newId(), pin: { target: { accountId: alice, messageId: id }, pinned } },
      by(who),
    );
  const pinned = () =>
    context.history.pinned(group).map(({ messageId: id }) => Buffer.from(id).toString("hex"));
  const row = { id: group, kind: "group", state: "active", title: "", expireAfterSeconds: 0 } as const;
  const first = say();
  context.conversations.insert({ ...row, protocol: "pairwise" }, 0);
  context.conversations.saveMembers(
    group,
    [
      { account: bob, role: "admin", invited: false, identityKey: bytes(33) },
      { account: mallory, role: "member", invited: false, identityKey: bytes(33) },
    ],
    0,
  );
  expect(() => pin(first, bob)).toThrow("content/not-a-community");
  context.conversations.delete(group);
  context.conversations.insert({ ...row, protocol: "mls" }, 0);
  context.conversations.saveMembers(
    group,
    [
      { account: bob, role: "admin", invited: false, identityKey: bytes(33) },
      { account: mallory, role: "member", invited: false, identityKey: bytes(33) },
    ],
    0,
  );
  expect(() => pin(first, mallory)).toThrow("content/not-an-admin");
  // Nor does a plain member's pin wait for a message that may come.
  expect(() => pin(newId(), mallory)).toThrow("content/not-an-admin");
  expect(storage.get("SELECT count(*) AS n FROM waiting_change")).toEqual({ n: 0 });

  expect(pin(first, bob)).toBeDefined();
  expect(pin(first, bob)).toBeUndefined();
  const later = Array.from({ length: 50 }, say);
  for (const id of later) pin(id, bob);
  const hex = (id: MessageId) => Buffer.from(id).toString("hex");
  expect(pinned()).toEqual(later.map(hex).reverse());
  pin(later[0]!, bob, false);
  lines.apply(
    { messageId: newId(), delete: { target: { accountId: alice, messageId: later[1]! } } },
    by(alice),
  );
  expect(pinned()).toEqual(later.slice(2).map(hex).reverse());

  const early = newId();
  pin(early, bob);
  lines.apply({ messageId: early, text: { text: "late", attachments: [] } }, by(alice));
  expect(pinned()[0]).toBe(hex(early));
});

test("what an author says itself takes the place of what an admin told of it, in any conversation and under any device", () => {
  const tell = (id: MessageId, conversation: Uint8Array<ArrayBuffer>, authorDevice: number) =>
    context.history.appendShared({
      conversation,
      messageId: id,
      author: alice,
      authorDevice,
      outgoing: false,
      body: textBody.encode({ text: "made up", attachments: [] }),
      edited: false,
      sentAtMs: 1,
      storedAtMs: 1,
      sendState: undefined,
      sharedBy: mallory,
    });
  for (const device of [1, 2]) {
    const id = newId();
    const told = tell(id, group, device)!;
    // Alice says it to us alone, with her first device.
    const line = lines.apply({ messageId: id, text: { text: "said", attachments: [] } }, by(alice, alice));
    expect(textOf(line)).toBe("said");
    expect(context.history.get(told)).toBeUndefined();
    expect(context.history.find(alice, alice, id)?.id).toBe(line);
  }
});

test("the same message id of one device makes one line, of two devices two", () => {
  const id = newId();
  const body = { messageId: id, text: { text: "once", attachments: [] } };
  expect(lines.apply(body, by(alice))).toBeDefined();
  expect(lines.apply(body, by(alice))).toBeUndefined();
  expect(lines.apply(body, { ...by(alice), authorDevice: 2 })).toBeDefined();
  expect(encodeContent(body).length).toBeGreaterThan(0);
});

test("what somebody says under one id with two devices goes as one when it is deleted", () => {
  const id = newId();
  const say = (authorDevice: number, text: string) =>
    lines.apply({ messageId: id, text: { text, attachments: [] } }, { ...by(mallory), authorDevice });
  const all = [say(1, "harmless"), say(2, "the other one")];
  lines.apply({ messageId: newId(), delete: { target: { accountId: mallory, messageId: id } } }, by(mallory));
  expect(all.map((line) => context.history.get(line!)?.deleted)).toEqual([true, true]);
});

test("a change that comes before its message waits for the one of its conversation", () => {
  const id = newId();
  const text = { messageId: id, text: { text: "said twice", attachments: [] } };
  lines.apply({ messageId: newId(), delete: { target: { accountId: mallory, messageId: id } } }, by(mallory));
  const elsewhere = lines.apply(text, by(mallory, mallory));
  const here = lines.apply(text, by(mallory));
  expect(textOf(elsewhere)).toBe("said twice");
  expect(context.history.get(here!)).toMatchObject({ deleted: true });
});

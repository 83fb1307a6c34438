import { randomBytes } from "node:crypto";
import { type AccountId, accountId, deviceId, groupId, type MessageId, messageId } from "@murmuration/base";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Content, content, encodeContent } from "../../src/core/content.ts";
import { openSqlcipher, type Storage, systemEnvironment, type Transport } from "../../src/index.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { forgetConversation } from "../../src/shell/forget-told.ts";
import { lanes } from "../../src/shell/lanes.ts";
import { Lines } from "../../src/shell/lines.ts";
import { Maintenance } from "../../src/shell/maintenance.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const random = (length: number) => new Uint8Array(randomBytes(length));
const newId = (): MessageId => messageId(random(16));
const [own, bob] = [accountId(random(16)), accountId(random(16))];
const group = groupId(random(16));
const SECRET = "the eagle has landed";
let storage: Storage;
let context: Context;
let lines: Lines;

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: random(32) });
  prepareSchema(storage);
  const environment = { ...systemEnvironment, sleep: () => new Promise<void>(() => {}) };
  context = new Context(storage, {} as Transport, environment, defaultSettings);
  lines = new Lines(context);
});
afterEach(() => storage.close());

/** A line with this text; returns its message id. */
function said(author: AccountId, id = newId(), expireAfterSeconds = 0): MessageId {
  const outgoing = author === own;
  const body = { text: outgoing ? "before the edit" : SECRET, attachments: [], expireAfterSeconds };
  lines.apply(
    { messageId: id, text: body },
    { conversation: group, author, authorDevice: 1, outgoing, sentAtMs: 1 },
  );
  return id;
}

function queue(body: Partial<Content>, lane: string = lanes.group(group)): MessageId {
  const id = newId();
  const row = context.outbox.append({
    lane,
    target: lane === lanes.own ? { kind: "own", account: own } : { kind: "group", group },
    messageId: id,
    content: encodeContent({ messageId: id, ...body }),
    confirm: false,
    createdAtMs: 1,
  });
  context.outbox.setState(row, "accepted", 1);
  return id;
}

/** The own message is edited, as {@link Sender} does it; the own other devices are told. */
function edited(target: MessageId): void {
  const edit = { edit: { messageId: target, text: SECRET } };
  const id = queue(edit);
  const copy = encodeContent({ messageId: id, ...edit });
  queue({ sync: { sent: { conversationId: group, content: copy, sentAtMs: 1 } } }, lanes.own);
  lines.apply(
    { messageId: id, ...edit },
    { conversation: group, author: own, authorDevice: 1, outgoing: true, sentAtMs: 1 },
  );
}

const itemOf = (id: MessageId, text: string) => ({
  accountId: bob,
  deviceId: 1,
  messageId: id,
  sentAtMs: 1,
  edited: false,
  body: { text, attachments: [] },
});

const remove = (author: AccountId, id: MessageId): number | undefined =>
  lines.apply(
    { messageId: newId(), delete: { target: { accountId: author, messageId: id } } },
    { conversation: group, author, authorDevice: 1, outgoing: author === own, sentAtMs: 1 },
  );
const rows = () =>
  storage.all("SELECT content FROM outbox ORDER BY id").map((row) => row["content"] as Uint8Array);
const keeps = (text: string) => rows().some((row) => Buffer.from(row).includes(text));

test("an edit of an own message goes with it when it is deleted, for everybody or here, and when its time has come", () => {
  const maintenance = new Maintenance(context, { tend: () => {} });
  const ways = [
    (id: MessageId) => remove(own, id),
    (id: MessageId) => maintenance.removeLines([context.history.find(group, own, id)!]),
  ];
  for (const expireAfterSeconds of [0, 60])
    for (const forget of ways) {
      const id = said(own, newId(), expireAfterSeconds);
      edited(id);
      edited(id);
      expect(keeps(SECRET)).toBe(true);
      expect(rows()).toHaveLength(4);
      forget(id);
      expect(rows()).toEqual([]);
    }
});

test("of what waits in a pairwise group and is deleted nothing is left but that nobody is to wait for its number", () => {
  const say = (counter: number, state: "new" | "ready" | "accepted") => {
    const id = said(own);
    const text = { text: SECRET, attachments: [] };
    const spoken = encodeContent({ messageId: id, group: { groupId: group, revision: 3, counter }, text });
    const target = { kind: "group" as const, group };
    const row = { messageId: id, confirm: true, createdAtMs: 1, lane: lanes.group(group), target };
    context.outbox.setState(context.outbox.append({ ...row, content: spoken }), state, 1);
    return id;
  };
  const ids = [say(6, "accepted"), say(7, "ready"), say(8, "new")];
  for (const id of ids) remove(own, id);
  expect(rows()).toEqual([]);
  expect([...context.migration.unsaid(group)]).toEqual([7, 8]);
  context.migration.noteUnsaid(group, 1_000);
  expect([...context.migration.unsaid(group)], "only the newest can be an end").toEqual([1_000]);
});

test("what only names a deleted message is still said, and so are edits of others", () => {
  const [id, other] = [said(own), said(own)];
  const target = { accountId: own, messageId: id };
  queue({ delete: { target } });
  queue({ reaction: { target, emoji: "🐦" } });
  queue({ text: { text: "yes?", replyTo: target, attachments: [] } });
  queue({ receipt: { read: true, messageIds: [id] } });
  edited(other);
  const before = rows();
  remove(own, id);
  expect(rows()).toEqual(before);
});

test("somebody whose message has the id of an own one cannot take the own edit out of the outbox", () => {
  const id = said(own);
  edited(id);
  said(bob, id);
  remove(bob, id);
  expect(keeps(SECRET)).toBe(true);
});

test("a past that is told to newcomers is told without what is deleted meanwhile, whoever said it", () => {
  const [first, second] = [said(bob), said(bob)];
  queue({ sharedHistory: { items: [itemOf(first, "stays"), itemOf(second, SECRET)] } });
  queue({ sharedHistory: { items: [itemOf(second, SECRET)] } });
  remove(bob, second);
  const told = rows().map((row) => content.decode(row).sharedHistory?.items.map(({ body }) => body?.text));
  expect(told).toEqual([["stays"]]);
});

test("what others say that we have said takes nothing out of the outbox when it is deleted", () => {
  const maintenance = new Maintenance(context, { tend: () => {} });
  const id = queue({ reaction: { target: { accountId: bob, messageId: newId() }, emoji: "🐦" } });
  const line = context.history.appendShared({
    conversation: group,
    messageId: id,
    author: own,
    authorDevice: 3,
    outgoing: true,
    body: undefined,
    edited: false,
    sentAtMs: 1,
    storedAtMs: 1,
    sendState: "accepted",
    sharedBy: bob,
  });
  maintenance.removeLines([context.history.get(line!)!]);
  expect(rows()).toHaveLength(1);
});

test("a conversation that is deleted leaves none of its texts behind, and none of another's is touched", () => {
  const id = said(own);
  context.outbox.append({
    lane: lanes.group(group),
    target: { kind: "group", group },
    messageId: id,
    content: encodeContent({ messageId: id, text: { text: SECRET, attachments: [] } }),
    confirm: true,
    createdAtMs: 1,
  });
  edited(id);
  queue({ sharedHistory: { items: [itemOf(newId(), SECRET)] } });
  queue({ edit: { messageId: newId(), text: "stays" } });
  const notice = queue({ pin: { target: { accountId: own, messageId: id }, pinned: true } });
  lines.appendNotice(
    notice,
    { conversation: group, author: own, authorDevice: 1, outgoing: true, sentAtMs: 1 },
    { code: "group/message-pinned", message: { author: "a", messageId: "m" } },
  );
  let erased = 0;
  storage.eraseDeleted = () => {
    erased++;
  };
  context.transaction(() => forgetConversation(context, group));
  expect(storage.all("SELECT message_id FROM outbox")).toHaveLength(2);
  expect(keeps(SECRET)).toBe(false);
  expect(keeps("stays")).toBe(true);
  expect(erased).toBe(1);
});

test("a message is deleted whatever bytes somebody has put into what we ask of them", () => {
  const id = said(own);
  edited(id);
  // A request to send again carries a key that the one who is asked has chosen.
  const request = Buffer.concat([Uint8Array.of(8, 0xc2, 0x01), id]);
  context.outbox.append({
    lane: lanes.repair(bob),
    target: { kind: "device", account: bob, device: deviceId(1) },
    messageId: newId(),
    content: new Uint8Array(request),
    confirm: false,
    createdAtMs: 1,
  });
  remove(own, id);
  expect(keeps(SECRET)).toBe(false);
});

import { randomBytes } from "node:crypto";
import { accountId, type DeviceId, groupId, messageId } from "@murmuration/base";
import type { Group } from "@murmuration/mls-groups";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openSqlcipher, type Storage, systemEnvironment, type Transport } from "../../src/index.ts";
import { type Committed, CommunityLedger } from "../../src/shell/communities/ledger.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { Lines } from "../../src/shell/lines.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const bytes = (length: number) => new Uint8Array(randomBytes(length));
let storage: Storage;
let context: Context;

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: bytes(32) });
  prepareSchema(storage);
  context = new Context(storage, {} as Transport, systemEnvironment, defaultSettings);
});
afterEach(() => storage.close());

test("whoever makes a commit hides none of its notices behind a message of its own, nor a message behind a notice", () => {
  const lines = new Lines(context);
  const ledger = new CommunityLedger(context, lines);
  const id = groupId(bytes(16));
  const [mallory, device] = [accountId(bytes(16)), 1 as DeviceId];
  const row = { id, kind: "group", state: "active", protocol: "mls", title: "" } as const;
  context.conversations.insert({ ...row, expireAfterSeconds: 0 }, 0);
  // Mallory's commit changes the timer; its hash names the notice.
  const hash = bytes(32);
  const name = hash.slice(0, 16);
  name.fill(0, 14);
  const community = { roleHolders: [], expireAfterSeconds: 0 };
  const description = {
    committer: undefined,
    external: true,
    added: [{ leaf: 1, device: { accountId: mallory, deviceId: device } }],
    removed: [],
    before: community,
    after: { ...community, expireAfterSeconds: 60 },
  };
  const group = { tree: { leaf: () => undefined } } as unknown as Group;
  const text = { messageId: messageId(name), text: { text: "nothing to see", attachments: [] } };
  const place = { conversation: id, author: mallory, authorDevice: device, outgoing: false, sentAtMs: 1 };

  expect(lines.apply(text, place)).toBeDefined();
  ledger.merged(id, group, { description, leavers: [], hash, atMs: 2 } as unknown as Committed);

  const shown = context.history.after(id, 0, 10);
  expect(shown.map(({ kind }) => kind)).toEqual(["message", "notice"]);
  expect(context.history.find(id, mallory, text.messageId)?.kind).toBe("message");

  // The other way round the message is still the one that is found, and so can be deleted.
  const second = { ...text, messageId: messageId(bytes(16)) };
  const notice = { code: "conversation/message-lost" } as const;
  lines.appendNotice(second.messageId, { ...place, authorDevice: 0 }, notice);
  lines.apply(second, place);
  expect(context.history.find(id, mallory, second.messageId)?.kind).toBe("message");
});

import { randomBytes } from "node:crypto";
import { accountId, messageId, submitId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openSqlcipher, type Storage } from "../../src/index.ts";
import { HeldStore } from "../../src/store/held.ts";
import { KeptStorage } from "../../src/store/kept-storage.ts";
import { OutboxStore } from "../../src/store/outbox.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const bytes = (length: number) => new Uint8Array(randomBytes(length));
let storage: Storage;
beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: bytes(32) });
  prepareSchema(storage);
});
afterEach(() => storage.close());

const envelope = (text: string) => ({
  reason: "device-list" as const,
  bytes: new Uint8Array(Buffer.from(text)),
  sender: undefined,
  subject: bytes(16),
  sentAtMs: 0,
  acceptedAtMs: 1,
});

describe("row numbers", () => {
  it("a held envelope survives somebody who still holds, and removes, the row that was last before it", () => {
    const held = new HeldStore(storage);
    held.add(envelope("opened twice at a reconnect"), 1);
    // Two openers read the same rows: one after a delivery, one because the connection is new.
    const [seenByFirst] = held.of("device-list");
    const [seenBySecond] = held.of("device-list");
    held.remove(seenByFirst!.id);
    held.add(envelope("a first message of somebody else"), 2);
    // To the second opener its envelope is a duplicate by now, and it puts the row away.
    held.remove(seenBySecond!.id);
    expect(held.of("device-list").map((row) => Buffer.from(row.bytes).toString())).toEqual([
      "a first message of somebody else",
    ]);
  });

  it("a part of a submit keeps its number for itself, also when it was the last", () => {
    const outbox = new OutboxStore(new KeptStorage(storage));
    const account = accountId(bytes(16));
    const row = outbox.append({
      lane: "lane",
      target: { kind: "account", account },
      messageId: messageId(bytes(16)),
      content: bytes(8),
      confirm: true,
      createdAtMs: 1,
    });
    const part = () => ({
      submitId: submitId(bytes(16)),
      mode: "sealed" as const,
      recipients: [],
      group: undefined,
      fence: undefined,
      certificateUntilMs: 0,
    });
    const first = outbox.addPart(row, part())!;
    outbox.deletePart(first);
    const second = outbox.addPart(row, part());
    outbox.deletePart(first);
    expect(outbox.parts(row).map(({ id }) => id)).toEqual([second]);
  });

  it("a part of a row that is gone is not put down", () => {
    const outbox = new OutboxStore(new KeptStorage(storage));
    const gone = outbox.append({
      lane: "lane",
      target: { kind: "account", account: accountId(bytes(16)) },
      messageId: messageId(bytes(16)),
      content: bytes(8),
      confirm: true,
      createdAtMs: 1,
    });
    outbox.delete(gone);
    const part = {
      submitId: submitId(bytes(16)),
      mode: "sealed" as const,
      recipients: [],
      group: undefined,
      fence: undefined,
      certificateUntilMs: 0,
    };
    expect(outbox.addPart(gone, part)).toBeUndefined();
    expect(outbox.parts(gone)).toEqual([]);
  });

  it("every numbered table of the schema gives a number out once", () => {
    const tables = storage.all("SELECT name, sql FROM sqlite_master WHERE type = 'table'");
    const numbered = tables.filter(({ sql }) => /INTEGER PRIMARY KEY/.test(String(sql)));
    expect(numbered.length).toBeGreaterThan(4);
    for (const { name, sql } of numbered) expect(String(sql), String(name)).toContain("AUTOINCREMENT");
  });
});

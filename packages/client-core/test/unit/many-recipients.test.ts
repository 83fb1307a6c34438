/** What a message to a large group asks of the database at once has to say the same as asking one by one. */
import { randomBytes } from "node:crypto";
import { type AccountId, accountId, messageId, submitId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openSqlcipher, type Storage } from "../../src/index.ts";
import { ContactStore } from "../../src/store/contacts.ts";
import { ConversationStore } from "../../src/store/conversations.ts";
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

describe("many recipients at once", () => {
  it("access keys come in the order asked for, and who has none is named", () => {
    const contacts = new ContactStore(new KeptStorage(storage));
    const [withKey, without, unknown, other] = Array.from({ length: 4 }, () => accountId(bytes(16))) as [
      AccountId,
      AccountId,
      AccountId,
      AccountId,
    ];
    contacts.setProfileKey(withKey, bytes(32));
    contacts.ensure(without);
    contacts.setProfileKey(other, bytes(32));
    const accounts = [other, unknown, withKey, without];
    expect(contacts.accessKeys(accounts)).toEqual(accounts.map((account) => contacts.accessKey(account)));
    expect(contacts.accessKeys(accounts)[2]).toHaveLength(16);
    expect(contacts.withoutAccessKey(accounts)).toEqual([1, 3]);
    expect(contacts.withoutAccessKey([])).toEqual([]);
  });

  it("the accounts of a group are its present members: neither the invited nor those who are gone", () => {
    const conversations = new ConversationStore(new KeptStorage(storage));
    const group = bytes(16);
    const member = (invited: boolean) => ({
      account: accountId(bytes(16)),
      role: "member" as const,
      invited,
      identityKey: bytes(33),
    });
    const [present, invited, gone] = [member(false), member(true), member(false)];
    conversations.saveMembers(group, [present, invited, gone], 1);
    conversations.saveMembers(group, [present, invited], 2);
    expect(conversations.memberAccounts(group)).toEqual([present.account]);
  });

  it("a part comes back from the outbox byte by byte, with as many devices as it was written for", () => {
    const outbox = new OutboxStore(new KeptStorage(storage));
    const row = outbox.append({
      lane: "lane",
      target: { kind: "group", group: bytes(16) },
      messageId: messageId(bytes(16)),
      content: bytes(8),
      confirm: true,
      createdAtMs: 1,
    });
    const recipients = Array.from({ length: 254 }, (_, i) => ({
      account: accountId(bytes(16)),
      devices: Array.from({ length: 1 + (i % 5) }, (_device, d) => ({
        deviceId: (d + 1) as never,
        registrationId: 1 + i,
        ciphertext: bytes(i === 0 ? 40_000 : 100 + i),
      })),
    }));
    expect(outbox.countParts(row)).toBe(0);
    outbox.addPart(row, {
      submitId: submitId(bytes(16)),
      mode: "sealed",
      recipients,
      group: undefined,
      fence: undefined,
      certificateUntilMs: 0,
    });
    expect(outbox.countParts(row)).toBe(1);
    expect(outbox.parts(row)[0]!.recipients).toEqual(recipients);
    expect(outbox.state(row)).toBe("new");
    expect(outbox.reference(row)).toBeUndefined();
    const accounts = recipients.map(({ account }) => account);
    outbox.setPlan(row, accounts, 77);
    expect(outbox.reference(row)).toBe(77);
    expect(outbox.get(row)!.accounts).toEqual(accounts);
  });
});

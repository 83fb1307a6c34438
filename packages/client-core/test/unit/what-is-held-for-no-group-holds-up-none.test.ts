import { randomBytes } from "node:crypto";
import { accountId, type Bytes, deviceId, equalBytes, groupId, RejectionError } from "@murmuration/base";
import { afterEach, beforeEach, expect, test } from "vitest";
import { encodeContent } from "../../src/core/content.ts";
import { openSqlcipher, type Storage } from "../../src/index.ts";
import type { Context } from "../../src/shell/context.ts";
import { FollowUp } from "../../src/shell/follow-up.ts";
import type { Groups } from "../../src/shell/groups.ts";
import type { Receiver } from "../../src/shell/receiver.ts";
import { HeldStore } from "../../src/store/held.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const bytes = (length: number) => new Uint8Array(randomBytes(length));
const FLOOD = 700;
let storage: Storage;
beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: bytes(32) });
  prepareSchema(storage);
});
afterEach(() => storage.close());

function device(ours: Bytes) {
  const held = new HeldStore(storage);
  const read: Uint8Array[] = [];
  const accepted: Uint8Array[] = [];
  const context = {
    held,
    conversations: {
      group: (id: Uint8Array) => (equalBytes(id, ours) ? { revision: 1 } : undefined),
    },
    now: () => 0,
    transaction: (body: () => void) => body(),
    notifier: { flush: () => undefined },
  } as unknown as Context;
  const groups = {
    refresh: async (id: Uint8Array) => read.push(id) > 0,
    acceptInvite: async (id: Uint8Array) => {
      if (!equalBytes(id, ours)) throw new RejectionError("group/unknown");
      accepted.push(id);
    },
  } as unknown as Groups;
  const followUp = new FollowUp(context, groups, { retryHeld: () => undefined } as unknown as Receiver);
  const put = (reason: "group" | "invite", subject: Bytes): void => {
    const group = { groupId: groupId(subject), revision: 1 };
    const groupInvite = { revision: 1, groupKey: bytes(32), fence: bytes(16), hash: bytes(32) };
    const content = reason === "invite" ? { group, groupInvite } : { group };
    const sender = { accountId: accountId(bytes(16)), deviceId: deviceId(1) };
    const body = encodeContent({ messageId: bytes(16) as never, ...(content as object) });
    held.add({ reason, bytes: body, sender, subject, sentAtMs: 0, acceptedAtMs: 0 }, 0);
  };
  return { accepted, followUp, put, read };
}

test("what hundreds said in groups that there are not does not hide what is held for one of ours", async () => {
  const ours = bytes(16);
  const { followUp, put, read } = device(ours);
  for (let i = 0; i < FLOOD; i++) put("group", bytes(16));
  put("group", ours);
  await followUp.run();
  expect(read).toEqual([ours]);
});

test("hundreds of invites to groups that there are not hide none to a group that there is", async () => {
  const ours = bytes(16);
  const { accepted, followUp, put } = device(ours);
  for (let i = 0; i < FLOOD; i++) put("invite", bytes(16));
  put("invite", ours);
  await followUp.run();
  expect(accepted).toEqual([ours]);
});

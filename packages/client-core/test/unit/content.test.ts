import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { accountId, groupId, messageId, RejectionError, UsageError } from "@murmuration/base";
import protobuf from "protobufjs";
import { expect, test } from "vitest";
import {
  bodyKinds,
  type Content,
  content,
  decodeContent,
  encodeContent,
  shorten,
  withSeenEpochs,
} from "../../src/core/content.ts";
import { type Field, Message } from "../../src/core/protobuf.ts";

const proto = readFileSync(new URL("../../proto/content.proto", import.meta.url), "utf8");
const root = protobuf.parse(proto, { keepCase: false }).root;
const independent = root.lookupType("murmuration.content.v1.Content");
const bytes = (length: number) => new Uint8Array(randomBytes(length));
const target = { accountId: accountId(bytes(16)), messageId: messageId(bytes(16)) };

const bodies: Omit<Content, "messageId">[] = [
  {},
  { profile: { profileKey: bytes(32), name: "Zoë" } },
  { text: { text: "hello 🐦", attachments: [], replyTo: target, expireAfterSeconds: 0 } },
  {
    text: {
      text: "",
      attachments: [
        {
          blobId: bytes(16) as never,
          key: bytes(64),
          digest: bytes(32),
          incrementalMac: bytes(64),
          chunkBytes: 65_536,
          size: 2 ** 40,
          contentType: "image/png",
          fileName: "bird.png",
        },
      ],
    },
  },
  { edit: { messageId: target.messageId, text: "better" } },
  { reaction: { target, emoji: "🐦" } },
  { reaction: { target } },
  { delete: { target } },
  { pin: { target, pinned: true } },
  { receipt: { read: true, messageIds: [messageId(bytes(16)), messageId(bytes(16))] } },
  { typing: { started: false } },
  { expiry: { seconds: 604_800 } },
  {
    group: { groupId: groupId(bytes(16)), revision: 300 },
    groupInvite: { groupKey: bytes(32), fence: bytes(16), revision: 1, hash: bytes(32) },
  },
  { groupKey: { groupKey: bytes(32), fence: bytes(16), revision: 2 } },
  { groupChange: { change: bytes(700) } },
  { group: { groupId: groupId(bytes(16)), revision: 0 }, profileRequest: { hash: bytes(32) } },
  {
    sharedHistory: {
      items: [
        {
          ...target,
          deviceId: 2,
          sentAtMs: 1_800_000_000_000,
          edited: true,
          body: { text: "past", attachments: [] },
        },
        { ...target, deviceId: 1, sentAtMs: 5, edited: false },
      ],
    },
  },
  { sync: { sent: { conversationId: bytes(16), content: bytes(40), sentAtMs: 1_800_000_000_000 } } },
  { sync: { read: { messages: [target], readAtMs: 5 } } },
  {
    sync: {
      contacts: { contacts: [{ accountId: target.accountId, name: "", accepted: true, blocked: false }] },
    },
  },
  { sync: { conversation: { conversationId: bytes(16), accepted: false } } },
  {
    joinRequest: {
      groupId: groupId(bytes(16)),
      linkId: bytes(16),
      signatureKey: bytes(32),
      linkSignature: bytes(64),
    },
  },
  {
    joinApproval: {
      groupId: groupId(bytes(16)),
      linkId: bytes(16),
      signatureKey: bytes(32),
      approver: 0,
      signature: bytes(64),
    },
  },
  { joinApproval: { groupId: groupId(bytes(16)), linkId: bytes(16), signatureKey: bytes(32) } },
  { sync: { muted: { conversationId: bytes(16), untilMs: Number.MAX_SAFE_INTEGER } } },
];

test("every body is read the same by an independent protobuf implementation, and back", () => {
  for (const body of bodies) {
    const value: Content = { messageId: messageId(bytes(16)), ...body };
    const encoded = encodeContent(value);
    expect(decodeContent(encoded)).toEqual(value);
    const theirs = independent.decode(encoded);
    expect(Buffer.from(independent.encode(theirs).finish()).toString("hex")).toBe(
      Buffer.from(encoded).toString("hex"),
    );
    expect(decodeContent(new Uint8Array(independent.encode(theirs).finish()))).toEqual(value);
  }
});

/** Compares a declaration with its message in content.proto, field by field, and what it nests. */
function compare(declared: Message<unknown>, seen = new Set<string>()): void {
  if (seen.has(declared.name)) return;
  seen.add(declared.name);
  const type = root.lookupType(`murmuration.content.v1.${declared.name}`);
  const fields = declared.fields as Record<string, Field<unknown, "required" | "optional" | "repeated">>;
  expect(Object.keys(fields).sort(), declared.name).toEqual(Object.keys(type.fields).sort());
  for (const [name, field] of Object.entries(fields)) {
    const theirs = type.fields[name]!;
    expect(field.number, `${declared.name}.${name}`).toBe(theirs.id);
    expect(field.presence === "repeated", `${declared.name}.${name}`).toBe(theirs.repeated);
    if (field.kind instanceof Message) {
      expect(field.kind.name).toBe(theirs.type);
      compare(field.kind, seen);
    }
  }
}

test("the declarations are those of content.proto, and every body kind is a field", () => {
  compare(content as Message<unknown>);
  for (const kind of bodyKinds) expect(Object.keys(content.fields)).toContain(kind);
});

test("a newer client may add fields; two bodies, wrong sizes and broken bytes are refused", () => {
  const value: Content = { messageId: messageId(bytes(16)), typing: { started: true } };
  const encoded = encodeContent(value);
  const withUnknown = new Uint8Array([...encoded, 0xfa, 0x3f, 0x02, 0x01, 0x02, 0xc5, 0x3e, 1, 2, 3, 4]);
  expect(decodeContent(withUnknown)).toEqual(value);
  const two = encodeContent({ ...value, expiry: { seconds: 1 } });
  expect(() => decodeContent(two)).toThrow("content/several-bodies");
  expect(() => encodeContent({ messageId: bytes(15) as never })).toThrow(UsageError);
  expect(() => decodeContent(new Uint8Array(0))).toThrow("content/missing-field");
});

test("every prefix and every changed byte of a content is decoded or refused, never anything else", () => {
  for (const body of bodies) {
    const encoded = encodeContent({ messageId: messageId(bytes(16)), ...body });
    for (let at = 0; at < encoded.length; at++) {
      for (const mutant of [
        encoded.slice(0, at),
        encoded.map((byte, i) => (i === at ? byte ^ 0xff : byte)),
      ]) {
        try {
          decodeContent(mutant);
        } catch (error) {
          expect(error).toBeInstanceOf(RejectionError);
        }
      }
    }
  }
});

test("a name is shortened at a character, not inside one", () => {
  expect(shorten("🐦🐦🐦", 9)).toBe("🐦🐦");
  expect(shorten("short", 9)).toBe("short");
});

test("what is put beside a content leaves what it says as it is, and is read the same by both", () => {
  const value: Content = { messageId: messageId(bytes(16)), text: { text: "hello", attachments: [] } };
  const reports = [{ groupId: groupId(bytes(16)), epoch: 7, hash: bytes(32) }];
  const encoded = withSeenEpochs(encodeContent(value), reports);
  expect(decodeContent(encoded)).toEqual({ ...value, seenEpochs: { reports } });
  const theirs = independent.encode(independent.decode(encoded)).finish();
  expect(decodeContent(new Uint8Array(theirs))).toEqual({ ...value, seenEpochs: { reports } });
  expect(withSeenEpochs(encodeContent(value), [])).toEqual(encodeContent(value));
  const many = Array.from({ length: 5 }, () => reports[0]!);
  expect(() => withSeenEpochs(encodeContent(value), many)).toThrow("content/cannot-encode");
});

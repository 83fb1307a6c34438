import { concatBytes, fromHex, RejectionError, toHex, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  type ClientFrame,
  decodeClientFrame,
  decodeMessage,
  decodeServiceFrame,
  encodeClientFrame,
  FrameRejection,
  limits,
  rejectionRow,
} from "../../src/index.ts";
import { encodeByReflection, readSchema, readVectors, type WireVector } from "../../tools/vectors.ts";
import { declared } from "../vector-files.ts";

const schema = readSchema();
const frames = readVectors("frames.json");
const messages = readVectors("messages.json");

/** Bytes of a value that our own encoder would refuse, made by protobufjs from the schema. */
function forge(message: string, value: Record<string, unknown>): Uint8Array {
  return fromHex(encodeByReflection(schema, { name: "", meaning: "", message, value }));
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof RejectionError) return error.code;
    throw error;
  }
  return "accepted";
}

const hex = (byte: number, length: number): string => byte.toString(16).padStart(2, "0").repeat(length);
const frameVector = (name: string): WireVector => frames.find((vector) => vector.name === name)!;
const body = (name: string, kind: string): Record<string, unknown> =>
  structuredClone(frameVector(name).value[kind]) as Record<string, unknown>;
const messageValue = (name: string): Record<string, unknown> =>
  structuredClone(messages.find((vector) => vector.name === name)!.value);

const decodeForged = (kind: string, value: unknown): string =>
  codeOf(() => decodeClientFrame(forge("Frame", { requestId: 9, [kind]: value })));
const decodeForgedFromService = (kind: string, value: unknown): string =>
  codeOf(() => decodeServiceFrame(forge("Frame", { requestId: 9, [kind]: value })));
const decodeForgedMessage = (name: string, value: Record<string, unknown>): string =>
  codeOf(() => decodeMessage(declared.get(name)!, forge(name, value), limits.groupRecordBytes * 2));

describe("the size is checked before anything is decoded", () => {
  test("a frame one byte over the limit", () => {
    // Not protobuf at all: only the size can be the reason.
    expect(codeOf(() => decodeClientFrame(new Uint8Array(limits.frameBytes + 1).fill(0xff)))).toBe(
      "wire/too-large",
    );
    expect(codeOf(() => decodeClientFrame(new Uint8Array(limits.frameBytes).fill(0xff)))).toBe(
      "wire/garbage",
    );
  });

  test("a Hello over its own, smaller limit", () => {
    expect(codeOf(() => decodeClientFrame(new Uint8Array(limits.helloBytes + 1), limits.helloBytes))).toBe(
      "wire/too-large",
    );
  });

  test("an HTTP body over its route's limit", () => {
    expect(codeOf(() => decodeMessage(declared.get("PreKeyUpload")!, new Uint8Array(101), 100))).toBe(
      "wire/too-large",
    );
  });
});

describe("bytes that are no frame", () => {
  test("every truncation of every vector is refused with a code, or is a shorter valid message", () => {
    const allowed = /^(?:accepted|wire\/(?:garbage|unknown-frame|missing-field|invalid-field))$/;
    for (const { hex: whole, from } of frames) {
      const bytes = fromHex(whole!);
      for (let length = 0; length < bytes.length; length++) {
        const cut = bytes.subarray(0, length);
        const code = codeOf(() => (from === "client" ? decodeClientFrame(cut) : decodeServiceFrame(cut)));
        expect(code).toMatch(allowed);
      }
    }
  });

  test("the empty frame", () => {
    expect(codeOf(() => decodeClientFrame(new Uint8Array(0)))).toBe("wire/unknown-frame");
  });

  test("a kind that this version does not know, with the request id for the answer", () => {
    // request_id 5, then field 64 (reserved for MLS) with an empty message.
    const bytes = fromHex("0805820400");
    try {
      decodeClientFrame(bytes);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(FrameRejection);
      expect(error).toMatchObject({ code: "wire/unknown-frame", requestId: 5 });
    }
  });

  test("a frame of the other direction", () => {
    const deliver = fromHex(frameVector("deliver").hex!);
    expect(codeOf(() => decodeClientFrame(deliver))).toBe("wire/wrong-direction");
    const hello = fromHex(frameVector("hello-anonymous").hex!);
    expect(codeOf(() => decodeServiceFrame(hello))).toBe("wire/wrong-direction");
  });

  test("groups nested a thousand deep in an unknown field do not exhaust the stack", () => {
    const open = new Uint8Array(1000).fill(0x7b); // field 15, start of a group
    expect(codeOf(() => decodeClientFrame(open))).toBe("wire/garbage");
  });

  test("a length that claims more than there is", () => {
    expect(codeOf(() => decodeClientFrame(fromHex("08018201ffffffff0f")))).toBe("wire/garbage");
  });

  test("text that is not UTF-8", () => {
    expect(codeOf(() => decodeServiceFrame(fromHex("0801920303" + "0a01ff")))).toBe("wire/garbage");
  });
});

describe("unknown fields are tolerated", () => {
  test.each(frames)("$name with a field from the future", ({ hex: whole, from, value }) => {
    const future = concatBytes(fromHex(whole!), fromHex("f83f01")); // field 1023 = 1
    const frame = from === "client" ? decodeClientFrame(future) : decodeServiceFrame(future);
    expect(frame.requestId).toBe(value["requestId"] ?? 0);
  });

  test("they are not kept, and not sent on", () => {
    const ping = fromHex(frameVector("ping").hex!);
    const frame = decodeClientFrame(concatBytes(ping, fromHex("f83f01")));
    expect(toHex(encodeClientFrame(frame))).toBe(toHex(ping));
  });
});

describe("fields with a size of their own", () => {
  const ids: ReadonlyArray<readonly [kind: string, vector: string, path: string]> = [
    ["hello", "hello-device", "auth.accountId"],
    ["hello", "hello-device", "auth.token"],
    ["submitSealed", "submit-sealed-group", "submitId"],
    ["submitSealed", "submit-sealed-group", "recipients.0.accountId"],
    ["submitSealed", "submit-sealed-group", "recipients.0.accessKey"],
    ["submitSealed", "submit-sealed-group", "fence.groupId"],
    ["submitSealed", "submit-sealed-group", "fence.fence"],
    ["submitIdentified", "submit-identified", "submitId"],
    ["submitIdentified", "submit-identified", "accountId"],
  ];
  test.each(ids)("%s (%s): %s must have exactly its length", (kind, vector, path) => {
    const length = path.endsWith("token") ? 32 : 16;
    const outcomes = [0, length - 1, length + 1].map((size) => {
      const value = body(vector, kind);
      setPath(value, path, hex(7, size));
      return decodeForged(kind, value);
    });
    expect(outcomes).toEqual(["wire/missing-field", "wire/invalid-field", "wire/field-too-large"]);
  });

  test("an envelope one byte over its limit, and one of exactly the limit", () => {
    const sized = (size: number): string => {
      const value = body("submit-identified", "submitIdentified");
      setPath(value, "devices.0.ciphertext", hex(1, size));
      return decodeForged("submitIdentified", value);
    };
    expect(sized(limits.envelopeBytes)).toBe("accepted");
    expect(sized(limits.envelopeBytes + 1)).toBe("wire/field-too-large");
    expect(sized(0)).toBe("wire/missing-field");
  });

  const sizes: ReadonlyArray<readonly [message: string, vector: string, path: string, limit: number]> = [
    ["RegisterRequest", "register-request", "deviceList", limits.deviceListBytes],
    ["RegisterRequest", "register-request", "inviteCode", limits.inviteCodeBytes],
    ["RegisterRequest", "register-request", "accountIdentityKey", limits.publicKeyBytes],
    ["RegisterRequest", "register-request", "device.tokenHash", limits.tokenBytes],
    ["PreKeyUpload", "pre-key-upload", "signedPreKey.signature", limits.signatureBytes],
    ["PreKeyUpload", "pre-key-upload", "lastResortKyberPreKey.publicKey", limits.kyberPublicKeyBytes],
    ["CertificateReply", "certificate-reply", "certificate", limits.certificateBytes],
    ["ProfileUpdate", "profile-update", "profile", limits.profileBytes],
    ["ProfileUpdate", "profile-update", "accessKey", limits.accessKeyBytes],
    ["GroupWriteRequest", "group-write", "blob", limits.groupRecordBytes],
    ["ChallengeReply", "challenge-reply", "challenge", limits.challengeBytes],
  ];
  test.each(sizes)("%s (%s): %s may not be longer than %i", (message, vector, path, limit) => {
    const sized = (size: number): string => {
      const value = messageValue(vector);
      setPath(value, path, hex(5, size));
      return decodeForgedMessage(message, value);
    };
    expect(sized(limit)).toBe("accepted");
    expect(sized(limit + 1)).toBe("wire/field-too-large");
  });
});

describe("numbers outside their range", () => {
  test("device ids are 1 to 127", () => {
    const withId = (id: number): string => {
      const value = body("submit-sealed", "submitSealed");
      setPath(value, "recipients.0.devices.0.deviceId", id);
      return decodeForged("submitSealed", value);
    };
    expect([0, 1, 127, 128].map(withId)).toEqual([
      "wire/missing-field",
      "accepted",
      "accepted",
      "wire/invalid-field",
    ]);
  });

  test("registration ids are 1 to 16380", () => {
    const withId = (id: number): string => {
      const value = body("submit-sealed", "submitSealed");
      setPath(value, "recipients.0.devices.0.registrationId", id);
      return decodeForged("submitSealed", value);
    };
    expect([0, limits.registrationId, limits.registrationId + 1].map(withId)).toEqual([
      "wire/missing-field",
      "accepted",
      "wire/invalid-field",
    ]);
  });

  test("a 64-bit integer of 2^53 is refused, not rounded", () => {
    const largest = codeOf(() => decodeClientFrame(fromHex("08078a0109" + "08ffffffffffffff0f")));
    expect(largest).toBe("accepted");
    expect(codeOf(() => decodeClientFrame(fromHex("08078a0109" + "088080808080808010")))).toBe(
      "wire/invalid-field",
    );
    expect(codeOf(() => decodeClientFrame(fromHex("08078a010b" + "08ffffffffffffffffff01")))).toBe(
      "wire/invalid-field",
    );
  });

  test("an action that nobody knows, and a code that is none", () => {
    const known = { code: "rate/limited", action: "ACTION_RETRY" };
    expect(decodeForgedFromService("rejection", known)).toBe("accepted");
    expect(decodeForgedFromService("rejection", { ...known, action: 77 })).toBe("wire/invalid-field");
    expect(decodeForgedFromService("rejection", { code: "rate/limited" })).toBe("wire/missing-field");
    expect(decodeForgedFromService("rejection", { ...known, code: "no slash here" })).toBe(
      "wire/invalid-field",
    );
    expect(decodeForgedFromService("rejection", { ...known, code: "a/".padEnd(200, "b") })).toBe(
      "wire/invalid-field",
    );
  });
});

describe("lists longer than their limit", () => {
  const many = (count: number, item: unknown): unknown[] => Array.from({ length: count }, () => item);
  const [recipient] = body("submit-sealed", "submitSealed")["recipients"] as [Record<string, unknown>];
  const [device] = recipient["devices"] as [unknown];
  const submit = (recipients: unknown[]): string =>
    decodeForged("submitSealed", { ...body("submit-sealed", "submitSealed"), recipients });

  test("recipients of a submit", () => {
    expect(submit(many(limits.recipientsPerSubmit, recipient))).toBe("accepted");
    expect(submit(many(limits.recipientsPerSubmit + 1, recipient))).toBe("wire/too-many");
    expect(submit([])).toBe("wire/missing-field");
  });

  test("devices of a recipient", () => {
    expect(submit([{ ...recipient, devices: many(limits.devicesPerAccount + 1, device) }])).toBe(
      "wire/too-many",
    );
    expect(submit([{ ...recipient, devices: [] }])).toBe("wire/missing-field");
  });

  test("versions of a Hello", () => {
    expect(decodeForged("hello", { versions: many(limits.versionsPerHello, 1) })).toBe("accepted");
    expect(decodeForged("hello", { versions: many(limits.versionsPerHello + 1, 1) })).toBe("wire/too-many");
    expect(decodeForged("hello", {})).toBe("wire/missing-field");
  });

  test("one-time prekeys of an upload, of either kind", () => {
    const upload = messageValue("pre-key-upload") as Record<
      "oneTimePreKeys" | "oneTimeKyberPreKeys",
      unknown[]
    >;
    for (const kind of ["oneTimePreKeys", "oneTimeKyberPreKeys"] as const) {
      const sized = (count: number): string =>
        decodeForgedMessage("PreKeyUpload", { ...upload, [kind]: many(count, upload[kind][0]) });
      expect(sized(limits.oneTimePreKeysPerUpload)).toBe("accepted");
      expect(sized(limits.oneTimePreKeysPerUpload + 1)).toBe("wire/too-many");
    }
  });

  test("devices of a bundle request", () => {
    expect(decodeForgedMessage("BundleRequest", { deviceIds: [1, 2, 3, 4, 5, 6] })).toBe("wire/too-many");
  });

  test("envelopes of a Deliver, and an envelope with both contents or none", () => {
    const { envelopes } = body("deliver", "deliver") as { envelopes: [object, object] };
    const deliver = (items: unknown[]): string => decodeForgedFromService("deliver", { envelopes: items });
    expect(deliver(many(limits.envelopesPerDeliver + 1, envelopes[0]))).toBe("wire/too-many");
    expect(deliver([{ envelopeId: 1, serverTimeMs: 1 }])).toBe("wire/missing-field");
  });
});

describe("a frame full of empty elements costs neither memory nor time", () => {
  /** A client's frame of four megabytes whose field of this number repeats one element to the end. */
  function filled(frameField: number, element: readonly number[], packed = false): Uint8Array {
    const varint = (value: number): number[] =>
      value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
    const size = limits.frameBytes - 64;
    const content = new Uint8Array(size - (size % element.length));
    for (let at = 0; at < content.length; at += element.length) content.set(element, at);
    const inner = packed ? [0x0a, ...varint(content.length)] : [];
    const outer = [...varint((frameField << 3) | 2), ...varint(inner.length + content.length)];
    return concatBytes(Uint8Array.from([...outer, ...inner]), content);
  }

  test.each([
    ["recipients of a submit", filled(18, [0x12, 0]), decodeClientFrame],
    ["devices of an identified submit", filled(19, [0x1a, 0]), decodeClientFrame],
    ["envelopes of a Deliver", filled(41, [0x0a, 0]), decodeServiceFrame],
    ["unknown fields", filled(20, [0x38, 1]), decodeClientFrame],
    ["packed versions of a Hello", filled(16, [1], true), (frame: Uint8Array) => decodeClientFrame(frame)],
  ])("%s", (_, frame, decode) => {
    const before = process.memoryUsage().heapUsed;
    const startedAt = process.cpuUsage();
    expect(codeOf(() => decode(frame))).toBe("wire/too-many");
    const { user, system } = process.cpuUsage(startedAt);
    expect((user + system) / 1000).toBeLessThan(100);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(16 * 1024 * 1024);
  });

  test("the largest submit that the limits allow passes", () => {
    const value = body("submit-sealed", "submitSealed");
    const [recipient] = value["recipients"] as [{ devices: [object] }];
    const devices = Array.from({ length: limits.devicesPerAccount }, () => recipient.devices[0]);
    const recipients = Array.from({ length: limits.recipientsPerSubmit }, () => ({ ...recipient, devices }));
    expect(decodeForged("submitSealed", { ...value, recipients })).toBe("accepted");
  });
});

describe("the sender's side", () => {
  const sealed = decodeClientFrame(fromHex(frameVector("submit-sealed").hex!));

  test("nothing leaves that the service would refuse", () => {
    const { body: good } = sealed;
    if (good.kind !== "submitSealed") throw new Error("vector");
    const bad: ClientFrame = { requestId: 1, body: { ...good, recipients: [] } };
    expect(() => encodeClientFrame(bad)).toThrow(UsageError);
    expect(() => encodeClientFrame({ ...sealed, requestId: -1 })).toThrow(UsageError);
    expect(() => encodeClientFrame({ ...sealed, requestId: 2 ** 32 })).toThrow(UsageError);
  });

  test("a decoded value shares no memory with the input", () => {
    const input = fromHex(frameVector("submit-sealed").hex!);
    const { body: before } = decodeClientFrame(input);
    const { body: after } = decodeClientFrame(input);
    input.fill(0);
    expect(after).toEqual(before);
  });
});

test("a refusal names the field and shows nothing of its content", () => {
  const value = body("submit-identified", "submitIdentified");
  setPath(value, "accountId", hex(0xbd, 15));
  try {
    decodeClientFrame(forge("Frame", { submitIdentified: value }));
    expect.unreachable();
  } catch (error) {
    expect(String(error)).toContain("SubmitIdentified.accountId");
    expect(String(error)).not.toMatch(/bd|189/);
  }
});

test("every code that decoding throws is in the table of rejections", () => {
  const codes = ["too-large", "garbage", "unknown-frame", "wrong-direction", "missing-field"];
  for (const code of [...codes, "invalid-field", "field-too-large", "too-many"]) {
    expect(rejectionRow(`wire/${code}`).sentence.length).toBeGreaterThan(10);
  }
});

function setPath(value: Record<string, unknown>, path: string, item: unknown): void {
  const keys = path.split(".");
  const last = keys.pop()!;
  let at: Record<string, unknown> = value;
  for (const key of keys) at = at[key] as Record<string, unknown>;
  at[last] = item;
}

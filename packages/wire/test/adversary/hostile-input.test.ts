import { concatBytes, fromHex, RejectionError, toHex, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  type ClientFrame,
  decodeClientFrame,
  decodeMessage,
  decodeServiceFrame,
  encodeClientFrame,
  encodeServiceFrame,
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
    // request_id 5, then field 127, which no frame has yet, with an empty message.
    const bytes = fromHex("0805fa0700");
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
    ["groupCreate", "group-create", "groupId"],
    ["groupAccess", "group-access", "groupId"],
    ["groupSubmit", "group-submit", "submitId"],
    ["groupCommit", "group-commit-adding", "recipients.0.accountId"],
    ["groupInfoRequest", "group-info-request-link", "link.linkId"],
    ["groupInfoRequest", "group-info-request-link", "link.signature"],
    ["groupInfoRequest", "group-info-request-expected", "expected.credential"],
    ["groupBan", "group-ban", "orderId"],
    ["groupRefuse", "group-refuse", "groupId"],
    ["groupRefuse", "group-refuse", "commitHash"],
  ];
  test.each(ids)("%s (%s): %s must have exactly its length", (kind, vector, path) => {
    const own = { token: 32, commitHash: 32, signature: 64, credential: limits.memberCredentialBytes };
    const length = own[path.split(".").at(-1) as keyof typeof own] ?? 16;
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
    ["KeyPackageUpload", "key-package-upload", "keyPackages.0", limits.keyPackageBytes],
    ["KeyPackageUpload", "key-package-upload", "lastResort", limits.keyPackageBytes],
    [
      "KeyPackageClaimReply",
      "key-package-claim-reply",
      "accounts.0.keyPackages.0.keyPackage",
      limits.keyPackageBytes,
    ],
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

describe("fields of group frames with a size of their own", () => {
  const sizes: ReadonlyArray<readonly [kind: string, vector: string, path: string, limit: number]> = [
    ["groupCreate", "group-create", "groupInfo", limits.groupInfoBytes],
    ["groupCreate", "group-create", "ratchetTree", limits.keyPackageBytes],
    ["groupAccess", "group-access", "signature", limits.mlsSignatureBytes],
    ["groupSubmit", "group-submit", "message", limits.groupMessageBytes],
    ["groupCommit", "group-commit-adding", "commit", limits.groupCommitBytes],
    ["groupCommit", "group-commit-adding", "groupInfo", limits.groupInfoBytes],
    ["groupCommit", "group-commit-adding", "welcome", limits.welcomeBytes],
    ["groupCommit", "group-commit-banning", "banList", limits.banListBytes],
    ["groupPropose", "group-propose", "proposal", limits.groupProposalBytes],
    ["groupInfoRequest", "group-info-request-leaf", "leaf.signatureKey", limits.mlsSignatureKeyBytes],
    ["groupInfoRequest", "group-info-request-leaf", "leaf.signature", limits.mlsSignatureBytes],
    ["groupInfoRequest", "group-info-request-expected", "expected.signatureKey", limits.mlsSignatureKeyBytes],
    ["groupInfoRequest", "group-info-request-expected", "expected.signature", limits.mlsSignatureBytes],
    ["groupBan", "group-ban", "signatureKeys.0", limits.mlsSignatureKeyBytes],
    ["groupBan", "group-ban", "signature", limits.mlsSignatureBytes],
    ["groupRefuse", "group-refuse", "signature", limits.mlsSignatureBytes],
    ["groupEntries", "group-entries-void", "entries.0.void.refusals.0.signature", limits.mlsSignatureBytes],
    ["deliver", "deliver-welcome", "envelopes.0.welcome.welcome", limits.trimmedWelcomeBytes],
    ["deliver", "deliver-welcome", "envelopes.0.welcome.treeHash", limits.treeHashBytes],
    ["groupEntries", "group-entries", "entries.0.application.message", limits.groupMessageBytes],
    ["groupEntries", "group-entries", "entries.1.proposal.proposal", limits.groupProposalBytes],
    ["groupEntries", "group-entries", "entries.2.commit.commit", limits.groupCommitBytes],
    ["groupEntries", "group-entries-ban", "entries.0.commit.banList", limits.banListBytes],
    ["groupCommitLost", "group-commit-lost-own-turn", "proposals.0", limits.groupProposalBytes],
    ["groupTurn", "group-turn-proposals", "proposals.0", limits.groupProposalBytes],
    ["groupInfoReply", "group-info-reply", "groupInfo", limits.groupInfoBytes],
  ];
  test.each(sizes)("%s (%s): %s may not be longer than %i", (kind, vector, path, limit) => {
    const decode = frameVector(vector).from === "client" ? decodeForged : decodeForgedFromService;
    const sized = (size: number): string => {
      const value = body(vector, kind);
      setPath(value, path, hex(5, size));
      return decode(kind, value);
    };
    expect(sized(limit)).toBe("accepted");
    expect(sized(limit + 1)).toBe("wire/field-too-large");
    // Only a ban list may be empty: that lifts the last ban.
    expect(sized(0)).toBe(path.endsWith("banList") ? "accepted" : "wire/missing-field");
  });
});

describe("numbers outside their range", () => {
  test.each([
    ["groupAcknowledge", "group-acknowledge", "throughSequence"],
    ["groupCommit", "group-commit-adding", "turn"],
    ["groupTurnRelease", "group-turn-release", "turn"],
    ["groupRefuse", "group-refuse", "sequence"],
    ["groupEntries", "group-entries-void", "entries.0.void.sequence"],
    ["groupCommitAccepted", "group-commit-accepted", "epoch"],
    ["groupTurn", "group-turn", "turn"],
  ])("%s (%s): %s begins with 1", (kind, vector, path) => {
    const value = body(vector, kind);
    setPath(value, path, 0);
    const decode = frameVector(vector).from === "client" ? decodeForged : decodeForgedFromService;
    expect(decode(kind, value)).toBe("wire/missing-field");
  });

  test("a reason for a turn that nobody knows", () => {
    expect(decodeForgedFromService("groupTurn", { ...body("group-turn", "groupTurn"), reason: 9 })).toBe(
      "wire/invalid-field",
    );
  });

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

describe("lists of group frames longer than their limit", () => {
  const many = (count: number, item: unknown): unknown[] => Array.from({ length: count }, () => item);
  const key = hex(5, 32);
  const [recipient] = body("group-commit-adding", "groupCommit")["recipients"] as [unknown];
  const [entry] = body("group-entries", "groupEntries")["entries"] as [unknown];
  const proposal = "00010001b0b1";

  const lists: ReadonlyArray<
    readonly [kind: string, vector: string, list: string, item: unknown, limit: number, atLeastOne: boolean]
  > = [
    ["groupCommit", "group-commit-adding", "recipients", recipient, limits.addsPerCommit, false],
    ["groupBan", "group-ban", "signatureKeys", key, limits.leavesPerAccount, true],
    ["groupEntries", "group-entries", "entries", entry, limits.entriesPerDeliver, true],
    ["groupCommitLost", "group-commit-lost", "entries", entry, limits.entriesPerCommitLost, false],
    ["groupCommitLost", "group-commit-lost", "proposals", proposal, limits.pendingProposals, false],
    ["groupTurn", "group-turn", "proposals", proposal, limits.pendingProposals, false],
    ["groupTurn", "group-turn", "bannedLeaves", 0xffff_ffff, limits.bannedLeavesPerTurn, false],
  ];
  test.each(lists)("%s (%s): %s", (kind, vector, name, item, limit, atLeastOne) => {
    const decode = frameVector(vector).from === "client" ? decodeForged : decodeForgedFromService;
    const sized = (count: number): string =>
      decode(kind, { ...body(vector, kind), [name]: many(count, item) });
    expect(sized(limit)).toBe("accepted");
    expect(sized(limit + 1)).toBe("wire/too-many");
    expect(sized(0)).toBe(atLeastOne ? "wire/missing-field" : "accepted");
  });

  test("refusals of a void entry: too few are for the reader to judge, and for no decoder", () => {
    const refusal = { leafIndex: 1, signature: hex(5, 64) };
    const sized = (count: number): string => {
      const value = body("group-entries-void", "groupEntries");
      setPath(value, "entries.0.void.refusals", many(count, refusal));
      return decodeForgedFromService("groupEntries", value);
    };
    expect([0, limits.refusalsPerVoid, limits.refusalsPerVoid + 1].map(sized)).toEqual([
      "accepted",
      "accepted",
      "wire/too-many",
    ]);
  });

  test("KeyPackages of an upload, accounts of a claim, devices of a claimed account", () => {
    const upload = messageValue("key-package-upload");
    const uploaded = (count: number): string =>
      decodeForgedMessage("KeyPackageUpload", { ...upload, keyPackages: many(count, "00010005") });
    expect(uploaded(limits.keyPackagesPerUpload)).toBe("accepted");
    expect(uploaded(limits.keyPackagesPerUpload + 1)).toBe("wire/too-many");

    const claimed = (count: number): string =>
      decodeForgedMessage("KeyPackageClaimRequest", { accountIds: many(count, hex(0xa1, 16)) });
    expect(claimed(limits.accountsPerClaim)).toBe("accepted");
    expect(claimed(limits.accountsPerClaim + 1)).toBe("wire/too-many");
    expect(claimed(0)).toBe("wire/missing-field");

    const account = { accountId: hex(0xa1, 16), devicesWithout: [1, 2, 3, 4, 5, 6] };
    expect(decodeForgedMessage("KeyPackageClaimReply", { accounts: [account] })).toBe("wire/too-many");
  });
});

describe("of some fields exactly one", () => {
  const entries = (entry: object) => ({ groupId: hex(0x91, 16), entries: [entry], lastSequence: 9 });
  const at = { sequence: 9, serverTimeMs: 9 };

  test("an entry of a log has a content", () => {
    expect(decodeForgedFromService("groupEntries", entries(at))).toBe("wire/missing-field");
    expect(decodeForgedFromService("groupEntries", entries({ ...at, void: { sequence: 8 } }))).toBe(
      "accepted",
    );
  });

  test("of two contents on the wire the last one counts, as protobuf has it", () => {
    const sized = (field: string, content: string): string =>
      `${field}${(content.length / 2).toString(16).padStart(2, "0")}${content}`;
    const message = sized("8201", sized("0a", "00"));
    const voided = sized("9a01", "0808");
    const decoded = (contents: string): unknown => {
      const inner = sized("0a", hex(0x91, 16)) + sized("12", `08091009${contents}`);
      return decodeServiceFrame(fromHex(sized("9206", `${inner}1809`))).body;
    };
    expect(decoded(message + voided)).toMatchObject({ entries: [{ ...at, void: { sequence: 8 } }] });
    expect(decoded(message + voided)).not.toHaveProperty("entries.0.application");
    expect(decoded(voided + message)).not.toHaveProperty("entries.0.void");
  });

  test("an entry of a lost race has a content, and a turn its time", () => {
    const lost = body("group-commit-lost-own-turn", "groupCommitLost");
    expect(decodeForgedFromService("groupCommitLost", lost)).toBe("accepted");
    expect(decodeForgedFromService("groupCommitLost", { ...lost, entries: [at] })).toBe("wire/missing-field");
    const { turn: _, ...withoutTurn } = lost;
    expect(decodeForgedFromService("groupCommitLost", withoutTurn)).toBe("wire/missing-field");
    const { turnExpiresInMs: __, ...withoutTime } = lost;
    expect(decodeForgedFromService("groupCommitLost", withoutTime)).toBe("wire/missing-field");
  });

  test("who asks for a GroupInfo brings one proof", () => {
    const { leaf } = body("group-info-request-leaf", "groupInfoRequest");
    const { link } = body("group-info-request-link", "groupInfoRequest");
    const asked = (proofs: object): string =>
      decodeForged("groupInfoRequest", { groupId: hex(0x91, 16), ...proofs });
    expect(asked({ leaf })).toBe("accepted");
    expect(asked({ link })).toBe("accepted");
    const { expected } = body("group-info-request-expected", "groupInfoRequest");
    expect(asked({ expected })).toBe("accepted");
    for (const two of [
      { leaf, link },
      { leaf, expected },
      { link, expected },
    ])
      expect(asked(two)).toBe("wire/missing-field");
    expect(asked({ leaf, link, expected })).toBe("wire/missing-field");
    expect(asked({})).toBe("wire/missing-field");
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

  /** Sixteen thousand numbers in one packed piece of field 1. */
  const piece = [0x0a, 0x80, 0x7d, ...Array.from({ length: 16_000 }, () => 1)];

  test.each([
    ["recipients of a submit", filled(18, [0x12, 0]), decodeClientFrame],
    ["devices of an identified submit", filled(19, [0x1a, 0]), decodeClientFrame],
    ["envelopes of a Deliver", filled(41, [0x0a, 0]), decodeServiceFrame],
    ["entries of a GroupEntries", filled(98, [0x12, 0]), decodeServiceFrame],
    ["proposals of a GroupTurn", filled(103, [0x2a, 0]), decodeServiceFrame],
    ["recipients of a GroupCommit", filled(68, [0x2a, 0]), decodeClientFrame],
    ["signature keys of a GroupBan", filled(72, [0x22, 0]), decodeClientFrame],
    ["unknown fields", filled(20, [0x38, 1]), decodeClientFrame],
    ["packed versions of a Hello", filled(16, [1], true), (frame: Uint8Array) => decodeClientFrame(frame)],
    ["versions of a Hello in many packed pieces", filled(16, piece), decodeClientFrame],
    [
      "banned leaves of a GroupTurn in many packed pieces",
      filled(103, [0x32, ...piece.slice(1)]),
      decodeServiceFrame,
    ],
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
    const asked = decodeClientFrame(fromHex(frameVector("group-info-request-leaf").hex!));
    if (asked.body.kind !== "groupInfoRequest") throw new Error("vector");
    const { leaf: _, ...withoutProof } = asked.body;
    expect(() => encodeClientFrame({ requestId: 1, body: withoutProof })).toThrow(UsageError);
    const entry = { sequence: 1, serverTimeMs: 1 };
    const entries = { kind: "groupEntries", groupId: withoutProof.groupId, lastSequence: 1 } as const;
    expect(() => encodeServiceFrame({ requestId: 0, body: { ...entries, entries: [entry] } })).toThrow(
      UsageError,
    );
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

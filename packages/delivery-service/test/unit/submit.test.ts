import { type AccountId, accountId, type DeviceId, groupId, submitId } from "@murmuration/base";
import type { SealedRecipient, SubmitSealed } from "@murmuration/wire";
import { describe, expect, it } from "vitest";
import { decideIdentifiedSubmit, decideSealedSubmit, fullMailboxes, sha256 } from "../../src/core/submit.ts";
import type { AccountRecord } from "../../src/ports/accounts.ts";
import type { GroupRecord } from "../../src/ports/group-records.ts";

const bytes = (length: number, fill: number) => new Uint8Array(length).fill(fill);
const id = (n: number): AccountId => accountId(bytes(16, n));
const key = (n: number) => bytes(16, 100 + n);

/** Registration id of a device that has not uploaded its prekeys. */
const KEYLESS = 99;

/** Account n with devices of these registration ids. */
function account(n: number, registrations: Readonly<Record<number, number>>): AccountRecord {
  return {
    accountId: id(n),
    accountIdentityKey: bytes(33, n),
    accessKeyHash: sha256(key(n)),
    profile: bytes(0, 0),
    deviceList: { version: 1, bytes: bytes(1, 1) },
    devices: Object.entries(registrations).map(([deviceId, registrationId]) => ({
      deviceId: Number(deviceId) as DeviceId,
      registrationId,
      identityKey: bytes(33, 1),
      tokenHash: bytes(32, 1),
      lastSeenDay: 1,
      hasKeys: registrationId !== KEYLESS,
    })),
  };
}

function to(n: number, registrations: Readonly<Record<number, number>>, accessKey = key(n)): SealedRecipient {
  return {
    accountId: id(n),
    accessKey,
    devices: Object.entries(registrations).map(([deviceId, registrationId]) => ({
      deviceId: Number(deviceId) as DeviceId,
      registrationId,
      ciphertext: bytes(5, n),
    })),
  };
}

const submit = (recipients: SealedRecipient[], given: Partial<SubmitSealed> = {}): SubmitSealed => ({
  submitId: submitId(bytes(16, 1)),
  recipients,
  ephemeral: false,
  ...given,
});

const nothing = {
  unknownAccount: false,
  missingDevices: [],
  extraDevices: [],
  staleDevices: [],
  accessDenied: false,
  mailboxFull: false,
};

describe("decide on a sealed submit", () => {
  it("stores one envelope for each device, without a source", () => {
    const accounts = [account(1, { 1: 7 }), account(2, { 1: 8, 3: 9 })];
    const decision = decideSealedSubmit(
      { accounts, group: undefined },
      submit([to(1, { 1: 7 }), to(2, { 1: 8, 3: 9 })]),
    );
    expect(decision).toEqual({
      kind: "store",
      envelopes: [
        { recipient: { accountId: id(1), deviceId: 1 }, ciphertext: bytes(5, 1), source: undefined },
        { recipient: { accountId: id(2), deviceId: 1 }, ciphertext: bytes(5, 2), source: undefined },
        { recipient: { accountId: id(2), deviceId: 3 }, ciphertext: bytes(5, 2), source: undefined },
      ],
    });
  });

  it.each([
    ["a missing device", account(1, { 1: 7, 2: 8 }), to(1, { 1: 7 }), { missingDevices: [2] }],
    ["an extra device", account(1, { 1: 7 }), to(1, { 1: 7, 4: 8 }), { extraDevices: [4] }],
    ["a stale device", account(1, { 1: 7 }), to(1, { 1: 6 }), { staleDevices: [1] }],
    ["no account", undefined, to(1, { 1: 7 }), { unknownAccount: true }],
    ["a wrong access key", account(1, { 1: 7 }), to(1, { 1: 7 }, key(9)), { accessDenied: true }],
    ["a wrong key hides the devices", account(1, { 1: 7 }), to(1, { 2: 1 }, key(9)), { accessDenied: true }],
  ])("one recipient with %s holds back the whole", (_, record, recipient, complaint) => {
    const good = account(2, { 1: 1 });
    const snapshot = { accounts: [good, record], group: undefined };
    expect(decideSealedSubmit(snapshot, submit([to(2, { 1: 1 }), recipient]))).toEqual({
      kind: "mismatch",
      accounts: [{ ...nothing, accountId: id(1), ...complaint }],
    });
  });

  it("a device without prekeys may be left out, and may be addressed", () => {
    const snapshot = { accounts: [account(1, { 1: 7, 2: KEYLESS })], group: undefined };
    expect(decideSealedSubmit(snapshot, submit([to(1, { 1: 7 })])).kind).toBe("store");
    expect(decideSealedSubmit(snapshot, submit([to(1, { 1: 7, 2: KEYLESS })])).kind).toBe("store");
  });

  it("a group's submit needs the fence of its present generation", () => {
    const group = {
      groupId: groupId(bytes(16, 5)),
      revision: 3,
      blob: bytes(1, 1),
      accessPublicKey: bytes(32, 1),
      fence: bytes(16, 6),
      lastUsedDay: 1,
      migration: undefined,
    };
    const decide = (stored: GroupRecord | undefined, fence: number) =>
      decideSealedSubmit(
        { accounts: [account(1, { 1: 7 })], group: stored },
        submit([to(1, { 1: 7 })], { fence: { groupId: group.groupId, fence: bytes(16, fence) } }),
      ).kind;
    expect(decide(group, 6)).toBe("store");
    expect(() => decide(group, 7)).toThrow("submit/fence-outdated");
    expect(() => decide(undefined, 6)).toThrow("submit/fence-outdated");
    const moving = { generation: 1, lease: undefined, sinceMs: 0, startedMs: 0 };
    for (const state of ["pairwise", "preparing", "ready"] as const) {
      expect(decide({ ...group, migration: { ...moving, state } }, 6)).toBe("store");
    }
    for (const state of ["switching", "mls", "recovering"] as const) {
      expect(() => decide({ ...group, migration: { ...moving, state } }, 6)).toThrow("submit/fence-outdated");
    }
  });

  it("refuses a recipient or a device named twice", () => {
    const accounts = [account(1, { 1: 7 }), account(1, { 1: 7 })];
    const twice = submit([to(1, { 1: 7 }), to(1, { 1: 7 })]);
    expect(() => decideSealedSubmit({ accounts, group: undefined }, twice)).toThrow(
      "submit/duplicate-recipient",
    );
  });
});

describe("decide on a message request", () => {
  const sender = { accountId: id(8), deviceId: 1 as DeviceId };
  it("names the sender in every envelope", () => {
    const { devices, accountId: recipient } = to(1, { 1: 7, 2: 8 });
    const request = { submitId: submitId(bytes(16, 1)), accountId: recipient, devices };
    const decision = decideIdentifiedSubmit(account(1, { 1: 7, 2: 8 }), request, sender);
    expect(decision).toMatchObject({ kind: "store", envelopes: [{ source: sender }, { source: sender }] });
    expect(decideIdentifiedSubmit(undefined, request, sender)).toMatchObject({ kind: "mismatch" });
  });

  it("to the own account it goes to the other devices, and the sending one is none of them", () => {
    const own = account(1, { 1: 7, 2: 8, 3: 9 });
    const me = { accountId: id(1), deviceId: 1 as DeviceId };
    const decide = (registrations: Readonly<Record<number, number>>) => {
      const { devices } = to(1, registrations);
      return decideIdentifiedSubmit(own, { submitId: submitId(bytes(16, 1)), accountId: id(1), devices }, me);
    };
    expect(decide({ 2: 8, 3: 9 })).toMatchObject({ kind: "store", envelopes: [{}, {}] });
    expect(decide({ 2: 8 })).toMatchObject({ kind: "mismatch", accounts: [{ missingDevices: [3] }] });
    expect(decide({ 1: 7, 2: 8, 3: 9 })).toMatchObject({
      kind: "mismatch",
      accounts: [{ extraDevices: [1] }],
    });
  });
});

it("an account is named once as full, however many of its mailboxes are, and nothing else is said of it", () => {
  const device = (n: number, deviceId: number) => ({ accountId: id(n), deviceId: deviceId as DeviceId });
  expect(fullMailboxes([device(1, 1), device(2, 1), device(1, 2)])).toEqual([
    { ...nothing, accountId: id(1), mailboxFull: true },
    { ...nothing, accountId: id(2), mailboxFull: true },
  ]);
});

import { accountId, UnavailableError } from "@murmuration/base";
import { expect, test } from "vitest";
import { backoffMs } from "../../src/core/backoff.ts";
import { acceptsFormerMember, decideEntry, isConfirmed, mayConfirm } from "../../src/core/delivery.ts";
import { decideOnAnswer, decideOnFailure } from "../../src/core/outbox-decision.ts";
import { decideAtHello, deviceWasRestored } from "../../src/core/recovery-decision.ts";
import { isTemporary, refusalOf, ServiceRefusal } from "../../src/core/refusal.ts";
import { decideProtocol } from "../../src/core/routing.ts";

const account = accountId(new Uint8Array(16).fill(1));
const refusal = (
  code: string,
  action: ConstructorParameters<typeof ServiceRefusal>[0]["action"],
  retryAfterMs?: number,
) => new ServiceRefusal(retryAfterMs === undefined ? { code, action } : { code, action, retryAfterMs });

test("a group becomes MLS at the threshold and never goes back", () => {
  const decide = (protocol: "pairwise" | "mls", projectedMembers: number) =>
    decideProtocol({ protocol, projectedMembers, mlsThreshold: 256 });
  expect([255, 256, 257].map((n) => decide("pairwise", n))).toEqual(["pairwise", "mls", "mls"]);
  expect([255, 2].map((n) => decide("mls", n))).toEqual(["mls", "mls"]);
});

test("a pause grows with the attempts, is random, and has an upper bound", () => {
  const random = (value: number) => new Uint8Array([value, 255, 255, 255]);
  expect([0, 1, 2].map((attempt) => backoffMs(attempt, 100, 10_000, random(255)))).toEqual([100, 200, 400]);
  expect(backoffMs(50, 100, 10_000, random(255))).toBe(10_000);
  expect(backoffMs(3, 100, 10_000, new Uint8Array(4))).toBe(0);
});

test("each answer to a submit leads to acceptance, repair, another try, or a failure that is shown", () => {
  expect(decideOnAnswer({ kind: "submitAccepted", serverTimeMs: 1, repeatedSubmit: true })).toEqual({
    kind: "accepted",
  });
  const none = {
    unknownAccount: false,
    missingDevices: [],
    extraDevices: [],
    staleDevices: [],
    accessDenied: false,
    mailboxFull: false,
  };
  const mismatch = (fields: object) =>
    decideOnAnswer({
      kind: "submitMismatch",
      accounts: [{ accountId: account, ...none, ...fields }],
    } as never);
  expect(mismatch({ unknownAccount: true })).toMatchObject({ kind: "repair", repairs: [{ kind: "gone" }] });
  expect(mismatch({ accessDenied: true })).toMatchObject({ repairs: [{ kind: "access-denied" }] });
  expect(mismatch({ mailboxFull: true })).toMatchObject({ repairs: [{ kind: "mailbox-full" }] });
  expect(mismatch({ missingDevices: [2], extraDevices: [3], staleDevices: [4] })).toMatchObject({
    repairs: [{ kind: "devices", fetch: [2, 4], forget: [3, 4] }],
  });
  expect(decideOnFailure(new UnavailableError("connection/lost"))).toEqual({ kind: "reconnect" });
  expect(decideOnFailure(refusal("submit/fence-outdated", "fix-and-resend"))).toEqual({
    kind: "refresh-group",
  });
  expect(decideOnFailure(refusal("rate/limited", "retry-later", 70))).toEqual({ kind: "again", afterMs: 70 });
  expect(decideOnFailure(refusal("some/younger-code", "give-up"))).toEqual({
    kind: "failed",
    code: "some/younger-code",
  });
  expect(() => decideOnFailure(new TypeError("a bug"))).toThrow(TypeError);
});

test("a hello shows whether the service or the device has gone back", () => {
  const facts = { knownStore: "a", store: "a", cursor: 7, lastEnvelopeId: 7 };
  expect(decideAtHello(facts)).toEqual({ kind: "in-step" });
  expect(decideAtHello({ ...facts, knownStore: undefined })).toEqual({ kind: "in-step" });
  expect(decideAtHello({ ...facts, store: "b" })).toEqual({ kind: "service-lost", cursor: 0 });
  expect(decideAtHello({ ...facts, lastEnvelopeId: 3 })).toEqual({ kind: "service-lost", cursor: 3 });
  expect(decideAtHello({ ...facts, lastEnvelopeId: 8 })).toEqual({ kind: "look-first" });
  expect(decideAtHello({ ...facts, lastEnvelopeId: undefined })).toEqual({ kind: "in-step" });
  expect(decideAtHello({ ...facts, cursor: undefined })).toEqual({ kind: "in-step" });
  expect(decideAtHello({ ...facts, cursor: undefined, store: "b" })).toEqual({
    kind: "service-lost",
    cursor: 0,
  });
  expect([deviceWasRestored(7, 8), deviceWasRestored(7, 9), deviceWasRestored(7, undefined)]).toEqual([
    false,
    true,
    true,
  ]);
});

test("requests get no receipts, messages do, and receipts are not confirmed", () => {
  expect(decideEntry({ accepted: false, acceptUnknown: false })).toBe("request");
  expect(decideEntry({ accepted: true, acceptUnknown: false })).toBe("active");
  expect(mayConfirm("request")).toBe(false);
  expect([
    isConfirmed("text"),
    isConfirmed("groupKey"),
    isConfirmed("receipt"),
    isConfirmed("typing"),
  ]).toEqual([true, true, false, false]);
  expect([acceptsFormerMember(5, 9), acceptsFormerMember(10, 9), acceptsFormerMember(1, undefined)]).toEqual([
    true,
    false,
    false,
  ]);
});

test("an answer that is no rejection counts as a service that does not answer", () => {
  expect(refusalOf(502, new Uint8Array([1, 2, 3]))).toBeInstanceOf(UnavailableError);
  expect(isTemporary(refusal("rate/limited", "retry-later"))).toBe(true);
  expect(isTemporary(refusal("accounts/unknown", "give-up"))).toBe(false);
});

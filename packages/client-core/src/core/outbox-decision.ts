/**
 * What becomes of a submit, decided from the service's answer alone. Nothing here is allowed to lose a message:
 * every answer leads to sending again, to repair, or to a failure that the user sees.
 */
import { type AccountId, type DeviceId, deviceId, UnavailableError } from "@murmuration/base";
import type { AccountMismatch, ServiceBody } from "@murmuration/wire";
import { ServiceRefusal } from "./refusal.ts";

/** What has to be put right about one recipient before its ciphertexts are made anew. */
export interface Repair {
  readonly account: AccountId;
  readonly kind: "gone" | "access-denied" | "mailbox-full" | "devices";
  /** Need a bundle: not addressed, or registered anew. */
  readonly fetch: readonly DeviceId[];
  /** Sessions to forget: gone, or registered anew. */
  readonly forget: readonly DeviceId[];
}

export type SubmitDecision =
  | { readonly kind: "accepted" }
  /** Take these recipients out of the submit, repair them, encrypt for them again; send the rest. */
  | { readonly kind: "repair"; readonly repairs: readonly Repair[] }
  /** The group's generation changed: read the record, then fit the submit to its members. */
  | { readonly kind: "refresh-group" }
  /** The same bytes again, after this time. */
  | { readonly kind: "again"; readonly afterMs: number }
  /** The same bytes again once there is a connection. */
  | { readonly kind: "reconnect" }
  | { readonly kind: "failed"; readonly code: string };

const RETRY_LATER_MS = 1_000;

/** The decision on an answer. */
export function decideOnAnswer(body: ServiceBody): SubmitDecision {
  if (body.kind === "submitAccepted") return { kind: "accepted" };
  if (body.kind === "submitMismatch") return { kind: "repair", repairs: body.accounts.map(repairOf) };
  return { kind: "reconnect" };
}

/** The decision on a refused or unanswered submit. Errors of other kinds are bugs and thrown. */
export function decideOnFailure(error: unknown): SubmitDecision {
  if (error instanceof UnavailableError) return { kind: "reconnect" };
  if (!(error instanceof ServiceRefusal)) throw error;
  if (error.code === "submit/fence-outdated") return { kind: "refresh-group" };
  switch (error.action) {
    case "retry":
      return { kind: "again", afterMs: error.retryAfterMs ?? 0 };
    case "retry-later":
      return { kind: "again", afterMs: error.retryAfterMs ?? RETRY_LATER_MS };
    case "re-register":
      return { kind: "reconnect" };
    default:
      return { kind: "failed", code: error.code };
  }
}

function repairOf(mismatch: AccountMismatch): Repair {
  const { accountId: account } = mismatch;
  if (mismatch.unknownAccount) return { account, kind: "gone", fetch: [], forget: [] };
  if (mismatch.accessDenied) return { account, kind: "access-denied", fetch: [], forget: [] };
  if (mismatch.mailboxFull) return { account, kind: "mailbox-full", fetch: [], forget: [] };
  return {
    account,
    kind: "devices",
    fetch: [...mismatch.missingDevices, ...mismatch.staleDevices].map(deviceId),
    forget: [...mismatch.extraDevices, ...mismatch.staleDevices].map(deviceId),
  };
}

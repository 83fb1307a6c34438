import { type Bytes, RejectionError, UnavailableError } from "@murmuration/base";
import { type Action, decodeMessage, type Rejection, rejection } from "@murmuration/wire";

/** What the service refused, with what it advises. The code is the service's. */
export class ServiceRefusal extends RejectionError {
  readonly action: Action;
  readonly retryAfterMs: number | undefined;
  constructor(refusal: Rejection) {
    super(refusal.code);
    this.action = refusal.action;
    this.retryAfterMs = refusal.retryAfterMs;
  }
}

const MAX_REJECTION_BYTES = 1024;

/** The refusal in the body of an HTTP answer from 400 on; something that is no rejection counts as unavailable. */
export function refusalOf(status: number, body: Bytes): ServiceRefusal | UnavailableError {
  if (status < 400) return new UnavailableError("service/unexpected-status");
  try {
    return new ServiceRefusal(decodeMessage(rejection, body, MAX_REJECTION_BYTES));
  } catch {
    // A proxy on the way answers in its own words.
    return new UnavailableError("service/not-answering");
  }
}

/** True where the same request makes sense a little later. */
export function isTemporary(error: unknown): boolean {
  if (error instanceof UnavailableError) return true;
  return error instanceof ServiceRefusal && (error.action === "retry" || error.action === "retry-later");
}

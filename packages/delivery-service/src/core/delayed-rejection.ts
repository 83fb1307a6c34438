import { RejectionError } from "@murmuration/base";

/** A refusal that the same request gets past after a while. */
export class DelayedRejection extends RejectionError {
  readonly retryAfterMs: number;
  constructor(code: string, retryAfterMs: number) {
    super(code);
    this.retryAfterMs = retryAfterMs;
  }
}

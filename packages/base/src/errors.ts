/**
 * The five kinds of errors. Each carries a stable `code` of the form `area/what-happened`; a message never
 * holds bytes, keys, names or plaintext. The fifth kind, DecisionNeeded, is an event and not an exception.
 */
export abstract class MurmurationError extends Error {
  readonly code: string;
  constructor(code: string, explanation?: string) {
    super(explanation === undefined ? code : `${code}: ${explanation}`);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The caller broke a rule of the API. Thrown, never caught inside the project. */
export class UsageError extends MurmurationError {}

/** Bytes or a request of another party are invalid. Caught at one boundary per package. */
export class RejectionError extends MurmurationError {}

/** A service or resource does not answer; a retry makes sense. */
export class UnavailableError extends MurmurationError {}

/** Our own bug: a state that the code promises cannot arise. */
export class InvariantError extends MurmurationError {}

/** What a boundary returns for a RejectionError. */
export interface Rejected {
  readonly kind: "rejected";
  readonly code: string;
}

/** A question that only the application or its user can answer. Delivered as an event. */
export interface DecisionNeeded {
  readonly kind: "decision-needed";
  readonly code: string;
}

/** Turns a RejectionError into a value and lets every other error pass: the one boundary per package. */
export function rejected(error: unknown): Rejected {
  if (error instanceof RejectionError) return { kind: "rejected", code: error.code };
  throw error;
}

/** Throws a RejectionError with this code unless the condition holds. */
export function refuseUnless(condition: boolean, code: string): asserts condition {
  if (!condition) throw new RejectionError(code);
}

/** Throws an InvariantError with this code unless the condition holds. */
export function invariant(condition: boolean, code: string): asserts condition {
  if (!condition) throw new InvariantError(code);
}

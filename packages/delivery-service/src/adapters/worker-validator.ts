import { Worker } from "node:worker_threads";
import { InvariantError, RejectionError, UnavailableError } from "@murmuration/base";
import type { CommitValidator, FollowerSource } from "../ports/commit-validator.ts";
import { type Order, type Question, type Respondent, validatorOver } from "./follower-questions.ts";

/** A message to the thread. `source` is there when the follower was not. */
export type ToWorker =
  | { readonly id: number; readonly question: Question; readonly source: FollowerSource | undefined }
  | { readonly order: Order };

/** The thread's answer to one question. */
export type FromWorker =
  | { readonly id: number; readonly kind: "value"; readonly value: unknown; readonly followers: number }
  | { readonly id: number; readonly kind: "not-loaded" }
  | {
      readonly id: number;
      readonly kind: "error";
      readonly name: string;
      readonly code: string;
      readonly text: string;
    };

export interface WorkerValidatorOptions {
  /** Memory for followers, bytes. */
  readonly budgetBytes: number;
  /** A question that is not answered after this time ends the thread. */
  readonly timeoutMs: number;
  readonly report: {
    /** The thread has this many followers in its memory. */
    readonly followers: (count: number) => void;
    /** The thread ended, and is started again when it is needed. */
    readonly ended: (cause: "error" | "exit" | "timeout") => void;
  };
}

interface Pending {
  readonly resolve: (answer: FromWorker) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** The sources run as they are in development and tests; a build has JavaScript beside this file. */
const EXTENSION = import.meta.url.endsWith(".ts") ? "ts" : "js";
const EXEC_ARGV =
  EXTENSION === "ts"
    ? [
        "--conditions=@murmuration/source",
        "--experimental-strip-types",
        "--disable-warning=ExperimentalWarning",
      ]
    : [];

/**
 * {@link CommitValidator} in a thread of its own, so that no validation holds the event loop up. A thread that dies
 * takes only a cache with it: what it was asked is answered `validator/unavailable`. The first question starts the
 * thread, which takes about a second, and so does the next one after its end.
 */
export function createWorkerValidator(options: WorkerValidatorOptions): CommitValidator {
  return validatorOver(new ValidatorThread(options));
}

class ValidatorThread implements Respondent {
  private readonly options: WorkerValidatorOptions;
  private readonly pending = new Map<number, Pending>();
  private worker: Worker | undefined;
  private lastId = 0;
  private closed = false;

  constructor(options: WorkerValidatorOptions) {
    this.options = options;
  }

  async ask(question: Question, load?: () => Promise<FollowerSource>): Promise<unknown> {
    const answer = await this.send(question, undefined);
    if (answer.kind !== "not-loaded" || load === undefined) return contentOf(answer);
    return contentOf(await this.send(question, await load()));
  }

  tell(order: Order): void {
    const message: ToWorker = { order };
    this.worker?.postMessage(message);
  }

  async close(): Promise<void> {
    this.closed = true;
    const { worker } = this;
    this.lost(worker, "exit");
    await worker?.terminate();
  }

  private send(question: Question, source: FollowerSource | undefined): Promise<FromWorker> {
    if (this.closed) return Promise.reject(new UnavailableError("validator/unavailable"));
    this.worker ??= this.start();
    const { worker } = this;
    const id = ++this.lastId;
    const message: ToWorker = { id, question, source };
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.lost(worker, "timeout");
        void worker.terminate();
      }, this.options.timeoutMs);
      this.pending.set(id, { resolve, reject, timer });
      worker.postMessage(message);
    });
  }

  private start(): Worker {
    const entry = new URL(`./validator-worker.${EXTENSION}`, import.meta.url);
    const { budgetBytes } = this.options;
    const worker = new Worker(entry, { workerData: { budgetBytes }, execArgv: EXEC_ARGV });
    worker.on("message", (answer: FromWorker) => this.answered(answer));
    worker.on("error", () => this.lost(worker, "error"));
    worker.on("exit", () => this.lost(worker, "exit"));
    return worker;
  }

  private answered(answer: FromWorker): void {
    const waiting = this.pending.get(answer.id);
    this.pending.delete(answer.id);
    clearTimeout(waiting?.timer);
    if (answer.kind === "value") this.options.report.followers(answer.followers);
    waiting?.resolve(answer);
  }

  private lost(worker: Worker | undefined, cause: "error" | "exit" | "timeout"): void {
    if (worker === undefined || this.worker !== worker) return;
    this.worker = undefined;
    for (const { reject, timer } of this.pending.values()) {
      clearTimeout(timer);
      reject(new UnavailableError("validator/unavailable"));
    }
    this.pending.clear();
    this.options.report.followers(0);
    if (!this.closed) this.options.report.ended(cause);
  }
}

function contentOf(answer: FromWorker): unknown {
  if (answer.kind === "value") return answer.value;
  if (answer.kind === "not-loaded") throw new InvariantError("validator/not-loaded");
  const { name, code, text } = answer;
  // The explanation of a refusal is the engine's code: never input.
  const explanation = text.startsWith(`${code}: `) ? text.slice(code.length + 2) : undefined;
  if (name === "RejectionError") throw new RejectionError(code, explanation);
  if (name === "UnavailableError") throw new UnavailableError(code, explanation);
  throw new InvariantError(code, explanation);
}

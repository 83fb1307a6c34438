import { Worker } from "node:worker_threads";
import { InvariantError, RejectionError, toHex, UnavailableError } from "@murmuration/base";
import { FairQueue } from "../core/fair-queue.ts";
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
  /** A question on which the thread works for longer ends it. What waits for the thread has no such time. */
  readonly timeoutMs: number;
  readonly report: {
    /** The thread has this many followers in its memory. */
    readonly followers: (count: number) => void;
    /** The thread ended, and is started again when it is needed. */
    readonly ended: (cause: "error" | "exit" | "timeout") => void;
  };
}

interface Pending {
  readonly message: Exclude<ToWorker, { readonly order: Order }>;
  readonly resolve: (answer: FromWorker) => void;
  readonly reject: (error: Error) => void;
}

/** Questions that wait for the thread: room for a group of 10,000 that comes back at once. */
const MAX_WAITING = { perKey: 20_000, total: 50_000 };

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
 * thread, which takes about a second, and so does the next one after its end. It gets one question at a time, from one
 * group after the other; what finds no room is answered `validator/overloaded`.
 */
export function createWorkerValidator(options: WorkerValidatorOptions): CommitValidator {
  return validatorOver(new ValidatorThread(options));
}

class ValidatorThread implements Respondent {
  private readonly options: WorkerValidatorOptions;
  private readonly waiting = new FairQueue<Pending>(MAX_WAITING);
  private asked: (Pending & { readonly timer: NodeJS.Timeout }) | undefined;
  private readonly loading = new Map<string, Promise<boolean>>();
  private worker: Worker | undefined;
  private lastId = 0;
  private closed = false;

  constructor(options: WorkerValidatorOptions) {
    this.options = options;
  }

  async ask(question: Question, load?: () => Promise<FollowerSource>): Promise<unknown> {
    const key = keyOf(question);
    for (let isLoaded = true; ; ) {
      if (isLoaded) {
        const answer = await this.send(question, undefined);
        if (answer.kind !== "not-loaded" || load === undefined) return contentOf(answer);
      }
      const loading = this.loading.get(key);
      if (loading === undefined) return contentOf(await this.askWith(key, question, load!));
      isLoaded = await loading;
    }
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
    const message = { id: ++this.lastId, question, source };
    return new Promise((resolve, reject) => {
      if (this.waiting.add(groupOf(question), { message, resolve, reject })) this.next();
      else reject(new UnavailableError("validator/overloaded"));
    });
  }

  /** Gives the thread its next question, and from now on the time for it. */
  private next(): void {
    const next = this.asked === undefined ? this.waiting.take() : undefined;
    if (next === undefined) return;
    this.worker ??= this.start();
    const { worker } = this;
    const timer = setTimeout(() => {
      this.lost(worker, "timeout");
      void worker.terminate();
    }, this.options.timeoutMs);
    this.asked = { ...next, timer };
    worker.postMessage(next.message satisfies ToWorker);
  }

  /**
   * What many questions about one epoch lack is loaded by the first of them; the others ask again once it was answered. They
   * fail with it where the engine or the thread does. What it alone was refused, they try for themselves, and do not ask again before.
   */
  private askWith(key: string, question: Question, load: () => Promise<FollowerSource>): Promise<FromWorker> {
    const asked = load().then((source) => this.send(question, source));
    const loading = asked
      .then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof RejectionError)) throw error;
          return false;
        },
      )
      .finally(() => this.loading.delete(key));
    // Perhaps nobody waits.
    loading.catch(() => {});
    this.loading.set(key, loading);
    return asked;
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
    const { asked } = this;
    if (asked?.message.id !== answer.id) return;
    clearTimeout(asked.timer);
    this.asked = undefined;
    if (answer.kind === "value") this.options.report.followers(answer.followers);
    asked.resolve(answer);
    this.next();
  }

  private lost(worker: Worker | undefined, cause: "error" | "exit" | "timeout"): void {
    if (worker === undefined || this.worker !== worker) return;
    this.worker = undefined;
    clearTimeout(this.asked?.timer);
    for (let each: Pending | undefined = this.asked; each !== undefined; each = this.waiting.take()) {
      each.reject(new UnavailableError("validator/unavailable"));
    }
    this.asked = undefined;
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

const TREE_QUESTIONS: ReadonlySet<Question["name"]> = new Set(["pastLeaf", "parties", "compressedTree"]);

/** Groups that are only being created share one place. */
const groupOf = (question: Question): string => ("at" in question ? toHex(question.at.groupId) : "");
/**
 * What a question lacks, by group and epoch. Those about an epoch that may be over load its tree and no GroupInfo, which is
 * too little for a follower.
 */
const keyOf = (question: Question): string => {
  if (!("at" in question)) return "";
  const asksTree = TREE_QUESTIONS.has(question.name);
  const { commitSequence, epoch, groupId } = question.at;
  return `${asksTree ? "tree" : "follower"} ${toHex(groupId)} ${epoch} ${commitSequence}`;
};

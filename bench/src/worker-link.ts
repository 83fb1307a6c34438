/** A process of its own that answers requests one after the other, so that its CPU is what they cost. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { median } from "./median.ts";

interface Request {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

type Answer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly failure: string }
  | { readonly note: string };

/** The side that asks. */
export class WorkerLink {
  private readonly child: ChildProcess;
  private readonly waiting = new Map<
    number,
    { done: (result: never) => void; failed: (error: Error) => void }
  >();
  private readonly what: string;
  private lastId = 0;
  private hasEnded = false;
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  /** Called with what the process says while it works. */
  onNote: (note: string) => void = () => {};

  constructor(entry: URL, what: string, execArgv: readonly string[] = []) {
    this.what = what;
    this.child = fork(fileURLToPath(entry), [], {
      execArgv: [...process.execArgv, ...execArgv],
      serialization: "advanced",
    });
    this.child.on("message", (answer: Answer) => this.answered(answer));
    this.ended = new Promise((resolve) => {
      this.child.on("exit", () => {
        this.end(`the process of ${what} ended`);
        resolve();
      });
    });
  }

  private answered(answer: Answer): void {
    if ("note" in answer) {
      this.onNote(answer.note);
      return;
    }
    const waiting = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    if ("failure" in answer) waiting?.failed(new Error(`${this.what}: ${answer.failure}`));
    else waiting?.done(answer.result as never);
  }

  private end(why: string): void {
    this.hasEnded = true;
    for (const { failed } of this.waiting.values()) failed(new Error(why));
    this.waiting.clear();
  }

  request<T>(name: string, argument?: unknown): Promise<T> {
    return new Promise((done, failed) => {
      if (this.hasEnded) {
        failed(new Error(`the process of ${this.what} ended`));
        return;
      }
      const id = ++this.lastId;
      this.waiting.set(id, { done, failed });
      this.child.send({ id, name, argument } satisfies Request);
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  stop(): void {
    this.child.kill("SIGKILL");
  }
}

type Handlers = Readonly<Record<string, (argument: never) => unknown>>;

/** The side that answers; the process ends with its parent, and an interrupt of the terminal is the parent's to handle. */
export function serveRequests(handlers: Handlers): void {
  let queue: Promise<void> = Promise.resolve();
  process.on("SIGINT", () => {});
  process.on("disconnect", () => process.exit(0));
  process.on("message", ({ id, name, argument }: Request) => {
    queue = queue.then(async () => {
      try {
        const result = await handlers[name]!(argument as never);
        process.send!({ id, result } satisfies Answer);
      } catch (error) {
        const failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
        process.send!({ id, failure } satisfies Answer);
      }
    });
  });
}

/** Says something to the side that asks, such as how far the work is. */
export function note(text: string): void {
  process.send!({ note: text } satisfies Answer);
}

/** CPU of this process, all threads, since `before`, in microseconds. */
export function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/**
 * Runs something for each item and returns the results with the CPU of one, in microseconds: the mean of all, or, with
 * `alone`, the median of each by itself. That is for what had to be prepared one by one: collecting what preparing left
 * behind would fall into some of them and belongs to none.
 */
export function cpuOfEach<T, R>(
  items: readonly T[],
  alone: boolean,
  run: (item: T) => R,
): { readonly results: R[]; readonly cpuUs: number } {
  const singles: number[] = [];
  const before = process.cpuUsage();
  const results = items.map((item) => {
    const start = process.cpuUsage();
    const result = run(item);
    singles.push(cpuSince(start));
    return result;
  });
  return { results, cpuUs: alone ? median(singles) : cpuSince(before) / items.length };
}

/**
 * Child processes that run a TypeScript entry and answer requests, one JSON object a line over standard input and
 * output. They can be killed without warning, and none of them outlives this process: a worker ends when its
 * standard input does, and what is left at our exit is killed by its id.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Node's options for sources that run without a build. */
const SOURCE_FLAGS = [
  "--conditions=@murmuration/source",
  "--experimental-strip-types",
  "--disable-warning=ExperimentalWarning",
];
/** Characters of a worker's other output that are kept, for the message of a failure. */
const OUTPUT_TAIL = 4_000;
const REQUEST_TIMEOUT_MS = 30_000;
const CLOSE_TIMEOUT_MS = 3_000;

/** The process ended before it answered. */
export class ProcessEnded extends Error {
  override readonly name = "ProcessEnded";
}

/** The worker answered with an error; `code` is that of a MurmurationError, or the error's text. */
export class WorkerFailure extends Error {
  override readonly name = "WorkerFailure";
  readonly code: string;
  constructor(op: string, code: string) {
    super(`${op}: ${code}`);
    this.code = code;
  }
}

interface Waiting {
  readonly op: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

export class WorkerProcess {
  private readonly child: ChildProcess;
  private readonly waiting = new Map<number, Waiting>();
  private readonly ended: Promise<void>;
  private nextId = 1;
  private tail = "";

  /** Starts the entry, such as `new URL("./worker.ts", import.meta.url)`; it calls `serveRequests`. */
  constructor(entry: URL) {
    this.child = spawn(process.execPath, [...SOURCE_FLAGS, fileURLToPath(entry)], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    living.add(this.child);
    this.ended = once(this.child, "close").then(
      () => this.abandon(),
      () => this.abandon(),
    );
    // Writing to a process that was killed fails; whoever waits learns it from its end.
    this.child.stdin!.on("error", () => undefined);
    createInterface({ input: this.child.stdout! }).on("line", (line) => this.receive(line));
    this.child.stderr!.on("data", (chunk: Buffer) => this.keep(chunk.toString()));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** True until the process has ended and everything it wrote has been read. */
  get alive(): boolean {
    return living.has(this.child);
  }

  /** Rejects with WorkerFailure, with ProcessEnded, or with an Error when no answer comes in time. */
  request<T>(op: string, parameters: object = {}, timeoutMs = REQUEST_TIMEOUT_MS): Promise<T> {
    if (!this.alive) return Promise.reject(new ProcessEnded(op));
    const id = this.nextId++;
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error(`${op}: no answer in ${timeoutMs} ms; ${this.tail}`));
      }, timeoutMs);
      this.waiting.set(id, { op, resolve: resolve as (value: unknown) => void, reject, timer });
      this.child.stdin!.write(`${JSON.stringify({ id, op, parameters })}\n`);
    });
  }

  /** SIGKILL: no handler runs, nothing is flushed. Resolves when the process is gone. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** Lets the worker end by itself; kills it when it takes too long. */
  async close(): Promise<void> {
    this.child.stdin!.end();
    const timer = setTimeout(() => this.child.kill("SIGKILL"), CLOSE_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Lines that are no answers are the worker's log. */
  private receive(line: string): void {
    const answer = parseAnswer(line);
    const waiting = answer === undefined ? undefined : this.waiting.get(answer.id);
    if (answer === undefined || waiting === undefined) {
      this.keep(`${line}\n`);
      return;
    }
    this.waiting.delete(answer.id);
    clearTimeout(waiting.timer);
    if (answer.error === undefined) waiting.resolve(answer.value);
    else waiting.reject(new WorkerFailure(waiting.op, answer.error));
  }

  private keep(text: string): void {
    this.tail = (this.tail + text).slice(-OUTPUT_TAIL);
  }

  private abandon(): void {
    living.delete(this.child);
    for (const { op, reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new ProcessEnded(`${op}; ${this.tail}`));
    }
    this.waiting.clear();
  }
}

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

function parseAnswer(line: string): Answer | undefined {
  if (!line.startsWith('{"id":')) return undefined;
  try {
    return JSON.parse(line) as Answer;
  } catch {
    return undefined;
  }
}

/** Child processes of a demo run: started, asked, killed with SIGKILL, started again. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { CommandFailed } from "../failures.ts";
import type { Answer, Listening, Report } from "./messages.ts";

/** The process ended before it answered. */
export class ProcessEnded extends Error {}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** One running process that answers numbered requests. */
export class Worker {
  private readonly child: ChildProcess;
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  readonly ended: Promise<void>;
  onReport: (report: Report) => void = () => undefined;
  /** Resolves when the delivery service listens. */
  readonly listening: Promise<Listening>;

  constructor(script: "client-worker" | "service-worker", args: readonly string[]) {
    const path = fileURLToPath(
      new URL(`./${script}${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url),
    );
    this.child = fork(path, [...args], {
      serialization: "json",
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.ended = new Promise((resolve) => this.child.once("exit", () => resolve()));
    void this.ended.then(() => this.abandon());
    this.listening = new Promise((resolve, reject) => {
      this.child.on("message", (message: Answer | Report | Listening) => {
        if ("port" in message) resolve(message);
        else if ("reports" in message) this.onReport(message);
        else this.settle(message);
      });
      void this.ended.then(() => reject(new ProcessEnded(script)));
    });
    // Whoever waits for it handles it; where nobody does, an end is no unhandled rejection.
    this.listening.catch(() => undefined);
  }

  get processId(): number {
    return this.child.pid ?? 0;
  }

  /** Sends a request. Rejects with ProcessEnded when the process dies first, or with the code of its error. */
  ask<T>(request: object): Promise<T> {
    if (!this.child.connected) return Promise.reject(new ProcessEnded("not connected"));
    const id = this.nextId++;
    return new Promise<T>((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.child.send({ id, request }, (error) => {
        if (error !== null) reject(new ProcessEnded("cannot send"));
      });
    });
  }

  private settle({ id, value, error }: Answer): void {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (error === undefined) waiting?.resolve(value);
    else waiting?.reject(new CommandFailed(`A process of the run could not do its part (${error}).`));
  }

  private abandon(): void {
    for (const { reject } of this.waiting.values()) reject(new ProcessEnded("ended"));
    this.waiting.clear();
  }

  /** SIGKILL: the process cannot prepare for it. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** Lets it close what it has open; kills it when that takes more than ten seconds. */
  async close(): Promise<void> {
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    try {
      await this.ask({ op: "close" });
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
    } finally {
      if (this.child.connected) this.child.disconnect();
      await this.ended;
      clearTimeout(timer);
    }
  }
}

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { UnitRequest, WorkerReport } from "./measure-worker.ts";
import type { ImplementationName, Operation } from "./rows.ts";
import type { Sample, Unit } from "./units.ts";

export type UnitOutcome =
  | { readonly kind: "samples"; readonly samples: readonly Sample[] }
  /** The operation that was under way when the time was up; what belongs to the unit after it was not measured. */
  | { readonly kind: "cut"; readonly operation: Operation; readonly phase: "preparing" | "measuring" }
  | { readonly kind: "memory"; readonly bytes: number }
  | { readonly kind: "failed"; readonly reason: string };

/** The process of one implementation; started when first asked, and again after it was killed. */
export class WorkerProcess {
  readonly name: ImplementationName;
  private readonly seed: string;
  private readonly limitMs: number;
  private readonly warmUp: boolean;
  private child: ChildProcess | undefined;

  constructor(name: ImplementationName, seed: string, limitMs: number, warmUp: boolean) {
    this.name = name;
    this.seed = seed;
    this.limitMs = limitMs;
    this.warmUp = warmUp;
  }

  /** Starts the process and waits until its code is compiled, which {@link run} does otherwise. */
  async start(): Promise<void> {
    await this.ready();
  }

  /** Runs one unit once. Each of its parts has the whole time limit. */
  async run(unit: Unit | "memory", members: number): Promise<UnitOutcome> {
    const child = await this.ready();
    return new Promise((resolve) => {
      let current: { operation: Operation; phase: "preparing" | "measuring" } | undefined;
      let timer: NodeJS.Timeout | undefined;
      const end = (outcome: UnitOutcome): void => {
        clearTimeout(timer);
        child.off("message", onMessage);
        child.off("exit", onExit);
        resolve(outcome);
      };
      const watch = (): void => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          this.stop();
          end(current === undefined ? { kind: "failed", reason: "no answer" } : { kind: "cut", ...current });
        }, this.limitMs);
      };
      const onMessage = (message: WorkerReport): void => {
        if (message.kind === "phase") {
          current = { operation: message.operation, phase: message.phase };
          watch();
        } else if (message.kind !== "ready") end(message);
      };
      const onExit = (): void => {
        this.child = undefined;
        end({ kind: "failed", reason: "the process ended" });
      };
      child.on("message", onMessage);
      child.on("exit", onExit);
      watch();
      child.send({ unit, members } satisfies UnitRequest);
    });
  }

  private async ready(): Promise<ChildProcess> {
    if (this.child !== undefined) return this.child;
    const path = fileURLToPath(new URL("./measure-worker.ts", import.meta.url));
    // V8 throws away the code of functions that several collections saw idle; collections are forced here.
    const execArgv = [...process.execArgv, "--expose-gc", "--no-flush-bytecode"];
    const child = fork(path, [this.name, this.seed, this.warmUp ? "warm-up" : "cold"], {
      execArgv,
      serialization: "advanced",
    });
    this.child = child;
    await new Promise<void>((resolve, reject) => {
      child.on("message", ({ kind }: WorkerReport) => (kind === "ready" ? resolve() : undefined));
      child.once("exit", () => reject(new Error(`the process of ${this.name} did not start`)));
    });
    child.removeAllListeners();
    return child;
  }

  stop(): void {
    this.child?.removeAllListeners("exit");
    this.child?.kill("SIGKILL");
    this.child = undefined;
  }
}

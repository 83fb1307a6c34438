/**
 * A process of its own for each implementation, so that one that takes too long can be killed, and nothing of
 * one (heap, inline caches) decides the time of another.
 */
import { createImplementation } from "./implementations.ts";
import type { Operation } from "./rows.ts";
import { type Sample, type Unit, UnitRunner } from "./units.ts";

export interface UnitRequest {
  readonly unit: Unit | "memory";
  readonly members: number;
}

export type WorkerReport =
  /** Sent once, when its code is compiled. */
  | { readonly kind: "ready" }
  | { readonly kind: "phase"; readonly operation: Operation; readonly phase: "preparing" | "measuring" }
  | { readonly kind: "samples"; readonly samples: readonly Sample[] }
  | { readonly kind: "memory"; readonly bytes: number }
  | { readonly kind: "failed"; readonly reason: string };

const [name, seed, warmUp] = process.argv.slice(2);
const report = (message: WorkerReport): void => void process.send?.(message);

// An interrupt on the terminal reaches the whole process group; the parent decides when to end.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => process.exit(0));

const runner = new UnitRunner(await createImplementation(name!), seed!, (operation, phase) =>
  report({ kind: "phase", operation, phase }),
);

process.on("message", async ({ unit, members }: UnitRequest) => {
  try {
    if (unit === "memory") report({ kind: "memory", bytes: await runner.memory(members) });
    else report({ kind: "samples", samples: await runner.run(unit, members) });
  } catch (error) {
    report({ kind: "failed", reason: error instanceof Error ? error.message : "unknown" });
  }
});
if (warmUp === "warm-up") await runner.warmUp();
report({ kind: "ready" });

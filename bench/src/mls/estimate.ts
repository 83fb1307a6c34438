/**
 * How long a run will take, said before it starts. Rough figures of a 2026 server core in milliseconds; they
 * decide nothing but what is printed.
 */
import type { ImplementationName } from "./rows.ts";
import { type Unit, unitOperations, units } from "./units.ts";

/** One run of a unit at N members, preparations shared out. */
const models: Readonly<Record<string, Readonly<Record<Unit, (members: number) => number>>>> = {
  "ts-mls": {
    "key-package": () => 450,
    "bulk-add": (n) => 1.3 * n + 0.0006 * n * n,
    "join-cold": (n) => 0.8 * n + 0.0008 * n * n,
    "join-cold-pooled": () => 1,
    "join-warm": (n) => 0.8 * n + 0.0008 * n * n,
    "join-warm-pooled": () => 1,
    "commit-cold": (n) => 1.5 * n,
    "commit-warm": (n) => 450 + 1.6 * n,
    application: () => 450,
    load: (n) => 0.05 * n,
    store: (n) => 450 + n,
  },
  murmuration: {
    "key-package": () => 350,
    "bulk-add": (n) => 0.4 * n,
    "join-cold": (n) => 0.12 * n,
    "join-cold-pooled": (n) => 0.08 * n,
    "join-warm": (n) => 0.12 * n,
    "join-warm-pooled": (n) => 0.08 * n,
    "commit-cold": (n) => 0.15 * n,
    "commit-warm": () => 450,
    application: () => 300,
    load: (n) => 0.02 * n,
    store: () => 350,
  },
};

export interface Budget {
  readonly leastRuns: number;
  readonly mostRuns: number;
  /** Runs of a unit go on while it has used less than this. */
  readonly unitMs: number;
}

export const defaultBudget: Budget = { leastRuns: 3, mostRuns: 15, unitMs: 3_000 };

/** Seconds for these implementations and sizes. A unit that would be cut counts with the time limit. */
export function estimateSeconds(
  plan: readonly { readonly name: ImplementationName; readonly members: number }[],
  budget: Budget,
  limitMs: number,
): number {
  let ms = 0;
  for (const { name, members } of plan) {
    const model = models[name === "ts-mls-native" ? "ts-mls" : name];
    if (model === undefined) continue;
    // Fixtures: keys and signatures of three groups.
    ms += 1_000 + members * 0.9;
    for (const unit of units) {
      const once = model[unit](members) * (name === "ts-mls-native" ? 0.6 : 1);
      const runs = Math.min(budget.mostRuns, Math.max(budget.leastRuns, budget.unitMs / once));
      const cut = once > limitMs * unitOperations[unit].length;
      ms += cut ? limitMs : once * runs;
    }
  }
  return Math.ceil(ms / 1000) + 15;
}

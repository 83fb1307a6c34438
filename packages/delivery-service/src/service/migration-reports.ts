import { beginsLease, type MigrationState, migrationStates } from "@murmuration/wire";
import type { MigrationStep } from "../core/migration.ts";
import type { ServiceContext } from "./context.ts";

/**
 * Tells operators of a step that was stored: one line in the log, and metrics. States, numbers and times; nothing that
 * says which group it was, or who made it.
 */
export function reportStep(
  { log, metrics }: ServiceContext,
  from: MigrationState,
  { change, next, overLeaseUntilMs, sincePreviousMs }: MigrationStep,
): void {
  const takenOver = overLeaseUntilMs !== undefined && beginsLease(change);
  metrics.count("migration_steps", change);
  if (takenOver) metrics.count("migration_take_overs");
  // A recovery is none of these: its members waited for the first switch already.
  if (change === "switch" && from === "ready") metrics.observe("migration_ms", next.sinceMs - next.startedMs);
  log.info("migration-step", {
    change,
    from,
    to: next.state,
    generation: next.generation,
    takenOver,
    ...(sincePreviousMs !== undefined && { sincePreviousMs }),
  });
}

/** Sets the number of groups in each state, also where it is 0. Reads an index, no records. */
export async function gaugeMigrations({ metrics, stores }: ServiceContext): Promise<void> {
  const counts = await stores.groupRecords.migrations();
  for (const state of Object.keys(migrationStates) as MigrationState[]) {
    metrics.gauge("migrations", counts[state] ?? 0, state);
  }
}

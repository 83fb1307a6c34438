/**
 * How a pairwise group moves to MLS: the states, and the one table of what may follow what (docs/migration.md, ADR
 * 9). Members judge the changes of the group's record by it, and the service each write that names a step, which is
 * why it knows no bytes, no keys and no time. There is no way back from where a group has switched.
 */

/** The states with their numbers on the wire. */
export const migrationStates = {
  pairwise: 1,
  preparing: 2,
  ready: 3,
  switching: 4,
  mls: 5,
  recovering: 6,
} as const;
export type MigrationState = keyof typeof migrationStates;

/** The changes of the record that are steps of a migration. In the record their names begin with `migrate-`. */
export const migrationChanges = ["prepare", "ready", "abort", "switch", "done", "recover"] as const;
export type MigrationChange = (typeof migrationChanges)[number];

/** One row of the table. */
export interface MigrationTransition {
  readonly from: MigrationState;
  readonly change: MigrationChange;
  readonly to: MigrationState;
  /**
   * `any`: whoever may write the record. Of the other two the service lets the holder of the lease, who names the token
   * that it was begun with, at any time, and others when its time is over. `whoever-after-lease`: members take it from
   * any of them. `lease-holder`: only from the device that began the lease, by its signature; whoever else brings it to
   * the service writes forward, at one that was set back, what that device has signed.
   */
  readonly who: "any" | "lease-holder" | "whoever-after-lease";
  /** The generation that the change leads to: the present one, or that + 1. A number is never used twice. */
  readonly generation: "same" | "+1";
  /**
   * `new`: the write must bring another fence. `kept`: it must not, so that no pairwise submit is taken ever again.
   * `free`: as with any other write.
   */
  readonly fence: "new" | "kept" | "free";
}

const row = (
  from: MigrationState,
  change: MigrationChange,
  to: MigrationState,
  who: MigrationTransition["who"],
  generation: MigrationTransition["generation"],
  fence: MigrationTransition["fence"],
): MigrationTransition => ({ from, change, to, who, generation, fence });

/** Every transition there is. What is not here is refused. */
export const migrationTransitions: readonly MigrationTransition[] = [
  row("pairwise", "prepare", "preparing", "any", "+1", "free"),
  row("preparing", "ready", "ready", "lease-holder", "same", "free"),
  row("preparing", "abort", "pairwise", "any", "same", "free"),
  row("preparing", "prepare", "preparing", "whoever-after-lease", "+1", "free"),
  row("ready", "abort", "pairwise", "any", "same", "free"),
  row("ready", "prepare", "preparing", "whoever-after-lease", "+1", "free"),
  row("ready", "switch", "switching", "lease-holder", "same", "new"),
  row("switching", "done", "mls", "any", "same", "kept"),
  row("switching", "recover", "recovering", "any", "+1", "kept"),
  row("mls", "recover", "recovering", "any", "+1", "kept"),
  // Not back to preparing, from where an abort would lead to pairwise.
  row("recovering", "recover", "recovering", "whoever-after-lease", "+1", "kept"),
  row("recovering", "switch", "switching", "lease-holder", "same", "kept"),
];

/** Where a group stands: generation 0 is that of a group which never began to move. */
export interface MigrationPosition {
  readonly state: MigrationState;
  readonly generation: number;
}

/** Where every group begins, and what a record without a migration stands for. */
export const unmigrated: MigrationPosition = { state: "pairwise", generation: 0 };

/** The row for a change in a state; undefined where it is not possible there. Constant time. */
export function migrationTransition(
  from: MigrationState,
  change: MigrationChange,
): MigrationTransition | undefined {
  return migrationTransitions.find((one) => one.from === from && one.change === change);
}

/**
 * The row that leads from one state to another; undefined where none does. No two lead from the same to the same, so a
 * service that cannot read the record knows by both ends which change it was. Constant time.
 */
export function migrationTransitionBetween(
  from: MigrationState,
  to: MigrationState,
): MigrationTransition | undefined {
  return migrationTransitions.find((one) => one.from === from && one.to === to);
}

/**
 * Where a change leads; undefined where it is not possible. Who may make it, and which fence it brings, is the
 * caller's to check. Constant time.
 */
export function nextMigration(
  present: MigrationPosition,
  change: MigrationChange,
): MigrationPosition | undefined {
  const found = migrationTransition(present.state, change);
  if (found === undefined) return undefined;
  return { state: found.to, generation: generationAfter(present.generation, found) };
}

/** The generation that a transition leads to from this one. */
export function generationAfter(generation: number, { generation: rule }: MigrationTransition): number {
  return rule === "same" ? generation : generation + 1;
}

/** Whether a change begins a lease, and so brings a token that nobody has seen. */
export function beginsLease(change: MigrationChange): boolean {
  return change === "prepare" || change === "recover";
}

/** Whether somebody holds a lease in this state. */
export function hasLease(state: MigrationState): boolean {
  return state === "preparing" || state === "ready" || state === "recovering";
}

/** Whether a group in this state takes pairwise content no more, and its record no change but a step of the migration. */
export function hasSwitched(state: MigrationState): boolean {
  return state === "switching" || state === "mls" || state === "recovering";
}

/**
 * Whether the record takes changes that are no step: in a group that has switched only while it recovers, and then members
 * take removals alone. Whoever keeps a group from recovering has to be put out of it.
 */
export function takesOtherChanges(state: MigrationState): boolean {
  return !hasSwitched(state) || state === "recovering";
}

/** The table as a mermaid state diagram: what docs/migration.md shows. */
export function renderMigrationDiagram(): string {
  const label = ({ change, generation }: MigrationTransition): string =>
    generation === "same" ? change : `${change} (generation + 1)`;
  return [
    "stateDiagram-v2",
    "  [*] --> pairwise",
    ...migrationTransitions.map((one) => `  ${one.from} --> ${one.to}: ${label(one)}`),
  ].join("\n");
}

/** The table in Markdown: what docs/migration.md shows. */
export function renderMigrationTable(): string {
  return [
    "| from | change | to | who | generation | fence |",
    "| --- | --- | --- | --- | --- | --- |",
    ...migrationTransitions.map(
      ({ from, change, to, who, generation, fence }) =>
        `| ${from} | migrate-${change} | ${to} | ${who} | ${generation} | ${fence} |`,
    ),
  ].join("\n");
}

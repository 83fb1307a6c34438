import { hasSwitched, type MigrationState } from "@murmuration/wire";

/** What a lease of the model's service lasts. */
export const LEASE_MS = 60_000;

/** A step as a client names it. Tokens and fences are numbers here. */
export interface ModelStep {
  readonly to: MigrationState;
  readonly generation: number;
  readonly token: number | undefined;
  readonly newToken: number | undefined;
}

export type ModelRequest =
  | {
      readonly kind: "write";
      readonly revision: number;
      readonly blob: number;
      readonly fence: number | undefined;
      readonly step: ModelStep | undefined;
    }
  | { readonly kind: "renew"; readonly generation: number; readonly token: number };

export type ModelAnswer =
  | { readonly kind: "written"; readonly revision: number; readonly leaseLeftMs?: number }
  | { readonly kind: "renewed"; readonly leaseLeftMs: number }
  | { readonly kind: "refused"; readonly code: string; readonly retryAfterMs?: number };

/** A group as the service should see it. */
export interface GroupModel {
  readonly nowMs: number;
  readonly revision: number;
  readonly blob: number;
  readonly fence: number;
  readonly state: MigrationState;
  readonly generation: number;
  readonly holder: number | undefined;
  readonly untilMs: number;
}

export const begun = (state: MigrationState): boolean => state === "preparing" || state === "recovering";
const held = (state: MigrationState): boolean => begun(state) || state === "ready";

/** In words of docs/migration.md, and not by the table of the product. */
export function possible(from: MigrationState, to: MigrationState): boolean {
  switch (to) {
    case "preparing":
      return !hasSwitched(from);
    case "ready":
      return from === "preparing";
    case "pairwise":
      return from === "preparing" || from === "ready";
    case "switching":
      return from === "ready" || from === "recovering";
    case "mls":
      return from === "switching";
    case "recovering":
      return hasSwitched(from);
  }
}

export function leaseLeft(group: GroupModel): number {
  const left = group.untilMs - group.nowMs;
  return group.holder === undefined || left < 0 || left > LEASE_MS ? 0 : left;
}

/** What one request does when it comes alone. */
export function answer(group: GroupModel, request: ModelRequest): readonly [GroupModel, ModelAnswer] {
  const code = request.kind === "write" ? refusalOfWrite(group, request) : refusalOfRenewal(group, request);
  if (code !== undefined) {
    const waits = code === "migration/lease-held" && { retryAfterMs: leaseLeft(group) };
    return [group, { kind: "refused", code, ...waits }];
  }
  const untilMs = group.nowMs + LEASE_MS;
  if (request.kind === "renew")
    return [
      { ...group, untilMs },
      { kind: "renewed", leaseLeftMs: LEASE_MS },
    ];
  const { blob, fence = group.fence, step } = request;
  const written = { ...group, revision: group.revision + 1, blob, fence };
  const { revision } = written;
  if (step === undefined) return [written, { kind: "written", revision }];
  const { to: state, generation } = step;
  if (!held(state)) {
    return [
      { ...written, state, generation, holder: undefined, untilMs: 0 },
      { kind: "written", revision },
    ];
  }
  const holder = step.newToken ?? group.holder;
  const renews = step.newToken !== undefined || step.token === group.holder;
  const after = { ...written, state, generation, holder, untilMs: renews ? untilMs : group.untilMs };
  return [after, { kind: "written", revision, leaseLeftMs: leaseLeft(after) }];
}

function refusalOfWrite(
  group: GroupModel,
  { revision, fence, step }: Extract<ModelRequest, { kind: "write" }>,
): string | undefined {
  if (revision !== group.revision) return "group/revision-conflict";
  const switched = hasSwitched(group.state);
  if (step === undefined)
    return switched && group.state !== "recovering" ? "migration/not-possible" : undefined;
  const { to, generation, token, newToken } = step;
  if (!possible(group.state, to)) return "migration/not-possible";
  if (generation !== group.generation + (begun(to) ? 1 : 0)) return "migration/wrong-generation";
  if (begun(to) && newToken === undefined) return "wire/missing-field";
  if (!begun(to) && newToken !== undefined) return "wire/invalid-field";
  const its = token !== undefined && token === group.holder;
  if ((begun(to) || to === "ready" || to === "switching") && !its && leaseLeft(group) > 0)
    return "migration/lease-held";
  const another = fence !== undefined && fence !== group.fence;
  if (switched && another) return "migration/not-possible";
  if (!switched && to === "switching" && !another) return "migration/fence-missing";
  return undefined;
}

function refusalOfRenewal(
  group: GroupModel,
  { generation, token }: Extract<ModelRequest, { kind: "renew" }>,
): string | undefined {
  if (group.holder === undefined) return "migration/not-possible";
  if (generation !== group.generation) return "migration/wrong-generation";
  return token === group.holder ? undefined : "migration/lease-lost";
}

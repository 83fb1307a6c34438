/** A member whose client breaks the rules of a migration: what it runs is the product, with some of its parts bent. */
import {
  type AccountId,
  accountId,
  type Bytes,
  formatId,
  type GroupId,
  parseAccountId,
  parseGroupId,
} from "@murmuration/base";
import type { CommunityContext, Group } from "@murmuration/mls-groups";
import { encodeGroupRefuseTbs, GROUP_REFUSE_LABEL, type GroupRefuse } from "@murmuration/wire";
import { type Content, encodeContent } from "../../../client-core/src/core/content.ts";
import type { GroupAction } from "../../../client-core/src/core/group-change.ts";
import type { GroupState, RecordMember } from "../../../client-core/src/core/group-record.ts";
import type { Context } from "../../../client-core/src/shell/context.ts";
import { lanes } from "../../../client-core/src/shell/lanes.ts";
import { type SimulatedDevice, until } from "../../src/index.ts";

/** What lies behind a client's API. */
export interface Insides {
  readonly context: Context;
  readonly groups: {
    change: (id: GroupId, decide: (state: GroupState) => GroupAction | undefined) => Promise<void>;
    refresh(id: Uint8Array): Promise<boolean>;
    prepare: (id: GroupId, action: GroupAction) => Bytes;
  };
  readonly communities: {
    readonly access: { acknowledge(id: GroupId, through: number, vouches: boolean): void };
    readonly names: {
      tell(body: { readonly kind: "groupRefuse" } & GroupRefuse): void;
      wire(id: GroupId): GroupId;
    };
    readonly registry: { load(id: GroupId): { readonly group: Group } };
    readonly committer: { commit(id: GroupId, decide: (group: Group) => unknown): Promise<void> };
    isStandingStill(id: GroupId): boolean;
    create(
      id: GroupId,
      profile: { readonly title: string; readonly description: string },
      expireAfterSeconds: number,
      accounts: readonly AccountId[],
    ): Promise<void>;
  };
  readonly migrations: {
    attempt(id: GroupId): Promise<boolean>;
    wake(): void;
    readonly effects: { wake(lane: string): void };
    readonly lookAtMs: Map<string, number>;
    readonly switcher: object;
    readonly preparer: {
      records: { state(id: GroupId): GroupState };
      contextFor(before: CommunityContext, group: Group, state: GroupState): CommunityContext;
      readonly renewedAtMs: Map<string, number>;
      drawSecret(id: GroupId): void;
      writeSwitch(id: GroupId): Promise<void>;
    };
  };
}

export const insidesOf = ({ client }: SimulatedDevice): Insides => client as unknown as Insides;

/** Whom the client takes for a member when it makes the MLS group, beside those of the record or in their place. */
function pretendMembers(
  device: SimulatedDevice,
  members: (real: ReadonlyMap<string, RecordMember>) => ReadonlyMap<string, RecordMember>,
): void {
  const { preparer } = insidesOf(device).migrations;
  const real = preparer.records;
  preparer.records = {
    state: (id) => {
      const state = real.state(id);
      return { ...state, members: members(state.members) };
    },
  };
}

/** Takes so many for admins who are in no record, and leaves them where they are. */
export function pretendAdmins(device: SimulatedDevice, count: number): void {
  const { preparer } = insidesOf(device).migrations;
  Object.assign(preparer, { missing: () => [] });
  const admins = Array.from({ length: count }, (_, index) => {
    const account = accountId(new Uint8Array(16).fill(index + 1));
    const identityKey = new Uint8Array(33).fill(index + 1);
    return [formatId(account), { account, identityKey, role: "admin", invited: false }] as const;
  });
  pretendMembers(device, (real) => new Map([...real, ...admins]));
}

/** Takes an account along that is in no record. */
export function pretendGhost(device: SimulatedDevice, ghost: SimulatedDevice): void {
  const account = parseAccountId(ghost.id);
  const identityKey = insidesOf(ghost).context.engine.local()!.accountIdentityKey;
  const member = { account, identityKey, role: "member", invited: false } as const;
  pretendMembers(device, (real) => new Map(real).set(ghost.id, member));
}

/** What the client puts into the context of the MLS group with the switch. */
export function pretendContext(
  device: SimulatedDevice,
  change: (honest: CommunityContext) => CommunityContext,
): void {
  const { preparer } = insidesOf(device).migrations;
  const honest = preparer.contextFor.bind(preparer);
  preparer.contextFor = (before, group, state) => change(honest(before, group, state));
}

/** A client that follows a switch wherever it leads: what a ghost would like everybody to run. */
export function followBlindly(device: SimulatedDevice): void {
  const { switcher } = insidesOf(device).migrations;
  Object.assign(switcher, {
    strangers: () => [],
    isContextOfRecord: () => true,
    isOtherRoster: () => false,
  });
}

/** What the client writes into the record in the place of one of its steps. */
export function pretendStep<K extends GroupAction["kind"]>(
  device: SimulatedDevice,
  kind: K,
  change: (honest: Extract<GroupAction, { kind: K }>) => GroupAction,
): void {
  const { groups } = insidesOf(device);
  const prepare = groups.prepare.bind(groups);
  groups.prepare = (id, action) =>
    prepare(id, action.kind === kind ? change(action as Extract<GroupAction, { kind: K }>) : action);
}

/** Writes the switch into the record whatever the group is like, once there is a commit for it, and says no word more. */
export function insistOnSwitch(device: SimulatedDevice): void {
  const { context, migrations } = insidesOf(device);
  const mustCommit = (id: GroupId) => context.migration.own(id).reached === undefined;
  Object.assign(migrations.preparer, { mustCommit, isInForce: () => true });
  const attempt = migrations.attempt.bind(migrations);
  migrations.attempt = async (id) => {
    const { state } = context.migration.record(id);
    return state === "switching" || state === "mls" ? false : attempt(id);
  };
}

/** Whether a client vouches for the commits that it follows: one that is slow has not yet. */
export function vouchFor(device: SimulatedDevice, isVouching: boolean): void {
  const { access } = insidesOf(device).communities;
  if (isVouching) Reflect.deleteProperty(access, "acknowledge");
  else access.acknowledge = () => {};
}

/** Says of the commit that led to the epoch in which it is that it cannot follow it. */
export function refuseNewest(device: SimulatedDevice, id: string, sequence: number): void {
  const conversation = parseGroupId(id) as GroupId;
  const { communities, context } = insidesOf(device);
  const { hash: commitHash } = context.mls.provisional(conversation, sequence)!;
  const signed = { groupId: communities.names.wire(conversation), sequence, commitHash };
  const { group } = communities.registry.load(conversation);
  const signature = group.signForService(GROUP_REFUSE_LABEL, encodeGroupRefuseTbs(signed));
  communities.names.tell({ kind: "groupRefuse", ...signed, groupId: conversation, signature });
}

/** A step that the client takes in the record, as whoever wrote a program of its own would. */
export const writeStep = (
  device: SimulatedDevice,
  id: string,
  decide: (state: GroupState) => GroupAction | undefined,
): Promise<void> => insidesOf(device).groups.change(parseGroupId(id) as GroupId, decide);

/** How far a device takes the migration to be. */
export const generationOf = (device: SimulatedDevice, id: string): number =>
  insidesOf(device).context.migration.record(parseGroupId(id)).generation;

export const untilGeneration = (generation: number, id: string, ...devices: readonly SimulatedDevice[]) =>
  until(
    () => devices.every((device) => generationOf(device, id) >= generation),
    40_000,
    `generation ${generation}`,
  );

/** Says things over pairwise sessions to one account, whatever the rules are. */
export function tell(from: SimulatedDevice, to: SimulatedDevice, bodies: readonly Partial<Content>[]): void {
  const { context, migrations } = insidesOf(from);
  const account = insidesOf(to).context.own.accountId;
  context.transaction(() => {
    for (const body of bodies) {
      const messageId = context.newMessageId();
      context.outbox.append({
        lane: lanes.account(account),
        target: { kind: "account", account },
        messageId,
        content: encodeContent({ messageId, ...body }),
        confirm: false,
        createdAtMs: context.now(),
      });
    }
  });
  migrations.effects.wake(lanes.account(account));
}

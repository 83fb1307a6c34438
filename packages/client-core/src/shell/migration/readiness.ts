/** Who is ready for the switch of a group, and who was left behind by it. */
import { type AccountId, equalBytes, formatId, type GroupId } from "@murmuration/base";
import { communityContextOf, type Group } from "@murmuration/mls-groups";
import type { Context } from "../context.ts";

/**
 * Accounts that are to move, or were to, how many of them have, and why each other one has not. `awaited`: those that are
 * worth waiting for, which is all that have not but those whose devices have been silent for 30 days (`store/heard.ts`).
 */
export interface Readiness {
  readonly accounts: number;
  readonly ready: number;
  readonly awaited: number;
  readonly notReady: readonly { readonly account: AccountId; readonly code: string }[];
}

const deviceKey = (account: AccountId, device: number): string => `${formatId(account)}.${device}`;

/** Why accounts could not be added, where this device has tried. */
const failuresOf = ({ mls }: Context, id: GroupId): ReadonlyMap<string, string> =>
  new Map(
    mls
      .failedJobs(id, "add")
      .flatMap(({ account, failure }) =>
        failure === undefined ? [] : [[formatId(account), failure] as const],
      ),
  );

/**
 * Before the switch, on the device that prepares it: who has joined and said so. A device that has been silent for long is
 * put in like any other, and not waited for; where none of an account's has spoken, the account is not ready. O(members).
 */
export function readinessBefore(context: Context, id: GroupId): Readiness {
  const { conversations, heard, mls, migration, own } = context;
  const quiet = heard.quiet(id, context.now());
  const said = new Set(migration.ready(id).map((device) => deviceKey(device.accountId, device.deviceId)));
  said.add(deviceKey(own.accountId, own.deviceId));
  const failures = failuresOf(context, id);
  const devices = Map.groupBy(mls.leaves(id), ({ account }) => formatId(account));
  const members = conversations.members(id);
  const notReady: { account: AccountId; code: string }[] = [];
  for (const { account, invited } of members) {
    const leaves = devices.get(formatId(account)) ?? [];
    const silent = leaves.filter(({ device }) => !said.has(deviceKey(account, device)));
    // All that is known of it, also what has no leaf.
    const isAway = silent.length === leaves.length && quiet.isQuiet(account);
    if (invited) notReady.push({ account, code: "migration/invited" });
    else if (isAway) notReady.push({ account, code: "migration/away" });
    else if (leaves.length === 0)
      notReady.push({ account, code: failures.get(formatId(account)) ?? "migration/not-added" });
    else if (silent.some(({ device }) => !quiet.has(account, device)))
      notReady.push({ account, code: "migration/not-joined" });
  }
  const count = (code: string): number => notReady.filter((left) => left.code === code).length;
  // Whoever was only invited cannot become ready, and holds nobody up.
  const accounts = members.length - count("migration/invited");
  const ready = members.length - notReady.length;
  return { accounts, ready, awaited: accounts - ready - count("migration/away"), notReady };
}

/**
 * After it, `group` being the MLS group: whoever is expected and has no leaf was left behind, which every member sees, and
 * comes in from outside. The device that prepared the move also tells who has a leaf and was not heard of since, as far
 * as it knows: such a device may have nothing to say. O(members).
 */
export function readinessAfter(context: Context, id: GroupId, group: Group): Readiness {
  const { conversations, history, migration, own } = context;
  const failures = failuresOf(context, id);
  const leaves = context.mls.leaves(id);
  const present = new Set(leaves.map(({ account }) => formatId(account)));
  const { expected } = communityContextOf(group.context.extensions);
  const invited = new Set(conversations.formerlyInvited(id).map(formatId));
  const why = (account: string) =>
    invited.has(account) ? "migration/invited" : (failures.get(account) ?? "migration/left-behind");
  const notReady = expected
    .filter(({ accountId }) => !present.has(formatId(accountId)))
    .map(({ accountId }) => ({ account: accountId, code: why(formatId(accountId)) }));
  const members = conversations.countMembers(id);
  const { creator } = migration.record(id);
  const { reached, switchedAtMs } = migration.own(id);
  const hasPrepared =
    creator !== undefined &&
    equalBytes(creator.accountId, own.accountId) &&
    creator.deviceId === own.deviceId;
  if (hasPrepared && reached !== undefined) {
    // A leaf that came by a commit of its own has taken part in the group.
    const acting = new Set(
      [...group.members()]
        .filter(({ leafNode }) => leafNode.source.kind !== "key_package")
        .map(({ leaf }) => Number(leaf)),
    );
    const heard = new Set(
      [
        own.accountId,
        ...migration.ready(id).map(({ accountId }) => accountId),
        ...history.authorsSince(id, switchedAtMs),
        ...leaves.filter(({ leaf }) => acting.has(Number(leaf))).map(({ account }) => account),
      ].map(formatId),
    );
    for (const { account } of reached.roster)
      if (present.has(formatId(account)) && !heard.has(formatId(account)))
        notReady.push({ account, code: "migration/not-joined" });
  }
  const absent = notReady.filter(({ account }) => !present.has(formatId(account))).length;
  const accounts = members + absent - notReady.filter(({ code }) => code === "migration/invited").length;
  return { accounts, ready: members + absent - notReady.length, awaited: 0, notReady };
}

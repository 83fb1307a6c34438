/** What the store has of a group's log, whatever the service says of it. */
import type { GroupId } from "@murmuration/base";
import { readMlsHeader } from "../../src/core/mls-header.ts";
import type { Stores } from "../../src/service/context.ts";

const EVERYTHING = { maxEntries: 1_000_000, maxBytes: 1_000_000_000 };

/**
 * The epochs that the commits in the log lead on from, in the order of the log, without those that were taken back. By the
 * bytes of the commits: what the store has noted beside them is what it believes.
 */
export async function epochsOfCommits(stores: Stores, groupId: GroupId): Promise<readonly number[]> {
  const entries = await stores.mlsGroups.read(groupId, 0, Number.MAX_SAFE_INTEGER, EVERYTHING);
  const takenBack = new Set(entries.flatMap(({ voids }) => voids ?? []));
  return entries
    .filter(({ kind, sequence }) => kind === "commit" && !takenBack.has(sequence))
    .map(({ message }) => readMlsHeader(message).epoch);
}

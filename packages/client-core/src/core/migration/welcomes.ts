/** Which Welcomes belong to a conversation that moves (docs/migration.md). Pure. */
import { equalBytes, type GroupId } from "@murmuration/base";
import { migrationGroupId } from "./keys.ts";

/** For how many generations ahead a Welcome is recognised whose record has not been read. */
const GENERATIONS_AHEAD = 4;

/**
 * What a Welcome is to a conversation, whose present MLS group is known by its name and asks nothing here: `early` for a
 * generation that its record has not named yet, `over` for one that was given up or recovered from. A group of that name
 * must not become a conversation of its own. undefined: it is another group. O(generations) hashes.
 */
export function placeWelcome(
  conversation: GroupId,
  generation: number,
  wireId: Uint8Array,
): "early" | "over" | undefined {
  const names = (one: number): boolean => equalBytes(migrationGroupId(conversation, one), wireId);
  for (let ahead = 1; ahead <= GENERATIONS_AHEAD; ahead++) if (names(generation + ahead)) return "early";
  for (let past = generation; past > 0; past--) if (names(past)) return "over";
  return undefined;
}

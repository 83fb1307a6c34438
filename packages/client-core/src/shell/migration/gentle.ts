/**
 * How members are put into the MLS group of a conversation in which people talk: some at a time. Each Add costs every
 * member three or four signature verifications, and whoever comes verifies all who are there; all at once would keep a
 * device that is not quick from everything else for a second and more. Nobody waits for it to be over.
 */
import { limits } from "@murmuration/wire";

const NEWCOMER_PAUSE_MS_PER_MEMBER = 20;
/** Time for the next newcomers' commit, ms. */
const BEFORE_WARM_UP_MS = 1_000;

/** Accounts that one commit brings. */
export const GENTLE_ADDS = 3;
/** After a commit that was full, before the next one, ms for each member: each of them has work with it. */
export const GENTLE_PAUSE_MS_PER_MEMBER = 12;
/** For so many such pauses members that one commit has brought may keep the next one waiting: they have more to do than others. */
export const GENTLE_PATIENCE = 3;
/**
 * Accounts that one commit brings of those who waited for the switch. Fewer than before it: the others read by MLS already,
 * and whoever comes verifies more leaves.
 */
export const NEWCOMERS_AT_A_TIME = 2;
/**
 * Before the next of them, ms, and longer than before the switch. Not as long as the service waits for somebody to come before
 * it has the tree warmed: the next newcomers would leave it cold again. A hundred come in less than four minutes.
 */
export function newcomerPauseMs(members: number): number {
  return Math.min(NEWCOMER_PAUSE_MS_PER_MEMBER * members, limits.warmUpQuietMs - BEFORE_WARM_UP_MS);
}
/**
 * After the switch of a group, before those are added who waited for it, ms: all of the members switch first. What a member
 * has to do grows with their number, and so does the time that each of them is given.
 */
export function restAfterSwitchMs(members: number): number {
  return members * Math.min(Math.max(members, 50), 150);
}
/** Within so many ms for each member, one after the other, members take the commits of a group that is prepared. */
export const SPREAD_MS_PER_MEMBER = 20;
/**
 * After each step that all members hear of, before the next one, ms for each member: time for all of them to take it at a
 * moment of their own. Whoever has not heard of "ready" when it hears of the switch, for one, has to read the whole record.
 */
export const REST_MS_PER_MEMBER = 2 * SPREAD_MS_PER_MEMBER;
/** Members that hear of a step at a time, where the group goes on as before and nobody waits for it. */
export const HEAR_AT_A_TIME = 40;
/**
 * Before the next of them hear of it, ms for each member of the group: the first ones are through with it by then. All have
 * heard of it well within the rest behind a step.
 */
export const HEAR_PAUSE_MS_PER_MEMBER = 5;
/** Nobody rests longer, and no word of a step waits longer for its time, ms: a clock that was set back makes no rest longer. */
export const LONGEST_REST_MS = 20_000;

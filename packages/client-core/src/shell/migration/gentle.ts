/**
 * How members are put into the MLS group of a conversation in which people talk: some at a time. Each Add costs every
 * member three or four signature verifications, and whoever comes verifies all who are there; all at once would keep a
 * device that is not quick from everything else for a second and more. Nobody waits for it to be over.
 */

/** Accounts that one commit brings. */
export const GENTLE_ADDS = 32;
/** After a commit that was full, before the next one, ms. */
export const GENTLE_PAUSE_MS = 2_500;

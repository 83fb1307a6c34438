/** Members of a group for whose sake the receipts of its messages wait as long as those of a direct message. */
const MEMBERS_AT_ONCE = 4;
/** From so many members on they wait with the square of the members. */
const MEMBERS_OF_A_LARGE_GROUP = 64;
/** The longest that a receipt of middling luck waits for others, as a multiple of the delay of a direct message. */
const MOST_DELAYS = 250;

/**
 * How long a receipt waits for others to the same author, ms; `delayMs` for a direct message (2 members). In a group each
 * message brings its author a receipt of every member. Where that time grew with the members only, a group in which people
 * talk would send as many of them in a second whatever its size, and all of its members bear the cost; in large groups it
 * grows faster, and they become fewer. Each member's `luck`, from 0 to 1, lets it wait half of that up to one and a half
 * times, so that they do not come all at once.
 */
export function receiptDelayOf(members: number, delayMs: number, luck: number): number {
  if (members <= MEMBERS_AT_ONCE) return delayMs;
  const delays = (members / MEMBERS_AT_ONCE) * Math.max(1, members / MEMBERS_OF_A_LARGE_GROUP);
  return delayMs * Math.min(MOST_DELAYS, delays) * (0.5 + luck);
}

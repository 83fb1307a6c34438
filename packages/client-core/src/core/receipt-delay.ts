/** Members of a group for whose sake the receipts of its messages wait as long as those of a direct message. */
const MEMBERS_AT_ONCE = 4;
/** The longest that a receipt of middling luck waits for others, as a multiple of the delay of a direct message. */
const MOST_DELAYS = 60;

/**
 * How long a receipt waits for others to the same author, ms; `delayMs` for a direct message (2 members). In a group each
 * message brings its author a receipt of every member: the larger it is, the longer they wait for more, and each member's
 * `luck`, from 0 to 1, lets it wait half of that up to one and a half times, so that they do not come all at once.
 */
export function receiptDelayOf(members: number, delayMs: number, luck: number): number {
  if (members <= MEMBERS_AT_ONCE) return delayMs;
  return delayMs * Math.min(MOST_DELAYS, members / MEMBERS_AT_ONCE) * (0.5 + luck);
}

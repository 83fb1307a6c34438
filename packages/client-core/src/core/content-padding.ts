/** Sizes that a content may have on the outside, whichever protocol carries it. */
const SMALLEST = 160;
/**
 * What RFC 9420 puts around the content inside of a PrivateMessage (6.3.1): the signature with its header, and the
 * header of the content. A few bytes more or less only move the class's edge.
 */
const AROUND_CONTENT = 70;

/** The class of a content: 160, 320, 640, 1,280 bytes and so on. */
function sizeClass(length: number): number {
  let size = SMALLEST;
  while (size < length) size *= 2;
  return size;
}

/** How many zero bytes follow a PrivateMessageContent of this length. */
export function padCommunityMessage(length: number): number {
  return sizeClass(Math.max(0, length - AROUND_CONTENT)) + AROUND_CONTENT - length;
}

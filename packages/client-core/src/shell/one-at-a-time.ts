/**
 * Work that occupies the thread for long, in pieces: verifying a whole tree. All clients of a process share one thread, so
 * one of them does such work at a time, and between its pieces all of them look at their sockets. Two at a time would make
 * both later and everything else twice as slow. What waits for the network has no place in here.
 */
let last: Promise<unknown> = Promise.resolve();

/** Runs the work when the work before it is over. Rejects like it. */
export function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const result = last.then(work);
  last = result.catch(() => undefined);
  return result;
}

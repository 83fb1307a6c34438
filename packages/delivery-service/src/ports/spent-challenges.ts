/** Challenges that were used, so that none is used twice on any node. */
export interface SpentChallenges {
  /**
   * True for the first who spends it; every other one gets false until it expires, and then it is refused for its age.
   * Rejects with UnavailableError where that cannot be known: nobody is let in on a challenge that may be a copy.
   */
  spend(name: string, expiresAtMs: number): Promise<boolean>;
}

/** Leaves that vouched and are remembered: more than one commit can add, so that one of them has a word. */
const MAX_VOUCHERS = 512;
/** Leaves that have to refuse a commit before it is taken back. */
const REFUSALS_TO_VOID = 2;

/** Whose word does not count: the committer's own and its account's other devices', and that of leaves which the commit added or removed. */
export interface CommitParties {
  readonly committer: string;
  readonly others: readonly string[];
}

/**
 * What members have said about the newest commit. What only they can check (confirmation tag, membership tag, path
 * secrets) makes each commit provisional, until another leaf than its committer vouches for it. It lives in memory:
 * after a restart the newest commit is provisional once more, until somebody vouches again.
 */
export class ProvisionalCommit {
  readonly sequence: number;
  private parties: CommitParties | undefined;
  private readonly vouchers = new Set<string>();
  private readonly refusals = new Set<string>();

  /** `parties` is undefined for a commit of before the restart, until {@link learn}. */
  constructor(sequence: number, parties: CommitParties | undefined) {
    this.sequence = sequence;
    this.parties = parties;
  }

  get committer(): string | undefined {
    return this.parties?.committer;
  }

  learn(parties: CommitParties): void {
    this.parties ??= parties;
  }

  /** This leaf follows the group through this entry. */
  vouch(leaf: string, throughSequence: number): void {
    if (throughSequence >= this.sequence && this.vouchers.size < MAX_VOUCHERS) this.vouchers.add(leaf);
  }

  /** This leaf cannot follow. True when the commit has to be taken back: two said so and nobody vouched. */
  refuse(leaf: string): boolean {
    this.refusals.add(leaf);
    const refused = [...this.refusals].filter((name) => this.hasAWord(name)).length;
    return refused >= REFUSALS_TO_VOID && ![...this.vouchers].some((name) => this.hasAWord(name));
  }

  private hasAWord(leaf: string): boolean {
    return leaf !== this.parties?.committer && this.parties?.others.includes(leaf) !== true;
  }
}

import { type AccountId, type Bytes, equalBytes, toHex } from "@murmuration/base";
import {
  type CommitParties,
  type CommitRefusal,
  REFUSALS_TO_VOID,
} from "@murmuration/mls-groups/public-group";
import type { CommitWords } from "../ports/group-memory.ts";

/** Leaves that vouched and are remembered: more than one commit can add, so that one of them has a word. */
const MAX_VOUCHERS = 512;

/** What has to be known of a commit before words about it are counted. */
export interface CommitInQuestion extends CommitParties {
  /** SHA-256 of the commit message. */
  readonly hash: Bytes;
}

/**
 * What members have said about the newest commit. What only they can check (confirmation tag, membership tag, path
 * secrets) makes each commit provisional, until somebody who has a word vouches for it. Who has one is the rule that
 * clients judge a void entry by (`void-rule.ts` of the MLS engine), so that no service which keeps to it takes back what
 * they would not. It lives in memory: after a restart the newest commit is provisional once more, until somebody vouches
 * again.
 */
export class ProvisionalCommit {
  readonly sequence: number;
  private question: CommitInQuestion | undefined;
  /** Accounts of the leaves that vouched. */
  private readonly vouchers = new Map<string, string>();
  /** By account; no more than are needed. */
  private readonly refusals = new Map<string, CommitRefusal>();

  /** `question` is undefined for a commit of before the restart, until {@link learn}. */
  constructor(sequence: number, question: CommitInQuestion | undefined) {
    this.sequence = sequence;
    this.question = question;
  }

  get isKnown(): boolean {
    return this.question !== undefined;
  }

  get committerKey(): Bytes | undefined {
    return this.question?.committerKey;
  }

  learn(question: CommitInQuestion): void {
    this.question ??= question;
  }

  /** This leaf follows the group through this entry. True where that is news. O(1). */
  vouch(leaf: Leaf, throughSequence: number): boolean {
    if (throughSequence < this.sequence) return false;
    return this.vouchFor(toHex(leaf.signatureKey), toHex(leaf.accountId));
  }

  /** What was said about this commit on other nodes as well. */
  hear({ vouchers, refusals }: CommitWords): void {
    for (const [leaf, account] of vouchers) this.vouchFor(leaf, account);
    for (const [account, refusal] of refusals) {
      if (this.refusals.size < REFUSALS_TO_VOID) this.refusals.set(account, refusal);
    }
  }

  private vouchFor(leaf: string, account: string): boolean {
    if (this.vouchers.has(leaf) || this.vouchers.size >= MAX_VOUCHERS) return false;
    this.vouchers.set(leaf, account);
    return true;
  }

  /**
   * This leaf cannot follow the commit with this hash. Returns what proves that it has to be taken back, once two
   * accounts said so and nobody vouched; undefined as long as it stays. O(who vouched + who is silent).
   */
  refuse(leaf: Leaf, commitHash: Uint8Array, refusal: CommitRefusal): readonly CommitRefusal[] | undefined {
    if (!this.mayRefuse(leaf, commitHash)) return undefined;
    const { refusals } = this;
    const account = toHex(leaf.accountId);
    if (refusals.has(account) || refusals.size < REFUSALS_TO_VOID) refusals.set(account, refusal);
    if (refusals.size < REFUSALS_TO_VOID) return undefined;
    return [...this.vouchers].some(([name, of]) => this.hasAWord(name, of))
      ? undefined
      : [...refusals.values()];
  }

  /** Whether a word of this leaf about the commit with this hash counts. */
  mayRefuse(leaf: Leaf, commitHash: Uint8Array): boolean {
    const { question } = this;
    if (question === undefined || !equalBytes(question.hash, commitHash)) return false;
    return this.hasAWord(toHex(leaf.signatureKey), toHex(leaf.accountId));
  }

  private hasAWord(leaf: string, account: string): boolean {
    const { added, silent } = this.question!;
    return !silent.some((other) => toHex(other) === account) && !added.some((key) => toHex(key) === leaf);
  }
}

interface Leaf {
  readonly signatureKey: Bytes;
  readonly accountId: AccountId;
}

import { type Bytes, equalBytes, RejectionError, toHex, UnavailableError } from "@murmuration/base";
import { type InviteLink, RatchetTree } from "@murmuration/mls-groups/public-group";
import { groupCrypto } from "../core/leaf-signatures.ts";
import type {
  CommitRequest,
  ExpectedRequest,
  FollowedLeaf,
  FollowerSource,
  NextTurn,
  NextTurnRequest,
  ProposalRequest,
  RefeedRequest,
  ValidatedCommit,
  ValidatedGroup,
  ValidatedRefeed,
} from "../ports/commit-validator.ts";
import { CommunityFollower } from "./community-follower.ts";
import { CommunityRules } from "./community-rules.ts";

/** An epoch of a group, by values that can be sent to another thread. */
export interface EpochOf {
  readonly groupId: Bytes;
  readonly epoch: number;
  /** As in `FollowerBase`. */
  readonly commitSequence: number | undefined;
}

/** What became of the commit that led on from an epoch. */
export interface Settled {
  readonly groupId: Bytes;
  readonly epoch: number;
  /** Its sequence number; undefined where it was not stored. */
  readonly storedAs: number | undefined;
}

interface Held {
  readonly epoch: number;
  readonly commitSequence: number | undefined;
  readonly follower: CommunityFollower;
  readonly bytes: number;
}

/** A tree of an epoch that is not the present one. */
interface Other {
  readonly key: string;
  readonly epoch: number;
  readonly tree: RatchetTree;
}

/** Trees of other epochs that are kept beside the followers, in at most a quarter of the memory again. */
const MAX_OTHERS = 4;

/** Re-feedings that come in several requests, at a time: the follower of each is beside the budget. */
const MAX_REFEEDINGS = 4;

/** A re-feeding that is not through: its follower has come to this epoch. */
interface Refeeding {
  readonly epoch: number;
  readonly follower: CommunityFollower;
}

/** Thrown when a follower is not there: the question comes again with what to load it from. */
export class NotLoaded extends Error {}

/**
 * The followers of one thread: a cache with a byte budget in which the group that was asked last stays longest. Every
 * answer is computed at once; nothing here waits.
 */
export class Followers {
  private readonly budgetBytes: number;
  private readonly rules = new CommunityRules();
  private readonly held = new Map<string, Held>();
  private bytes = 0;
  /** The one that was built last comes first. */
  private others: readonly Other[] = [];
  /** By group. Each ends with its last request, or when the group is forgotten. */
  private readonly refeedings = new Map<string, Refeeding>();

  constructor(budgetBytes: number) {
    this.budgetBytes = budgetBytes;
  }

  get count(): number {
    return this.held.size;
  }

  create(request: { readonly groupInfo: Bytes; readonly ratchetTree: Bytes }): ValidatedGroup {
    return refusing(() => CommunityFollower.validateFirst(this.rules, request));
  }

  /** O(members), unless it is there by now. */
  load(at: EpochOf, source: FollowerSource): void {
    const held = this.held.get(keyOf(at));
    if (isOf(held, at)) return;
    // Other commits have led there than this one knows of: trees of epochs before may be of some that were taken back as well.
    if (held !== undefined) this.forget(at.groupId);
    this.keep(at, CommunityFollower.restore(this.rules, source));
  }

  commit(at: EpochOf, request: CommitRequest): ValidatedCommit {
    return refusing(() => this.at(at).stage(request));
  }

  /**
   * O(members) for the first request of a re-feeding. Throws UnavailableError `validator/overloaded` while too many others go on:
   * none of them makes room before it is through, or all would begin again and again.
   */
  refeed(at: EpochOf, request: RefeedRequest, source: FollowerSource | undefined): ValidatedRefeed {
    const { commits, fromEpoch, groupInfo } = request;
    const key = keyOf(at);
    const isFull = !this.refeedings.has(key) && this.refeedings.size >= MAX_REFEEDINGS;
    if (groupInfo === undefined && isFull) throw new UnavailableError("validator/overloaded");
    const follower = this.refeeder(at, fromEpoch, source);
    this.refeedings.delete(key);
    return refusing(() => {
      const validated = commits.map((commit) => follower.follow(commit, request));
      if (groupInfo !== undefined) return { commits: validated, signerKey: follower.signerOf(groupInfo) };
      this.refeedings.set(key, { epoch: fromEpoch + commits.length, follower });
      return { commits: validated, signerKey: undefined };
    });
  }

  private refeeder(at: EpochOf, fromEpoch: number, source: FollowerSource | undefined): CommunityFollower {
    if (fromEpoch === at.epoch) {
      if (source === undefined) throw new NotLoaded();
      return CommunityFollower.restore(this.rules, source);
    }
    const refeeding = this.refeedings.get(keyOf(at));
    if (refeeding?.epoch !== fromEpoch) throw new UnavailableError("validator/unavailable");
    return refeeding.follower;
  }

  settle({ groupId, epoch, storedAs }: Settled): void {
    const held = this.held.get(toHex(groupId));
    if (held === undefined || held.epoch !== epoch) return;
    if (storedAs === undefined) held.follower.drop();
    else if (held.follower.merge())
      this.keep({ groupId, epoch: epoch + 1, commitSequence: storedAs }, held.follower);
    else this.drop(groupId);
  }

  proposal(at: EpochOf, request: ProposalRequest): void {
    refusing(() => this.at(at).checkProposal(request));
  }

  leaf(at: EpochOf, leafIndex: number): FollowedLeaf | undefined {
    return this.at(at).leaf(leafIndex);
  }

  leafOfKey(at: EpochOf, signatureKey: Bytes): FollowedLeaf | undefined {
    return this.at(at).leafOfKey(signatureKey);
  }

  verifyLink(at: EpochOf, linkId: Bytes, content: Bytes, signature: Bytes): InviteLink | undefined {
    return this.at(at).verifyLink(linkId, content, signature);
  }

  isExpected(at: EpochOf, request: ExpectedRequest): boolean {
    return this.at(at).isExpected(request);
  }

  nextTurn(at: EpochOf, request: NextTurnRequest): NextTurn | undefined {
    return this.at(at).nextTurn(request);
  }

  snapshot(at: EpochOf): Bytes {
    return this.at(at).snapshot();
  }

  /**
   * The cached tree where there is one; of another epoch it is built from `source`, and the last few are kept. Where a hash is
   * named, it is of a tree with this hash, or built.
   */
  tree(at: EpochOf, source: FollowerSource | undefined, treeHash?: Bytes): RatchetTree {
    const isWanted = (tree: RatchetTree) => treeHash === undefined || equalBytes(tree.treeHash(), treeHash);
    const held = this.held.get(keyOf(at));
    if (held?.epoch === at.epoch && isWanted(held.follower.tree)) return held.follower.tree;
    const known = this.others.find(
      ({ key, epoch, tree }) => key === keyOf(at) && epoch === at.epoch && isWanted(tree),
    );
    if (known !== undefined) return known.tree;
    if (source === undefined) throw new NotLoaded();
    const tree = RatchetTree.decode(groupCrypto, source.snapshot);
    for (const delta of source.deltas) tree.applyDelta(delta);
    // It may be of the present epoch, which can be taken back: nobody is to find it under that number.
    if (treeHash !== undefined) return tree;
    let bytes = 0;
    const fits = (other: Other, index: number) => {
      bytes += other.tree.estimatedBytes;
      return index === 0 || (index < MAX_OTHERS && bytes <= this.budgetBytes / 4);
    };
    this.others = [{ key: keyOf(at), epoch: at.epoch, tree }, ...this.others].filter(fits);
    return tree;
  }

  forget(groupId: Bytes): void {
    this.others = this.others.filter(({ key }) => key !== toHex(groupId));
    this.refeedings.delete(toHex(groupId));
    this.drop(groupId);
  }

  private drop(groupId: Bytes): void {
    const key = toHex(groupId);
    this.bytes -= this.held.get(key)?.bytes ?? 0;
    this.held.delete(key);
  }

  private at(at: EpochOf): CommunityFollower {
    const key = keyOf(at);
    const held = this.held.get(key);
    if (!isOf(held, at)) throw new NotLoaded();
    // Deleting first moves it to the end, away from what is dropped.
    this.held.delete(key);
    this.held.set(key, held);
    return held.follower;
  }

  private keep(at: EpochOf, follower: CommunityFollower): void {
    this.drop(at.groupId);
    const bytes = follower.estimatedBytes;
    const { epoch, commitSequence } = at;
    this.held.set(keyOf(at), { epoch, commitSequence, follower, bytes });
    this.bytes += bytes;
    for (const [key, held] of this.held) {
      if (this.bytes <= this.budgetBytes || held.follower === follower) break;
      this.held.delete(key);
      this.bytes -= held.bytes;
    }
  }
}

const keyOf = (at: Pick<EpochOf, "groupId">): string => toHex(at.groupId);

const isOf = (held: Held | undefined, { epoch, commitSequence }: EpochOf): held is Held =>
  held?.epoch === epoch && held.commitSequence === commitSequence;

/** The engine's refusals and the policy's become one code; theirs is the explanation. */
function refusing<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    const refused = error instanceof RejectionError && !error.code.startsWith("group/");
    throw refused ? new RejectionError("group/commit-invalid", error.code) : error;
  }
}

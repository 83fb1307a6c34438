import { type Bytes, RejectionError, toHex, UnavailableError } from "@murmuration/base";
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
}

interface Held {
  readonly epoch: number;
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
  /** The follower of a re-feeding that is not through: one at a time, beside the budget. */
  private refeeding: (EpochOf & { readonly follower: CommunityFollower }) | undefined;

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
    if (this.held.get(keyOf(at))?.epoch === at.epoch) return;
    this.keep(at, CommunityFollower.restore(this.rules, source));
  }

  commit(at: EpochOf, request: CommitRequest): ValidatedCommit {
    return refusing(() => this.at(at).stage(request));
  }

  /** O(members) for the first request of a re-feeding. */
  refeed(at: EpochOf, request: RefeedRequest, source: FollowerSource | undefined): ValidatedRefeed {
    const { commits, fromEpoch, groupInfo } = request;
    const follower = this.refeeder(at, fromEpoch, source);
    this.refeeding = undefined;
    return refusing(() => {
      const validated = commits.map((commit) => follower.follow(commit, request));
      if (groupInfo !== undefined) return { commits: validated, signerKey: follower.signerOf(groupInfo) };
      this.refeeding = { groupId: at.groupId, epoch: fromEpoch + commits.length, follower };
      return { commits: validated, signerKey: undefined };
    });
  }

  private refeeder(at: EpochOf, fromEpoch: number, source: FollowerSource | undefined): CommunityFollower {
    if (fromEpoch === at.epoch) {
      if (source === undefined) throw new NotLoaded();
      return CommunityFollower.restore(this.rules, source);
    }
    const { refeeding } = this;
    if (refeeding === undefined || refeeding.epoch !== fromEpoch || keyOf(refeeding) !== keyOf(at))
      throw new UnavailableError("validator/unavailable");
    return refeeding.follower;
  }

  settle(at: EpochOf, outcome: "stored" | "dropped"): void {
    const held = this.held.get(keyOf(at));
    if (held === undefined || held.epoch !== at.epoch) return;
    if (outcome === "dropped") held.follower.drop();
    else if (held.follower.merge()) this.keep({ ...at, epoch: at.epoch + 1 }, held.follower);
    else this.drop(at.groupId);
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

  /** The cached tree where there is one; of another epoch it is built from `source`, and the last few are kept. */
  tree(at: EpochOf, source: FollowerSource | undefined): RatchetTree {
    const held = this.held.get(keyOf(at));
    if (held?.epoch === at.epoch) return held.follower.tree;
    const known = this.others.find(({ key, epoch }) => key === keyOf(at) && epoch === at.epoch);
    if (known !== undefined) return known.tree;
    if (source === undefined) throw new NotLoaded();
    const tree = RatchetTree.decode(groupCrypto, source.snapshot);
    for (const delta of source.deltas) tree.applyDelta(delta);
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
    this.drop(groupId);
  }

  private drop(groupId: Bytes): void {
    const key = toHex(groupId);
    if (this.refeeding !== undefined && keyOf(this.refeeding) === key) this.refeeding = undefined;
    this.bytes -= this.held.get(key)?.bytes ?? 0;
    this.held.delete(key);
  }

  private at(at: EpochOf): CommunityFollower {
    const key = keyOf(at);
    const held = this.held.get(key);
    if (held?.epoch !== at.epoch) throw new NotLoaded();
    // Deleting first moves it to the end, away from what is dropped.
    this.held.delete(key);
    this.held.set(key, held);
    return held.follower;
  }

  private keep(at: EpochOf, follower: CommunityFollower): void {
    this.drop(at.groupId);
    const bytes = follower.estimatedBytes;
    this.held.set(keyOf(at), { epoch: at.epoch, follower, bytes });
    this.bytes += bytes;
    for (const [key, held] of this.held) {
      if (this.bytes <= this.budgetBytes || held.follower === follower) break;
      this.held.delete(key);
      this.bytes -= held.bytes;
    }
  }
}

const keyOf = (at: EpochOf): string => toHex(at.groupId);

/** The engine's refusals and the policy's become one code; theirs is the explanation. */
function refusing<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    const refused = error instanceof RejectionError && !error.code.startsWith("group/");
    throw refused ? new RejectionError("group/commit-invalid", error.code) : error;
  }
}

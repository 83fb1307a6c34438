import type { DeviceAddress } from "@murmuration/base";
import type { PublicEpoch } from "../group/public-epoch.ts";
import type { StagedPublic } from "../group/stage-public.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { type CommunityContext, communityContextOf } from "./community-context.ts";
import { deviceOf } from "./member-credential.ts";

/** A device at its leaf. */
export interface LeafOfDevice {
  readonly leaf: LeafIndex;
  readonly device: DeviceAddress;
}

/** What a commit changed, in words of a community. */
export interface CommitDescription {
  /** Leaf of the member who committed; undefined for an external commit. */
  readonly committer: LeafIndex | undefined;
  readonly external: boolean;
  /** An external commit by which a device that was a member came back to the group: the same device left and joined. */
  readonly resync: boolean;
  /** Leaves that are new: those of Adds in their order, then that of an external joiner. */
  readonly added: readonly LeafOfDevice[];
  /** Leaves that are gone, by Remove or SelfRemove. */
  readonly removed: readonly LeafOfDevice[];
  readonly before: CommunityContext;
  readonly after: CommunityContext;
}

/**
 * Describes a commit that passed every check and may or may not be merged yet: of a member with
 * (`received.staged.public`, `received.from.public`) or a pending one with (`pendingCommit.public`,
 * `pendingCommit.from`), of a follower with (`followed.public`, `followed.from`). O(leaves that it changes). Throws
 * RejectionError when the group is no community.
 */
export function describeCommit(
  staged: Pick<
    StagedPublic,
    "plan" | "proposals" | "sender" | "external" | "tree" | "addedLeaves" | "provisional"
  >,
  before: Pick<PublicEpoch, "context" | "tree">,
): CommitDescription {
  const { external, sender, addedLeaves, plan, tree } = staged;
  const joined = external ? [...addedLeaves, sender] : addedLeaves;
  return {
    committer: external ? undefined : sender,
    external,
    // An external commit's only Remove is that of the joiner's own old leaf (12.2); others leave by SelfRemove.
    resync: external && staged.proposals.some(({ proposal }) => proposal.kind === "remove"),
    added: joined.map((leaf) => leafOfDevice(tree, leaf)),
    removed: plan.removes.map((leaf) => leafOfDevice(before.tree, leaf)),
    before: communityContextOf(before.context.extensions),
    after: communityContextOf(staged.provisional.extensions),
  };
}

function leafOfDevice(tree: RatchetTree, leaf: LeafIndex): LeafOfDevice {
  return { leaf, device: deviceOf(tree.leaf(leaf)!.credential) };
}

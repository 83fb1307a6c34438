import { type Bytes, encode, equalBytes, RejectionError, toHex } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { protectPublicMessage } from "../framing/public-message.ts";
import { check } from "../rules.ts";
import { extensionTypes, MLS10 } from "../structs/code-points.ts";
import { writeCredential } from "../structs/credential.ts";
import { copyExtensions, type Extension } from "../structs/extension.ts";
import type { GroupContext } from "../structs/group-context.ts";
import type { LeafNode } from "../structs/leaf-node.ts";
import { encodeMlsMessage } from "../structs/mls-message.ts";
import type { PreSharedKeyId } from "../structs/psk-id.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { createExternalCommit } from "./external-commit.ts";
import { Group } from "./group.ts";
import { type GroupConfig, groupDefaults } from "./group-config.ts";
import { decodeGroupInfo, type GroupInfoOptions } from "./group-info.ts";
import { type JoinRequest, joinByWelcome, joinByWelcomeInBatches, type SubgroupExpectation } from "./join.ts";
import type { KeyPackageBundle, LeafOptions, MemberIdentity } from "./key-package.ts";
import type { GroupPolicy } from "./policy.ts";
import type { WriteSet } from "./store.ts";

export interface JoinWithWelcome {
  /** An MLSMessage with a Welcome. */
  readonly welcome: Uint8Array;
  readonly keyPackage: KeyPackageBundle;
  /** Needed when the Welcome's GroupInfo does not carry the tree. */
  readonly ratchetTree?: Uint8Array | undefined;
  /** The group that the new one continues (11.2, 11.3), if we expect one. */
  readonly continues?: Group | undefined;
}

/**
 * Joins by Welcome (12.4.3.1). O(N): one signature verification and about two hashes for each member. Throws
 * RejectionError. Delete the KeyPackage's private keys once the returned rows are stored. That the group id is not
 * that of another group of ours (12.4.3.1) is the caller's to check: nothing here knows of other groups.
 */
export function joinGroup(
  crypto: CryptoProvider,
  request: JoinWithWelcome,
  config: Partial<GroupConfig> = {},
): { group: Group; writes: WriteSet } {
  return Group.start(joinByWelcome(crypto, joinRequest(request, config)), config);
}

/**
 * The same with leaf signatures verified in batches off the main thread (libuv pool of node:crypto). `signer` is the leaf
 * that signed the GroupInfo: whoever committed our Add. `extensions` are copies of the GroupInfo's, without the tree.
 */
export async function joinGroupInBatches(
  crypto: CryptoProvider,
  request: JoinWithWelcome,
  config: Partial<GroupConfig> = {},
): Promise<{ group: Group; writes: WriteSet; signer: LeafIndex; extensions: readonly Extension[] }> {
  const { state, info } = await joinByWelcomeInBatches(crypto, joinRequest(request, config));
  const extensions = info.extensions.filter(({ type }) => type !== extensionTypes.ratchet_tree);
  return { ...Group.start(state, config), signer: info.signer, extensions: copyExtensions(extensions) };
}

function joinRequest(request: JoinWithWelcome, config: Partial<GroupConfig>): JoinRequest {
  const { policy, psks, ratchetLimits } = { ...groupDefaults, ...config };
  const { continues } = request;
  return {
    welcome: request.welcome,
    keyPackage: request.keyPackage,
    ratchetTree: request.ratchetTree,
    policy,
    psks: (id) => (id.kind === "resumption" ? (resumption(continues, id) ?? psks(id)) : psks(id)),
    ratchetLimits,
    subgroup: (usage, groupId, epoch) =>
      continues === undefined ? undefined : expectation(continues, usage, groupId, epoch, policy),
  };
}

function resumption(
  group: Group | undefined,
  id: Extract<PreSharedKeyId, { kind: "resumption" }>,
): Bytes | undefined {
  if (group === undefined || !equalBytes(group.groupId, id.pskGroupId)) return undefined;
  return group.resumptionPsk(id.pskEpoch);
}

/** What sections 11.2 and 11.3 ask of a group that continues `old`. */
function expectation(
  old: Group,
  usage: "reinit" | "branch",
  groupId: Uint8Array,
  epoch: bigint,
  policy: GroupPolicy,
): SubgroupExpectation | undefined {
  if (!equalBytes(old.groupId, groupId)) return undefined;
  if (usage === "reinit" && epoch !== old.epoch) return undefined;
  return {
    usage,
    validate: (context, tree) =>
      usage === "reinit"
        ? validateReInit(old, context, tree, policy)
        : validateBranch(old, context, tree, policy),
  };
}

function validateReInit(old: Group, context: GroupContext, tree: RatchetTree, policy: GroupPolicy): void {
  const { reinit } = old;
  if (reinit === undefined) throw new RejectionError("mls/welcome/reinit-matches");
  check(
    "welcome/reinit-matches",
    // The version of every GroupContext that decodes.
    reinit.version === MLS10 &&
      equalBytes(context.groupId, reinit.groupId) &&
      context.cipherSuite === reinit.cipherSuite &&
      equalExtensions(context.extensions, reinit.extensions),
  );
  check("welcome/reinit-members", everyMemberIn(old.tree, tree, policy));
}

function validateBranch(old: Group, context: GroupContext, tree: RatchetTree, policy: GroupPolicy): void {
  check("welcome/branch-matches", context.cipherSuite === old.context.cipherSuite);
  check("welcome/branch-members", everyMemberIn(tree, old.tree, policy));
}

function equalExtensions(a: readonly Extension[], b: readonly Extension[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ type, data }, i) => type === b[i]!.type && equalBytes(data, b[i]!.data))
  );
}

/**
 * Whether each member of `inner` has a member of `outer` that it may follow or precede, each of those used once. O(N)
 * while credentials stay the same: members with an equal one are asked first. Only those who found nobody are compared
 * with all who are left, and the first of them without a match ends it.
 */
function everyMemberIn(inner: RatchetTree, outer: RatchetTree, policy: GroupPolicy): boolean {
  if (inner.memberCount > outer.memberCount) return false;
  const sameMember = (a: LeafNode, b: LeafNode) => policy.isSuccessor(a, b) || policy.isSuccessor(b, a);
  const free = new Set(outer.members());
  const byCredential = new Map<string, LeafIndex[]>();
  const withCredential = (credential: Uint8Array): LeafIndex[] => {
    const key = toHex(credential);
    const known = byCredential.get(key) ?? outer.leavesByCredential(credential);
    byCredential.set(key, known);
    return known;
  };
  const changed: LeafNode[] = [];
  for (const leaf of inner.members()) {
    const leafNode = inner.leaf(leaf)!;
    const candidates = withCredential(encode(leafNode.credential, writeCredential));
    const place = candidates.findIndex((candidate) => sameMember(outer.leaf(candidate)!, leafNode));
    if (place < 0) {
      changed.push(leafNode);
      continue;
    }
    free.delete(candidates[place]!);
    candidates[place] = candidates.at(-1)!;
    candidates.pop();
  }
  return (
    changed.length === 0 ||
    everyOneOf(
      changed,
      [...free].map((leaf) => outer.leaf(leaf)!),
      sameMember,
    )
  );
}

/** Whether each of `members` matches one of `others`, each used once. O(members x others). */
function everyOneOf(
  members: readonly LeafNode[],
  others: LeafNode[],
  matches: (a: LeafNode, b: LeafNode) => boolean,
): boolean {
  return members.every((member) => {
    const place = others.findIndex((other) => matches(other, member));
    if (place >= 0) others.splice(place, 1);
    return place >= 0;
  });
}

export interface JoinExternally {
  /** An MLSMessage with a GroupInfo that has external_pub. */
  readonly groupInfo: Uint8Array;
  readonly ratchetTree?: Uint8Array | undefined;
  readonly identity: MemberIdentity;
  /** Its extensions default to those of the leaf that is removed, if one is. */
  readonly leaf?: LeafOptions;
  /** Our old leaf, when we join again: the same commit removes it. */
  readonly removes?: LeafIndex | undefined;
  readonly pskIds?: readonly PreSharedKeyId[];
  readonly authenticatedData?: Uint8Array;
  readonly newGroupInfo?: GroupInfoOptions;
}

/**
 * Joins by external commit (12.4.3.2). Store the rows, send `message`, and call `group.confirmJoin()` when the DS has
 * accepted it; if another commit won, throw the group and its rows away and begin again. O(N). Throws RejectionError.
 */
export function joinGroupExternally(
  crypto: CryptoProvider,
  request: JoinExternally,
  config: Partial<GroupConfig> = {},
): { group: Group; message: Bytes; groupInfo: Bytes; writes: WriteSet } {
  const { policy, psks, ratchetLimits } = { ...groupDefaults, ...config };
  const created = createExternalCommit(crypto, {
    groupInfo: decodeGroupInfo(request.groupInfo),
    ratchetTree: request.ratchetTree,
    identity: request.identity,
    leaf: request.leaf ?? {},
    removes: request.removes,
    pskIds: request.pskIds ?? [],
    psks,
    authenticatedData: request.authenticatedData ?? new Uint8Array(0),
    newGroupInfo: request.newGroupInfo ?? {},
    policy,
    ratchetLimits,
  });
  created.joinerSecret.fill(0);
  created.pskSecret.fill(0);
  const message = protectPublicMessage(crypto, created.content, undefined);
  const groupInfo = encodeMlsMessage({ wireFormat: "mls_group_info", groupInfo: created.groupInfo });
  return { ...Group.start(created.next, config, "joining"), message, groupInfo };
}

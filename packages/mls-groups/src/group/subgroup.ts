import { UsageError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { MLS10 } from "../structs/code-points.ts";
import type { Extension } from "../structs/extension.ts";
import type { KeyPackage } from "../structs/key-package.ts";
import type { Lifetime } from "../structs/leaf-node.ts";
import type { PreSharedKeyId } from "../structs/psk-id.ts";
import { type CommitBundle, Group } from "./group.ts";
import type { GroupConfig } from "./group-config.ts";
import type { GroupInfoOptions } from "./group-info.ts";
import type { LeafOptions, MemberIdentity } from "./key-package.ts";
import type { WriteSet } from "./store.ts";

export interface ContinueGroup {
  /** Who creates the new group; after a ReInit to another suite with keys of that suite. */
  readonly identity: MemberIdentity;
  readonly lifetime: Lifetime;
  readonly leaf?: LeafOptions;
  /** Of the other members of the new group. */
  readonly keyPackages: readonly KeyPackage[];
  readonly groupInfo?: GroupInfoOptions;
}

export interface Branch extends ContinueGroup {
  readonly groupId: Uint8Array;
  readonly extensions?: readonly Extension[];
}

export interface ContinuedGroup extends CommitBundle {
  /** The new group in epoch 0, with its first commit pending. */
  readonly group: Group;
  /** Rows of the group before the commit; `writes` are those of the commit. */
  readonly initialWrites: WriteSet;
}

/**
 * Creates the group that a committed ReInit asks for (11.2), linked to the old one by a resumption PSK. `crypto` is of
 * the suite that the ReInit names. Throws UsageError unless `old` is suspended by a ReInit.
 */
export function continueByReInit(
  crypto: CryptoProvider,
  old: Group,
  request: ContinueGroup,
  config: Partial<GroupConfig> = {},
): ContinuedGroup {
  const { reinit } = old;
  if (reinit === undefined) throw new UsageError("mls/no-reinit-committed");
  if (reinit.version !== MLS10) throw new UsageError("mls/version-of-reinit");
  if (reinit.cipherSuite !== crypto.suite.id) throw new UsageError("mls/suite-of-reinit");
  const group = { ...request, groupId: reinit.groupId, extensions: reinit.extensions };
  return continueGroup(crypto, old, group, "reinit", config);
}

/** Creates a group of some members of `old`, linked to it by a resumption PSK (11.3). */
export function branchGroup(
  crypto: CryptoProvider,
  old: Group,
  request: Branch,
  config: Partial<GroupConfig> = {},
): ContinuedGroup {
  if (old.context.cipherSuite !== crypto.suite.id) throw new UsageError("mls/suite-of-branch");
  return continueGroup(crypto, old, request, "branch", config);
}

function continueGroup(
  crypto: CryptoProvider,
  old: Group,
  request: Branch,
  usage: "reinit" | "branch",
  config: Partial<GroupConfig>,
): ContinuedGroup {
  const psk: PreSharedKeyId = {
    kind: "resumption",
    usage,
    pskGroupId: old.groupId,
    pskEpoch: old.epoch,
    pskNonce: crypto.random(crypto.suite.hashLength),
  };
  let value = old.resumptionPsk();
  // The new group keeps this source for good: for this one PSK, and only until its first commit is made.
  const psks: GroupConfig["psks"] = (id) => (id === psk && value !== undefined ? value : config.psks?.(id));
  const { group, writes: initialWrites } = Group.create(crypto, request, { ...config, psks });
  const commit = group.createCommit({
    proposals: [
      { kind: "psk", psk },
      ...request.keyPackages.map((keyPackage) => ({ kind: "add", keyPackage }) as const),
    ],
    allowSubgroupPsk: usage,
    ...(request.groupInfo === undefined ? {} : { groupInfo: request.groupInfo }),
  });
  value?.fill(0);
  value = undefined;
  return { ...commit, group, initialWrites };
}

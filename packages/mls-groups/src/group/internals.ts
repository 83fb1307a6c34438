import { type Bytes, InvariantError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import type { SecretTree } from "../schedule/secret-tree.ts";
import { decodeLeafNode } from "../structs/leaf-node.ts";
import type { ReInit } from "../structs/proposal.ts";
import type { PreSharedKeyId } from "../structs/psk-id.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { GroupConfig } from "./group-config.ts";
import {
  encodeHead,
  encodeRetained,
  type GroupStatus,
  type PendingRow,
  type RetainedRow,
  rowKeys,
  type TreeLog,
} from "./group-rows.ts";
import type { MemberState } from "./member-state.ts";
import type { ReceiveEpoch } from "./messages.ts";
import { ProposalCache } from "./proposal-cache.ts";
import type { PskSource } from "./psk-source.ts";
import type { OwnUpdate, StagedCommit } from "./receive-commit.ts";
import { WriteSet } from "./store.ts";

/** A past epoch that may still receive application messages. */
export interface RetainedEpoch extends RetainedRow {
  readonly secretTree: SecretTree;
}

/** A commit of our own that the DS has not accepted yet. */
export interface Pending extends PendingRow {
  readonly staged: StagedCommit;
}

/** The mutable inside of a Group. Only the functions of this folder touch it. */
export interface Internals {
  readonly crypto: CryptoProvider;
  readonly config: GroupConfig;
  status: GroupStatus;
  state: MemberState;
  /** Ascending by epoch. */
  readonly retained: Map<bigint, RetainedEpoch>;
  readonly proposals: ProposalCache;
  /** By ProposalRef in hex. */
  readonly ownUpdates: Map<string, OwnUpdate>;
  readonly resumptionPsks: Map<bigint, Bytes>;
  pending: Pending | undefined;
  treeLog: TreeLog;
  reinit: ReInit | undefined;
}

/** The inside of a group that starts with this state. */
export function newInternals(config: GroupConfig, state: MemberState, status: GroupStatus): Internals {
  const { crypto, context } = state.public;
  return {
    crypto,
    config,
    status,
    state,
    retained: new Map(),
    proposals: new ProposalCache(),
    ownUpdates: new Map(),
    resumptionPsks: new Map([[context.epoch, state.secrets.resumptionPsk]]),
    pending: undefined,
    treeLog: { snapshotBytes: 0, deltaBytes: 0, deltas: 0 },
    reinit: undefined,
  };
}

/** Every row of a group without pending work: what a new group hands to the store. O(N). */
export function initialRows(group: Internals): WriteSet {
  const writes = new WriteSet();
  const snapshot = group.state.public.tree.encodeSnapshot();
  group.treeLog = { snapshotBytes: snapshot.length, deltaBytes: 0, deltas: 0 };
  writes.put(rowKeys.snapshot, snapshot);
  putSecretTree(writes, group.state);
  for (const [epoch, psk] of group.resumptionPsks) writes.put(rowKeys.resumptionPsk(epoch), psk.slice());
  return putHead(writes, group);
}

export function putHead(writes: WriteSet, group: Internals): WriteSet {
  return writes.put(rowKeys.head, encodeHead(group.state, group.status, group.treeLog, group.reinit));
}

/**
 * The rows of an epoch's secret tree as it stands in memory, and none besides: an epoch of the same number may have been
 * taken back, and its ratchets are not those of this one.
 */
export function putSecretTree(writes: WriteSet, state: MemberState): void {
  const prefix = rowKeys.secretTree(state.public.context.epoch);
  writes.deletePrefix(prefix);
  for (const [key, row] of state.secretTree.rows()) writes.put(prefix + key, row);
}

/** The rows that the use of one message key changed. */
export function putSecretTreeWrites(
  writes: WriteSet,
  epoch: bigint,
  changed: { readonly puts: ReadonlyMap<string, Bytes>; readonly deletes: readonly string[] } | undefined,
): WriteSet {
  if (changed === undefined) return writes;
  const prefix = rowKeys.secretTree(epoch);
  for (const key of changed.deletes) writes.delete(prefix + key);
  for (const [key, row] of changed.puts) writes.put(prefix + key, row);
  return writes;
}

export function putRetained(writes: WriteSet, retained: RetainedEpoch): void {
  writes.put(rowKeys.retained(retained.epoch), encodeRetained(retained));
}

/** PSKs of this group's own past epochs, then those of the application (8.4, 8.6). */
export function pskSourceOf(group: Internals): PskSource {
  const { groupId } = group.state.public.context;
  return (id: PreSharedKeyId) => {
    if (id.kind === "resumption" && sameBytes(id.pskGroupId, groupId)) {
      return group.resumptionPsks.get(id.pskEpoch) ?? group.config.psks(id);
    }
    return group.config.psks(id);
  };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export function currentReceiveEpoch(group: Internals): ReceiveEpoch {
  const { state } = group;
  return {
    crypto: group.crypto,
    contextBytes: state.public.contextBytes,
    senderDataSecret: state.secrets.senderDataSecret,
    secretTree: state.secretTree,
    ownLeaf: state.ownLeaf,
    signatureKey: (leaf) => {
      const { tree } = state.public;
      return leaf < tree.leafSlots ? tree.signatureKey(leaf) : undefined;
    },
  };
}

/** A past epoch as it was: its members are those of today but for what the commits since then changed. O(epochs since). */
export function retainedReceiveEpoch(group: Internals, retained: RetainedEpoch): ReceiveEpoch {
  return {
    crypto: group.crypto,
    contextBytes: retained.contextBytes,
    senderDataSecret: retained.senderDataSecret,
    secretTree: retained.secretTree,
    ownLeaf: retained.ownLeaf,
    signatureKey: (leaf) => {
      const before = leafInEpoch(group, retained.epoch, leaf);
      return before === undefined ? undefined : decodeLeafNode(before).signatureKey;
    },
  };
}

/**
 * The encoded LeafNode that stood at a leaf in this epoch, past or current; undefined when the leaf was blank or the
 * epoch is not kept. O(epochs since).
 */
export function leafInEpoch(group: Internals, epoch: bigint, leaf: LeafIndex): Uint8Array | undefined {
  const { tree, context } = group.state.public;
  if (epoch !== context.epoch && !group.retained.has(epoch)) return undefined;
  for (let e = epoch; e < context.epoch; e++) {
    const later = group.retained.get(e);
    if (later === undefined) throw new InvariantError("mls/retained-epochs-have-a-gap");
    // No commit up to here changed the leaf, and here it lies outside the tree: it was blank all the time.
    if (leaf >= later.leafSlots) return undefined;
    if (later.before.has(leaf)) return later.before.get(leaf);
  }
  return leaf < tree.leafSlots ? tree.leafBytes(leaf) : undefined;
}

import { zeroize } from "@murmuration/base";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import { ownReInit, rowKeys } from "./group-rows.ts";
import { type Internals, putHead, putRetained, putSecretTree, type RetainedEpoch } from "./internals.ts";
import { type MemberState, retireState } from "./member-state.ts";
import type { StagedCommit } from "./receive-commit.ts";
import { expiredEpochs, leavesBefore } from "./retained-epochs.ts";
import type { StagedPublic } from "./stage-public.ts";
import { WriteSet } from "./store.ts";

/** When and where a commit became part of the group's history. */
export interface MergePoint {
  /** Milliseconds since 1970; only the receive window looks at it. */
  readonly nowMs: number;
  /** Place of the commit in the group log of the delivery service, where there is one. */
  readonly sequence?: bigint | undefined;
}

/** Below this many bytes deltas are not folded, so that small groups do not write their tree at every commit. */
const SMALLEST_FOLD = 1 << 16;

/**
 * Enters the epoch that a staged commit leads to: the old one goes into the receive window, spent secrets are
 * wiped, and the rows that changed are returned. O(log N) bytes, amortised: deltas are folded into a snapshot once
 * they are as large as one. A commit that removes us wipes the group.
 */
export function mergeCommit(group: Internals, staged: StagedCommit, point: MergePoint): WriteSet {
  const writes = new WriteSet();
  const old = group.state;
  if (staged.next === undefined) return wipe(group, writes);
  retainEpoch(group, old, staged.public, point, writes);
  group.state = staged.next;
  group.status = staged.public.plan.reinit === undefined ? "active" : "suspended";
  group.reinit = ownReInit(staged.public.plan.reinit);
  pruneRetained(group, point.nowMs, writes);
  rememberResumptionPsk(group, writes);
  forgetProposals(group, writes);
  dropPending(group, writes, staged);
  putTree(group, writes);
  putSecretTree(writes, group.state);
  retireState(old, group.state);
  return putHead(writes, group);
}

function retainEpoch(
  group: Internals,
  old: MemberState,
  staged: StagedPublic,
  point: MergePoint,
  writes: WriteSet,
): void {
  const { plan } = staged;
  const touched = new Set([...plan.removes, ...plan.updates.map(({ leaf }) => leaf), ...staged.addedLeaves]);
  touched.add(staged.sender);
  const { tree, context, contextBytes } = old.public;
  const inOldTree = [...touched].filter((leaf) => leaf < tree.leafSlots);
  const retained: RetainedEpoch = {
    epoch: context.epoch,
    endedAtMs: point.nowMs,
    contextBytes,
    senderDataSecret: old.secrets.senderDataSecret,
    leafSlots: tree.leafSlots,
    ownLeaf: old.ownLeaf,
    endedAtSequence: point.sequence,
    before: leavesBefore(tree, inOldTree),
    removed: plan.removes,
    secretTree: old.secretTree,
  };
  group.retained.set(context.epoch, retained);
  putRetained(writes, retained);
}

/** Forgets the epochs that the receive window does not hold any more. */
export function pruneRetained(group: Internals, nowMs: number, writes: WriteSet): WriteSet {
  for (const epoch of expiredEpochs([...group.retained.values()], group.config.receiveWindow, nowMs)) {
    const retained = group.retained.get(epoch)!;
    retained.secretTree.destroy();
    zeroize(retained.senderDataSecret);
    group.retained.delete(epoch);
    writes.delete(rowKeys.retained(epoch)).deletePrefix(rowKeys.secretTree(epoch));
  }
  return writes;
}

function rememberResumptionPsk(group: Internals, writes: WriteSet): void {
  const { epoch } = group.state.public.context;
  const psk = group.state.secrets.resumptionPsk;
  group.resumptionPsks.set(epoch, psk);
  writes.put(rowKeys.resumptionPsk(epoch), psk.slice());
  for (const past of group.resumptionPsks.keys()) {
    if (group.resumptionPsks.size <= group.config.resumptionPsks + 1) break;
    zeroize(group.resumptionPsks.get(past));
    group.resumptionPsks.delete(past);
    writes.delete(rowKeys.resumptionPsk(past));
  }
}

/** Whatever is cached belongs to one epoch. Named also where nothing is, for whoever takes the next epoch back with all of its own. */
export function forgetProposals(group: Internals, writes: WriteSet): void {
  writes.deletePrefix(rowKeys.proposals).deletePrefix(rowKeys.ownUpdates);
  group.proposals.clear();
  for (const { leafPrivateKey, signaturePrivateKey } of group.ownUpdates.values()) {
    // Keys that the new state took over live on in it.
    if (![...group.state.privateKeys.values()].includes(leafPrivateKey)) zeroize(leafPrivateKey);
    if (signaturePrivateKey !== group.state.signaturePrivateKey) zeroize(signaturePrivateKey);
  }
  group.ownUpdates.clear();
}

/**
 * Forgets the pending commit; its secrets are wiped unless it is the one that was merged. Named also where there is none, for
 * whoever takes the next epoch back with all of its own.
 */
export function dropPending(group: Internals, writes: WriteSet, merged?: StagedCommit): WriteSet {
  const { pending } = group;
  writes.delete(rowKeys.pending);
  if (pending === undefined) return writes;
  zeroize(pending.joinerSecret, pending.pskSecret);
  if (pending.staged !== merged && pending.staged.next !== undefined) {
    wipeAbandoned(pending.staged.next, group.state);
  }
  group.pending = undefined;
  return writes;
}

/** Wipes a state that never became current; what it shares with the current one stays. */
function wipeAbandoned(abandoned: MemberState, current: MemberState): void {
  const kept = new Set(current.privateKeys.values());
  for (const key of abandoned.privateKeys.values()) if (!kept.has(key)) zeroize(key);
  zeroize(...Object.values(abandoned.secrets));
  abandoned.secretTree.destroy();
  if (abandoned.signaturePrivateKey !== current.signaturePrivateKey) zeroize(abandoned.signaturePrivateKey);
}

function putTree(group: Internals, writes: WriteSet): void {
  const { tree } = group.state.public;
  const delta = tree.encodeDelta();
  const { snapshotBytes, deltaBytes, deltas } = group.treeLog;
  if (deltaBytes + delta.length <= Math.max(snapshotBytes, SMALLEST_FOLD)) {
    writes.put(rowKeys.delta(deltas), delta);
    group.treeLog = { snapshotBytes, deltaBytes: deltaBytes + delta.length, deltas: deltas + 1 };
    return;
  }
  const snapshot = tree.encodeSnapshot();
  writes.deletePrefix(rowKeys.deltas).put(rowKeys.snapshot, snapshot);
  group.treeLog = { snapshotBytes: snapshot.length, deltaBytes: 0, deltas: 0 };
}

/** Section 12.4.2: who was removed deletes the group. Nothing of it stays, in memory or in the store. */
function wipe(group: Internals, writes: WriteSet): WriteSet {
  dropPending(group, writes);
  for (const { secretTree, senderDataSecret } of group.retained.values()) {
    secretTree.destroy();
    zeroize(senderDataSecret);
  }
  group.retained.clear();
  group.proposals.clear();
  for (const keys of group.ownUpdates.values()) zeroize(keys.leafPrivateKey, keys.signaturePrivateKey);
  group.ownUpdates.clear();
  zeroize(...group.resumptionPsks.values());
  group.resumptionPsks.clear();
  group.state.secretTree.destroy();
  zeroize(group.state.secrets.senderDataSecret);
  retireState(group.state, undefined);
  group.status = "removed";
  return writes.deletePrefix("");
}

/** The tree as the store has it: the snapshot with the deltas applied in order. O(N). */
export function loadTree(
  crypto: Internals["crypto"],
  snapshot: Uint8Array,
  deltas: Iterable<Uint8Array>,
): RatchetTree {
  let tree = RatchetTree.decodeSnapshot(crypto, snapshot);
  for (const delta of deltas) {
    tree = tree.fork();
    tree.applyDelta(delta);
  }
  return tree;
}

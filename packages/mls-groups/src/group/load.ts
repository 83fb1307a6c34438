import { fromHex, InvariantError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { deriveEpochSecrets } from "../schedule/key-schedule.ts";
import { SecretTree } from "../schedule/secret-tree.ts";
import { memberState, nextContext, nextPublicEpoch } from "./advance.ts";
import type { GroupConfig } from "./group-config.ts";
import { ownCopy } from "./group-info.ts";
import {
  decodeHead,
  decodeOwnUpdate,
  decodePending,
  decodeProposalRow,
  decodeRetained,
  type Head,
  interimHashOf,
  rowKeys,
} from "./group-rows.ts";
import { type Internals, newInternals, type Pending, type RetainedEpoch } from "./internals.ts";
import type { MemberState } from "./member-state.ts";
import { loadTree } from "./merge.ts";
import { encodeGroupContext } from "./public-epoch.ts";
import { stagePublic } from "./stage-public.ts";
import type { GroupStore } from "./store.ts";

/** The inside of a group as the store has it. O(N); secret trees are read as they are needed. */
export function loadInternals(crypto: CryptoProvider, store: GroupStore, config: GroupConfig): Internals {
  const head = decodeHead(required(store, rowKeys.head));
  if (head.context.cipherSuite !== crypto.suite.id) throw new InvariantError("mls/stored-suite");
  const group = newInternals(config, loadState(crypto, store, head, config), head.status);
  group.treeLog = head.treeLog;
  group.reinit = head.reinit;
  loadResumptionPsks(group, store);
  for (const retained of loadRetained(crypto, store, config)) group.retained.set(retained.epoch, retained);
  loadProposals(group, store);
  group.pending = loadPending(group, store);
  return group;
}

function required(store: GroupStore, key: string): Uint8Array {
  const row = store.get(key);
  if (row === undefined) throw new InvariantError("mls/stored-row-missing");
  return row;
}

function secretTreeOf(
  crypto: CryptoProvider,
  store: GroupStore,
  epoch: bigint,
  leafSlots: number,
  config: GroupConfig,
): SecretTree {
  const prefix = rowKeys.secretTree(epoch);
  return SecretTree.load(crypto, leafSlots, (key) => store.get(prefix + key), config.ratchetLimits);
}

function loadState(crypto: CryptoProvider, store: GroupStore, head: Head, config: GroupConfig): MemberState {
  const deltas = Array.from({ length: head.treeLog.deltas }, (_, n) => required(store, rowKeys.delta(n)));
  const tree = loadTree(crypto, required(store, rowKeys.snapshot), deltas);
  const { context, confirmationTag } = head;
  return {
    public: {
      crypto,
      context,
      contextBytes: encodeGroupContext(context),
      tree,
      confirmationTag,
      interimTranscriptHash: interimHashOf(crypto, head),
    },
    ownLeaf: head.ownLeaf,
    signaturePrivateKey: head.signaturePrivateKey,
    privateKeys: head.privateKeys,
    secrets: head.secrets,
    secretTree: secretTreeOf(crypto, store, context.epoch, tree.leafSlots, config),
  };
}

function loadResumptionPsks(group: Internals, store: GroupStore): void {
  const epochs = [...store.keys(rowKeys.resumptionPsks)].map((key) => BigInt(key.slice(1)));
  group.resumptionPsks.clear();
  for (const epoch of epochs.sort((a, b) => (a < b ? -1 : 1))) {
    group.resumptionPsks.set(epoch, ownCopy(required(store, rowKeys.resumptionPsk(epoch))));
  }
}

function loadRetained(crypto: CryptoProvider, store: GroupStore, config: GroupConfig): RetainedEpoch[] {
  return [...store.keys("e")]
    .map((key) => decodeRetained(required(store, key)))
    .sort((a, b) => (a.epoch < b.epoch ? -1 : 1))
    .map((row) => ({ ...row, secretTree: secretTreeOf(crypto, store, row.epoch, row.leafSlots, config) }));
}

function loadProposals(group: Internals, store: GroupStore): void {
  const rows = [...store.keys(rowKeys.proposals)].map((key) => decodeProposalRow(required(store, key)));
  for (const { order, authenticated } of rows.sort((a, b) => a.order - b.order)) {
    group.proposals.add(group.crypto, authenticated, order);
  }
  for (const key of store.keys(rowKeys.ownUpdates)) {
    const reference = key.slice(rowKeys.ownUpdates.length);
    fromHex(reference);
    group.ownUpdates.set(reference, decodeOwnUpdate(required(store, key)));
  }
}

/** A pending commit is staged again from its own bytes: what is public of it is validated once more. */
function loadPending(group: Internals, store: GroupStore): Pending | undefined {
  const stored = store.get(rowKeys.pending);
  if (stored === undefined) return undefined;
  const row = decodePending(stored);
  const { content, auth } = row.authenticated;
  if (content.contentType !== "commit" || auth.confirmationTag === undefined) {
    throw new InvariantError("mls/stored-pending-commit");
  }
  const { crypto, config, state } = group;
  const resolve = (reference: Uint8Array) => group.proposals.get(reference);
  const special = { allowSubgroupPsk: "any" } as const;
  const staged = stagePublic(state.public, content.commit, content.sender, resolve, config.policy, special);
  const next = nextContext(state.public, staged, row.authenticated);
  const secrets = deriveEpochSecrets(crypto, row.joinerSecret, row.pskSecret, next.contextBytes);
  const epoch = nextPublicEpoch(state.public, staged, next, auth.confirmationTag);
  const nextState = memberState(epoch, secrets, {
    ownLeaf: state.ownLeaf,
    signaturePrivateKey: row.signaturePrivateKey,
    privateKeys: row.privateKeys,
    ratchetLimits: config.ratchetLimits,
  });
  return { ...row, staged: { public: staged, next: nextState, authenticated: row.authenticated } };
}

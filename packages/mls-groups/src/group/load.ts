import { equalBytes, equalSecret, InvariantError, invariant, RejectionError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { deriveEpochSecrets } from "../schedule/key-schedule.ts";
import { SecretTree } from "../schedule/secret-tree.ts";
import { leafToNode } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
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
import { knowsDirectPath } from "./join.ts";
import { type MemberState, secretList } from "./member-state.ts";
import { loadTree } from "./merge.ts";
import type { GroupPolicy } from "./policy.ts";
import { encodeGroupContext } from "./public-epoch.ts";
import { stagePublic } from "./stage-public.ts";
import type { GroupStore } from "./store.ts";

/**
 * The inside of a group as the store has it. O(N); secret trees are read as they are needed. Throws InvariantError when
 * rows are missing, damaged, or do not belong together: a group must not go on with half of its secrets.
 */
export function loadInternals(crypto: CryptoProvider, store: GroupStore, config: GroupConfig): Internals {
  try {
    return loadRows(crypto, store, config);
  } catch (error) {
    if (error instanceof RejectionError) throw new InvariantError("mls/stored-row-damaged", error.code);
    throw error;
  }
}

function loadRows(crypto: CryptoProvider, store: GroupStore, config: GroupConfig): Internals {
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
  requireConsistent(head, tree);
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

/** The head is that of this tree, and has every secret that a member needs in it. O(log N) and the hashes of the deltas. */
function requireConsistent({ context, ownLeaf, privateKeys, secrets }: Head, tree: RatchetTree): void {
  const { hashLength } = tree.crypto.suite;
  const whole = secretList(secrets).every((secret) => secret.length === hashLength);
  invariant(whole, "mls/stored-secrets");
  invariant(equalBytes(tree.treeHash(), context.treeHash), "mls/stored-tree-of-another-epoch");
  invariant(tree.hasMember(ownLeaf), "mls/stored-leaf-is-blank");
  invariant(privateKeys.has(leafToNode(ownLeaf)), "mls/stored-private-keys");
  invariant(knowsDirectPath(tree, ownLeaf, privateKeys), "mls/stored-private-keys");
}

function loadResumptionPsks(group: Internals, store: GroupStore): void {
  const keys = [...store.keys(rowKeys.resumptionPsks)];
  invariant(
    keys.every((key) => /^r\d+$/.test(key)),
    "mls/stored-row-key",
  );
  const epochs = keys.map((key) => BigInt(key.slice(1)));
  const { context } = group.state.public;
  group.resumptionPsks.clear();
  for (const epoch of epochs.sort((a, b) => (a < b ? -1 : 1))) {
    const psk = required(store, rowKeys.resumptionPsk(epoch));
    // One array for the current epoch's, here and among its secrets: what is wiped is then wiped everywhere.
    const held = epoch === context.epoch ? group.state.secrets.resumptionPsk : ownCopy(psk);
    invariant(equalSecret(held, psk), "mls/stored-secrets");
    group.resumptionPsks.set(epoch, held);
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
    invariant(/^([0-9a-f]{2})+$/.test(reference), "mls/stored-row-key");
    group.ownUpdates.set(reference, decodeOwnUpdate(required(store, key)));
  }
}

/**
 * The application's word on a pending commit of our own was heard when the commit was made. It is not asked for again:
 * what the policy looks things up in (a ban list, say) need not be loaded before the group is.
 */
const heardBefore: GroupPolicy = {
  credentialIsValid: () => true,
  isSuccessor: () => true,
  isSameClient: () => false,
  clientsAreSignatureKeys: true,
};

/**
 * A pending commit is staged again from its own bytes: what the RFC asks of it is validated once more. One of another epoch, which
 * was taken back, is none any more.
 */
function loadPending(group: Internals, store: GroupStore): Pending | undefined {
  const stored = store.get(rowKeys.pending);
  if (stored === undefined) return undefined;
  const row = decodePending(stored);
  const { content, auth } = row.authenticated;
  if (content.contentType !== "commit" || auth.confirmationTag === undefined) {
    throw new InvariantError("mls/stored-pending-commit");
  }
  const { crypto, config, state } = group;
  if (content.epoch !== state.public.context.epoch) return undefined;
  const resolve = (reference: Uint8Array) => group.proposals.get(reference);
  const special = { allowSubgroupPsk: "any" } as const;
  const staged = stagePublic(state.public, content.commit, content.sender, resolve, heardBefore, special);
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

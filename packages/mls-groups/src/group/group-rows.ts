import {
  type Bytes,
  decodeWhole,
  encode,
  InvariantError,
  type Reader,
  type Writer,
  zeroize,
} from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { interimTranscriptHash } from "../schedule/transcript-hash.ts";
import { type AuthenticatedContent, decodeAuthenticatedContent } from "../structs/authenticated-content.ts";
import { copyExtensions } from "../structs/extension.ts";
import { type GroupContext, readGroupContext } from "../structs/group-context.ts";
import { type ReInit, readProposal, writeProposal } from "../structs/proposal.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { PrivateKeys } from "../tree/tree-kem.ts";
import { ownContext, ownCopy } from "./group-info.ts";
import {
  type HeldSecrets,
  type MemberState,
  SECRET_COUNT,
  secretList,
  secretsFromList,
} from "./member-state.ts";
import type { EpochAge } from "./retained-epochs.ts";

/**
 * The stored form of a group. Every row begins with a version byte.
 *
 *   g               head: state of the current epoch but for tree and secret tree, and the bookkeeping
 *   t, d<n>         tree: a snapshot and the deltas since, in order
 *   s<epoch>/<row>  secret tree of an epoch, rows as the secret tree names them
 *   e<epoch>        what else it takes to receive in a past epoch
 *   p<ref>, u<ref>  cached proposal; private keys of an Update of our own
 *   c               pending commit of our own
 *   r<epoch>        resumption PSK
 */
export const rowKeys = {
  head: "g",
  snapshot: "t",
  delta: (n: number): string => `d${n.toString(16).padStart(8, "0")}`,
  deltas: "d",
  secretTree: (epoch: bigint): string => `s${epoch}/`,
  retained: (epoch: bigint): string => `e${epoch}`,
  proposal: (reference: string): string => `p${reference}`,
  proposals: "p",
  ownUpdate: (reference: string): string => `u${reference}`,
  ownUpdates: "u",
  pending: "c",
  resumptionPsk: (epoch: bigint): string => `r${epoch}`,
  resumptionPsks: "r",
} as const;

const VERSION = 1;

/** "joining": an external commit of ours waits for its acceptance. "suspended": a ReInit was committed (12.1.5). */
export type GroupStatus = "joining" | "active" | "suspended" | "removed";
const statuses: readonly GroupStatus[] = ["joining", "active", "suspended", "removed"];

/** How the tree lies in the store, to decide when deltas are folded into a new snapshot. */
export interface TreeLog {
  readonly snapshotBytes: number;
  readonly deltaBytes: number;
  readonly deltas: number;
}

export interface Head {
  readonly status: GroupStatus;
  readonly context: GroupContext;
  readonly confirmationTag: Bytes;
  readonly ownLeaf: LeafIndex;
  readonly signaturePrivateKey: Bytes;
  readonly privateKeys: PrivateKeys;
  readonly secrets: HeldSecrets;
  readonly treeLog: TreeLog;
  readonly reinit: ReInit | undefined;
}

function versioned(write: (writer: Writer) => void): Bytes {
  return encode(undefined, (writer) => write(writer.uint8(VERSION)), 1024);
}

const readVersioned = <T>(row: Uint8Array, read: (reader: Reader) => T): T =>
  decodeVersioned(row.slice(), read);

function decodeVersioned<T>(row: Uint8Array, read: (reader: Reader) => T): T {
  return decodeWhole(row, (reader) => {
    if (reader.uint8() !== VERSION) throw new InvariantError("mls/stored-row-version");
    return read(reader);
  });
}

function writeKeys(writer: Writer, keys: PrivateKeys): void {
  writer.vector(keys, (w, [node, key]) => w.uint32(node).bytes(key));
}

function readKeys(reader: Reader): PrivateKeys {
  return new Map(reader.vector((r) => [r.uint32(), ownCopy(r.bytes())] as const));
}

/** O(log N) bytes: private keys of one direct path and a few secrets, about 1 KB. */
export function encodeHead(
  state: MemberState,
  status: GroupStatus,
  treeLog: TreeLog,
  reinit: ReInit | undefined,
): Bytes {
  return versioned((writer) => {
    writer
      .uint8(statuses.indexOf(status))
      .fixed(state.public.contextBytes)
      .bytes(state.public.confirmationTag);
    writer.uint32(state.ownLeaf).bytes(state.signaturePrivateKey);
    writeKeys(writer, state.privateKeys);
    writer.vector(secretList(state.secrets), (w, secret) => w.bytes(secret));
    writer.uint32(treeLog.snapshotBytes).uint32(treeLog.deltaBytes).uint32(treeLog.deltas);
    writer.optional(reinit, writeProposal);
  });
}

/** In bytes of its own: what goes on to the next epochs must not hold the row, which has all secrets of this one. */
export function decodeHead(row: Uint8Array): Head {
  const bytes = row.slice();
  try {
    return readHead(bytes);
  } finally {
    zeroize(bytes);
  }
}

function readHead(row: Uint8Array): Head {
  return decodeVersioned(row, (reader) => {
    const status = statuses[reader.uint8()];
    if (status === undefined) throw new InvariantError("mls/stored-row-status");
    return {
      status,
      context: ownContext(readGroupContext(reader)),
      confirmationTag: ownCopy(reader.bytes()),
      ownLeaf: reader.uint32(),
      signaturePrivateKey: ownCopy(reader.bytes()),
      privateKeys: readKeys(reader),
      secrets: readSecrets(reader),
      treeLog: { snapshotBytes: reader.uint32(), deltaBytes: reader.uint32(), deltas: reader.uint32() },
      reinit: ownReInit(reader.optional(readReInit)),
    };
  });
}

function readSecrets(reader: Reader): HeldSecrets {
  const list = reader.vector((r) => ownCopy(r.bytes()));
  if (list.length !== SECRET_COUNT) throw new InvariantError("mls/stored-secrets");
  return secretsFromList(list);
}

/** The ReInit without the message, or the row, that it came in: it stays until the new group is there. */
export function ownReInit(reinit: ReInit | undefined): ReInit | undefined {
  if (reinit === undefined) return undefined;
  return { ...reinit, groupId: reinit.groupId.slice(), extensions: copyExtensions(reinit.extensions) };
}

function readReInit(reader: Reader): ReInit {
  const proposal = readProposal(reader);
  if (proposal.kind !== "reinit") throw new InvariantError("mls/stored-row-reinit");
  return proposal;
}

/** What it takes to receive in a past epoch, beside its secret tree. */
export interface RetainedRow extends EpochAge {
  readonly contextBytes: Bytes;
  readonly senderDataSecret: Bytes;
  readonly leafSlots: number;
  readonly ownLeaf: LeafIndex;
  /** Place in the group log of the commit that ended the epoch, where the caller gave one. */
  readonly endedAtSequence: bigint | undefined;
  /** Leaves that the commit which ended the epoch changed, as they were in it; undefined for blank. */
  readonly before: ReadonlyMap<LeafIndex, Bytes | undefined>;
  /** Leaves whose members that commit removed. */
  readonly removed: readonly LeafIndex[];
}

export function encodeRetained(row: RetainedRow): Bytes {
  return versioned((writer) => {
    writer
      .uint64(row.epoch)
      .uint64(BigInt(row.endedAtMs))
      .bytes(row.contextBytes)
      .bytes(row.senderDataSecret);
    writer.uint32(row.leafSlots).uint32(row.ownLeaf);
    writer.optional(row.endedAtSequence, (w, sequence) => w.uint64(sequence));
    writer.vector(row.before, (w, [leaf, bytes]) => w.uint32(leaf).optional(bytes, (v, b) => v.bytes(b)));
    writer.vector(row.removed, (w, leaf) => w.uint32(leaf));
  });
}

export function decodeRetained(bytes: Uint8Array): RetainedRow {
  return readVersioned(bytes, (reader) => ({
    epoch: reader.uint64(),
    endedAtMs: Number(reader.uint64()),
    contextBytes: ownCopy(reader.bytes()),
    senderDataSecret: ownCopy(reader.bytes()),
    leafSlots: reader.uint32(),
    ownLeaf: reader.uint32(),
    endedAtSequence: reader.optional((r) => r.uint64()),
    before: new Map(
      reader.vector((r) => [r.uint32(), r.optional((inner) => ownCopy(inner.bytes()))] as const),
    ),
    removed: reader.vector((r) => r.uint32()),
  }));
}

/** A proposal that was verified when it came, with its place in the order of arrival. */
export interface ProposalRow {
  readonly order: number;
  readonly authenticated: AuthenticatedContent;
}

export function encodeProposalRow(row: ProposalRow): Bytes {
  return versioned((writer) => writer.uint32(row.order).bytes(row.authenticated.bytes.subarray(2)));
}

export function decodeProposalRow(bytes: Uint8Array): ProposalRow {
  return readVersioned(bytes, (reader) => ({
    order: reader.uint32(),
    authenticated: decodeAuthenticatedContent(reader.bytes()),
  }));
}

export function encodeOwnUpdate(keys: {
  readonly leafPrivateKey: Bytes;
  readonly signaturePrivateKey: Bytes;
}): Bytes {
  return versioned((writer) => writer.bytes(keys.leafPrivateKey).bytes(keys.signaturePrivateKey));
}

export function decodeOwnUpdate(bytes: Uint8Array): { leafPrivateKey: Bytes; signaturePrivateKey: Bytes } {
  return readVersioned(bytes, (reader) => ({
    leafPrivateKey: ownCopy(reader.bytes()),
    signaturePrivateKey: ownCopy(reader.bytes()),
  }));
}

/** A pending commit: the rest of the new epoch follows from the commit itself and the group's state. */
export interface PendingRow {
  readonly message: Bytes;
  readonly authenticated: AuthenticatedContent;
  readonly joinerSecret: Bytes;
  readonly pskSecret: Bytes;
  readonly signaturePrivateKey: Bytes;
  readonly privateKeys: PrivateKeys;
  /** MLSMessages; the Welcome is empty when nobody was added. */
  readonly welcome: Bytes;
  readonly groupInfo: Bytes;
}

export function encodePending(row: PendingRow): Bytes {
  return versioned((writer) => {
    writer.bytes(row.message).bytes(row.authenticated.bytes.subarray(2));
    writer.bytes(row.joinerSecret).bytes(row.pskSecret).bytes(row.signaturePrivateKey);
    writeKeys(writer, row.privateKeys);
    writer.bytes(row.welcome).bytes(row.groupInfo);
  });
}

export function decodePending(bytes: Uint8Array): PendingRow {
  return readVersioned(bytes, (reader) => ({
    message: ownCopy(reader.bytes()),
    authenticated: decodeAuthenticatedContent(reader.bytes()),
    joinerSecret: ownCopy(reader.bytes()),
    pskSecret: ownCopy(reader.bytes()),
    signaturePrivateKey: ownCopy(reader.bytes()),
    privateKeys: readKeys(reader),
    welcome: ownCopy(reader.bytes()),
    groupInfo: ownCopy(reader.bytes()),
  }));
}

/** The interim transcript hash is not stored: it follows from two values that are (8.2). */
export function interimHashOf(
  crypto: CryptoProvider,
  head: Pick<Head, "context" | "confirmationTag">,
): Bytes {
  return interimTranscriptHash(crypto, head.context.confirmedTranscriptHash, head.confirmationTag);
}

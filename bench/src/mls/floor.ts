/**
 * The least that RFC 9420 asks for, in operations, and what that costs with this machine's primitives. No
 * implementation that does its work can do fewer of these; what it takes beyond is its own.
 *
 * Suite 1. Commits are PublicMessages. Bookkeeping, copying, parsing and storage cost nothing here.
 */
import type { PrimitiveCosts } from "./primitives.ts";
import type { Counts, Operation } from "./rows.ts";

export interface FloorCounts {
  readonly sign?: number;
  readonly verify?: number;
  readonly generateHpkeKeyPair?: number;
  readonly deriveHpkeKeyPair?: number;
  readonly hpkeSeal?: number;
  readonly hpkeOpen?: number;
  readonly hash?: number;
  readonly mac?: number;
  readonly extract?: number;
  readonly expand?: number;
  readonly seal?: number;
  readonly open?: number;
  /** Bytes beyond the first 64 of what is hashed. */
  readonly hashBytes?: number;
}

/** What a commit adds to the key schedule: joiner, member and epoch secret, then nine secrets of the epoch. */
const KEY_SCHEDULE = { extract: 2, expand: 11 } as const;
/** Encoded sizes that a tree of the benchmark's fixtures has, in bytes beyond the first 64 hashed. */
const LEAF_HASH_BYTES = 150;
const PARENT_HASH_BYTES = 75;
const PARENT_HASH_INPUT_BYTES = 35;

/** Height of a tree of this many members. */
const heightOf = (members: number): number => Math.ceil(Math.log2(members));

/** Levels of the filtered direct path of a leaf when leaves 0 to members - 1 are occupied (4.1.2). */
function filteredLevels(leaf: number, members: number): number[] {
  const levels: number[] = [];
  for (let level = 1; level <= heightOf(members); level++) {
    const copathStart = ((leaf >> (level - 1)) ^ 1) << (level - 1);
    if (copathStart < members) levels.push(level);
  }
  return levels;
}

const meanOf = (values: readonly number[]): number =>
  values.reduce((total, value) => total + value, 0) / Math.max(1, values.length);

/** Mean length of the path that these committers set. */
export function meanPathLength(committers: readonly number[], members: number): number {
  return meanOf(committers.map((leaf) => filteredLevels(leaf, members).length));
}

/**
 * Mean, over committers and receivers, of how many nodes of the committer's path lie at or above the lowest
 * common ancestor: those whose keys the receiver derives.
 */
export function meanSharedNodes(
  committers: readonly number[],
  receivers: readonly number[],
  members: number,
): number {
  const pairs = committers.flatMap((committer) =>
    receivers.filter((leaf) => leaf !== committer).map((leaf) => [committer, leaf] as const),
  );
  return meanOf(
    pairs.map(([committer, leaf]) => {
      const ancestorLevel = 32 - Math.clz32(committer ^ leaf);
      return filteredLevels(committer, members).filter((level) => level >= ancestorLevel).length;
    }),
  );
}

/** Tree hashes of the leaf and every node above it, and parent hashes along the path (7.8, 7.9). */
const pathHashes = (members: number, path: number): FloorCounts => ({
  hash: heightOf(members) + 1 + path,
  hashBytes: LEAF_HASH_BYTES + heightOf(members) * PARENT_HASH_BYTES + path * PARENT_HASH_INPUT_BYTES,
});

function sum(...parts: readonly FloorCounts[]): FloorCounts {
  const total: Record<string, number> = {};
  for (const part of parts) {
    for (const [name, value] of Object.entries(part)) total[name] = (total[name] ?? 0) + value;
  }
  return total;
}

function commitCreate({ members, bytes, path }: FloorInput, ciphertexts: number): FloorCounts {
  return sum(KEY_SCHEDULE, pathHashes(members, path), {
    // The leaf, the framed content and the GroupInfo.
    sign: 3,
    deriveHpkeKeyPair: path + 1,
    // Each path secret from the one below, the node secret of each, and the commit secret.
    expand: 2 * path + 2,
    hpkeSeal: ciphertexts,
    // Confirmed and interim transcript hash; confirmation and membership tag.
    hash: 2,
    hashBytes: bytes,
    mac: 2,
  });
}

function commitProcess({ members, bytes, path, shared }: FloorInput): FloorCounts {
  return sum(KEY_SCHEDULE, pathHashes(members, path), {
    // The framed content and the leaf of the path.
    verify: 2,
    hpkeOpen: 1,
    deriveHpkeKeyPair: shared,
    expand: 2 * shared,
    hash: 2,
    hashBytes: bytes,
    mac: 2,
  });
}

/**
 * Tree hashes of a whole tree (7.8). A blank leaf is hashed with its index, so the blank part of a tree whose
 * width is no power of two costs as many hashes as the rest.
 */
function wholeTree(members: number): FloorCounts {
  const slots = 2 ** heightOf(members);
  return {
    hash: 2 * slots - 1,
    hashBytes: members * LEAF_HASH_BYTES + (slots - 1) * PARENT_HASH_BYTES,
  };
}

function join(members: number, warm: boolean): FloorCounts {
  const parents = members - 1;
  return sum(
    wholeTree(members),
    {
      // Every leaf and the GroupInfo.
      verify: members + 1,
      hpkeOpen: 1,
      extract: 1,
      expand: 13,
      open: 1,
      mac: 1,
      // KeyPackageRef.
      hash: 1,
    },
    // One parent hash for each parent node; original sibling hashes are those of the tree but for unmerged leaves.
    warm ? { hash: parents, hashBytes: parents * PARENT_HASH_INPUT_BYTES } : {},
  );
}

function bulkAdd(members: number, bytes: number): FloorCounts {
  const added = members - 1;
  return sum(KEY_SCHEDULE, wholeTree(members), {
    // The KeyPackage and its LeafNode.
    verify: 2 * added,
    hpkeSeal: added,
    // The framed content and the GroupInfo.
    sign: 2,
    // KeyPackageRef of each, and the transcript.
    hash: added + 2,
    hashBytes: added * LEAF_HASH_BYTES + bytes,
    mac: 2,
    expand: 3,
    seal: 1,
  });
}

/** Sizes and members that were measured, where the floor depends on them. */
export interface FloorInput {
  readonly members: number;
  /** Encoded size of the operation's commit, Welcome or message. */
  readonly bytes: number;
  /** Length of the filtered direct path, mean over the measured committers. */
  readonly path: number;
  /** Nodes at or above the common ancestor, mean over the measured pairs. */
  readonly shared: number;
}

/** The floor of one operation in counts; undefined where the work is not cryptographic (load, storage). */
export function floorCounts(operation: Operation, input: FloorInput): FloorCounts | undefined {
  const { members, bytes } = input;
  switch (operation) {
    case "key-package":
      return { generateHpkeKeyPair: 2, sign: 2 };
    case "bulk-add":
      return bulkAdd(members, bytes);
    case "join-cold":
    case "join-cold-pooled":
      return join(members, false);
    case "join-warm":
    case "join-warm-pooled":
      return join(members, true);
    case "commit-create-cold":
      return commitCreate(input, members - 1);
    case "commit-process-cold":
      return commitProcess(input);
    case "commit-create-warm":
      return commitCreate(input, input.path);
    case "commit-process-warm":
      return commitProcess(input);
    case "application-create":
      // Key, nonce and next secret of the ratchet; sender data key and nonce; two encryptions; a signature.
      return { sign: 1, expand: 5, seal: 2 };
    case "application-process":
      return { verify: 1, expand: 5, open: 2 };
    case "store-application":
      // The sender's first in its epoch: the secrets on the way down to its leaf and beside it, and its two ratchets.
      return { verify: 1, expand: 5 + 2 * heightOf(members) + 2, open: 2 };
    case "store-commit":
      return commitProcess(input);
    case "load":
      return undefined;
  }
}

/** Milliseconds of these counts. HPKE is its scalar multiplications, six HMACs and one AEAD call (RFC 9180). */
export function floorMs(counts: FloorCounts, cost: PrimitiveCosts): number {
  const hpke = 6 * cost.mac;
  const us: Readonly<Record<keyof FloorCounts, number>> = {
    sign: cost.sign,
    verify: cost.verify + cost.importPublicKey,
    generateHpkeKeyPair: cost.generateKeyPair,
    // Two HMACs make the private key; the public key is one scalar multiplication.
    deriveHpkeKeyPair: 2 * cost.mac + cost.derivePublicKey,
    hpkeSeal: cost.generateKeyPair + cost.importPublicKey + cost.diffieHellman + hpke + cost.seal,
    hpkeOpen: cost.importPublicKey + cost.diffieHellman + hpke + cost.open,
    hash: cost.hash,
    hashBytes: cost.hashByte,
    mac: cost.mac,
    extract: cost.mac,
    expand: cost.mac,
    seal: cost.seal,
    open: cost.open,
  };
  let total = 0;
  for (const [name, count] of Object.entries(counts)) total += count * us[name as keyof FloorCounts];
  return total / 1000;
}

const COMPARED: readonly (keyof FloorCounts)[] = [
  "sign",
  "verify",
  "generateHpkeKeyPair",
  "hpkeSeal",
  "hpkeOpen",
  "deriveHpkeKeyPair",
];

/**
 * The floor claims no more than what was done: each public-key operation of it must appear in the counts of an
 * implementation that did the work. Returns what contradicts, empty if nothing does.
 */
export function contradictions(operation: Operation, floor: FloorCounts, done: Counts): string[] {
  return COMPARED.flatMap((name) => {
    const [claimed, counted] = [floor[name] ?? 0, done[name] ?? 0];
    return claimed > counted + 0.01
      ? [`${operation}: the floor claims ${claimed.toFixed(2)} ${name}, ${counted} were counted`]
      : [];
  });
}

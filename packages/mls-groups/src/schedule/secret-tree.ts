import { type Bytes, InvariantError, RejectionError, UsageError, utf8, zeroize } from "@murmuration/base";
import { deriveSecret, expandWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import {
  type LeafIndex,
  leafToNode,
  left,
  type NodeIndex,
  parent,
  root,
  sibling,
  slotsFor,
} from "../tree/math.ts";
import {
  decodeRatchet,
  encodeRatchet,
  type HashRatchet,
  type MessageKey,
  type RatchetLimits,
  type RatchetStep,
  stepTo,
  stepToSend,
  wipeRatchet,
} from "./hash-ratchet.ts";

/** Each leaf has two ratchets: proposals and commits, and application data (RFC 9420 section 9). */
export type RatchetType = "handshake" | "application";

/** Bounds of {@link SecretTree}; what is left out takes its default. */
export type SecretTreeLimits = Partial<RatchetLimits>;

/** 1,024 generations forward cost a receiver about 3 ms; 32 skipped keys are 1 KB of state in suite 1. */
export const DEFAULT_RATCHET_LIMITS: RatchetLimits = { maxForward: 1024, maxSkipped: 32 };

/** Rows that one message changed, to be written in one transaction. Keys are short ASCII, values are secrets. */
export interface SecretTreeWrites {
  readonly puts: ReadonlyMap<string, Bytes>;
  readonly deletes: readonly string[];
}

/** Reads a row that was written earlier. */
export type RowSource = (key: string) => Uint8Array | undefined;

/**
 * The key of one message, found but not consumed. Exactly one of `merge` and `discard` ends it; both wipe
 * `key` and `nonce`, so use them first.
 */
export interface StagedKey extends MessageKey {
  readonly leaf: LeafIndex;
  readonly type: RatchetType;
  /**
   * Consumes the generation: it and everything above it is deleted, and the tree moves on. Returns the rows
   * to write. Throws UsageError `mls/stale-staged-key` if another key was merged since this one was staged,
   * or if it was ended already; nothing changes then.
   */
  merge(): SecretTreeWrites;
  /** Leaves the tree as it was. Harmless after merge. */
  discard(): void;
}

/** New secrets of the nodes beside the way down to a leaf, and the leaf's two fresh ratchets. */
interface Descent {
  /** The stored ancestor that the way starts at; its secret is consumed with the first message. */
  readonly from: NodeIndex;
  readonly siblings: ReadonlyMap<NodeIndex, Bytes>;
  readonly ratchets: Readonly<Record<RatchetType, HashRatchet>>;
}

/**
 * The secret tree of an epoch (RFC 9420 section 9). Lazy: it holds the secrets of the frontier, that is of
 * the highest nodes no message came through yet, and the ratchets of leaves that were used. It starts as one
 * secret whatever N is. A leaf's first message costs 2 log2 N + 2 HMACs and as many secrets, each later one
 * three HMACs.
 *
 * A key is staged, used, and then merged or discarded: a forged ciphertext changes nothing. Merge when the
 * AEAD has opened and the signature is valid; any member can encrypt under another's key, and only the
 * signature keeps it from using up that sender's generations. A sender merges and writes the rows before
 * the message leaves.
 *
 * Rows: `n` and a node index hold a frontier secret, `h` or `a` and a leaf index a ratchet. A received
 * message writes one row, a leaf's first log2 N + 2: 1.7 KB at most in suite 1 with 16,384 leaves and the
 * default limits, 0.7 KB when nothing was skipped.
 */
export class SecretTree {
  readonly #crypto: CryptoProvider;
  readonly #leafSlots: number;
  readonly #limits: RatchetLimits;
  readonly #source: RowSource | undefined;
  readonly #nodes = new Map<NodeIndex, Bytes>();
  readonly #ratchets: Readonly<Record<RatchetType, Map<LeafIndex, HashRatchet>>> = {
    handshake: new Map(),
    application: new Map(),
  };
  /** Counts merges, to notice a key that was staged before another merge. */
  #merges = 0;

  private constructor(
    crypto: CryptoProvider,
    leaves: number,
    limits: SecretTreeLimits,
    source: RowSource | undefined,
  ) {
    this.#crypto = crypto;
    this.#leafSlots = slotsFor(leaves);
    this.#limits = { ...DEFAULT_RATCHET_LIMITS, ...limits };
    this.#source = source;
  }

  /** The tree of a new epoch. It takes encryption_secret over and deletes it at the first message. O(1). */
  static create(
    crypto: CryptoProvider,
    encryptionSecret: Bytes,
    leaves: number,
    limits: SecretTreeLimits = {},
  ): SecretTree {
    if (encryptionSecret.length !== crypto.suite.hashLength) {
      throw new UsageError("mls/bad-argument", "encryption secret");
    }
    const tree = new SecretTree(crypto, leaves, limits, undefined);
    tree.#nodes.set(root(tree.#leafSlots), encryptionSecret);
    return tree;
  }

  /** A tree whose rows were written before; they are read when a leaf needs them. O(1). */
  static load(
    crypto: CryptoProvider,
    leaves: number,
    source: RowSource,
    limits: SecretTreeLimits = {},
  ): SecretTree {
    return new SecretTree(crypto, leaves, limits, source);
  }

  /** All rows held in memory: what {@link SecretTree.load} needs right after {@link SecretTree.create}. */
  rows(): Map<string, Bytes> {
    const rows = new Map<string, Bytes>();
    for (const [node, secret] of this.#nodes) rows.set(nodeKey(node), secret.slice());
    for (const type of ["handshake", "application"] as const) {
      for (const [leaf, ratchet] of this.#ratchets[type])
        rows.set(ratchetKey(type, leaf), encodeRatchet(ratchet));
    }
    return rows;
  }

  /**
   * The next key of our own leaf. Merge it and write the rows before the message leaves: a generation must
   * never encrypt twice. Throws UsageError `mls/generations-exhausted` after 2^32 messages.
   */
  stageSend(leaf: LeafIndex, type: RatchetType): StagedKey {
    return this.#stage(leaf, type, (ratchet) => stepToSend(this.#crypto, ratchet, this.#limits));
  }

  /**
   * The key of a received message. Throws RejectionError `mls/no-such-sender` for a leaf outside the tree,
   * `mls/generation-too-far` before any derivation, or `mls/generation-spent`.
   */
  stageReceive(leaf: LeafIndex, type: RatchetType, generation: number): StagedKey {
    if (leaf >= this.#leafSlots) throw new RejectionError("mls/no-such-sender");
    // Before the way down to the leaf is derived; a ratchet that exists has its own check.
    if (this.#ratchet(leaf, type) === undefined && generation > this.#limits.maxForward) {
      throw new RejectionError("mls/generation-too-far");
    }
    return this.#stage(leaf, type, (ratchet) => stepTo(this.#crypto, ratchet, generation, this.#limits));
  }

  /** Wipes every secret in memory; the tree is unusable after it. The caller deletes the rows. */
  destroy(): void {
    for (const secret of this.#nodes.values()) zeroize(secret);
    this.#nodes.clear();
    for (const ratchets of Object.values(this.#ratchets)) {
      for (const ratchet of ratchets.values()) wipeRatchet(ratchet, undefined);
      ratchets.clear();
    }
    this.#merges++;
  }

  #stage(leaf: LeafIndex, type: RatchetType, step: (ratchet: HashRatchet) => RatchetStep): StagedKey {
    const known = this.#ratchet(leaf, type);
    const descent = known === undefined ? this.#descend(leaf) : undefined;
    const before = known ?? descent!.ratchets[type];
    const { messageKey, after } = step(before);
    const merges = this.#merges;
    let ended = false;
    const end = () => {
      ended = true;
      zeroize(messageKey.key, messageKey.nonce);
    };
    return {
      ...messageKey,
      leaf,
      type,
      merge: () => {
        if (ended || merges !== this.#merges) throw new UsageError("mls/stale-staged-key");
        end();
        return this.#merge(leaf, type, descent, before, after);
      },
      discard: () => {
        if (ended) return;
        end();
        wipeRatchet(after, before);
        if (descent !== undefined) wipeDescent(descent);
      },
    };
  }

  #merge(
    leaf: LeafIndex,
    type: RatchetType,
    descent: Descent | undefined,
    before: HashRatchet,
    after: HashRatchet,
  ): SecretTreeWrites {
    this.#merges++;
    const puts = new Map<string, Bytes>();
    const deletes: string[] = [];
    if (descent !== undefined) {
      zeroize(this.#nodes.get(descent.from));
      this.#nodes.delete(descent.from);
      deletes.push(nodeKey(descent.from));
      for (const [node, secret] of descent.siblings) {
        this.#nodes.set(node, secret);
        puts.set(nodeKey(node), secret.slice());
      }
      const other = type === "handshake" ? "application" : "handshake";
      this.#ratchets[other].set(leaf, descent.ratchets[other]);
      puts.set(ratchetKey(other, leaf), encodeRatchet(descent.ratchets[other]));
    }
    wipeRatchet(before, after);
    this.#ratchets[type].set(leaf, after);
    puts.set(ratchetKey(type, leaf), encodeRatchet(after));
    return { puts, deletes };
  }

  #ratchet(leaf: LeafIndex, type: RatchetType): HashRatchet | undefined {
    const known = this.#ratchets[type].get(leaf);
    if (known !== undefined) return known;
    const row = this.#source?.(ratchetKey(type, leaf));
    if (row === undefined) return undefined;
    const ratchet = decodeRatchet(this.#crypto, row);
    this.#ratchets[type].set(leaf, ratchet);
    return ratchet;
  }

  /**
   * Rows of deleted nodes may still be in the source when a caller has not written yet. They are never read:
   * the walk upwards meets the children's secrets, which replaced them in memory, first.
   */
  #node(node: NodeIndex): Bytes | undefined {
    const known = this.#nodes.get(node);
    if (known !== undefined) return known;
    const row = this.#source?.(nodeKey(node));
    if (row === undefined) return undefined;
    if (row.length !== this.#crypto.suite.hashLength) throw new InvariantError("mls/bad-secret-tree-row");
    const secret = new Uint8Array(row);
    this.#nodes.set(node, secret);
    return secret;
  }

  /** Derives the way from the lowest stored ancestor down to a leaf, without storing anything. */
  #descend(leaf: LeafIndex): Descent {
    if (!Number.isInteger(leaf) || leaf < 0 || leaf >= this.#leafSlots) {
      throw new UsageError("mls/bad-argument", "leaf index");
    }
    const top = root(this.#leafSlots);
    const way: NodeIndex[] = [];
    let from = leafToNode(leaf);
    let found = this.#node(from);
    while (found === undefined) {
      if (from === top) throw new InvariantError("mls/secret-tree-without-frontier");
      way.push(from);
      from = parent(from);
      found = this.#node(from);
    }
    const stored: Bytes = found;
    const siblings = new Map<NodeIndex, Bytes>();
    let secret = stored;
    for (let above = from; way.length > 0; ) {
      const next = way.pop()!;
      const side: Side = next === left(above) ? "left" : "right";
      const below = this.#child(secret, side);
      siblings.set(sibling(next), this.#child(secret, side === "left" ? "right" : "left"));
      if (secret !== stored) zeroize(secret);
      secret = below;
      above = next;
    }
    const ratchets = {
      handshake: this.#first(secret, "handshake"),
      application: this.#first(secret, "application"),
    };
    if (secret !== stored) zeroize(secret);
    return { from, siblings, ratchets };
  }

  #child(secret: Uint8Array, side: Side): Bytes {
    return expandWithLabel(this.#crypto, secret, "tree", SIDES[side], this.#crypto.suite.hashLength);
  }

  #first(leafSecret: Uint8Array, type: RatchetType): HashRatchet {
    return { next: 0, secret: deriveSecret(this.#crypto, leafSecret, type), skipped: [] };
  }
}

type Side = "left" | "right";

const SIDES: Readonly<Record<Side, Uint8Array>> = { left: utf8("left"), right: utf8("right") };

function wipeDescent(descent: Descent): void {
  for (const secret of descent.siblings.values()) zeroize(secret);
  for (const ratchet of Object.values(descent.ratchets)) wipeRatchet(ratchet, undefined);
}

function nodeKey(node: NodeIndex): string {
  return `n${node}`;
}

function ratchetKey(type: RatchetType, leaf: LeafIndex): string {
  return `${type === "handshake" ? "h" : "a"}${leaf}`;
}

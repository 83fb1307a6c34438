/**
 * Groups to measure on, made as data instead of by protocol.
 *
 * Warming N leaves by commits would cost each implementation N times what is to be measured. But what a warm
 * tree looks like is known: every parent node with members on both sides has a key that its last committer
 * set, and a parent hash that links it to the child on that committer's side (RFC 9420 section 7.9). One
 * top-down pass makes such a tree, valid in every check of a joiner, in O(N); private keys follow from a seed,
 * so the state of any member can be made on demand.
 */
import { type Bytes, encode, utf8, type Writer } from "@murmuration/base";
import {
  derived,
  type EpochSecrets,
  epochSecrets,
  hmac,
  type KeyPair,
  keyPairOf,
  refHash,
  SUITE,
  sha256,
  signWithLabel,
} from "./key-material.ts";

const MLS10 = 1;
const BASIC = 1;
/** From the epoch of the clock to its end: no implementation's clock decides a benchmark. */
const LIFETIME = { notBefore: 0n, notAfter: 0xffff_ffff_ffff_ffffn };

/** What leaves and GroupContext of a group carry beside keys. */
export interface GroupForm {
  /** Identity of the basic credential of the member with this number. */
  readonly identity: (index: number, signatureKey: Uint8Array) => Bytes;
  /** Types of extensions and proposals that every leaf supports beyond the default ones. */
  readonly extensionTypes: readonly number[];
  readonly proposalTypes: readonly number[];
  readonly contextExtensions: readonly { readonly type: number; readonly data: Uint8Array }[];
}

/** As little as RFC 9420 allows: what implementations are compared on. */
const plainForm: GroupForm = {
  identity: (index) => utf8(`member-${index}`),
  extensionTypes: [],
  proposalTypes: [],
  contextExtensions: [],
};

type LeafSource = { readonly kind: "key_package" } | { readonly kind: "commit"; readonly parentHash: Bytes };

export interface LeafFixture {
  readonly identity: Bytes;
  readonly signatureKeys: KeyPair;
  readonly encryptionKeys: KeyPair;
  readonly source: LeafSource;
  readonly signature: Bytes;
  /** Encoded LeafNode. */
  readonly encoded: Bytes;
}

export interface KeyPackageFixture extends LeafFixture {
  readonly initKeys: KeyPair;
  /** Encoded KeyPackage. */
  readonly keyPackage: Bytes;
  readonly keyPackageSignature: Bytes;
  readonly reference: Bytes;
}

interface ParentFixture {
  readonly keys: KeyPair;
  readonly parentHash: Bytes;
}

export interface GroupFixture {
  readonly members: number;
  readonly groupId: Bytes;
  readonly epoch: bigint;
  readonly leafSlots: number;
  /** By leaf index. */
  readonly leaves: readonly LeafFixture[];
  /** By node index; parents that are not blank. */
  readonly parents: ReadonlyMap<number, ParentFixture>;
  /** Content of the ratchet_tree extension. */
  readonly ratchetTree: Bytes;
  readonly treeHash: Bytes;
  readonly confirmedTranscriptHash: Bytes;
  readonly confirmationTag: Bytes;
  readonly interimTranscriptHash: Bytes;
  /** Encoded GroupContext. */
  readonly groupContext: Bytes;
  readonly secrets: EpochSecrets;
}

/** Private keys that the member at `leaf` holds, by node index: its leaf and what is not blank above it. */
export function privateKeysOf(group: GroupFixture, leaf: number): Map<number, Bytes> {
  const keys = new Map<number, Bytes>([[leaf * 2, group.leaves[leaf]!.encryptionKeys.privateKey]]);
  let low = 0;
  let width = group.leafSlots;
  while (width > 1) {
    const parent = group.parents.get((low + width / 2) * 2 - 1);
    if (parent !== undefined) keys.set((low + width / 2) * 2 - 1, parent.keys.privateKey);
    width /= 2;
    if (leaf >= low + width) low += width;
  }
  return keys;
}

function writeLeafContent(
  writer: Writer,
  leaf: Pick<LeafFixture, "identity" | "signatureKeys" | "encryptionKeys" | "source">,
  form: GroupForm,
): void {
  writer.bytes(leaf.encryptionKeys.publicKey).bytes(leaf.signatureKeys.publicKey);
  writer.uint16(BASIC).bytes(leaf.identity);
  writer.nested((versions) => versions.uint16(MLS10));
  writer.nested((suites) => suites.uint16(SUITE));
  for (const types of [form.extensionTypes, form.proposalTypes]) {
    writer.nested((inner) => {
      for (const type of types) inner.uint16(type);
    });
  }
  writer.nested((credentials) => credentials.uint16(BASIC));
  if (leaf.source.kind === "key_package")
    writer.uint8(1).uint64(LIFETIME.notBefore).uint64(LIFETIME.notAfter);
  else writer.uint8(3).bytes(leaf.source.parentHash);
  writer.varint(0);
}

function makeLeaf(
  seed: string,
  index: number,
  source: LeafSource,
  form: GroupForm,
  groupId?: Uint8Array,
): LeafFixture {
  const signatureKeys = keyPairOf("Ed25519", derived(seed, "signature", index));
  const content = {
    identity: form.identity(index, signatureKeys.publicKey),
    signatureKeys,
    encryptionKeys: keyPairOf("X25519", derived(seed, "encryption", index)),
    source,
  };
  const tbs = encode(content, (writer) => {
    writeLeafContent(writer, content, form);
    if (source.kind === "commit") writer.bytes(groupId!).uint32(index);
  });
  const signature = signWithLabel(content.signatureKeys.privateKey, "LeafNodeTBS", tbs);
  const encoded = encode(content, (writer) => {
    writeLeafContent(writer, content, form);
    writer.bytes(signature);
  });
  return { ...content, signature, encoded };
}

/** The KeyPackage of the member with this number, with every private key. */
export function makeKeyPackage(seed: string, index: number, form: GroupForm = plainForm): KeyPackageFixture {
  const leaf = makeLeaf(seed, index, { kind: "key_package" }, form);
  const initKeys = keyPairOf("X25519", derived(seed, "init", index));
  const content = encode(leaf, (writer) =>
    writer.uint16(MLS10).uint16(SUITE).bytes(initKeys.publicKey).fixed(leaf.encoded).varint(0),
  );
  const keyPackageSignature = signWithLabel(leaf.signatureKeys.privateKey, "KeyPackageTBS", content);
  const keyPackage = encode(content, (writer) => writer.fixed(content).bytes(keyPackageSignature));
  const reference = refHash("KeyPackage Reference", keyPackage);
  return { ...leaf, initKeys, keyPackage, keyPackageSignature, reference };
}

/** Builds nodes from the root down; returns tree hashes from the leaves up. */
class TreeBuilder {
  readonly leaves: LeafFixture[] = [];
  readonly parents = new Map<number, ParentFixture>();
  readonly seed: string;
  readonly members: number;
  readonly warm: boolean;
  readonly groupId: Uint8Array;
  readonly form: GroupForm;

  constructor(seed: string, members: number, warm: boolean, groupId: Uint8Array, form: GroupForm) {
    this.seed = seed;
    this.members = members;
    this.warm = warm;
    this.groupId = groupId;
    this.form = form;
  }

  /** The subtree over leaves [low, low + width); `parentHash` is what its topmost node or leaf must carry. */
  build(low: number, width: number, parentHash: Bytes): Bytes {
    if (width === 1) return this.buildLeaf(low, parentHash);
    const half = width / 2;
    const node = (low + half) * 2 - 1;
    if (!this.warm || low + half >= this.members) {
      // A blank node has no parent hash of its own: the link passes through it.
      const left = this.build(low, half, parentHash);
      return blankOrParentHash(undefined, left, this.build(low + half, half, parentHash));
    }
    const keys = keyPairOf("X25519", derived(this.seed, "node", node));
    const parent = { keys, parentHash };
    this.parents.set(node, parent);
    // The last committer below this node sat on one side; the other side still carries an older hash.
    const committerOnLeft = (derived(this.seed, "side", node)[0]! & 1) === 0;
    const stale = derived(this.seed, "stale", node);
    const [otherLow, ownLow] = committerOnLeft ? [low + half, low] : [low, low + half];
    const other = this.build(otherLow, half, stale);
    const link = sha256(
      encode(parent, (writer) => writer.bytes(keys.publicKey).bytes(parentHash).bytes(other)),
    );
    const own = this.build(ownLow, half, link);
    const [left, right] = committerOnLeft ? [own, other] : [other, own];
    return blankOrParentHash(parent, left, right);
  }

  private buildLeaf(index: number, parentHash: Bytes): Bytes {
    const present = index < this.members;
    if (present) {
      const source: LeafSource = this.warm ? { kind: "commit", parentHash } : { kind: "key_package" };
      this.leaves[index] = makeLeaf(this.seed, index, source, this.form, this.groupId);
    }
    return sha256(
      encode(index, (writer) => {
        writer
          .uint8(1)
          .uint32(index)
          .uint8(present ? 1 : 0);
        if (present) writer.fixed(this.leaves[index]!.encoded);
      }),
    );
  }
}

function writeParent(writer: Writer, { keys, parentHash }: ParentFixture): void {
  writer.bytes(keys.publicKey).bytes(parentHash).varint(0);
}

/** Tree hash of a parent node (RFC 9420 section 7.8). */
function blankOrParentHash(parent: ParentFixture | undefined, left: Uint8Array, right: Uint8Array): Bytes {
  return sha256(
    encode(parent, (writer) => {
      writer.uint8(2).optional(parent, writeParent).bytes(left).bytes(right);
    }),
  );
}

function encodeRatchetTree(members: number, builder: TreeBuilder): Bytes {
  return encode(builder, (writer) => {
    writer.nested((nodes) => {
      for (let node = 0; node <= 2 * (members - 1); node++) {
        const parent = builder.parents.get(node);
        if (node % 2 === 0)
          nodes
            .uint8(1)
            .uint8(1)
            .fixed(builder.leaves[node / 2]!.encoded);
        else if (parent === undefined) nodes.uint8(0);
        else writeParent(nodes.uint8(1).uint8(2), parent);
      }
    });
  });
}

/** A group of `members` at leaves 0 to members - 1. Warm: every parent has a key. Cold: every parent is blank. */
export function makeGroup(
  seed: string,
  members: number,
  temperature: "warm" | "cold",
  form: GroupForm = plainForm,
): GroupFixture {
  const groupId = derived(seed, "group", temperature).slice(0, 16);
  let leafSlots = 1;
  while (leafSlots < members) leafSlots *= 2;
  const builder = new TreeBuilder(seed, members, temperature === "warm", groupId, form);
  const treeHash = builder.build(0, leafSlots, new Uint8Array());
  const epoch = 1n;
  const confirmedTranscriptHash = derived(seed, "transcript");
  const secrets = epochSecrets(derived(seed, "epoch"));
  const confirmationTag = hmac(secrets.confirmationKey, confirmedTranscriptHash);
  const groupContext = encode(treeHash, (writer) =>
    writer
      .uint16(MLS10)
      .uint16(SUITE)
      .bytes(groupId)
      .uint64(epoch)
      .bytes(treeHash)
      .bytes(confirmedTranscriptHash)
      .nested((extensions) => {
        for (const { type, data } of form.contextExtensions) extensions.uint16(type).bytes(data);
      }),
  );
  return {
    members,
    groupId,
    epoch,
    leafSlots,
    leaves: builder.leaves,
    parents: builder.parents,
    ratchetTree: encodeRatchetTree(members, builder),
    treeHash,
    confirmedTranscriptHash,
    confirmationTag,
    interimTranscriptHash: sha256(
      encode(confirmationTag, (writer) => writer.fixed(confirmedTranscriptHash).bytes(confirmationTag)),
    ),
    groupContext,
    secrets,
  };
}

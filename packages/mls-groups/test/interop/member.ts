/** One member of a group as the interop server holds it: the group, its rows, and what the runner refers to. */
import { type Bytes, equalBytes, toHex } from "@murmuration/base";
import {
  type CommitOptions,
  type CryptoProvider,
  Group,
  type GroupConfig,
  type GroupWrites,
  type MemberIdentity,
  MemoryGroupStore,
  type PreSharedKeyId,
  type Proposal,
} from "../../src/index.ts";
import type { RatchetTree } from "../../src/tree/ratchet-tree.ts";

/** Seconds since 1970: every KeyPackage that the runner sees is valid. */
export const LIFETIME = { notBefore: 0n, notAfter: 0xffff_ffff_ffff_ffffn };

/** External PSKs by hexadecimal id. */
export type PskTable = Map<string, Uint8Array>;

export function externalPsks(table: PskTable) {
  return (id: PreSharedKeyId) => (id.kind === "external" ? table.get(toHex(id.pskId)) : undefined);
}

export const basicIdentity = (crypto: CryptoProvider, identity: Uint8Array): MemberIdentity => ({
  credential: { kind: "basic", identity },
  signatureKeys: crypto.generateSignatureKeyPair(),
});

/** The leaf of the member with this basic credential. O(N). */
export function leafOfIdentity(tree: RatchetTree, identity: Uint8Array): number | undefined {
  for (const leaf of tree.members()) {
    const { credential } = tree.leaf(leaf)!;
    if (credential.kind === "basic" && equalBytes(credential.identity, identity)) return leaf;
  }
  return undefined;
}

/**
 * Stores every write set, and loads the group from its rows before each call when told to: the runner's scripts
 * then also show that nothing a member needs lives in memory alone.
 */
export class InteropMember {
  readonly crypto: CryptoProvider;
  readonly identity: MemberIdentity;
  readonly psks: PskTable;
  readonly config: Partial<GroupConfig>;
  private readonly store = new MemoryGroupStore();
  private readonly reload: boolean;
  private current: Group;
  /** ProposalRefs of this epoch by the bytes of their messages. */
  private readonly references = new Map<string, Bytes>();

  constructor(
    made: { readonly group: Group; readonly writes: GroupWrites },
    about: {
      readonly crypto: CryptoProvider;
      readonly identity: MemberIdentity;
      readonly psks: PskTable;
      readonly config: Partial<GroupConfig>;
      readonly reload: boolean;
    },
  ) {
    this.crypto = about.crypto;
    this.identity = about.identity;
    this.psks = about.psks;
    this.config = about.config;
    this.reload = about.reload;
    this.current = made.group;
    this.store.apply(made.writes);
  }

  get group(): Group {
    if (this.reload) this.current = Group.load(this.crypto, this.store, this.config);
    return this.current;
  }

  /** The same member from a copy of its rows. O(N). */
  copy(): Group {
    const store = new MemoryGroupStore();
    store.apply({ puts: this.store.rows, deletes: [], deletePrefixes: [] });
    return Group.load(this.crypto, store, this.config);
  }

  save(writes: GroupWrites): void {
    this.store.apply(writes);
  }

  propose(proposal: Proposal): Bytes {
    return this.sent(this.group.propose(proposal));
  }

  proposeUpdate(): Bytes {
    return this.sent(this.group.proposeUpdate());
  }

  private sent(made: { readonly message: Bytes; readonly reference: Bytes; readonly writes: GroupWrites }) {
    this.save(made.writes);
    this.references.set(toHex(made.message), made.reference);
    return made.message;
  }

  /** Takes in a proposal message, our own or another's, and returns its ProposalRef. */
  referenceTo(message: Uint8Array): Bytes {
    const key = toHex(message);
    const known = this.references.get(key);
    if (known !== undefined) return known;
    const received = this.group.receive(message);
    if (received.kind !== "proposal") throw new Error("not a proposal");
    this.save(received.writes);
    this.references.set(key, received.reference);
    return received.reference;
  }

  commit(options: CommitOptions) {
    const made = this.group.createCommit(options);
    this.save(made.writes);
    return made;
  }

  mergePending(): void {
    this.save(this.group.mergePending({ nowMs: 0 }));
    this.references.clear();
  }

  handleCommit(message: Uint8Array): void {
    const { group } = this;
    const received = group.receive(message);
    if (received.kind === "own-commit") this.save(group.mergePending({ nowMs: 0 }));
    else if (received.kind === "commit") this.save(group.merge(received.commit, { nowMs: 0 }));
    else throw new Error("not a commit");
    this.references.clear();
  }

  protect(plaintext: Uint8Array, authenticatedData: Uint8Array): Bytes {
    const { message, writes } = this.group.createApplicationMessage(plaintext, authenticatedData);
    this.save(writes);
    return message;
  }

  unprotect(message: Uint8Array) {
    const received = this.group.receive(message);
    if (received.kind !== "application") throw new Error("not application data");
    this.save(received.writes);
    return received;
  }

  /** A PreSharedKey proposal for an external PSK or for the resumption PSK of an epoch of this group. */
  pskProposal(id: { readonly external: Uint8Array } | { readonly epoch: number }): Proposal {
    const pskNonce = this.crypto.random(this.crypto.suite.hashLength);
    if ("external" in id) return { kind: "psk", psk: { kind: "external", pskId: id.external, pskNonce } };
    return { kind: "psk", psk: resumptionPsk(this.group.groupId, id.epoch, pskNonce) };
  }
}

export function resumptionPsk(groupId: Uint8Array, epoch: number, pskNonce: Uint8Array): PreSharedKeyId {
  return {
    kind: "resumption",
    usage: "application",
    pskGroupId: groupId.slice(),
    pskEpoch: BigInt(epoch),
    pskNonce,
  };
}

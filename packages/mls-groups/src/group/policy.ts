import { equalBytes } from "@murmuration/base";
import type { Credential } from "../structs/credential.ts";
import type { GroupContext } from "../structs/group-context.ts";
import type { LeafNode } from "../structs/leaf-node.ts";
import type { CommittedProposal } from "./proposal-list.ts";
import type { PublicEpoch } from "./public-epoch.ts";

/**
 * What RFC 9420 leaves to the application (section 5.3.1 and the places that say "according to the
 * application"). Members and the follower of the delivery service run the same functions, so that both refuse
 * the same commits. Pure: no clock, no I/O.
 */
export interface GroupPolicy {
  /** Authentication Service: may this credential stand with this signature key? (5.3.1) */
  credentialIsValid(credential: Credential, signatureKey: Uint8Array): boolean;
  /**
   * The same for who may propose from outside (12.1.8.1): asked when the extension comes into the group or changes, and
   * by who joins. Left out, {@link GroupPolicy.credentialIsValid} is asked.
   */
  externalSenderIsValid?(credential: Credential, signatureKey: Uint8Array): boolean;
  /** Set when {@link GroupPolicy.credentialIsValid} is always true: a joiner then need not decode every leaf for it. */
  readonly acceptsAnyCredential?: boolean;
  /** Whether `next` may follow `previous` in one leaf: an Update, a path, a resync (7.3, 12.2). */
  isSuccessor(previous: LeafNode, next: LeafNode): boolean;
  /**
   * Whether two leaves present one client (12.2: no client twice). Equal signature keys are refused anyway; asked of
   * leaves whose credentials are equal.
   */
  isSameClient(a: LeafNode, b: LeafNode): boolean;
  /** Set when {@link GroupPolicy.isSameClient} is always false: then nobody is compared for it. */
  readonly clientsAreSignatureKeys?: boolean;
  /**
   * Whether there may be a group with this GroupContext: asked by who joins, and by who begins to follow. Throws a
   * RejectionError with a code of its own.
   */
  validateGroup?(context: Pick<GroupContext, "extensions">): void;
  /**
   * Roles and whatever else the application adds (12.2, last paragraph). Throws a RejectionError with a code of
   * its own. Runs after the RFC's rules. O(proposals).
   */
  authorize?(commit: CommitView): void;
}

/** What a policy sees of a commit. */
export interface CommitView {
  readonly epoch: PublicEpoch;
  /** Leaf of the committer; undefined for an external commit. */
  readonly committer: number | undefined;
  readonly proposals: readonly CommittedProposal[];
  /** The new leaf of the committer; present when the commit has a path. */
  readonly pathLeaf: LeafNode | undefined;
  /** When the delivery service says that it took the commit, milliseconds since 1970; undefined where nobody knows. */
  readonly acceptedAtMs?: number | undefined;
}

/** True if the credentials are equal field by field. */
export function equalCredentials(a: Credential, b: Credential): boolean {
  if (a.kind === "basic" && b.kind === "basic") return equalBytes(a.identity, b.identity);
  if (a.kind === "x509" && b.kind === "x509") {
    return (
      a.certificates.length === b.certificates.length &&
      a.certificates.every((certificate, i) => equalBytes(certificate, b.certificates[i]!))
    );
  }
  return (
    a.kind === "unknown" && b.kind === "unknown" && a.type === b.type && equalBytes(a.content, b.content)
  );
}

/**
 * The default: credentials are what they say, a leaf keeps its credential, and a client is its signature key.
 * An application with identities of its own brings an Authentication Service here.
 */
export const openPolicy: GroupPolicy = {
  credentialIsValid: () => true,
  acceptsAnyCredential: true,
  isSuccessor: (previous, next) => equalCredentials(previous.credential, next.credential),
  isSameClient: () => false,
  clientsAreSignatureKeys: true,
};

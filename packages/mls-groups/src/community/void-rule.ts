import { type AccountId, type Bytes, equalBytes, RejectionError, toHex } from "@murmuration/base";
import { makeProposalRef } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { verifyLeafSignature } from "../group/service-signature.ts";
import type { FramedContent } from "../structs/framed-content.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import type { Proposal } from "../structs/proposal.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import type { CommitDescription } from "./describe-commit.ts";
import { deviceOf } from "./member-credential.ts";

/**
 * Accounts that have to refuse a commit before it is taken back. Always two: one alone could take back whatever others
 * commit. Where fewer than two have a word, nothing is taken back, and whoever cannot follow enters the group anew.
 */
export const REFUSALS_TO_VOID = 2;

/** Whose word about a commit does not count, and who made it. */
export interface CommitParties {
  /**
   * The committer's account, which is one witness with its own commit, and those that the commit takes a leaf from: they
   * would take back their own removal.
   */
  readonly silent: readonly AccountId[];
  /** Signature key of the leaf that committed. */
  readonly committerKey: Bytes | undefined;
  /** Signature keys of leaves that came with it: nobody knows them in the epoch that a void entry goes back to. */
  readonly added: readonly Bytes[];
}

/** A member's signed word that it cannot follow a commit. */
export interface CommitRefusal {
  readonly leafIndex: number;
  readonly signature: Bytes;
}

/** {@link CommitParties.silent} of a commit that passed every check. O(leaves that it changes). */
export function silentAccounts(description: CommitDescription, before: RatchetTree): readonly AccountId[] {
  const { added, committer, external, removed } = description;
  // The joiner comes last, and is the account that its leaf names.
  const author = external ? added.at(-1)?.device.accountId : accountAt(before, committer);
  return distinct([author, ...removed.map(({ device }) => device.accountId)]);
}

/**
 * The same from the bytes alone, for whoever could not follow the commit, or has forgotten it: its proposals are those
 * that were in the log for its epoch. What cannot be read or is not known silences nobody: a service takes no such
 * commit, and who could not follow it has nothing to lose by believing that it is void. O(commit + proposals).
 */
export function partiesOf(
  crypto: CryptoProvider,
  before: RatchetTree,
  commit: Uint8Array,
  proposals: readonly Uint8Array[],
): CommitParties {
  const content = contentOf(commit)?.content;
  if (content?.contentType !== "commit") return { silent: [], committerKey: undefined, added: [] };
  const byReference = new Map<string, FramedContent>();
  for (const message of proposals) {
    const known = contentOf(message);
    if (known !== undefined)
      byReference.set(toHex(makeProposalRef(crypto, known.bytes.subarray(2))), known.content);
  }
  const { sender } = content;
  const { path } = content.commit;
  const accounts: (AccountId | undefined)[] = [];
  const added: Bytes[] = [];
  if (sender.kind === "member") accounts.push(accountAt(before, sender.leafIndex));
  else if (path !== undefined) {
    accounts.push(accountIn(path.leafNode));
    added.push(path.leafNode.signatureKey.slice());
  }
  const take = (proposal: Proposal, proposer: LeafIndex | undefined): void => {
    if (proposal.kind === "remove") accounts.push(accountAt(before, proposal.removed));
    if (proposal.kind === "self_remove") accounts.push(accountAt(before, proposer));
    if (proposal.kind === "add") added.push(proposal.keyPackage.leafNode.signatureKey.slice());
  };
  for (const item of content.commit.proposals) {
    if (item.kind === "proposal") {
      take(item.proposal, undefined);
      continue;
    }
    const known = byReference.get(toHex(item.reference));
    if (known?.contentType !== "proposal") continue;
    take(known.proposal, known.sender.kind === "member" ? known.sender.leafIndex : undefined);
  }
  const own = sender.kind === "member" ? before.signatureKey(sender.leafIndex) : undefined;
  const committerKey = path?.leafNode.signatureKey.slice() ?? own;
  return { silent: distinct(accounts), committerKey, added };
}

/**
 * Whether these refusals take a commit back: at least {@link REFUSALS_TO_VOID} accounts, none of them silent, each by a
 * leaf of the tree of the epoch before the commit, which signed that it cannot follow this one. At most one signature
 * is verified for each refusal.
 */
export function provesVoid(
  crypto: CryptoProvider,
  before: RatchetTree,
  silent: readonly Uint8Array[],
  signed: { readonly label: string; readonly content: Uint8Array },
  refusals: readonly CommitRefusal[],
): boolean {
  const witnesses = new Set<string>();
  for (const { leafIndex, signature } of refusals) {
    const account = accountAt(before, leafIndex);
    if (account === undefined || silent.some((other) => equalBytes(other, account))) continue;
    const key = before.signatureKey(leafIndex)!;
    if (verifyLeafSignature(crypto, key, signed.label, signed.content, signature))
      witnesses.add(toHex(account));
  }
  return witnesses.size >= REFUSALS_TO_VOID;
}

function contentOf(message: Uint8Array) {
  try {
    const decoded = decodeMlsMessage(message);
    return decoded.wireFormat === "mls_public_message" ? decoded.publicMessage.authenticated : undefined;
  } catch (error) {
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

function accountAt(tree: RatchetTree, leaf: number | undefined): AccountId | undefined {
  if (leaf === undefined || !tree.hasMember(leaf)) return undefined;
  return accountIn(tree.leaf(leaf)!);
}

function accountIn(leaf: { readonly credential: Parameters<typeof deviceOf>[0] }): AccountId | undefined {
  try {
    return deviceOf(leaf.credential).accountId;
  } catch (error) {
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

function distinct(accounts: readonly (AccountId | undefined)[]): readonly AccountId[] {
  const known = new Map<string, AccountId>();
  for (const account of accounts) if (account !== undefined) known.set(toHex(account), account);
  return [...known.values()];
}

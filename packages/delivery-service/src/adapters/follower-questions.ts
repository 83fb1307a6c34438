import { deflateRawSync } from "node:zlib";
import { type Bytes, equalBytes, type GroupId, UnavailableError } from "@murmuration/base";
import { partiesOf } from "@murmuration/mls-groups/public-group";
import { groupCrypto } from "../core/leaf-signatures.ts";
import type {
  CommitRequest,
  CommitValidator,
  ExpectedRequest,
  FollowerBase,
  FollowerSource,
  NextTurnRequest,
  ProposalRequest,
  RefeedRequest,
} from "../ports/commit-validator.ts";
import type { EpochOf, Followers, Settled } from "./followers.ts";

/** What a validator is asked, as a value that can be sent to another thread. */
export type Question =
  | { readonly name: "create"; readonly groupInfo: Bytes; readonly ratchetTree: Bytes }
  | { readonly name: "commit"; readonly at: EpochOf; readonly request: CommitRequest }
  | { readonly name: "refeed"; readonly at: EpochOf; readonly request: RefeedRequest }
  | { readonly name: "proposal"; readonly at: EpochOf; readonly request: ProposalRequest }
  | { readonly name: "leaf" | "pastLeaf"; readonly at: EpochOf; readonly leafIndex: number }
  | {
      readonly name: "parties";
      readonly at: EpochOf;
      readonly commit: Bytes;
      readonly proposals: readonly Bytes[];
    }
  | { readonly name: "leafOfKey"; readonly at: EpochOf; readonly signatureKey: Bytes }
  | {
      readonly name: "verifyLink";
      readonly at: EpochOf;
      readonly linkId: Bytes;
      readonly content: Bytes;
      readonly signature: Bytes;
    }
  | { readonly name: "isExpected"; readonly at: EpochOf; readonly request: ExpectedRequest }
  | { readonly name: "nextTurn"; readonly at: EpochOf; readonly request: NextTurnRequest }
  | { readonly name: "compressedTree"; readonly at: EpochOf; readonly treeHash: Bytes }
  | { readonly name: "snapshot"; readonly at: EpochOf };

/** What a validator is told, without an answer. */
export type Order =
  | ({ readonly name: "settle" } & Settled)
  | { readonly name: "forget"; readonly groupId: Bytes };

/** Where questions go: to this thread or to another one. */
export interface Respondent {
  /** `load` is asked when the follower is not there. */
  ask(question: Question, load?: () => Promise<FollowerSource>): Promise<unknown>;
  tell(order: Order): void;
  close(): Promise<void>;
}

/** Answers a question. Throws NotLoaded where the follower is missing and there is no `source`. */
export function answerQuestion(
  followers: Followers,
  question: Question,
  source: FollowerSource | undefined,
): unknown {
  switch (question.name) {
    case "create":
      return followers.create(question);
    case "pastLeaf":
      return followers.tree(question.at, source).signatureKey(question.leafIndex);
    case "parties":
      return partiesOf(groupCrypto, followers.tree(question.at, source), question.commit, question.proposals);
    case "compressedTree":
      return compressedTree(followers, question, source);
    case "refeed":
      return followers.refeed(question.at, question.request, source);
  }
  if (source !== undefined) followers.load(question.at, source);
  switch (question.name) {
    case "commit":
      return followers.commit(question.at, question.request);
    case "proposal":
      return followers.proposal(question.at, question.request);
    case "leaf":
      return followers.leaf(question.at, question.leafIndex);
    case "leafOfKey":
      return followers.leafOfKey(question.at, question.signatureKey);
    case "verifyLink":
      return followers.verifyLink(question.at, question.linkId, question.content, question.signature);
    case "isExpected":
      return followers.isExpected(question.at, question.request);
    case "nextTurn":
      return followers.nextTurn(question.at, question.request);
    case "snapshot":
      return followers.snapshot(question.at);
  }
}

export function carryOut(followers: Followers, order: Order): void {
  if (order.name === "settle") followers.settle(order);
  else followers.forget(order.groupId);
}

/** The port, over whoever answers. */
export function validatorOver(respondent: Respondent): CommitValidator {
  const at = ({ groupId, epoch, commitSequence }: FollowerBase): EpochOf => ({
    groupId,
    epoch,
    commitSequence,
  });
  const ask = async <T>(question: Question, base?: FollowerBase): Promise<T> =>
    (await respondent.ask(question, base && (() => base.load()))) as T;
  return {
    create: (request) => ask({ name: "create", ...request }),
    commit: (base, request) => ask({ name: "commit", at: at(base), request }, base),
    refeed: (base, request) => ask({ name: "refeed", at: at(base), request }, base),
    settle: (groupId, epoch, storedAs) => respondent.tell({ name: "settle", groupId, epoch, storedAs }),
    proposal: (base, request) => ask({ name: "proposal", at: at(base), request }, base),
    leaf: (base, leafIndex) => ask({ name: "leaf", at: at(base), leafIndex }, base),
    leafOfKey: (base, signatureKey) => ask({ name: "leafOfKey", at: at(base), signatureKey }, base),
    pastLeaf: (base, leafIndex) => ask({ name: "pastLeaf", at: at(base), leafIndex }, base),
    parties: (base, commit, proposals) => ask({ name: "parties", at: at(base), commit, proposals }, base),
    verifyLink: (base, linkId, content, signature) =>
      ask({ name: "verifyLink", at: at(base), linkId, content, signature }, base),
    isExpected: (base, request) => ask({ name: "isExpected", at: at(base), request }, base),
    nextTurn: (base, request) => ask({ name: "nextTurn", at: at(base), request }, base),
    compressedTree: (base, treeHash) => ask({ name: "compressedTree", at: at(base), treeHash }, base),
    snapshot: (base) => ask({ name: "snapshot", at: at(base) }, base),
    forget: (groupId: GroupId) => respondent.tell({ name: "forget", groupId }),
    close: () => respondent.close(),
  };
}

/** Raw DEFLATE (RFC 1951) of the tree with this hash. */
function compressedTree(
  followers: Followers,
  { at, treeHash }: Extract<Question, { name: "compressedTree" }>,
  source: FollowerSource | undefined,
): Bytes {
  const tree = followers.tree(at, source, treeHash);
  if (!equalBytes(tree.treeHash(), treeHash)) throw new UnavailableError("validator/another-tree");
  return new Uint8Array(deflateRawSync(tree.encode()));
}

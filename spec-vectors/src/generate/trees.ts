/** Cases about the ratchet tree: its hashes and resolutions, single proposals, and TreeKEM. */

import { encode, keyPackageEncoder } from "ts-mls";
import type { TreeKemCase, TreeOperationsCase, TreeValidationCase } from "../formats.ts";
import { hex } from "./derivations.ts";
import { addProposal, type GeneratedKeyPackage, GroupDriver, removeProposal } from "./group-driver.ts";
import {
  decodeTree,
  encodeTree,
  halves,
  type NaiveTree,
  nodeOf,
  type Range,
  ranges,
  resolution,
  treeHash,
  whole,
} from "./naive-tree.ts";
import { deriveSecret, encodeGroupContext, labeledContent, uint, vector } from "./reference.ts";
import { concat, type KeyPair, type ReferenceSuite, referenceSuite, seededRandom } from "./suites.ts";

const SUITES = [1, 2, 7] as const;
const EMPTY = new Uint8Array();

interface Member {
  readonly signer: KeyPair;
  encryption: KeyPair;
}

type Source = { readonly kind: "key_package" } | { readonly kind: "commit"; readonly parentHash: Uint8Array };

/** A signed LeafNode (section 7.2) with a basic credential and the least capabilities. */
function encodeLeaf(
  suite: ReferenceSuite,
  member: Member,
  source: Source,
  groupId: Uint8Array,
  leaf: number,
): Uint8Array {
  const content = concat(
    vector(member.encryption.pub),
    vector(member.signer.pub),
    uint(1, 2),
    vector(new TextEncoder().encode(`member ${leaf}`)),
    ...[uint(1, 2), uint(suite.id, 2), EMPTY, EMPTY, uint(1, 2)].map(vector),
    source.kind === "key_package"
      ? concat(uint(1, 1), uint(0, 8), uint(0xffff_ffff_ffff_ffffn, 8))
      : concat(uint(3, 1), vector(source.parentHash)),
    vector(EMPTY),
  );
  const place = source.kind === "commit" ? concat(vector(groupId), uint(leaf, 4)) : EMPTY;
  const tbs = labeledContent("LeafNodeTBS", concat(content, place));
  return concat(content, vector(suite.signature.sign(member.signer.priv, tbs)));
}

interface PathStep {
  readonly range: Range;
  readonly copath: Range;
}

/** The filtered direct path (section 4.1.2) from the leaf's parent to the root, and what is filtered out. */
function directPath(
  tree: NaiveTree,
  leaf: number,
): { readonly path: PathStep[]; readonly filtered: Range[] } {
  const path: PathStep[] = [];
  const filtered: Range[] = [];
  for (let range = whole(tree); range.width > 1; ) {
    const [left, right] = halves(range);
    const [own, copath] = leaf < right.low ? [left, right] : [right, left];
    if (resolution(tree, copath).length > 0) path.unshift({ range, copath });
    else filtered.push(range);
    range = own;
  }
  return { path, filtered };
}

interface Path {
  readonly after: NaiveTree;
  readonly encoded: Uint8Array;
  readonly steps: readonly PathStep[];
  /** One for each step. */
  readonly pathSecrets: readonly Uint8Array[];
  readonly commitSecret: Uint8Array;
}

interface Epoch {
  readonly groupId: Uint8Array;
  readonly epoch: number;
  readonly confirmedTranscriptHash: Uint8Array;
}

/** An UpdatePath (sections 7.5 and 7.6) of `sender`, whose leaf key it replaces. */
async function createPath(
  suite: ReferenceSuite,
  tree: NaiveTree,
  members: readonly Member[],
  sender: number,
  about: Epoch,
): Promise<Path> {
  const { path: steps, filtered } = directPath(tree, sender);
  const after = [...tree];
  for (const range of filtered) after[nodeOf(range)] = undefined;
  const pathSecrets: Uint8Array[] = [];
  let secret = suite.random(suite.hashLength);
  for (const _ of steps) {
    pathSecrets.push(secret);
    secret = deriveSecret(suite, secret, "path");
  }
  const keys = await Promise.all(
    pathSecrets.map((each) => suite.deriveKeyPair(deriveSecret(suite, each, "node"))),
  );
  let parentHash: Uint8Array = EMPTY;
  for (let i = steps.length - 1; i >= 0; i--) {
    const { range, copath } = steps[i]!;
    after[nodeOf(range)] = { kind: "parent", key: keys[i]!.pub, parentHash, unmerged: [] };
    const sibling = treeHash(suite, tree, copath);
    parentHash = suite.hash(concat(vector(keys[i]!.pub), vector(parentHash), vector(sibling)));
  }
  const own = members[sender]!;
  own.encryption = await suite.deriveKeyPair(suite.random(64));
  const leaf = encodeLeaf(suite, own, { kind: "commit", parentHash }, about.groupId, sender);
  after[2 * sender] = { kind: "leaf", key: own.encryption.pub, encoded: leaf };
  const context = encodeGroupContext(suite, { ...about, treeHash: treeHash(suite, after) });
  const nodes = await Promise.all(
    steps.map(async ({ copath }, i) => {
      const info = labeledContent("UpdatePathNode", context);
      const sealed = await Promise.all(
        resolution(tree, copath).map((node) => suite.hpkeSeal(tree[node]!.key, info, EMPTY, pathSecrets[i]!)),
      );
      const ciphertexts = concat(...sealed.map(({ enc, ct }) => concat(vector(enc), vector(ct))));
      return concat(vector(keys[i]!.pub), vector(ciphertexts));
    }),
  );
  return { after, encoded: concat(leaf, vector(concat(...nodes))), steps, pathSecrets, commitSecret: secret };
}

const covers = ({ low, width }: Range, leaf: number): boolean => leaf >= low && leaf < low + width;

/** The step whose copath holds this leaf: there it decrypts. */
const stepOf = (path: Path, leaf: number): number =>
  path.steps.findIndex(({ copath }) => covers(copath, leaf));

/** Two cases: a tree whose parents are blank, and the same after the path of its first member. */
async function treeKemOf(suite: ReferenceSuite, leaves: number): Promise<TreeKemCase[]> {
  const about = {
    groupId: suite.random(16),
    epoch: 7,
    confirmedTranscriptHash: suite.random(suite.hashLength),
  };
  const members: Member[] = [];
  for (let i = 0; i < leaves; i++) {
    const signer = suite.signature.keygen(suite.random);
    members.push({ signer, encryption: await suite.deriveKeyPair(suite.random(64)) });
  }
  let width = 1;
  while (width < leaves) width *= 2;
  const blank: NaiveTree = Array.from({ length: 2 * width - 1 }, (_, node) => {
    const member = node % 2 === 0 ? members[node / 2] : undefined;
    if (member === undefined) return undefined;
    const encoded = encodeLeaf(suite, member, { kind: "key_package" }, about.groupId, node / 2);
    return { kind: "leaf", key: member.encryption.pub, encoded };
  });
  const before = await treeKemCase(suite, blank, members, about, [0, leaves - 1], undefined);
  const after = await createPath(suite, blank, members, 0, about);
  return [before, await treeKemCase(suite, after.after, members, about, [1, leaves - 1], after)];
}

/** `made` is the path that made the parents of `tree`. */
async function treeKemCase(
  suite: ReferenceSuite,
  tree: NaiveTree,
  members: readonly Member[],
  about: Epoch,
  senders: readonly number[],
  made: Path | undefined,
): Promise<TreeKemCase> {
  const leavesPrivate = members.map(({ signer, encryption }, index) => {
    const from = made === undefined ? 0 : index === 0 ? 0 : stepOf(made, index);
    const known = made?.steps.slice(from) ?? [];
    return {
      index,
      encryption_priv: hex(encryption.priv),
      signature_priv: hex(signer.priv),
      path_secrets: known.map(({ range }, i) => ({
        node: nodeOf(range),
        path_secret: hex(made!.pathSecrets[from + i]!),
      })),
    };
  });
  const update_paths: TreeKemCase["update_paths"][number][] = [];
  for (const sender of senders) {
    const path = await createPath(suite, tree, structuredClone([...members]), sender, about);
    update_paths.push({
      sender,
      update_path: hex(path.encoded),
      path_secrets: members.map((_, leaf) =>
        leaf === sender ? null : hex(path.pathSecrets[stepOf(path, leaf)]!),
      ),
      commit_secret: hex(path.commitSecret),
      tree_hash_after: hex(treeHash(suite, path.after)),
    });
  }
  return {
    cipher_suite: suite.id,
    group_id: hex(about.groupId),
    epoch: about.epoch,
    confirmed_transcript_hash: hex(about.confirmedTranscriptHash),
    ratchet_tree: hex(encodeTree(tree)),
    leaves_private: leavesPrivate,
    update_paths,
  };
}

export async function treeKem(): Promise<TreeKemCase[]> {
  const cases: TreeKemCase[] = [];
  for (const id of SUITES) {
    for (const leaves of id === 1 ? [2, 5] : [3]) {
      const suite = referenceSuite(id, seededRandom(`treekem/${id}/${leaves}`));
      cases.push(...(await treeKemOf(suite, leaves)));
    }
  }
  return cases;
}

/** A tree of seven in which paths, unmerged leaves and blank nodes occur. */
async function grownGroup(suite: number): Promise<GroupDriver> {
  const group = await GroupDriver.create(suite, `trees/${suite}`, "alice");
  const names = ["bob", "carol", "dave"];
  // One after the other: all draw from one stream of random bytes.
  const first: GeneratedKeyPackage[] = [];
  for (const name of names) first.push(await group.keyPackage(name));
  const { welcome } = await group.commit("alice", { extraProposals: first.map(addProposal) });
  for (const [i, name] of names.entries()) await group.join(name, first[i]!, welcome!, "alice");
  await group.commit("dave");
  await group.commit("alice");
  for (const name of ["erin", "frank"]) await group.commitAdd("bob", name);
  await group.commit("carol");
  await group.commitAdd("bob", "grace");
  return group;
}

export async function treeValidation(): Promise<TreeValidationCase[]> {
  return Promise.all(
    SUITES.map(async (id) => {
      const group = await grownGroup(id);
      const suite = referenceSuite(id, seededRandom("tree-validation"));
      const encoded = await group.encodedTree("alice");
      const tree = decodeTree(encoded);
      if (hex(encodeTree(tree)) !== hex(encoded)) throw new Error("the tree does not survive a round trip");
      const { treeHash: agreed } = group.state("alice").groupContext;
      if (hex(treeHash(suite, tree)) !== hex(agreed)) throw new Error("two tree hashes");
      const subtrees = ranges(tree);
      return {
        cipher_suite: id,
        tree: hex(encoded),
        group_id: hex(group.groupId),
        resolutions: subtrees.map((range) => resolution(tree, range)),
        tree_hashes: subtrees.map((range) => hex(treeHash(suite, tree, range))),
      };
    }),
  );
}

/** One proposal applied to a tree: a commit of ts-mls that covers it alone carries no path. */
export async function treeOperations(): Promise<TreeOperationsCase[]> {
  const group = await grownGroup(1);
  const suite = referenceSuite(1, seededRandom("tree-operations"));
  const added = await group.keyPackage("heidi");
  const operations = [
    {
      bytes: concat(uint(1, 2), encode(keyPackageEncoder, added.publicPackage)),
      proposal: addProposal(added),
      removed: undefined,
    },
    { bytes: concat(uint(3, 2), uint(2, 4)), proposal: removeProposal(2), removed: "carol" },
    { bytes: concat(uint(3, 2), uint(6, 4)), proposal: removeProposal(6), removed: undefined },
  ];
  const cases: TreeOperationsCase[] = [];
  for (const { bytes, proposal, removed } of operations) {
    const before = await group.encodedTree("alice");
    if (removed !== undefined) group.states.delete(removed);
    await group.commit("alice", { extraProposals: [proposal] });
    const after = await group.encodedTree("alice");
    cases.push({
      cipher_suite: 1,
      tree_before: hex(before),
      proposal: hex(bytes),
      proposal_sender: 0,
      tree_hash_before: hex(treeHash(suite, decodeTree(before))),
      tree_after: hex(after),
      tree_hash_after: hex(treeHash(suite, decodeTree(after))),
    });
  }
  return cases;
}

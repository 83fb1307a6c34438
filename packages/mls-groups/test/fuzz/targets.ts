import {
  type Bytes,
  decodeWhole,
  encode,
  fromHex,
  InvariantError,
  RejectionError,
  toHex,
} from "@murmuration/base";
import { knownAnswers, vectorCases } from "@murmuration/spec-vectors";
import { encryptWithLabel } from "../../src/crypto/labeled.ts";
import type { CreatedCommit } from "../../src/group/create-commit.ts";
import { internalsOf } from "../../src/group/group.ts";
import { advanceTree } from "../../src/group/look-ups.ts";
import { decodeWelcome, encodeWelcome } from "../../src/group/welcome.ts";
import {
  type CommitOptions,
  Group,
  joinGroup,
  joinGroupExternally,
  type KeyPackage,
  type KeyPackageBundle,
  keyPackageBytes,
  MemoryGroupStore,
  nativeCrypto,
} from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import { writeCapabilities } from "../../src/structs/capabilities.ts";
import { readCommit, writeCommit } from "../../src/structs/commit.ts";
import { writeCredential } from "../../src/structs/credential.ts";
import { decoders } from "../../src/structs/decoders.ts";
import {
  externalSendersExtension,
  requiredCapabilitiesExtension,
  writeExtensions,
} from "../../src/structs/extension.ts";
import { groupInfoBytes, readGroupInfo } from "../../src/structs/group-info.ts";
import { writeHpkeCiphertext } from "../../src/structs/hpke-ciphertext.ts";
import { readProposal, writeProposal } from "../../src/structs/proposal.ts";
import { writePreSharedKeyId } from "../../src/structs/psk-id.ts";
import { writeUpdatePath } from "../../src/structs/update-path.ts";
import { welcomeSecrets, writeGroupSecrets } from "../../src/structs/welcome.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { memoryOf, without } from "../adversary/careless.ts";
import {
  byValue,
  commitOf,
  commitWithout,
  created,
  editedGroupInfo,
  frameCommit,
  frameProposal,
  groupInfoFor,
  groupInfoOf,
  welcomeOf,
} from "../adversary/wrong-messages.ts";
import { addAll, Client } from "../clients.ts";
import { seededRandom } from "../seeded.ts";
import { communityTargets } from "./community-targets.ts";

/** Something that takes any bytes. */
export interface Target {
  readonly name: string;
  /** Good inputs to begin with. */
  readonly corpus: readonly Uint8Array[];
  /** Returns what became of the input. Throws what the target throws, or `StateChanged`. */
  readonly run: (input: Uint8Array) => void;
  /** How often it gets an input, beside the others. */
  readonly weight: number;
  /** Whether the target may answer with this error. */
  readonly expects: (error: unknown) => boolean;
}

/** A refused message left the group other than it was. */
class StateChanged extends Error {
  override readonly name = "StateChanged";
}

/** The decoders are many and quick; what is behind them shall get as many inputs as they. */
const DEEP = 4;

const refusal = (error: unknown): boolean => error instanceof RejectionError;
const damage = (error: unknown): boolean => refusal(error) || error instanceof InvariantError;

/**
 * Six members of whom each committed once; then Alice removed Dave and added Frank without a path, so that the tree has
 * blank nodes and unmerged leaves. The same for one seed.
 */
function village(seed: number) {
  const crypto = nativeCrypto(1, { random: seededRandom(`fuzz ${seed}`) });
  const config = { receiveWindow: { epochs: 1, durationMs: 0, maxEpochs: 2 } };
  const names = ["alice", "bob", "carol", "dave", "erin", "grace"];
  const clients = names.map((name) => new Client(name, crypto, config));
  const [alice, bob, carol, dave] = clients as [Client, Client, Client, Client];
  const commit = (from: Client, options: CommitOptions = {}): void => {
    const { message } = from.commit(options);
    for (const other of clients) {
      if (other !== from && other.group.status === "active") other.receive(message);
    }
  };
  alice.create("village");
  addAll(alice, clients.slice(1));
  for (const committer of clients) commit(committer);
  commit(alice, { proposals: [{ kind: "remove", removed: dave.group.ownLeaf }] });
  const { keyPackage } = new Client("frank", crypto).keyPackage();
  commit(alice, { proposals: [{ kind: "add", keyPackage }], path: "required" });
  return { crypto, alice, bob, carol };
}

type Village = ReturnType<typeof village>;

/** The group as its rows have it: every input meets the same state, and nothing an input did stays. */
function reloaded({ bob }: Village): void {
  bob.reload();
}

/** Gives Bob a message, and has him merge a commit. A refusal must leave him as he was. */
function receiveAsBob(people: Village, message: Uint8Array): void {
  const { bob } = people;
  const before = memoryOf(bob);
  try {
    const received = bob.group.receive(message);
    if (received.kind === "commit") bob.group.merge(received.commit, { nowMs: 0 });
  } catch (error) {
    if (memoryOf(bob) !== before) throw new StateChanged("a refused message changed the group");
    throw error;
  }
  reloaded(people);
}

/** Messages of others that Bob can receive, and what they consist of. */
function messages(people: Village) {
  const { crypto, alice, carol } = people;
  const heidi = new Client("heidi", crypto);
  const bundle = heidi.keyPackage();
  const add = { kind: "add", keyPackage: bundle.keyPackage } as const;
  const remove = { kind: "remove", removed: carol.group.ownLeaf } as const;
  const commits = [[], [add], [remove], [add, remove]].map((proposals) =>
    created(alice, {
      proposals: proposals.map((proposal) => byValue(alice, proposal)),
      groupInfo: { ratchetTree: true },
    }),
  );
  const external = joinGroupExternally(crypto, {
    groupInfo: alice.group.groupInfo({ ratchetTree: true }),
    identity: heidi.identity,
  });
  const psk = { kind: "external", pskId: Uint8Array.of(1), pskNonce: new Uint8Array(32) } as const;
  // Without a path, so that a Welcome needs no path secret.
  const joining = created(alice, {
    proposals: [byValue(alice, add)],
    path: "required",
    groupInfo: { ratchetTree: true },
  });
  return {
    bundle,
    commits,
    proposals: [add, remove, { kind: "psk", psk } as const, { kind: "self_remove" } as const],
    wire: [
      commitWithout(alice, [], {}),
      commitWithout(alice, [], { proposals: [add] }),
      frameProposal(alice, remove),
      alice.group.createApplicationMessage(new Uint8Array(40)).message,
      external.message,
    ],
    joining,
    welcome: welcomeOf(alice, joining, bundle.keyPackage),
  };
}

/** Structs that no message begins with: each is a part of one. */
function partsOf({ alice }: Village, commit: CreatedCommit): Uint8Array[] {
  const leafNode = alice.group.tree.leaf(0)!;
  const psk = { kind: "external", pskId: Uint8Array.of(1), pskNonce: new Uint8Array(32) } as const;
  const secrets = { joinerSecret: commit.joinerSecret, pathSecret: undefined, psks: [psk] };
  const senders = [{ signatureKey: leafNode.signatureKey, credential: leafNode.credential }];
  const required = { extensionTypes: [0xff01], proposalTypes: [10], credentialTypes: [1] };
  const extensions = [externalSendersExtension(senders), requiredCapabilitiesExtension(required)];
  const { message } = alice.group.createApplicationMessage(new Uint8Array(40));
  const [ciphertext] = commitOf(commit).path!.nodes[0]!.encryptedPathSecret;
  return [
    commit.content.bytes.subarray(4, commit.content.contentEnd),
    // What follows version and wire format of an MLSMessage.
    message.subarray(4),
    welcomeOf(alice, commit, addedBy(commit)).subarray(4),
    Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 2, 9, 9, 9, 9),
    encode(secrets, writeGroupSecrets),
    encode(ciphertext!, writeHpkeCiphertext),
    encode(psk, writePreSharedKeyId),
    encode(leafNode.credential, writeCredential),
    encode(leafNode.capabilities, writeCapabilities),
    encode(extensions, writeExtensions),
    ...extensions.map(({ data }) => data),
  ];
}

function addedBy(commit: CreatedCommit): KeyPackage {
  for (const item of commitOf(commit).proposals) {
    if (item.kind === "proposal" && item.proposal.kind === "add") return item.proposal.keyPackage;
  }
  throw new InvariantError("test/commit-without-add");
}

function officialMessages(): Uint8Array[] {
  const cases = vectorCases("messages", { environment: {}, warn: () => {} }).slice(0, 6);
  const structs = cases.flatMap(({ vector }) => Object.values(vector).map(fromHex));
  const clients = knownAnswers("passive-client-handling-commit").flatMap((v) =>
    [v.welcome, v.key_package, ...v.epochs.flatMap(({ proposals, commit }) => [...proposals, commit])].map(
      fromHex,
    ),
  );
  return [...structs, ...clients];
}

/** Every decoder gets every kind of struct: most are refused at once, and confusion of types is tried as well. */
function decoderTargets(corpus: readonly Uint8Array[]): Target[] {
  return Object.entries(decoders).map(([name, decode]) => {
    const accepted = corpus.filter((bytes) => {
      try {
        decode(bytes);
        return true;
      } catch {
        return false;
      }
    });
    return {
      name: `decode ${name}`,
      corpus: accepted.length > 0 ? accepted : corpus,
      run: decode,
      weight: 1,
      expects: refusal,
    };
  });
}

/** What changes in the tree when somebody is removed, comes, or is renewed. */
function changesOf({ crypto, alice }: Village): readonly Uint8Array[] {
  const tree = alice.group.ratchetTree();
  const after = (change: (tree: RatchetTree) => void): Uint8Array => {
    const changed = RatchetTree.decode(crypto, tree).fork();
    change(changed);
    return changed.encodeDelta();
  };
  const leaf = alice.group.tree.leafBytes(0)!;
  return [
    after((changed) => changed.removeLeaf(1)),
    after((changed) => {
      changed.removeLeaf(0);
      changed.addLeaf(leaf);
    }),
    after((changed) => changed.updateLeaf(0, leaf)),
  ];
}

/** A follower gets what members get; it lacks the checks that need secrets, so more of it is reached. */
function followerTarget({ crypto, alice }: Village, commits: readonly Uint8Array[]): Target {
  const request = { groupInfo: alice.group.groupInfo(), ratchetTree: alice.group.ratchetTree() };
  let follower = PublicGroup.follow(crypto, request);
  const state = () =>
    [
      follower.epoch,
      toHex(follower.tree.treeHash()),
      toHex(follower.ratchetTree()),
      follower.proposals.length,
    ].join();
  const run = (input: Uint8Array): void => {
    const message = frameCommit(
      alice,
      decodeWhole(input, (reader) => readCommit(reader)),
    );
    const before = state();
    try {
      const followed = follower.receive(message);
      if (followed.kind === "commit") follower.merge(followed.commit);
    } catch (error) {
      if (state() !== before) throw new StateChanged("a refused message changed the follower");
      throw error;
    }
    follower = PublicGroup.follow(crypto, request);
  };
  return { name: "follow a signed commit", corpus: commits, run, weight: DEEP, expects: refusal };
}

/** A Welcome whose secret parts are mutated before they are sealed: what a malicious committer can send. */
function sealedTargets(
  { crypto, alice }: Village,
  commit: CreatedCommit,
  bundle: KeyPackageBundle,
): Target[] {
  const { keyPackage } = bundle;
  const join = (welcome: Uint8Array) => joinGroup(crypto, { welcome, keyPackage: bundle });
  const good = decodeWelcome(welcomeOf(alice, commit, keyPackage));
  const { newMember } = good.secrets.at(0);
  const psks = [{ kind: "external", pskId: Uint8Array.of(1), pskNonce: new Uint8Array(32) } as const];
  const { joinerSecret } = commit;
  const secrets = [
    { joinerSecret, pathSecret: undefined, psks: [] },
    { joinerSecret, pathSecret: new Uint8Array(32), psks: [] },
    { joinerSecret, pathSecret: undefined, psks },
  ];
  const withSecrets = (input: Uint8Array): void => {
    const sealed = encryptWithLabel(crypto, keyPackage.initKey, "Welcome", good.encryptedGroupInfo, input);
    const entries = welcomeSecrets([{ newMember, encryptedGroupSecrets: sealed }]);
    join(encodeWelcome({ ...good, secrets: entries }));
  };
  const withGroupInfo = (input: Uint8Array): void => {
    const info = decodeWhole(input, readGroupInfo);
    join(welcomeOf(alice, commit, keyPackage, { groupInfo: editedGroupInfo(alice, info, {}) }));
  };
  return [
    {
      name: "join with sealed GroupSecrets",
      corpus: secrets.map((one) => encode(one, writeGroupSecrets)),
      run: withSecrets,
      weight: DEEP,
      expects: refusal,
    },
    {
      name: "join with a signed GroupInfo",
      corpus: [groupInfoBytes(commit.groupInfo)],
      run: withGroupInfo,
      weight: DEEP,
      expects: refusal,
    },
  ];
}

/** Input: number of a row, then the row. */
function rowsTarget({ crypto, bob }: Village): Target {
  const keys = [...bob.store.keys("")].sort();
  const good = new Map(keys.map((key) => [key, (bob.store.get(key) as Bytes).slice()] as const));
  const load = (input: Uint8Array): void => {
    const store = new MemoryGroupStore();
    for (const [key, row] of good) store.rows.set(key, row.slice() as Bytes);
    const key = keys[(input[0] ?? 0) % keys.length]!;
    store.rows.set(key, input.slice(1) as Bytes);
    const group = Group.load(crypto, store);
    for (const { leafNode } of group.members()) void leafNode;
    void group.tree.treeHash();
  };
  const corpus = keys.map((key, i) => Uint8Array.of(i, ...good.get(key)!));
  return { name: "load rows", corpus, run: load, weight: DEEP, expects: damage };
}

/** All targets, with a world that the seed decides. */
export function makeTargets(seed: number): Target[] {
  const people = village(seed);
  const { crypto, alice, bob } = people;
  // A proposal and an own Update in the cache, so that their rows exist.
  bob.save(bob.group.proposeUpdate().writes);
  const { bundle, joining, commits, proposals, wire, welcome } = messages(people);
  const structs = [
    ...wire,
    welcome,
    keyPackageBytes(bundle.keyPackage),
    groupInfoBytes(groupInfoOf(alice, { ratchetTree: true })),
    internalsOf(alice.group).state.public.contextBytes,
    alice.group.ratchetTree(),
    alice.group.tree.leafBytes(0)!,
    alice.group.tree.nodeBytes(1)!,
    ...commits.map((commit) => encode(commitOf(commit), writeCommit)),
    ...commits.map((commit) => encode(commitOf(commit).path!, writeUpdatePath)),
    ...commits.map(({ content }) => content.bytes.subarray(2)),
    ...proposals.map((proposal) => encode(proposal, writeProposal)),
  ];
  structs.push(...partsOf(people, commits[1]!));
  const tree = alice.group.ratchetTree();
  const { identity } = new Client("mallory", crypto);
  return [
    ...decoderTargets([...structs, ...officialMessages()]),
    {
      name: "receive",
      corpus: wire,
      run: (input) => receiveAsBob(people, input),
      weight: DEEP,
      expects: refusal,
    },
    {
      // A committer can compute the confirmation tag of anything it gets others to apply; so the tag decides nothing here.
      name: "receive and merge a signed commit",
      corpus: commits.map((commit) => encode(commitOf(commit), writeCommit)),
      run: (input) => {
        const message = frameCommit(
          alice,
          decodeWhole(input, (reader) => readCommit(reader)),
        );
        without(["commit/confirmation-tag"], () => receiveAsBob(people, message));
      },
      weight: DEEP,
      expects: refusal,
    },
    {
      name: "receive and commit a signed proposal",
      corpus: proposals.map((proposal) => encode(proposal, writeProposal)),
      run: (input) => {
        const proposal = decodeWhole(input, readProposal);
        bob.group.receive(frameProposal(alice, proposal));
        try {
          bob.group.createCommit();
        } finally {
          reloaded(people);
        }
      },
      weight: DEEP,
      expects: refusal,
    },
    {
      name: "join by Welcome",
      corpus: [welcome],
      run: (input) => joinGroup(crypto, { welcome: input, keyPackage: bundle }),
      weight: DEEP,
      expects: refusal,
    },
    {
      name: "join with a signed tree",
      corpus: [tree],
      run: (input) => {
        const ratchetTree = input.slice() as Bytes;
        joinGroupExternally(crypto, { groupInfo: groupInfoFor(alice, ratchetTree), ratchetTree, identity });
      },
      weight: DEEP,
      expects: refusal,
    },
    {
      // Whatever a service says has changed in a tree, the tree that comes out is judged as if it had sent that one.
      name: "apply changes of a tree",
      corpus: changesOf(people),
      run: (input) => {
        const ratchetTree = advanceTree(crypto, tree, [input]).ratchetTree;
        joinGroupExternally(crypto, { groupInfo: groupInfoFor(alice, ratchetTree), ratchetTree, identity });
      },
      weight: DEEP,
      expects: refusal,
    },
    followerTarget(
      people,
      commits.map((commit) => encode(commitOf(commit), writeCommit)),
    ),
    ...sealedTargets(people, joining, bundle),
    rowsTarget(people),
    ...communityTargets(seed, DEEP),
  ];
}

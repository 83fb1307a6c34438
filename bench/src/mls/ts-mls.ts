/** ts-mls as a peer. Its functions return new states and leave the old ones usable. */
import {
  type CiphersuiteImpl,
  type ClientState,
  clientStateDecoder,
  clientStateEncoder,
  createApplicationMessage,
  createCommit,
  createGroup,
  type Decoder,
  decode,
  defaultCredentialTypes,
  defaultKeyPackageEqualityConfig,
  defaultKeyRetentionConfig,
  defaultPaddingConfig,
  defaultProposalTypes,
  encode,
  generateKeyPackageWithKey,
  joinGroup,
  keyPackageDecoder,
  keyPackageEncoder,
  type LeafNode,
  leafNodeSources,
  type MlsContext,
  mlsMessageDecoder,
  mlsMessageEncoder,
  type Node,
  nodeTypes,
  type PrivateKeyPackage,
  processPrivateMessage,
  processPublicMessage,
  protocolVersions,
  unsafeTestingAuthenticationService,
  wireformats,
} from "ts-mls";
import { type GroupFixture, type KeyPackageFixture, type LeafFixture, privateKeysOf } from "./fixture.ts";
import type { Added, MlsImplementation, StoredRows } from "./implementation.ts";
import { SUITE } from "./key-material.ts";
import { countedSuite } from "./ts-mls-crypto.ts";

const LIFETIME = { notBefore: 0n, notAfter: 0xffff_ffff_ffff_ffffn };
const CAPABILITIES = {
  versions: [protocolVersions.mls10],
  ciphersuites: [SUITE],
  extensions: [],
  proposals: [],
  credentials: [defaultCredentialTypes.basic],
};

/** `decode` of ts-mls answers undefined for bytes that it cannot read. */
function decoded<T>(decoder: Decoder<T>, bytes: Uint8Array): T {
  const value = decode(decoder, bytes);
  if (value === undefined) throw new Error("ts-mls could not decode what it was given");
  return value;
}

function leafOf(leaf: LeafFixture): LeafNode {
  const common = {
    hpkePublicKey: leaf.encryptionKeys.publicKey,
    signaturePublicKey: leaf.signatureKeys.publicKey,
    credential: { credentialType: defaultCredentialTypes.basic, identity: leaf.identity },
    capabilities: CAPABILITIES,
    extensions: [],
    signature: leaf.signature,
  };
  return leaf.source.kind === "commit"
    ? { ...common, leafNodeSource: leafNodeSources.commit, parentHash: leaf.source.parentHash }
    : { ...common, leafNodeSource: leafNodeSources.key_package, lifetime: LIFETIME };
}

/** The tree as ts-mls keeps it in memory: every node of the full width. */
function treeOf(group: GroupFixture): (Node | undefined)[] {
  const nodes = Array.from({ length: 2 * group.leafSlots - 1 }, (): Node | undefined => undefined);
  group.leaves.forEach((leaf, index) => {
    nodes[index * 2] = { nodeType: nodeTypes.leaf, leaf: leafOf(leaf) };
  });
  for (const [node, { keys, parentHash }] of group.parents) {
    const parent = { hpkePublicKey: keys.publicKey, parentHash, unmergedLeaves: [] };
    nodes[node] = { nodeType: nodeTypes.parent, parent };
  }
  return nodes;
}

const privateKeyPackage = (fixture: KeyPackageFixture): PrivateKeyPackage => ({
  initPrivateKey: fixture.initKeys.privateKey,
  hpkePrivateKey: fixture.encryptionKeys.privateKey,
  signaturePrivateKey: fixture.signatureKeys.privateKey,
});

export function tsMls(inner: CiphersuiteImpl): MlsImplementation<ClientState> {
  const { suite: cipherSuite, take } = countedSuite(inner);
  const context: MlsContext = {
    cipherSuite,
    authService: unsafeTestingAuthenticationService,
    clientConfig: {
      keyRetentionConfig: defaultKeyRetentionConfig,
      lifetimeConfig: { maximumTotalLifetime: LIFETIME.notAfter, validateLifetimeOnReceive: false },
      keyPackageEqualityConfig: defaultKeyPackageEqualityConfig,
      paddingConfig: defaultPaddingConfig,
    },
  };
  let tree: { readonly group: GroupFixture; readonly nodes: (Node | undefined)[] } | undefined;

  return {
    takeCounts: take,
    async generateKeyPackage(identity) {
      const generated = await generateKeyPackageWithKey({
        credential: { credentialType: defaultCredentialTypes.basic, identity: identity.identity },
        capabilities: CAPABILITIES,
        lifetime: LIFETIME,
        extensions: [],
        signatureKeyPair: {
          signKey: identity.signatureKeys.privateKey,
          publicKey: identity.signatureKeys.publicKey,
        },
        cipherSuite,
      });
      return encode(keyPackageEncoder, generated.publicPackage);
    },
    createGroup: (creator, groupId) =>
      createGroup({
        context,
        groupId,
        keyPackage: decoded(keyPackageDecoder, creator.keyPackage),
        privateKeyPackage: privateKeyPackage(creator),
      }),
    async add(member, keyPackages): Promise<Added<ClientState>> {
      const extraProposals = keyPackages.map((bytes) => ({
        proposalType: defaultProposalTypes.add,
        add: { keyPackage: decoded(keyPackageDecoder, bytes) },
      }));
      const made = await createCommit({
        context,
        state: member,
        extraProposals,
        wireAsPublicMessage: true,
        ratchetTreeExtension: true,
      });
      const commit = encode(mlsMessageEncoder, made.commit);
      return { member: made.newState, commit, welcome: encode(mlsMessageEncoder, made.welcome!) };
    },
    tree: () => undefined,
    trimWelcome(welcome, joiner) {
      const message = decoded(mlsMessageDecoder, welcome);
      if (message.wireformat !== wireformats.mls_welcome) throw new Error("not a Welcome");
      const own = message.welcome.secrets.filter((entry) =>
        Buffer.from(joiner.reference).equals(entry.newMember),
      );
      return encode(mlsMessageEncoder, { ...message, welcome: { ...message.welcome, secrets: own } });
    },
    join(joiner, welcome) {
      const message = decoded(mlsMessageDecoder, welcome);
      if (message.wireformat !== wireformats.mls_welcome) throw new Error("not a Welcome");
      return joinGroup({
        context,
        welcome: message.welcome,
        keyPackage: decoded(keyPackageDecoder, joiner.keyPackage),
        privateKeys: privateKeyPackage(joiner),
      });
    },
    adopt(group, leaf) {
      if (tree?.group !== group) tree = { group, nodes: treeOf(group) };
      return adoptState(group, leaf, tree.nodes);
    },
    async commit(member) {
      const made = await createCommit({ context, state: member, wireAsPublicMessage: true });
      return { member: made.newState, commit: encode(mlsMessageEncoder, made.commit) };
    },
    async process(member, commit) {
      const message = decoded(mlsMessageDecoder, commit);
      if (message.wireformat !== wireformats.mls_public_message) throw new Error("not a PublicMessage");
      const { publicMessage } = message;
      return (await processPublicMessage({ context, state: member, publicMessage })).newState;
    },
    async encrypt(member, plaintext) {
      const made = await createApplicationMessage({ context, state: member, message: plaintext });
      return { member: made.newState, message: encode(mlsMessageEncoder, made.message) };
    },
    async decrypt(member, bytes) {
      const message = decoded(mlsMessageDecoder, bytes);
      if (message.wireformat !== wireformats.mls_private_message) throw new Error("not a PrivateMessage");
      const { privateMessage } = message;
      return (await processPrivateMessage({ context, state: member, privateMessage })).newState;
    },
    store: (member) => encode(clientStateEncoder, member).length,
    stored: (member) => encode(clientStateEncoder, member),
    load: (stored: Uint8Array | StoredRows) => decoded(clientStateDecoder, stored as Uint8Array),
  };
}

function adoptState(group: GroupFixture, leaf: number, nodes: (Node | undefined)[]): ClientState {
  const { secrets } = group;
  const root = group.leafSlots - 1;
  return {
    groupContext: {
      version: protocolVersions.mls10,
      cipherSuite: SUITE,
      groupId: group.groupId,
      epoch: group.epoch,
      treeHash: group.treeHash,
      confirmedTranscriptHash: group.confirmedTranscriptHash,
      extensions: [],
    },
    ratchetTree: nodes,
    keySchedule: {
      senderDataSecret: secrets.senderDataSecret,
      exporterSecret: secrets.exporterSecret,
      externalSecret: secrets.externalSecret,
      confirmationKey: secrets.confirmationKey,
      membershipKey: secrets.membershipKey,
      resumptionPsk: secrets.resumptionPsk,
      epochAuthenticator: secrets.epochAuthenticator,
      initSecret: secrets.initSecret,
    },
    secretTree: {
      leafWidth: group.leafSlots,
      intermediateNodes: { [root]: secrets.encryptionSecret },
      leafNodes: {},
    },
    privatePath: { leafIndex: leaf, privateKeys: Object.fromEntries(privateKeysOf(group, leaf)) },
    signaturePrivateKey: group.leaves[leaf]!.signatureKeys.privateKey,
    confirmationTag: group.confirmationTag,
    unappliedProposals: {},
    historicalReceiverData: new Map(),
    groupActiveState: { kind: "active" },
  };
}

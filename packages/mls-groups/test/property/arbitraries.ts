import fc from "fast-check";
import type { AuthenticatedContent } from "../../src/structs/authenticated-content.ts";
import { makeAuthenticatedContent } from "../../src/structs/authenticated-content.ts";
import type { Capabilities } from "../../src/structs/capabilities.ts";
import type { Commit, ProposalOrRef } from "../../src/structs/commit.ts";
import type { Credential } from "../../src/structs/credential.ts";
import type { Extension } from "../../src/structs/extension.ts";
import type { FramedContent, Sender } from "../../src/structs/framed-content.ts";
import type { GroupContext } from "../../src/structs/group-context.ts";
import type { GroupInfo } from "../../src/structs/group-info.ts";
import { type HpkeCiphertext, hpkeCiphertextVector } from "../../src/structs/hpke-ciphertext.ts";
import type { KeyPackage } from "../../src/structs/key-package.ts";
import { LazyVector } from "../../src/structs/lazy-vector.ts";
import type { LeafNode, LeafNodeSource } from "../../src/structs/leaf-node.ts";
import type { MlsMessage } from "../../src/structs/mls-message.ts";
import type { ParentNode } from "../../src/structs/parent-node.ts";
import type { PrivateMessage } from "../../src/structs/private-message.ts";
import type { Proposal } from "../../src/structs/proposal.ts";
import type { PreSharedKeyId } from "../../src/structs/psk-id.ts";
import { type RatchetTreeNodes, type TreeNode, treeNodeCodec } from "../../src/structs/ratchet-tree.ts";
import type { UpdatePath } from "../../src/structs/update-path.ts";
import { type GroupSecrets, type Welcome, welcomeSecrets } from "../../src/structs/welcome.ts";

/*
 * Arbitrary structs: any lengths around the steps of the vector header, any code points, GREASE included.
 */

const uint8Array = fc.oneof(
  { weight: 8, arbitrary: fc.uint8Array({ maxLength: 12 }) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 62, maxLength: 66 }) },
);
const uint16 = fc.integer({ min: 0, max: 0xffff });
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const list = <T>(element: fc.Arbitrary<T>) => fc.array(element, { maxLength: 4 });
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const kind = <K extends string>(value: K) => fc.constant(value);

export const credential: fc.Arbitrary<Credential> = fc.oneof(
  fc.record({ kind: kind("basic"), identity: uint8Array }),
  fc.record({ kind: kind("x509"), certificates: list(uint8Array) }),
  fc.record({
    kind: kind("unknown"),
    type: uint16.filter((type) => type !== 1 && type !== 2),
    content: uint8Array,
  }),
);

const capabilities: fc.Arbitrary<Capabilities> = fc.record({
  versions: list(uint16),
  cipherSuites: list(uint16),
  extensions: list(uint16),
  proposals: list(uint16),
  credentials: list(uint16),
});

export const extensions: fc.Arbitrary<Extension[]> = fc.uniqueArray(
  fc.record({ type: uint16, data: uint8Array }),
  {
    maxLength: 4,
    selector: ({ type }) => type,
  },
);

const source: fc.Arbitrary<LeafNodeSource> = fc.oneof(
  fc.record({
    kind: kind("key_package"),
    lifetime: fc.record({ notBefore: uint64, notAfter: uint64 }),
  }),
  fc.record({ kind: kind("update") }),
  fc.record({ kind: kind("commit"), parentHash: uint8Array }),
);

export const leafNode: fc.Arbitrary<LeafNode> = fc.record({
  encryptionKey: uint8Array,
  signatureKey: uint8Array,
  credential,
  capabilities,
  source,
  extensions,
  signature: uint8Array,
});

export const keyPackage: fc.Arbitrary<KeyPackage> = fc.record({
  cipherSuite: uint16,
  initKey: uint8Array,
  leafNode,
  extensions,
  signature: uint8Array,
});

export const preSharedKeyId: fc.Arbitrary<PreSharedKeyId> = fc.oneof(
  fc.record({ kind: kind("external"), pskId: uint8Array, pskNonce: uint8Array }),
  fc.record({
    kind: kind("resumption"),
    usage: fc.constantFrom("application", "reinit", "branch"),
    pskGroupId: uint8Array,
    pskEpoch: uint64,
    pskNonce: uint8Array,
  }),
);

const knownProposalTypes = new Set([1, 2, 3, 4, 5, 6, 7, 10]);

export const proposal: fc.Arbitrary<Proposal> = fc.oneof(
  fc.record({ kind: kind("add"), keyPackage }),
  fc.record({ kind: kind("update"), leafNode }),
  fc.record({ kind: kind("remove"), removed: uint32 }),
  fc.record({ kind: kind("psk"), psk: preSharedKeyId }),
  fc.record({ kind: kind("reinit"), groupId: uint8Array, version: uint16, cipherSuite: uint16, extensions }),
  fc.record({ kind: kind("external_init"), kemOutput: uint8Array }),
  fc.record({ kind: kind("group_context_extensions"), extensions }),
  fc.record({ kind: kind("self_remove") }),
  fc.record({
    kind: kind("unknown"),
    type: uint16.filter((type) => !knownProposalTypes.has(type)),
    content: uint8Array,
  }),
);

const hpkeCiphertext: fc.Arbitrary<HpkeCiphertext> = fc.record({
  kemOutput: uint8Array,
  ciphertext: uint8Array,
});

export const updatePath: fc.Arbitrary<UpdatePath> = fc.record({
  leafNode,
  nodes: list(
    fc.record({
      encryptionKey: uint8Array,
      encryptedPathSecret: list(hpkeCiphertext).map(hpkeCiphertextVector),
    }),
  ),
});

const proposalOrRef: fc.Arbitrary<ProposalOrRef> = fc.oneof(
  fc.record({ kind: kind("proposal"), proposal }),
  fc.record({ kind: kind("reference"), reference: uint8Array }),
);

export const commit: fc.Arbitrary<Commit> = fc.record({
  proposals: list(proposalOrRef),
  path: optional(updatePath),
});

export const groupContext: fc.Arbitrary<GroupContext> = fc.record({
  cipherSuite: uint16,
  groupId: uint8Array,
  epoch: uint64,
  treeHash: uint8Array,
  confirmedTranscriptHash: uint8Array,
  extensions,
});

export const groupInfo: fc.Arbitrary<GroupInfo> = fc.record({
  groupContext,
  extensions,
  confirmationTag: uint8Array,
  signer: uint32,
  signature: uint8Array,
});

export const groupSecrets: fc.Arbitrary<GroupSecrets> = fc.record({
  joinerSecret: uint8Array,
  pathSecret: optional(uint8Array),
  psks: list(preSharedKeyId),
});

export const welcome: fc.Arbitrary<Welcome> = fc.record({
  cipherSuite: uint16,
  secrets: list(fc.record({ newMember: uint8Array, encryptedGroupSecrets: hpkeCiphertext })).map(
    welcomeSecrets,
  ),
  encryptedGroupInfo: uint8Array,
});

export const parentNode: fc.Arbitrary<ParentNode> = fc.record({
  encryptionKey: uint8Array,
  parentHash: uint8Array,
  unmergedLeaves: list(uint32),
});

const treeNode: fc.Arbitrary<TreeNode> = fc.oneof(
  fc.record({ kind: kind("leaf"), leafNode }),
  fc.record({ kind: kind("parent"), parentNode }),
);

export const ratchetTree: fc.Arbitrary<RatchetTreeNodes> = list(optional(treeNode)).map((nodes) =>
  LazyVector.from(nodes, treeNodeCodec),
);

const sender: fc.Arbitrary<Sender> = fc.oneof(
  fc.record({ kind: kind("member"), leafIndex: uint32 }),
  fc.record({ kind: kind("external"), senderIndex: uint32 }),
  fc.record({ kind: kind("new_member_proposal") }),
  fc.record({ kind: kind("new_member_commit") }),
);

const header = { groupId: uint8Array, epoch: uint64, sender, authenticatedData: uint8Array };

export const framedContent: fc.Arbitrary<FramedContent> = fc.oneof(
  fc.record({ ...header, contentType: kind("application"), applicationData: uint8Array }),
  fc.record({ ...header, contentType: kind("proposal"), proposal }),
  fc.record({ ...header, contentType: kind("commit"), commit }),
);

const authenticated: fc.Arbitrary<AuthenticatedContent> = fc
  .record({ content: framedContent, signature: uint8Array, tag: uint8Array })
  .map(({ content, signature, tag }) =>
    makeAuthenticatedContent("mls_public_message", content, {
      signature,
      confirmationTag: content.contentType === "commit" ? tag : undefined,
    }),
  );

const privateMessage: fc.Arbitrary<PrivateMessage> = fc.record({
  groupId: uint8Array,
  epoch: uint64,
  contentType: fc.constantFrom("application", "proposal", "commit"),
  authenticatedData: uint8Array,
  encryptedSenderData: uint8Array,
  ciphertext: uint8Array,
});

export const mlsMessage: fc.Arbitrary<MlsMessage> = fc.oneof(
  fc.record({ authenticated, tag: uint8Array }).map((parts) => ({
    wireFormat: "mls_public_message" as const,
    publicMessage: {
      authenticated: parts.authenticated,
      membershipTag: parts.authenticated.content.sender.kind === "member" ? parts.tag : undefined,
    },
  })),
  fc.record({ wireFormat: kind("mls_private_message"), privateMessage }),
  fc.record({ wireFormat: kind("mls_welcome"), welcome }),
  fc.record({ wireFormat: kind("mls_group_info"), groupInfo }),
  fc.record({ wireFormat: kind("mls_key_package"), keyPackage }),
);

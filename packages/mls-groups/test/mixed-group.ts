/**
 * Members of one group whose engine is this one or ts-mls, behind one interface.
 */
import { fromUtf8, toHex, utf8 } from "@murmuration/base";
import {
  type ClientState,
  createApplicationMessage,
  createCommit,
  createGroup,
  createGroupInfoWithExternalPubAndRatchetTree,
  decode,
  defaultCredentialTypes,
  defaultProposalTypes,
  encode,
  generateKeyPackage as generateTheirs,
  getCiphersuiteImpl,
  joinGroupExternal,
  joinGroup as joinTheirs,
  type MlsContext,
  mlsExporter,
  mlsMessageDecoder,
  mlsMessageEncoder,
  processPrivateMessage,
  processPublicMessage,
  protocolVersions,
  pskTypes,
  type MlsMessage as TheirMessage,
  type Proposal as TheirProposal,
  unsafeTestingAuthenticationService,
  wireformats,
} from "ts-mls";
import { signWithLabel } from "../src/crypto/labeled.ts";
import {
  decodeMlsMessage,
  encodeMlsMessage,
  Group,
  type GroupConfig,
  generateKeyPackage,
  joinGroup,
  joinGroupExternally,
  type KeyPackage,
  nativeCrypto,
  type Proposal,
} from "../src/index.ts";
import { extensionTypes } from "../src/structs/code-points.ts";
import { externalPub, externalPubExtension } from "../src/structs/extension.ts";
import { groupInfoTbs } from "../src/structs/group-info.ts";

const LIFETIME = { notBefore: 0n, notAfter: 0xffff_ffff_ffff_ffffn };
const PSK = { id: utf8("psk id"), secret: utf8("thirty-two bytes that both know!") };
const crypto = nativeCrypto(1);
let context: MlsContext;

/** Once before a test: ts-mls with its default provider. */
export async function prepareTsMls(): Promise<void> {
  const cipherSuite = await getCiphersuiteImpl("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519");
  context = {
    cipherSuite,
    authService: unsafeTestingAuthenticationService,
    externalPsks: { [Buffer.from(PSK.id).toString("base64")]: PSK.secret },
    clientConfig: {
      keyRetentionConfig: {
        retainKeysForGenerations: 10,
        retainKeysForEpochs: 4,
        maximumForwardRatchetSteps: 200,
      },
      lifetimeConfig: { maximumTotalLifetime: LIFETIME.notAfter, validateLifetimeOnReceive: false },
      keyPackageEqualityConfig: { compareKeyPackages: () => false, compareKeyPackageToLeafNode: () => false },
      paddingConfig: { kind: "padUntilLength", padUntilLength: 256 },
    },
  };
}

/** What both kinds of member can do, so that a story need not say whose engine it is. */
export interface Participant {
  readonly name: string;
  /** MLSMessage with a commit; the participant is in the new epoch afterwards. `keyPackages` are MLSMessages. */
  commit(request: CommitRequest): Promise<{ commit: Uint8Array; welcome: Uint8Array | undefined }>;
  handle(message: Uint8Array): Promise<string | undefined>;
  send(text: string): Promise<Uint8Array>;
  groupInfo(): Promise<Uint8Array>;
  agreement(): Promise<string>;
}

export interface CommitRequest {
  readonly adds?: readonly Uint8Array[];
  readonly removes?: readonly number[];
  readonly psk?: boolean;
}

export class Ours implements Participant {
  readonly name: string;
  readonly group: Group;
  constructor(name: string, group: Group) {
    this.name = name;
    this.group = group;
  }

  static readonly config = (encrypted: boolean): Partial<GroupConfig> => ({
    handshakeFormat: encrypted ? "mls_private_message" : "mls_public_message",
    psks: (id) => (id.kind === "external" && toHex(id.pskId) === toHex(PSK.id) ? PSK.secret : undefined),
  });
  static identity(name: string) {
    return {
      credential: { kind: "basic", identity: utf8(name) } as const,
      signatureKeys: crypto.generateSignatureKeyPair(),
    };
  }
  static create(name: string, encrypted: boolean): Ours {
    const request = { groupId: utf8("ours"), identity: Ours.identity(name), lifetime: LIFETIME };
    return new Ours(name, Group.create(crypto, request, Ours.config(encrypted)).group);
  }
  static newcomer(name: string, encrypted: boolean) {
    const bundle = generateKeyPackage(crypto, Ours.identity(name), LIFETIME);
    const message = encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage: bundle.keyPackage });
    const join = async (welcome: Uint8Array) =>
      new Ours(name, joinGroup(crypto, { welcome, keyPackage: bundle }, Ours.config(encrypted)).group);
    return { message, join };
  }
  static joinExternally(name: string, groupInfo: Uint8Array) {
    const request = { groupInfo, identity: Ours.identity(name) };
    const joined = joinGroupExternally(crypto, request, Ours.config(false));
    joined.group.confirmJoin();
    return { member: new Ours(name, joined.group), commit: joined.message };
  }

  async commit(request: CommitRequest) {
    const proposals: Proposal[] = [
      ...(request.adds ?? []).map((message) => ({ kind: "add", keyPackage: keyPackageOf(message) }) as const),
      ...(request.removes ?? []).map((removed) => ({ kind: "remove", removed }) as const),
      ...(request.psk ? [{ kind: "psk", psk: externalPsk() } as const] : []),
    ];
    const made = this.group.createCommit({ proposals, groupInfo: { ratchetTree: true } });
    this.group.mergePending({ nowMs: 0 });
    return { commit: made.message, welcome: made.welcome };
  }
  async handle(message: Uint8Array) {
    const received = this.group.receive(message);
    if (received.kind === "commit") this.group.merge(received.commit, { nowMs: 0 });
    return received.kind === "application" ? fromUtf8(received.applicationData) : undefined;
  }
  async send(text: string) {
    return this.group.createApplicationMessage(utf8(text)).message;
  }
  /** Written for ts-mls, which takes external_pub for the bare key, without the length that section 12.4.3.2 has. */
  async groupInfo() {
    const decoded = decodeMlsMessage(this.group.groupInfo());
    if (decoded.wireFormat !== "mls_group_info") throw new Error("not a GroupInfo");
    const data = externalPub(decoded.groupInfo.extensions)!;
    const extensions = [{ type: extensionTypes.external_pub, data }];
    return this.group.groupInfo({ ratchetTree: true, externalPub: false, extensions });
  }
  async agreement() {
    return toHex(this.group.epochAuthenticator()) + toHex(this.group.exportSecret("interop", utf8("c"), 24));
  }
}

function keyPackageOf(message: Uint8Array): KeyPackage {
  const decoded = decodeMlsMessage(message);
  if (decoded.wireFormat !== "mls_key_package") throw new Error("not a KeyPackage");
  return decoded.keyPackage;
}

const externalPsk = () => ({
  kind: "external" as const,
  pskId: PSK.id,
  pskNonce: crypto.random(crypto.suite.hashLength),
});

function decodeTheirs<F extends number>(bytes: Uint8Array, wireformat: F) {
  const message = decode(mlsMessageDecoder, bytes);
  if (message?.wireformat !== wireformat) throw new Error("another wire format");
  return message as Extract<TheirMessage, { wireformat: F }>;
}

/** The GroupInfo of ts-mls with external_pub as section 12.4.3.2 has it, signed again with its signer's key. */
function withRfcExternalPub(message: Uint8Array, signaturePrivateKey: Uint8Array): Uint8Array {
  const decoded = decodeMlsMessage(message);
  if (decoded.wireFormat !== "mls_group_info") throw new Error("not a GroupInfo");
  const { groupContext, confirmationTag, signer, extensions } = decoded.groupInfo;
  const corrected = extensions.map((extension) =>
    extension.type === extensionTypes.external_pub ? externalPubExtension(extension.data) : extension,
  );
  const content = { groupContext, confirmationTag, signer, extensions: corrected };
  const signature = signWithLabel(crypto, signaturePrivateKey, "GroupInfoTBS", groupInfoTbs(content));
  return encodeMlsMessage({ wireFormat: "mls_group_info", groupInfo: { ...content, signature } });
}

export class Theirs implements Participant {
  readonly name: string;
  state: ClientState;
  private readonly encrypted: boolean;
  constructor(name: string, state: ClientState, encrypted: boolean) {
    this.name = name;
    this.state = state;
    this.encrypted = encrypted;
  }

  private static keyPackage(name: string) {
    return generateTheirs({
      credential: { credentialType: defaultCredentialTypes.basic, identity: utf8(name) },
      capabilities: {
        versions: [protocolVersions.mls10],
        ciphersuites: [1],
        extensions: [],
        proposals: [],
        credentials: [defaultCredentialTypes.basic],
      },
      lifetime: LIFETIME,
      cipherSuite: context.cipherSuite,
    });
  }
  static async create(name: string, encrypted: boolean): Promise<Theirs> {
    const { publicPackage, privatePackage } = await Theirs.keyPackage(name);
    const keys = { keyPackage: publicPackage, privateKeyPackage: privatePackage };
    const state = await createGroup({ context, groupId: utf8("theirs"), ...keys });
    return new Theirs(name, state, encrypted);
  }
  static async newcomer(name: string, encrypted: boolean) {
    const { publicPackage: keyPackage, privatePackage: privateKeys } = await Theirs.keyPackage(name);
    const message = encode(mlsMessageEncoder, {
      version: protocolVersions.mls10,
      wireformat: wireformats.mls_key_package,
      keyPackage,
    });
    const join = async (bytes: Uint8Array) => {
      const { welcome } = decodeTheirs(bytes, wireformats.mls_welcome);
      return new Theirs(name, await joinTheirs({ context, welcome, keyPackage, privateKeys }), encrypted);
    };
    return { message, join };
  }
  static async joinExternally(name: string, info: Uint8Array) {
    const { publicPackage: keyPackage, privatePackage: privateKeys } = await Theirs.keyPackage(name);
    const { groupInfo } = decodeTheirs(info, wireformats.mls_group_info);
    const joined = await joinGroupExternal({ context, groupInfo, keyPackage, privateKeys, resync: false });
    const commit = encode(mlsMessageEncoder, {
      version: protocolVersions.mls10,
      wireformat: wireformats.mls_public_message,
      publicMessage: joined.publicMessage,
    });
    return { member: new Theirs(name, joined.newState, false), commit };
  }

  async commit(request: CommitRequest) {
    if (request.removes !== undefined) throw new Error("ts-mls forgets the path of a Remove");
    const extraProposals: TheirProposal[] = (request.adds ?? []).map((bytes) => {
      const { keyPackage } = decodeTheirs(bytes, wireformats.mls_key_package);
      return { proposalType: defaultProposalTypes.add, add: { keyPackage } };
    });
    if (request.psk) {
      const { pskId, pskNonce } = externalPsk();
      const preSharedKeyId = { psktype: pskTypes.external, pskId, pskNonce };
      extraProposals.push({ proposalType: defaultProposalTypes.psk, psk: { preSharedKeyId } });
    }
    const made = await createCommit({
      context,
      state: this.state,
      extraProposals,
      wireAsPublicMessage: !this.encrypted,
      ratchetTreeExtension: true,
    });
    this.state = made.newState;
    const welcome = made.welcome === undefined ? undefined : encode(mlsMessageEncoder, made.welcome);
    return { commit: encode(mlsMessageEncoder, made.commit), welcome };
  }
  async handle(bytes: Uint8Array) {
    const message = decode(mlsMessageDecoder, bytes)!;
    if (message.wireformat === wireformats.mls_public_message) {
      const { publicMessage } = message;
      this.state = (await processPublicMessage({ context, state: this.state, publicMessage })).newState;
      return undefined;
    }
    const { privateMessage } = decodeTheirs(bytes, wireformats.mls_private_message);
    const result = await processPrivateMessage({ context, state: this.state, privateMessage });
    this.state = result.newState;
    return result.kind === "applicationMessage" ? fromUtf8(result.message) : undefined;
  }
  async send(text: string) {
    const made = await createApplicationMessage({ context, state: this.state, message: utf8(text) });
    this.state = made.newState;
    return encode(mlsMessageEncoder, made.message);
  }
  async groupInfo() {
    const { cipherSuite } = context;
    const groupInfo = await createGroupInfoWithExternalPubAndRatchetTree(this.state, [], cipherSuite);
    const head = { version: protocolVersions.mls10, wireformat: wireformats.mls_group_info } as const;
    // Its key of the default provider is PKCS#8, which ends with the 32 bytes of the seed.
    return withRfcExternalPub(
      encode(mlsMessageEncoder, { ...head, groupInfo }),
      this.state.signaturePrivateKey.slice(-32),
    );
  }
  async agreement() {
    const { epochAuthenticator, exporterSecret } = this.state.keySchedule;
    const exported = await mlsExporter(exporterSecret, "interop", utf8("c"), 24, context.cipherSuite);
    return toHex(epochAuthenticator) + toHex(exported);
  }
}

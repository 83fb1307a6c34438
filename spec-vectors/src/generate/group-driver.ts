/**
 * A group whose members all run ts-mls, in the flows in which ts-mls 2.0.0-rc.10 follows RFC 9420: adds,
 * commits without proposals, external PSKs, adds by reference, external commits. A commit of a member that
 * removes others is not among them: ts-mls either leaves its path out or seals it to those removed.
 */
import {
  type ClientState,
  type CreateCommitOptions,
  createCommit,
  createGroup,
  createGroupInfoWithExternalPubAndRatchetTree,
  createProposal,
  defaultCredentialTypes,
  defaultExtensionTypes,
  defaultProposalTypes,
  encode,
  generateKeyPackage,
  joinGroup,
  joinGroupExternal,
  type LeafNode,
  type MlsContext,
  type MlsFramedMessage,
  type MlsMessage,
  type MlsWelcomeMessage,
  mlsMessageEncoder,
  type Proposal,
  processPrivateMessage,
  processPublicMessage,
  protocolVersions,
  pskTypes,
  unsafeTestingAuthenticationService,
  ValidationError,
  wireformats,
} from "ts-mls";
import { seededSuite } from "./seeded-provider.ts";
import { seededRandom } from "./suites.ts";

/** Times never decide whether a vector is valid: a lifetime without end, as the official files have. */
const LIFETIME = { notBefore: 0n, notAfter: 0xffff_ffff_ffff_ffffn };

export type GeneratedKeyPackage = Awaited<ReturnType<typeof generateKeyPackage>>;

export const encodeMessage = (message: MlsMessage): Uint8Array => encode(mlsMessageEncoder, message);

export function keyPackageMessage(generated: GeneratedKeyPackage): Uint8Array {
  return encodeMessage({
    version: protocolVersions.mls10,
    wireformat: wireformats.mls_key_package,
    keyPackage: generated.publicPackage,
  });
}

export const addProposal = (generated: GeneratedKeyPackage): Proposal => ({
  proposalType: defaultProposalTypes.add,
  add: { keyPackage: generated.publicPackage },
});

/** Only ever sent as a proposal, never committed. */
export const removeProposal = (removed: number): Proposal => ({
  proposalType: defaultProposalTypes.remove,
  remove: { removed },
});

function sameIdentity(a: LeafNode, b: LeafNode): boolean {
  const identityOf = ({ credential }: LeafNode) =>
    Buffer.from("identity" in credential ? (credential.identity as Uint8Array) : []);
  return identityOf(a).equals(identityOf(b));
}

/** ts-mls refuses to join valid trees in which two ancestors of a leaf differ in unmerged_leaves. */
export const isKnownJoinFault = (error: unknown): boolean =>
  error instanceof ValidationError && error.message.includes("unmerged_leaves");

export interface CommitResult {
  readonly commit: Uint8Array;
  readonly welcome: MlsWelcomeMessage | undefined;
  readonly epochAuthenticator: Uint8Array;
}

/** Members by name; each method lets every other member process what was sent. */
export class GroupDriver {
  readonly context: MlsContext;
  readonly groupId: Uint8Array;
  readonly random: ReturnType<typeof seededRandom>;
  readonly states = new Map<string, ClientState>();

  private constructor(suite: number, seed: string) {
    this.random = seededRandom(seed);
    this.groupId = this.random(16);
    this.context = {
      cipherSuite: seededSuite(suite, this.random),
      authService: unsafeTestingAuthenticationService,
      externalPsks: {},
      clientConfig: {
        keyRetentionConfig: {
          retainKeysForGenerations: 10,
          retainKeysForEpochs: 4,
          maximumForwardRatchetSteps: 200,
        },
        lifetimeConfig: { maximumTotalLifetime: LIFETIME.notAfter, validateLifetimeOnReceive: false },
        keyPackageEqualityConfig: {
          compareKeyPackages: (a, b) => sameIdentity(a.leafNode, b.leafNode),
          compareKeyPackageToLeafNode: (a, b) => sameIdentity(a.leafNode, b),
        },
        paddingConfig: { kind: "padUntilLength", padUntilLength: 64 },
      },
    };
  }

  static async create(suite: number, seed: string, creator: string): Promise<GroupDriver> {
    const driver = new GroupDriver(suite, seed);
    const own = await driver.keyPackage(creator);
    const state = await createGroup({
      context: driver.context,
      groupId: driver.groupId,
      keyPackage: own.publicPackage,
      privateKeyPackage: own.privatePackage,
    });
    driver.states.set(creator, state);
    return driver;
  }

  state(name: string): ClientState {
    const state = this.states.get(name);
    if (state === undefined) throw new Error(`${name} is not in the group`);
    return state;
  }

  leafIndex(name: string): number {
    return this.state(name).privatePath.leafIndex;
  }

  async keyPackage(name: string): Promise<GeneratedKeyPackage> {
    const { cipherSuite } = this.context;
    return generateKeyPackage({
      credential: { credentialType: defaultCredentialTypes.basic, identity: new TextEncoder().encode(name) },
      capabilities: {
        versions: [protocolVersions.mls10],
        ciphersuites: [cipherSuite.id],
        extensions: [],
        proposals: [],
        credentials: [defaultCredentialTypes.basic],
      },
      lifetime: LIFETIME,
      extensions: [],
      cipherSuite,
    });
  }

  /** An external PSK that every member knows from now on. */
  addExternalPsk(): { readonly id: Uint8Array; readonly psk: Uint8Array } {
    const [id, psk] = [this.random(8), this.random(32)];
    this.context.externalPsks![Buffer.from(id).toString("base64")] = psk;
    return { id, psk };
  }

  /** A PreSharedKey proposal for it, with a fresh nonce. */
  pskProposal(pskId: Uint8Array): Proposal {
    const pskNonce = this.random(this.context.cipherSuite.kdf.size);
    const preSharedKeyId = { psktype: pskTypes.external, pskId, pskNonce };
    return { proposalType: defaultProposalTypes.psk, psk: { preSharedKeyId } };
  }

  async propose(by: string, proposal: Proposal, wireAsPublicMessage: boolean): Promise<Uint8Array> {
    const sent = await createProposal({
      context: this.context,
      state: this.state(by),
      proposal,
      wireAsPublicMessage,
    });
    await this.deliver(by, sent.newState, sent.message);
    return encodeMessage(sent.message);
  }

  async commit(by: string, options: CreateCommitOptions = {}): Promise<CommitResult> {
    const made = await createCommit({ context: this.context, state: this.state(by), ...options });
    await this.deliver(by, made.newState, made.commit);
    return {
      commit: encodeMessage(made.commit),
      welcome: made.welcome,
      epochAuthenticator: made.newState.keySchedule.epochAuthenticator,
    };
  }

  private async deliver(by: string, newState: ClientState, message: MlsFramedMessage): Promise<void> {
    for (const [name, state] of this.states) {
      if (name === by) continue;
      this.states.set(name, await this.receive(state, message));
    }
    this.states.set(by, newState);
    const expected = Buffer.from(newState.keySchedule.epochAuthenticator);
    for (const [name, state] of this.states) {
      const stays = state.groupActiveState.kind === "active";
      if (!stays) this.states.delete(name);
      else if (!expected.equals(state.keySchedule.epochAuthenticator)) throw new Error(`${name} disagrees`);
    }
  }

  /** Not by processMessage of ts-mls, which forgets the external PSKs for one of the two wire formats. */
  private async receive(state: ClientState, message: MlsFramedMessage): Promise<ClientState> {
    const { context } = this;
    const { newState } =
      message.wireformat === wireformats.mls_public_message
        ? await processPublicMessage({ context, state, publicMessage: message.publicMessage })
        : await processPrivateMessage({ context, state, privateMessage: message.privateMessage });
    return newState;
  }

  async join(name: string, generated: GeneratedKeyPackage, welcome: MlsWelcomeMessage, treeFrom: string) {
    const state = await joinGroup({
      context: this.context,
      welcome: welcome.welcome,
      keyPackage: generated.publicPackage,
      privateKeys: generated.privatePackage,
      ratchetTree: this.state(treeFrom).ratchetTree,
    });
    this.states.set(name, state);
  }

  /** `by` adds one member by value. */
  async commitAdd(by: string, name: string, options: CreateCommitOptions = {}) {
    const generated = await this.keyPackage(name);
    const result = await this.commit(by, { extraProposals: [addProposal(generated)], ...options });
    return { result, generated };
  }

  /** `by` adds one member, who joins. */
  async add(by: string, name: string, options: CreateCommitOptions = {}) {
    const { result, generated } = await this.commitAdd(by, name, options);
    if (result.welcome === undefined) throw new Error("an add without a Welcome");
    await this.join(name, generated, result.welcome, by);
    return { ...result, welcome: result.welcome, generated };
  }

  /** A GroupInfo of `by` with external_pub and the tree. */
  groupInfo(by: string) {
    return createGroupInfoWithExternalPubAndRatchetTree(this.state(by), [], this.context.cipherSuite);
  }

  async groupInfoMessage(by: string): Promise<Uint8Array> {
    return encodeMessage({
      version: protocolVersions.mls10,
      wireformat: wireformats.mls_group_info,
      groupInfo: await this.groupInfo(by),
    });
  }

  /** The ratchet_tree extension's content as `by` sees it. */
  async encodedTree(by: string): Promise<Uint8Array> {
    const { extensions } = await this.groupInfo(by);
    const tree = extensions.find(
      (extension) => extension.extensionType === defaultExtensionTypes.ratchet_tree,
    );
    return tree!.extensionData as Uint8Array;
  }

  /**
   * A new member joins by an external commit; one that is there already comes back, and the commit removes
   * its former leaf.
   */
  async externalJoin(name: string, by: string): Promise<CommitResult> {
    const generated = await this.keyPackage(name);
    const { newState, publicMessage } = await joinGroupExternal({
      context: this.context,
      groupInfo: await this.groupInfo(by),
      keyPackage: generated.publicPackage,
      privateKeys: generated.privatePackage,
      resync: this.states.has(name),
    });
    this.states.delete(name);
    const message = {
      version: protocolVersions.mls10,
      wireformat: wireformats.mls_public_message,
      publicMessage,
    } as const;
    await this.deliver(name, newState, message);
    return {
      commit: encodeMessage(message),
      welcome: undefined,
      epochAuthenticator: newState.keySchedule.epochAuthenticator,
    };
  }
}

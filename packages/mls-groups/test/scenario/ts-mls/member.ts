import { utf8 } from "@murmuration/base";
import {
  type CiphersuiteImpl,
  type ClientState,
  createApplicationMessage,
  createCommit,
  createGroup,
  createProposal,
  type Decoder,
  decode,
  defaultCredentialTypes,
  defaultKeyPackageEqualityConfig,
  defaultKeyRetentionConfig,
  defaultPaddingConfig,
  defaultProposalTypes,
  encode,
  generateKeyPackage,
  joinGroup,
  joinGroupExternal,
  type KeyPackage,
  keyPackageDecoder,
  keyPackageEncoder,
  type MlsContext,
  mlsExporter,
  mlsMessageDecoder,
  mlsMessageEncoder,
  type PrivateKeyPackage,
  processMessage,
  protocolVersions,
  unsafeTestingAuthenticationService,
  wireformats,
} from "ts-mls";
import { lifetime } from "../../clients.ts";

/** `decode` of ts-mls answers undefined for bytes that it cannot read. */
function decoded<T>(decoder: Decoder<T>, bytes: Uint8Array): T {
  const value = decode(decoder, bytes);
  if (value === undefined) throw new Error("ts-mls could not decode what it was given");
  return value;
}

/** A member of a group that runs ts-mls. Everything goes in and out as encoded MLSMessages. */
export class TsMlsMember {
  readonly name: string;
  readonly #context: MlsContext;
  readonly #publicHandshakes: boolean;
  #keyPackage: { publicPackage: KeyPackage; privatePackage: PrivateKeyPackage } | undefined;
  #state: ClientState | undefined;

  constructor(name: string, cipherSuite: CiphersuiteImpl, publicHandshakes: boolean) {
    this.name = name;
    this.#publicHandshakes = publicHandshakes;
    this.#context = {
      cipherSuite,
      authService: unsafeTestingAuthenticationService,
      clientConfig: {
        keyRetentionConfig: defaultKeyRetentionConfig,
        lifetimeConfig: { maximumTotalLifetime: lifetime.notAfter, validateLifetimeOnReceive: false },
        keyPackageEqualityConfig: defaultKeyPackageEqualityConfig,
        paddingConfig: defaultPaddingConfig,
      },
    };
  }

  get #member(): ClientState {
    if (this.#state === undefined) throw new Error(`${this.name} is in no group`);
    return this.#state;
  }

  get epoch(): bigint {
    return this.#member.groupContext.epoch;
  }
  get epochAuthenticator(): Uint8Array {
    return this.#member.keySchedule.epochAuthenticator;
  }

  exportSecret(label: string, context: Uint8Array, length: number): Promise<Uint8Array> {
    const { exporterSecret } = this.#member.keySchedule;
    return mlsExporter(exporterSecret, label, context, length, this.#context.cipherSuite);
  }

  async #own(): Promise<{ publicPackage: KeyPackage; privatePackage: PrivateKeyPackage }> {
    const { cipherSuite } = this.#context;
    this.#keyPackage ??= await generateKeyPackage({
      credential: { credentialType: defaultCredentialTypes.basic, identity: utf8(this.name) },
      capabilities: {
        versions: [protocolVersions.mls10],
        ciphersuites: [cipherSuite.id],
        extensions: [],
        proposals: [],
        credentials: [defaultCredentialTypes.basic],
      },
      lifetime,
      extensions: [],
      cipherSuite,
    });
    return this.#keyPackage;
  }

  /** A KeyPackage, not wrapped in an MLSMessage. */
  async keyPackage(): Promise<Uint8Array> {
    return encode(keyPackageEncoder, (await this.#own()).publicPackage);
  }

  async create(groupId: string): Promise<void> {
    const { publicPackage: keyPackage, privatePackage } = await this.#own();
    const request = { context: this.#context, groupId: utf8(groupId), keyPackage };
    this.#state = await createGroup({ ...request, privateKeyPackage: privatePackage });
  }

  async join(bytes: Uint8Array): Promise<void> {
    const message = decoded(mlsMessageDecoder, bytes);
    if (message.wireformat !== wireformats.mls_welcome) throw new Error("not a Welcome");
    const { publicPackage: keyPackage, privatePackage: privateKeys } = await this.#own();
    const { welcome } = message;
    this.#state = await joinGroup({ context: this.#context, welcome, keyPackage, privateKeys });
  }

  /** Joins by external commit; returns the commit. */
  async joinFromOutside(bytes: Uint8Array): Promise<Uint8Array> {
    const message = decoded(mlsMessageDecoder, bytes);
    if (message.wireformat !== wireformats.mls_group_info) throw new Error("not a GroupInfo");
    const { publicPackage: keyPackage, privatePackage: privateKeys } = await this.#own();
    const { groupInfo } = message;
    const request = { context: this.#context, groupInfo, keyPackage, privateKeys, resync: false };
    const { publicMessage, newState } = await joinGroupExternal(request);
    this.#state = newState;
    const { mls_public_message: wireformat } = wireformats;
    return encode(mlsMessageEncoder, { version: protocolVersions.mls10, wireformat, publicMessage });
  }

  /** A commit that adds these clients, or that covers what was proposed, or an empty one. */
  async commit(
    added: readonly Uint8Array[] = [],
  ): Promise<{ commit: Uint8Array; welcome: Uint8Array | undefined }> {
    const made = await createCommit({
      context: this.#context,
      state: this.#member,
      wireAsPublicMessage: this.#publicHandshakes,
      ratchetTreeExtension: true,
      extraProposals: added.map((bytes) => ({
        proposalType: defaultProposalTypes.add,
        add: { keyPackage: decoded(keyPackageDecoder, bytes) },
      })),
    });
    this.#state = made.newState;
    const welcome = made.welcome === undefined ? undefined : encode(mlsMessageEncoder, made.welcome);
    return { commit: encode(mlsMessageEncoder, made.commit), welcome };
  }

  async proposeAdd(keyPackage: Uint8Array): Promise<Uint8Array> {
    const made = await createProposal({
      context: this.#context,
      state: this.#member,
      wireAsPublicMessage: this.#publicHandshakes,
      proposal: {
        proposalType: defaultProposalTypes.add,
        add: { keyPackage: decoded(keyPackageDecoder, keyPackage) },
      },
    });
    this.#state = made.newState;
    return encode(mlsMessageEncoder, made.message);
  }

  async say(text: string): Promise<Uint8Array> {
    const request = { context: this.#context, state: this.#member, message: utf8(text) };
    const made = await createApplicationMessage(request);
    this.#state = made.newState;
    return encode(mlsMessageEncoder, made.message);
  }

  /** The text of an application message; undefined for a handshake. */
  async receive(bytes: Uint8Array): Promise<string | undefined> {
    const message = decoded(mlsMessageDecoder, bytes);
    if (
      message.wireformat !== wireformats.mls_public_message &&
      message.wireformat !== wireformats.mls_private_message
    ) {
      throw new Error("not a framed message");
    }
    const result = await processMessage({ context: this.#context, state: this.#member, message });
    this.#state = result.newState;
    return result.kind === "applicationMessage" ? Buffer.from(result.message).toString("utf8") : undefined;
  }
}

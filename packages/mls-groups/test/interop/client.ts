/** Every method of the service over this project's engine. Ids are handed out by one counter. */
import { type Bytes, decodeWhole, encode, equalBytes, fromUtf8, toHex } from "@murmuration/base";
import { decodeGroupInfo, treeOf } from "../../src/group/group-info.ts";
import {
  branchGroup,
  type CommitOptions,
  type ContinuedGroup,
  type CryptoProvider,
  cipherSuite,
  continueByReInit,
  createExternalProposal,
  createNewMemberProposal,
  decodeMlsMessage,
  type Extension,
  encodeMlsMessage,
  Group,
  type GroupConfig,
  generateKeyPackage,
  joinGroup,
  joinGroupExternally,
  type KeyPackage,
  type KeyPackageBundle,
  type MemberIdentity,
  nativeCrypto,
  type Proposal,
} from "../../src/index.ts";
import { readCredential, writeCredential } from "../../src/structs/credential.ts";
import {
  type ExternalSender,
  externalSenders,
  externalSendersExtension,
} from "../../src/structs/extension.ts";
import {
  basicIdentity,
  externalPsks,
  InteropMember,
  LIFETIME,
  leafOfIdentity,
  type PskTable,
  resumptionPsk,
} from "./member.ts";
import type { Message, MethodName, Request, Response } from "./service-definition.ts";

type Handlers = { readonly [M in MethodName]: (request: Request<M>) => Response<M> };

interface Transaction {
  readonly crypto: CryptoProvider;
  readonly identity: MemberIdentity;
  readonly bundle: KeyPackageBundle;
  readonly psks: PskTable;
}

/** After a ReInit was committed: the suspended group, and the KeyPackage for the one that follows. */
interface ReInitWait extends Transaction {
  readonly old: InteropMember;
}

interface Signer {
  readonly crypto: CryptoProvider;
  readonly identity: MemberIdentity;
}

const EXTERNAL_SENDERS = 5;
const suites = [1, 2, 3, 4, 5, 6, 7] as const;
const some = (bytes: Buffer): Buffer | undefined => (bytes.length === 0 ? undefined : bytes);

function cryptoOf(code: number): CryptoProvider {
  const id = suites.find((suite) => suite === code);
  if (id === undefined) throw new Error("unknown cipher suite");
  return nativeCrypto(cipherSuite(id).id);
}

function keyPackageOf(message: Uint8Array): KeyPackage {
  const decoded = decodeMlsMessage(message);
  if (decoded.wireFormat !== "mls_key_package") throw new Error("not a KeyPackage");
  return decoded.keyPackage;
}

const keyPackageMessage = (keyPackage: KeyPackage): Bytes =>
  encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage });

const extensionsOf = (list: readonly Message<"Extension">[]): Extension[] =>
  list.map(({ extension_type, extension_data }) => ({ type: extension_type, data: extension_data }));

const privateKeysOf = (bundle: KeyPackageBundle) => ({
  init_priv: bundle.initPrivateKey,
  encryption_priv: bundle.leafPrivateKey,
  signature_priv: bundle.signaturePrivateKey,
});

export interface InteropOptions {
  /** Load each group from its stored rows before each call. */
  readonly reload: boolean;
}

export class InteropClient {
  readonly handlers: Handlers;
  private readonly options: InteropOptions;
  private readonly members = new Map<number, InteropMember>();
  private readonly transactions = new Map<number, Transaction>();
  private readonly reinits = new Map<number, ReInitWait>();
  private readonly signers = new Map<number, Signer>();
  private lastId = 0;

  constructor(options: InteropOptions) {
    this.options = options;
    this.handlers = {
      ...this.joining(),
      ...this.using(),
      ...this.proposing(),
      ...this.committing(),
      ...this.continuing(),
      ...this.outside(),
    };
  }

  private keep<T>(table: Map<number, T>, value: T): number {
    table.set(++this.lastId, value);
    return this.lastId;
  }

  private known<T>(table: Map<number, T>, id: number, what: string): T {
    const value = table.get(id);
    if (value === undefined) throw new Error(`unknown ${what}`);
    return value;
  }

  private member(id: number): InteropMember {
    return this.known(this.members, id, "state");
  }

  private config(psks: PskTable, encryptHandshake: boolean): Partial<GroupConfig> {
    const handshakeFormat = encryptHandshake ? "mls_private_message" : "mls_public_message";
    return { psks: externalPsks(psks), handshakeFormat };
  }

  private newMember(
    made: { readonly group: Group; readonly writes: Parameters<InteropMember["save"]>[0] },
    about: Omit<ConstructorParameters<typeof InteropMember>[1], "reload">,
  ): { readonly member: InteropMember; readonly state_id: number } {
    const member = new InteropMember(made, { ...about, reload: this.options.reload });
    return { member, state_id: this.keep(this.members, member) };
  }

  private transaction(crypto: CryptoProvider, identity: MemberIdentity): Transaction {
    return { crypto, identity, bundle: generateKeyPackage(crypto, identity, LIFETIME), psks: new Map() };
  }

  private joinWith(
    { crypto, identity, bundle, psks }: Transaction,
    request: { readonly welcome: Buffer; readonly ratchet_tree: Buffer },
    encryptHandshake: boolean,
    continues?: Group,
  ) {
    const config = this.config(psks, encryptHandshake);
    const { welcome } = request;
    const joined = joinGroup(
      crypto,
      { welcome, keyPackage: bundle, ratchetTree: some(request.ratchet_tree), continues },
      config,
    );
    const { member, state_id } = this.newMember(joined, { crypto, identity, psks, config });
    return { state_id, epoch_authenticator: member.group.epochAuthenticator() };
  }

  private joining() {
    return {
      Name: () => ({ name: "Murmuration" }),
      SupportedCiphersuites: () => ({ ciphersuites: suites }),
      CreateGroup: (request) => {
        const crypto = cryptoOf(request.cipher_suite);
        const identity = basicIdentity(crypto, request.identity);
        const psks: PskTable = new Map();
        const config = this.config(psks, request.encrypt_handshake);
        const created = Group.create(
          crypto,
          { groupId: request.group_id, identity, lifetime: LIFETIME },
          config,
        );
        return { state_id: this.newMember(created, { crypto, identity, psks, config }).state_id };
      },
      CreateKeyPackage: (request) => {
        const crypto = cryptoOf(request.cipher_suite);
        const transaction = this.transaction(crypto, basicIdentity(crypto, request.identity));
        return {
          transaction_id: this.keep(this.transactions, transaction),
          key_package: keyPackageMessage(transaction.bundle.keyPackage),
          ...privateKeysOf(transaction.bundle),
        };
      },
      JoinGroup: (request) => {
        const transaction = this.known(this.transactions, request.transaction_id, "transaction");
        return this.joinWith(transaction, request, request.encrypt_handshake);
      },
      ExternalJoin: (request) => this.externalJoin(request),
    } satisfies Partial<Handlers>;
  }

  private externalJoin(request: Request<"ExternalJoin">): Response<"ExternalJoin"> {
    const info = decodeGroupInfo(request.group_info);
    const crypto = cryptoOf(info.groupContext.cipherSuite);
    const identity = basicIdentity(crypto, request.identity);
    const psks: PskTable = new Map(request.psks.map(({ psk_id, psk_secret }) => [toHex(psk_id), psk_secret]));
    const config = this.config(psks, request.encrypt_handshake);
    const ratchetTree = some(request.ratchet_tree);
    const removes = request.remove_prior
      ? leafOfIdentity(treeOf(crypto, info, ratchetTree), request.identity)
      : undefined;
    const pskIds = request.psks.map(({ psk_id }) => ({
      kind: "external" as const,
      pskId: psk_id,
      pskNonce: crypto.random(crypto.suite.hashLength),
    }));
    const joined = joinGroupExternally(
      crypto,
      { groupInfo: request.group_info, ratchetTree, identity, removes, pskIds },
      config,
    );
    const { member, state_id } = this.newMember(joined, { crypto, identity, psks, config });
    member.save(member.group.confirmJoin());
    return { state_id, commit: joined.message, epoch_authenticator: member.group.epochAuthenticator() };
  }

  private using() {
    return {
      GroupInfo: ({ state_id, external_tree }) => {
        const { group } = this.member(state_id);
        return {
          group_info: group.groupInfo({ ratchetTree: !external_tree }),
          ratchet_tree: external_tree ? group.ratchetTree() : undefined,
        };
      },
      StateAuth: ({ state_id }) => ({
        state_auth_secret: this.member(state_id).group.epochAuthenticator(),
      }),
      Export: ({ state_id, label, context, key_length }) => ({
        exported_secret: this.member(state_id).group.exportSecret(label, context, key_length),
      }),
      Protect: ({ state_id, plaintext, authenticated_data }) => ({
        ciphertext: this.member(state_id).protect(plaintext, authenticated_data),
      }),
      Unprotect: ({ state_id, ciphertext }) => {
        const { applicationData, authenticatedData } = this.member(state_id).unprotect(ciphertext);
        return { plaintext: applicationData, authenticated_data: authenticatedData };
      },
      StorePSK: ({ state_or_transaction_id: id, psk_id, psk_secret }) => {
        const { psks } = this.members.get(id) ?? this.known(this.transactions, id, "state or transaction");
        psks.set(toHex(psk_id), psk_secret);
        return {};
      },
      Free: ({ state_id }) => {
        this.members.delete(state_id);
        return {};
      },
    } satisfies Partial<Handlers>;
  }

  private proposing() {
    const proposed = (id: number, proposal: Proposal) => ({ proposal: this.member(id).propose(proposal) });
    return {
      AddProposal: ({ state_id, key_package }) =>
        proposed(state_id, { kind: "add", keyPackage: keyPackageOf(key_package) }),
      UpdateProposal: ({ state_id }) => ({ proposal: this.member(state_id).proposeUpdate() }),
      RemoveProposal: ({ state_id, removed_id }) =>
        proposed(state_id, this.removal(this.member(state_id).group.tree, removed_id)),
      ExternalPSKProposal: ({ state_id, psk_id }) =>
        proposed(state_id, this.member(state_id).pskProposal({ external: psk_id })),
      ResumptionPSKProposal: ({ state_id, epoch_id }) =>
        proposed(state_id, this.member(state_id).pskProposal({ epoch: epoch_id })),
      GroupContextExtensionsProposal: ({ state_id, extensions }) =>
        proposed(state_id, { kind: "group_context_extensions", extensions: extensionsOf(extensions) }),
      ReInitProposal: ({ state_id, group_id, cipher_suite, extensions }) =>
        proposed(state_id, {
          kind: "reinit",
          groupId: group_id,
          version: 1,
          cipherSuite: cipher_suite,
          extensions: extensionsOf(extensions),
        }),
      AddExternalSigner: ({ state_id, external_sender }) => {
        const { extensions } = this.member(state_id).group.context;
        const sender = decodeWhole(
          external_sender,
          (reader): ExternalSender => ({ signatureKey: reader.bytes(), credential: readCredential(reader) }),
        );
        const senders = externalSendersExtension([...externalSenders(extensions), sender]);
        const others = extensions.filter(({ type }) => type !== EXTERNAL_SENDERS);
        return proposed(state_id, { kind: "group_context_extensions", extensions: [...others, senders] });
      },
    } satisfies Partial<Handlers>;
  }

  private removal(tree: Parameters<typeof leafOfIdentity>[0], identity: Uint8Array): Proposal {
    const removed = leafOfIdentity(tree, identity);
    if (removed === undefined) throw new Error("no member of this identity");
    return { kind: "remove", removed };
  }

  /** A proposal that the runner describes: by value in a commit, or of an external sender. */
  private described(
    description: Message<"ProposalDescription">,
    group: { readonly tree: Parameters<typeof leafOfIdentity>[0]; readonly groupId: Uint8Array },
    crypto: CryptoProvider,
  ): Proposal {
    const pskNonce = crypto.random(crypto.suite.hashLength);
    switch (fromUtf8(description.proposal_type)) {
      case "add":
        return { kind: "add", keyPackage: keyPackageOf(description.key_package) };
      case "remove":
        return this.removal(group.tree, description.removed_id);
      case "externalPSK":
        return { kind: "psk", psk: { kind: "external", pskId: description.psk_id, pskNonce } };
      case "resumptionPSK":
        return { kind: "psk", psk: resumptionPsk(group.groupId, description.epoch_id, pskNonce) };
      case "groupContextExtensions":
        return { kind: "group_context_extensions", extensions: extensionsOf(description.extensions) };
      case "reinit":
        return {
          kind: "reinit",
          groupId: description.group_id,
          version: 1,
          cipherSuite: description.cipher_suite,
          extensions: extensionsOf(description.extensions),
        };
      default:
        throw new Error("unknown proposal type");
    }
  }

  private commit(request: Request<"Commit">): Response<"Commit"> {
    const member = this.member(request.state_id);
    const options: CommitOptions = {
      cached: request.by_reference.map((message) => member.referenceTo(message)),
      proposals: request.by_value.map((each) => this.described(each, member.group, member.crypto)),
      path: request.force_path ? "always" : "required",
      groupInfo: { ratchetTree: !request.external_tree },
    };
    const { message, welcome } = member.commit(options);
    if (!request.external_tree) return { commit: message, welcome };
    return { commit: message, welcome, ratchet_tree: this.pendingTree(member) };
  }

  /** The tree of the epoch that a pending commit leads to: that of a copy of the group which merges it. */
  private pendingTree(member: InteropMember): Bytes {
    const ahead = member.copy();
    ahead.mergePending({ nowMs: 0 });
    return ahead.ratchetTree();
  }

  private handleCommit(request: Request<"HandleCommit">): InteropMember {
    const member = this.member(request.state_id);
    for (const message of request.proposal) member.referenceTo(message);
    member.handleCommit(request.commit);
    return member;
  }

  private committing() {
    return {
      Commit: (request) => this.commit(request),
      HandleCommit: (request) => {
        const { group } = this.handleCommit(request);
        return { state_id: request.state_id, epoch_authenticator: group.epochAuthenticator() };
      },
      HandlePendingCommit: ({ state_id }) => {
        const member = this.member(state_id);
        member.mergePending();
        return { state_id, epoch_authenticator: member.group.epochAuthenticator() };
      },
      ReInitCommit: (request) => this.commit(request),
      HandlePendingReInitCommit: ({ state_id }) => {
        const member = this.member(state_id);
        member.mergePending();
        return this.awaitReInit(member);
      },
      HandleReInitCommit: (request) => this.awaitReInit(this.handleCommit(request)),
    } satisfies Partial<Handlers>;
  }

  private awaitReInit(old: InteropMember): Response<"HandleReInitCommit"> {
    const { group } = old;
    if (group.reinit === undefined) throw new Error("the commit did not cover a ReInit");
    const crypto = cryptoOf(group.reinit.cipherSuite);
    const { credential } = old.identity;
    if (credential.kind !== "basic") throw new Error("not a basic credential");
    const transaction = this.transaction(crypto, basicIdentity(crypto, credential.identity));
    return {
      reinit_id: this.keep(this.reinits, { ...transaction, old }),
      key_package: keyPackageMessage(transaction.bundle.keyPackage),
      epoch_authenticator: group.epochAuthenticator(),
    };
  }

  private continuing() {
    return {
      ReInitWelcome: ({ reinit_id, key_package, external_tree }) => {
        const { crypto, identity, psks, old } = this.known(this.reinits, reinit_id, "reinit");
        const request = {
          identity,
          lifetime: LIFETIME,
          keyPackages: key_package.map(keyPackageOf),
          groupInfo: { ratchetTree: !external_tree },
        };
        const config = { ...old.config, psks: externalPsks(psks) };
        const continued = continueByReInit(crypto, old.group, request, config);
        return this.subgroup(continued, external_tree, { crypto, identity, psks, config });
      },
      HandleReInitWelcome: (request) => {
        const wait = this.known(this.reinits, request.reinit_id, "reinit");
        const encrypted = wait.old.config.handshakeFormat === "mls_private_message";
        return this.joinWith(wait, request, encrypted, wait.old.group);
      },
      CreateBranch: (request) => {
        const old = this.member(request.state_id);
        const { crypto, identity, config } = old;
        const psks: PskTable = new Map(old.psks);
        const continued = branchGroup(
          crypto,
          old.group,
          {
            identity,
            lifetime: LIFETIME,
            groupId: request.group_id,
            extensions: extensionsOf(request.extensions),
            keyPackages: request.key_packages.map(keyPackageOf),
            groupInfo: { ratchetTree: !request.external_tree },
          },
          config,
        );
        return this.subgroup(continued, request.external_tree, { crypto, identity, psks, config });
      },
      HandleBranch: (request) => {
        const old = this.member(request.state_id);
        const transaction = this.known(this.transactions, request.transaction_id, "transaction");
        const encrypted = old.config.handshakeFormat === "mls_private_message";
        return this.joinWith(transaction, request, encrypted, old.group);
      },
    } satisfies Partial<Handlers>;
  }

  private subgroup(
    { group, welcome, initialWrites, writes }: ContinuedGroup,
    externalTree: boolean,
    about: Omit<ConstructorParameters<typeof InteropMember>[1], "reload">,
  ): Response<"CreateBranch"> {
    const { member, state_id } = this.newMember({ group, writes: initialWrites }, about);
    member.save(writes);
    member.mergePending();
    return {
      state_id,
      welcome,
      ratchet_tree: externalTree ? member.group.ratchetTree() : undefined,
      epoch_authenticator: member.group.epochAuthenticator(),
    };
  }

  private outside() {
    return {
      NewMemberAddProposal: ({ group_info, identity }) => {
        const { groupContext } = decodeGroupInfo(group_info);
        const crypto = cryptoOf(groupContext.cipherSuite);
        const transaction = this.transaction(crypto, basicIdentity(crypto, identity));
        return {
          transaction_id: this.keep(this.transactions, transaction),
          proposal: createNewMemberProposal(crypto, groupContext, transaction.bundle),
          ...privateKeysOf(transaction.bundle),
        };
      },
      CreateExternalSigner: ({ cipher_suite, identity: name }) => {
        const crypto = cryptoOf(cipher_suite);
        const identity = basicIdentity(crypto, name);
        const external_sender = encode(identity, (writer) => {
          writer.bytes(identity.signatureKeys.publicKey);
          writeCredential(writer, identity.credential);
        });
        return { signer_id: this.keep(this.signers, { crypto, identity }), external_sender };
      },
      ExternalSignerProposal: (request) => {
        const { crypto, identity } = this.known(this.signers, request.signer_id, "signer");
        const info = decodeGroupInfo(request.group_info);
        const { groupContext } = info;
        const { publicKey, privateKey } = identity.signatureKeys;
        // The runner leaves the index at zero; a group may have several external senders.
        const own = externalSenders(groupContext.extensions).findIndex(({ signatureKey }) =>
          equalBytes(signatureKey, publicKey),
        );
        const tree = treeOf(crypto, info, some(request.ratchet_tree));
        const proposal = this.described(request.description, { tree, groupId: groupContext.groupId }, crypto);
        const index = own < 0 ? request.signer_index : own;
        return { proposal: createExternalProposal(crypto, groupContext, index, privateKey, proposal) };
      },
    } satisfies Partial<Handlers>;
  }
}

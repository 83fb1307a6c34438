/**
 * The gRPC service `mls_client.MLSClient` that the MLS working group's interop runner drives: its methods,
 * messages and field numbers (each message numbers its fields from 1 in the order given here).
 */
import { fromJSON, type PackageDefinition } from "@grpc/proto-loader";

/** "name type name type ..."; a type may be `repeated:type`. */
const messages = {
  NameRequest: "",
  NameResponse: "name string",
  SupportedCiphersuitesRequest: "",
  SupportedCiphersuitesResponse: "ciphersuites repeated:uint32",
  CreateGroupRequest: "group_id bytes cipher_suite uint32 encrypt_handshake bool identity bytes",
  CreateGroupResponse: "state_id uint32",
  CreateKeyPackageRequest: "cipher_suite uint32 identity bytes",
  CreateKeyPackageResponse:
    "transaction_id uint32 key_package bytes init_priv bytes encryption_priv bytes signature_priv bytes",
  JoinGroupRequest:
    "transaction_id uint32 welcome bytes encrypt_handshake bool identity bytes ratchet_tree bytes",
  JoinGroupResponse: "state_id uint32 epoch_authenticator bytes",
  PreSharedKey: "psk_id bytes psk_secret bytes",
  ExternalJoinRequest:
    "group_info bytes ratchet_tree bytes encrypt_handshake bool identity bytes remove_prior bool psks repeated:PreSharedKey",
  ExternalJoinResponse: "state_id uint32 commit bytes epoch_authenticator bytes",
  GroupInfoRequest: "state_id uint32 external_tree bool",
  GroupInfoResponse: "group_info bytes ratchet_tree bytes",
  StateAuthRequest: "state_id uint32",
  StateAuthResponse: "state_auth_secret bytes",
  ExportRequest: "state_id uint32 label string context bytes key_length uint32",
  ExportResponse: "exported_secret bytes",
  ProtectRequest: "state_id uint32 authenticated_data bytes plaintext bytes",
  ProtectResponse: "ciphertext bytes",
  UnprotectRequest: "state_id uint32 ciphertext bytes",
  UnprotectResponse: "authenticated_data bytes plaintext bytes",
  StorePSKRequest: "state_or_transaction_id uint32 psk_id bytes psk_secret bytes",
  StorePSKResponse: "",
  AddProposalRequest: "state_id uint32 key_package bytes",
  ProposalResponse: "proposal bytes",
  UpdateProposalRequest: "state_id uint32",
  RemoveProposalRequest: "state_id uint32 removed_id bytes",
  ExternalPSKProposalRequest: "state_id uint32 psk_id bytes",
  ResumptionPSKProposalRequest: "state_id uint32 epoch_id uint64",
  Extension: "extension_type uint32 extension_data bytes",
  GroupContextExtensionsProposalRequest: "state_id uint32 extensions repeated:Extension",
  ProposalDescription:
    "proposal_type bytes key_package bytes removed_id bytes psk_id bytes epoch_id uint64 extensions repeated:Extension group_id bytes cipher_suite uint32",
  CommitRequest:
    "state_id uint32 by_reference repeated:bytes by_value repeated:ProposalDescription force_path bool external_tree bool",
  CommitResponse: "commit bytes welcome bytes ratchet_tree bytes",
  HandleCommitRequest: "state_id uint32 proposal repeated:bytes commit bytes",
  HandleCommitResponse: "state_id uint32 epoch_authenticator bytes",
  HandlePendingCommitRequest: "state_id uint32",
  ReInitProposalRequest: "state_id uint32 cipher_suite uint32 group_id bytes extensions repeated:Extension",
  HandleReInitCommitResponse: "reinit_id uint32 key_package bytes epoch_authenticator bytes",
  ReInitWelcomeRequest: "reinit_id uint32 key_package repeated:bytes force_path bool external_tree bool",
  CreateSubgroupResponse: "state_id uint32 welcome bytes ratchet_tree bytes epoch_authenticator bytes",
  HandleReInitWelcomeRequest: "reinit_id uint32 welcome bytes ratchet_tree bytes",
  CreateBranchRequest:
    "state_id uint32 group_id bytes extensions repeated:Extension key_packages repeated:bytes force_path bool external_tree bool",
  HandleBranchRequest: "state_id uint32 transaction_id uint32 welcome bytes ratchet_tree bytes",
  HandleBranchResponse: "state_id uint32 epoch_authenticator bytes",
  NewMemberAddProposalRequest: "group_info bytes identity bytes",
  NewMemberAddProposalResponse:
    "transaction_id uint32 proposal bytes init_priv bytes encryption_priv bytes signature_priv bytes",
  CreateExternalSignerRequest: "cipher_suite uint32 identity bytes",
  CreateExternalSignerResponse: "signer_id uint32 external_sender bytes",
  AddExternalSignerRequest: "state_id uint32 external_sender bytes",
  ExternalSignerProposalRequest:
    "signer_id uint32 signer_index uint32 group_info bytes ratchet_tree bytes description ProposalDescription",
  FreeRequest: "state_id uint32",
  FreeResponse: "",
} as const;

type MessageName = keyof typeof messages;

/** Request and response of each method. */
export const methods = {
  Name: ["NameRequest", "NameResponse"],
  SupportedCiphersuites: ["SupportedCiphersuitesRequest", "SupportedCiphersuitesResponse"],
  CreateGroup: ["CreateGroupRequest", "CreateGroupResponse"],
  CreateKeyPackage: ["CreateKeyPackageRequest", "CreateKeyPackageResponse"],
  JoinGroup: ["JoinGroupRequest", "JoinGroupResponse"],
  ExternalJoin: ["ExternalJoinRequest", "ExternalJoinResponse"],
  GroupInfo: ["GroupInfoRequest", "GroupInfoResponse"],
  StateAuth: ["StateAuthRequest", "StateAuthResponse"],
  Export: ["ExportRequest", "ExportResponse"],
  Protect: ["ProtectRequest", "ProtectResponse"],
  Unprotect: ["UnprotectRequest", "UnprotectResponse"],
  StorePSK: ["StorePSKRequest", "StorePSKResponse"],
  AddProposal: ["AddProposalRequest", "ProposalResponse"],
  UpdateProposal: ["UpdateProposalRequest", "ProposalResponse"],
  RemoveProposal: ["RemoveProposalRequest", "ProposalResponse"],
  ExternalPSKProposal: ["ExternalPSKProposalRequest", "ProposalResponse"],
  ResumptionPSKProposal: ["ResumptionPSKProposalRequest", "ProposalResponse"],
  GroupContextExtensionsProposal: ["GroupContextExtensionsProposalRequest", "ProposalResponse"],
  Commit: ["CommitRequest", "CommitResponse"],
  HandleCommit: ["HandleCommitRequest", "HandleCommitResponse"],
  HandlePendingCommit: ["HandlePendingCommitRequest", "HandleCommitResponse"],
  ReInitProposal: ["ReInitProposalRequest", "ProposalResponse"],
  ReInitCommit: ["CommitRequest", "CommitResponse"],
  HandlePendingReInitCommit: ["HandlePendingCommitRequest", "HandleReInitCommitResponse"],
  HandleReInitCommit: ["HandleCommitRequest", "HandleReInitCommitResponse"],
  ReInitWelcome: ["ReInitWelcomeRequest", "CreateSubgroupResponse"],
  HandleReInitWelcome: ["HandleReInitWelcomeRequest", "JoinGroupResponse"],
  CreateBranch: ["CreateBranchRequest", "CreateSubgroupResponse"],
  HandleBranch: ["HandleBranchRequest", "HandleBranchResponse"],
  NewMemberAddProposal: ["NewMemberAddProposalRequest", "NewMemberAddProposalResponse"],
  CreateExternalSigner: ["CreateExternalSignerRequest", "CreateExternalSignerResponse"],
  AddExternalSigner: ["AddExternalSignerRequest", "ProposalResponse"],
  ExternalSignerProposal: ["ExternalSignerProposalRequest", "ProposalResponse"],
  Free: ["FreeRequest", "FreeResponse"],
} as const satisfies Record<string, readonly [MessageName, MessageName]>;

export type MethodName = keyof typeof methods;

interface Scalars {
  readonly bytes: Buffer;
  readonly string: string;
  readonly bool: boolean;
  readonly uint32: number;
  readonly uint64: number;
}
type FieldType<T extends string> = T extends `repeated:${infer Item}`
  ? readonly FieldType<Item>[]
  : T extends keyof Scalars
    ? Scalars[T]
    : T extends MessageName
      ? Fields<(typeof messages)[T]>
      : never;
type Fields<S extends string> = S extends `${infer Name} ${infer Type} ${infer Rest}`
  ? { readonly [K in Name]: FieldType<Type> } & Fields<Rest>
  : S extends `${infer Name} ${infer Type}`
    ? { readonly [K in Name]: FieldType<Type> }
    : unknown;

/** A decoded message: every field is present, with its default where the sender left it out. */
export type Message<N extends MessageName> = Fields<(typeof messages)[N]>;
export type Request<M extends MethodName> = Message<(typeof methods)[M][0]>;
/** What a handler answers with; fields may be left out, and bytes of any kind will do. */
export type Response<M extends MethodName> = {
  readonly [K in keyof Message<(typeof methods)[M][1]>]?: Message<(typeof methods)[M][1]>[K] extends Buffer
    ? Uint8Array | undefined
    : Message<(typeof methods)[M][1]>[K];
};

function fieldsOf(description: string): Record<string, { id: number; type: string; rule?: string }> {
  const words = description.split(" ").filter((word) => word !== "");
  const fields: Record<string, { id: number; type: string; rule?: string }> = {};
  for (let i = 0; i < words.length; i += 2) {
    const [name, type] = [words[i]!, words[i + 1]!];
    const repeated = type.startsWith("repeated:");
    fields[name] = {
      id: i / 2 + 1,
      type: repeated ? type.slice("repeated:".length) : type,
      ...(repeated ? { rule: "repeated" } : {}),
    };
  }
  return fields;
}

/** The definition for @grpc/grpc-js; the service is `mls_client.MLSClient`. */
export function interopDefinition(): PackageDefinition {
  const types = Object.entries(messages).map(([name, description]) => [
    name,
    { fields: fieldsOf(description) },
  ]);
  const calls = Object.entries(methods).map(([name, [requestType, responseType]]) => [
    name,
    { requestType, responseType },
  ]);
  const nested = { ...Object.fromEntries(types), MLSClient: { methods: Object.fromEntries(calls) } };
  const options = { keepCase: true, defaults: true, longs: Number, arrays: true };
  return fromJSON(
    { options: { syntax: "proto3" }, nested: { mls_client: { nested } } } as Parameters<typeof fromJSON>[0],
    options,
  );
}

/**
 * The formats of the official files, as in test-vectors.md of mlswg/mls-implementations. Every binary value is
 * lower-case hexadecimal; keys and secrets are raw bytes without a length header; MLS structures are encoded as
 * RFC 9420 says. `null` stands for an absent optional value.
 */

/** Bytes in hexadecimal. */
export type Hex = string;

export interface TreeMathCase {
  readonly n_leaves: number;
  readonly n_nodes: number;
  readonly root: number;
  readonly left: readonly (number | null)[];
  readonly right: readonly (number | null)[];
  readonly parent: readonly (number | null)[];
  readonly sibling: readonly (number | null)[];
}

export interface CryptoBasicsCase {
  readonly cipher_suite: number;
  readonly ref_hash: { readonly label: string; readonly value: Hex; readonly out: Hex };
  readonly expand_with_label: {
    readonly secret: Hex;
    readonly label: string;
    readonly context: Hex;
    readonly length: number;
    readonly out: Hex;
  };
  readonly derive_secret: { readonly secret: Hex; readonly label: string; readonly out: Hex };
  readonly derive_tree_secret: {
    readonly secret: Hex;
    readonly label: string;
    readonly generation: number;
    readonly length: number;
    readonly out: Hex;
  };
  readonly sign_with_label: {
    readonly priv: Hex;
    readonly pub: Hex;
    readonly content: Hex;
    readonly label: string;
    readonly signature: Hex;
  };
  readonly encrypt_with_label: {
    readonly priv: Hex;
    readonly pub: Hex;
    readonly label: string;
    readonly context: Hex;
    readonly plaintext: Hex;
    readonly kem_output: Hex;
    readonly ciphertext: Hex;
  };
}

export interface SecretTreeGeneration {
  readonly generation: number;
  readonly application_key: Hex;
  readonly application_nonce: Hex;
  readonly handshake_key: Hex;
  readonly handshake_nonce: Hex;
}

export interface SecretTreeCase {
  readonly cipher_suite: number;
  readonly encryption_secret: Hex;
  readonly sender_data: {
    readonly sender_data_secret: Hex;
    readonly ciphertext: Hex;
    readonly key: Hex;
    readonly nonce: Hex;
  };
  /** One list per leaf; the group has as many leaves as there are lists. */
  readonly leaves: readonly (readonly SecretTreeGeneration[])[];
}

export interface MessageProtectionCase {
  readonly cipher_suite: number;
  readonly group_id: Hex;
  readonly epoch: number;
  readonly tree_hash: Hex;
  readonly confirmed_transcript_hash: Hex;
  readonly signature_priv: Hex;
  readonly signature_pub: Hex;
  readonly encryption_secret: Hex;
  readonly sender_data_secret: Hex;
  readonly membership_key: Hex;
  /** Proposal; the sender is leaf 1 of two, and authenticated data is empty, here and below. */
  readonly proposal: Hex;
  /** MLSMessage with a PrivateMessage. */
  readonly proposal_priv: Hex;
  /** MLSMessage with a PublicMessage. */
  readonly proposal_pub: Hex;
  readonly commit: Hex;
  readonly commit_priv: Hex;
  readonly commit_pub: Hex;
  readonly application: Hex;
  readonly application_priv: Hex;
}

export interface KeyScheduleEpoch {
  readonly tree_hash: Hex;
  readonly commit_secret: Hex;
  readonly psk_secret: Hex;
  readonly confirmed_transcript_hash: Hex;
  /** GroupContext with `epoch` equal to the index of this entry and no extensions. */
  readonly group_context: Hex;
  readonly joiner_secret: Hex;
  readonly welcome_secret: Hex;
  readonly init_secret: Hex;
  readonly sender_data_secret: Hex;
  readonly encryption_secret: Hex;
  readonly exporter_secret: Hex;
  readonly epoch_authenticator: Hex;
  readonly external_secret: Hex;
  readonly confirmation_key: Hex;
  readonly membership_key: Hex;
  readonly resumption_psk: Hex;
  readonly external_pub: Hex;
  readonly exporter: {
    /** The label itself: text that happens to look like hexadecimal is not decoded. */
    readonly label: string;
    readonly context: Hex;
    readonly length: number;
    readonly secret: Hex;
  };
}

export interface KeyScheduleCase {
  readonly cipher_suite: number;
  readonly group_id: Hex;
  readonly initial_init_secret: Hex;
  readonly epochs: readonly KeyScheduleEpoch[];
}

export interface PskSecretCase {
  readonly cipher_suite: number;
  readonly psks: readonly { readonly psk_id: Hex; readonly psk: Hex; readonly psk_nonce: Hex }[];
  readonly psk_secret: Hex;
}

export interface TranscriptHashesCase {
  readonly cipher_suite: number;
  readonly confirmation_key: Hex;
  readonly authenticated_content: Hex;
  readonly interim_transcript_hash_before: Hex;
  readonly confirmed_transcript_hash_after: Hex;
  readonly interim_transcript_hash_after: Hex;
}

export interface WelcomeCase {
  readonly cipher_suite: number;
  readonly init_priv: Hex;
  readonly signer_pub: Hex;
  /** MLSMessage with a KeyPackage. */
  readonly key_package: Hex;
  /** MLSMessage with a Welcome. */
  readonly welcome: Hex;
}

export interface TreeOperationsCase {
  readonly cipher_suite: number;
  readonly tree_before: Hex;
  readonly proposal: Hex;
  readonly proposal_sender: number;
  readonly tree_hash_before: Hex;
  readonly tree_after: Hex;
  readonly tree_hash_after: Hex;
}

export interface TreeValidationCase {
  readonly cipher_suite: number;
  readonly tree: Hex;
  readonly group_id: Hex;
  /** By node index. */
  readonly resolutions: readonly (readonly number[])[];
  /** By node index. */
  readonly tree_hashes: readonly Hex[];
}

export interface TreeKemCase {
  readonly cipher_suite: number;
  readonly group_id: Hex;
  readonly epoch: number;
  readonly confirmed_transcript_hash: Hex;
  readonly ratchet_tree: Hex;
  readonly leaves_private: readonly {
    readonly index: number;
    readonly encryption_priv: Hex;
    readonly signature_priv: Hex;
    readonly path_secrets: readonly { readonly node: number; readonly path_secret: Hex }[];
  }[];
  readonly update_paths: readonly {
    readonly sender: number;
    readonly update_path: Hex;
    /** By leaf index; `null` for the sender and for blank leaves. */
    readonly path_secrets: readonly (Hex | null)[];
    readonly commit_secret: Hex;
    readonly tree_hash_after: Hex;
  }[];
}

export interface MessagesCase {
  readonly mls_welcome: Hex;
  readonly mls_group_info: Hex;
  readonly mls_key_package: Hex;
  readonly ratchet_tree: Hex;
  readonly group_secrets: Hex;
  readonly add_proposal: Hex;
  readonly update_proposal: Hex;
  readonly remove_proposal: Hex;
  readonly pre_shared_key_proposal: Hex;
  readonly re_init_proposal: Hex;
  readonly external_init_proposal: Hex;
  readonly group_context_extensions_proposal: Hex;
  readonly commit: Hex;
  readonly public_message_application: Hex;
  readonly public_message_proposal: Hex;
  readonly public_message_commit: Hex;
  readonly private_message: Hex;
}

export interface PassiveClientCase {
  readonly cipher_suite: number;
  readonly external_psks: readonly { readonly psk_id: Hex; readonly psk: Hex }[];
  /** MLSMessage with a KeyPackage. */
  readonly key_package: Hex;
  readonly signature_priv: Hex;
  readonly encryption_priv: Hex;
  readonly init_priv: Hex;
  /** MLSMessage with a Welcome. */
  readonly welcome: Hex;
  /** `null` when the tree is in the Welcome's GroupInfo. */
  readonly ratchet_tree: Hex | null;
  readonly initial_epoch_authenticator: Hex;
  readonly epochs: readonly {
    /** MLSMessages (PublicMessage or PrivateMessage) that the Commit may refer to. */
    readonly proposals: readonly Hex[];
    readonly commit: Hex;
    readonly epoch_authenticator: Hex;
  }[];
}

export interface DeserializationCase {
  readonly vlbytes_header: Hex;
  readonly length: number;
}

/** The type of one case of each file. */
export interface VectorFormats {
  readonly "crypto-basics": CryptoBasicsCase;
  readonly deserialization: DeserializationCase;
  readonly "key-schedule": KeyScheduleCase;
  readonly "message-protection": MessageProtectionCase;
  readonly messages: MessagesCase;
  readonly "passive-client-handling-commit": PassiveClientCase;
  readonly "passive-client-random": PassiveClientCase;
  readonly "passive-client-welcome": PassiveClientCase;
  readonly psk_secret: PskSecretCase;
  readonly "secret-tree": SecretTreeCase;
  readonly "transcript-hashes": TranscriptHashesCase;
  readonly "tree-math": TreeMathCase;
  readonly "tree-operations": TreeOperationsCase;
  readonly "tree-validation": TreeValidationCase;
  readonly treekem: TreeKemCase;
  readonly welcome: WelcomeCase;
}

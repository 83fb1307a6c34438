import { type Bytes, equalSecret, utf8, zeroize } from "@murmuration/base";
import { deriveSecret, expandWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider, HpkeKeyPair } from "../crypto/provider.ts";

/*
 * The key schedule of RFC 9420 section 8. Nothing is kept here: each function takes secrets and returns
 * secrets, and wipes those it made on the way. The caller deletes what it passed in once it is consumed
 * (section 9.2): init, commit, joiner and epoch secret as soon as the epoch's secrets exist.
 */

const EMPTY = new Uint8Array(0);

/** The secrets of an epoch (RFC 9420 table 4) and the init secret for the next one. Nh bytes each. */
export interface EpochSecrets {
  readonly senderDataSecret: Bytes;
  /** Root of the secret tree, which takes it over and deletes it. */
  readonly encryptionSecret: Bytes;
  readonly exporterSecret: Bytes;
  readonly externalSecret: Bytes;
  readonly confirmationKey: Bytes;
  readonly membershipKey: Bytes;
  readonly resumptionPsk: Bytes;
  readonly epochAuthenticator: Bytes;
  readonly initSecret: Bytes;
}

/** AEAD key and nonce that encrypt the GroupInfo in a Welcome. */
export interface WelcomeKey {
  readonly key: Bytes;
  readonly nonce: Bytes;
}

/** The all-zero vector of length Nh: the `0` of the key schedule's diagrams, psk_secret without PSKs, commit_secret without a path. */
export function zeroSecret(crypto: CryptoProvider): Bytes {
  return new Uint8Array(crypto.suite.hashLength);
}

/**
 * joiner_secret from the previous epoch's init_secret, the commit_secret and the encoded GroupContext of the
 * new epoch. Two HMACs.
 */
export function deriveJoinerSecret(
  crypto: CryptoProvider,
  initSecret: Uint8Array,
  commitSecret: Uint8Array,
  groupContext: Uint8Array,
): Bytes {
  const extracted = crypto.extract(initSecret, commitSecret);
  const joiner = expandWithLabel(crypto, extracted, "joiner", groupContext, crypto.suite.hashLength);
  zeroize(extracted);
  return joiner;
}

/** The value between joiner_secret and epoch_secret; welcome_secret and epoch_secret both come from it. */
function extractMember(crypto: CryptoProvider, joinerSecret: Uint8Array, pskSecret: Uint8Array): Bytes {
  return crypto.extract(joinerSecret, pskSecret);
}

/** welcome_secret. Two HMACs. */
export function deriveWelcomeSecret(
  crypto: CryptoProvider,
  joinerSecret: Uint8Array,
  pskSecret: Uint8Array,
): Bytes {
  const member = extractMember(crypto, joinerSecret, pskSecret);
  const welcome = deriveSecret(crypto, member, "welcome");
  zeroize(member);
  return welcome;
}

/** welcome_key and welcome_nonce (section 12.4.3.1). Four HMACs. */
export function deriveWelcomeKey(
  crypto: CryptoProvider,
  joinerSecret: Uint8Array,
  pskSecret: Uint8Array,
): WelcomeKey {
  const { keyLength, nonceLength } = crypto.suite;
  const welcome = deriveWelcomeSecret(crypto, joinerSecret, pskSecret);
  const key = expandWithLabel(crypto, welcome, "key", EMPTY, keyLength);
  const nonce = expandWithLabel(crypto, welcome, "nonce", EMPTY, nonceLength);
  zeroize(welcome);
  return { key, nonce };
}

/** All secrets of the epoch whose joiner_secret and encoded GroupContext these are. Eleven HMACs. */
export function deriveEpochSecrets(
  crypto: CryptoProvider,
  joinerSecret: Uint8Array,
  pskSecret: Uint8Array,
  groupContext: Uint8Array,
): EpochSecrets {
  const member = extractMember(crypto, joinerSecret, pskSecret);
  const epoch = expandWithLabel(crypto, member, "epoch", groupContext, crypto.suite.hashLength);
  const secrets = epochSecretsOf(crypto, epoch);
  zeroize(member, epoch);
  return secrets;
}

/**
 * All secrets that come from an epoch_secret. A new group starts from a random one (section 11); every
 * other epoch goes through {@link deriveEpochSecrets}. Nine HMACs.
 */
export function epochSecretsOf(crypto: CryptoProvider, epochSecret: Uint8Array): EpochSecrets {
  const derive = (label: string) => deriveSecret(crypto, epochSecret, label);
  return {
    senderDataSecret: derive("sender data"),
    encryptionSecret: derive("encryption"),
    exporterSecret: derive("exporter"),
    externalSecret: derive("external"),
    confirmationKey: derive("confirm"),
    membershipKey: derive("membership"),
    resumptionPsk: derive("resumption"),
    epochAuthenticator: derive("authentication"),
    initSecret: derive("init"),
  };
}

/** The key pair of external_secret: its public half goes into the external_pub extension (section 8). */
export function deriveExternalKeyPair(crypto: CryptoProvider, externalSecret: Uint8Array): HpkeKeyPair {
  return crypto.deriveHpkeKeyPair(externalSecret);
}

const EXTERNAL_INIT_LABEL = utf8("MLS 1.0 external init secret");

/** The joiner's side of external initialisation (section 8.3). Throws RejectionError `mls/invalid-public-key`. */
export function sendExternalInit(
  crypto: CryptoProvider,
  externalPublicKey: Uint8Array,
): { kemOutput: Bytes; initSecret: Bytes } {
  const { hashLength } = crypto.suite;
  const { kemOutput, exported } = crypto.hpkeExportSend(
    externalPublicKey,
    EMPTY,
    EXTERNAL_INIT_LABEL,
    hashLength,
  );
  return { kemOutput, initSecret: exported };
}

/** A member's side of external initialisation (section 8.3). Throws RejectionError `mls/decryption-failed`. */
export function receiveExternalInit(
  crypto: CryptoProvider,
  externalSecret: Uint8Array,
  kemOutput: Uint8Array,
): Bytes {
  const { privateKey, publicKey } = deriveExternalKeyPair(crypto, externalSecret);
  try {
    const { hashLength } = crypto.suite;
    return crypto.hpkeExportReceive(privateKey, publicKey, kemOutput, EMPTY, EXTERNAL_INIT_LABEL, hashLength);
  } finally {
    zeroize(privateKey);
  }
}

/**
 * MLS-Exporter (section 8.5): a secret for use outside of MLS, bound to the epoch. The length is at most
 * 255 Nh and at most 65,535; above, UsageError `mls/bad-argument`.
 */
export function exportSecret(
  crypto: CryptoProvider,
  exporterSecret: Uint8Array,
  label: string,
  context: Uint8Array,
  length: number,
): Bytes {
  const derived = deriveSecret(crypto, exporterSecret, label);
  const exported = expandWithLabel(crypto, derived, "exported", crypto.hash(context), length);
  zeroize(derived);
  return exported;
}

/** confirmation_tag (section 6.1): MAC(confirmation_key, confirmed_transcript_hash). */
export function confirmationTag(
  crypto: CryptoProvider,
  confirmationKey: Uint8Array,
  confirmedTranscriptHash: Uint8Array,
): Bytes {
  return crypto.mac(confirmationKey, confirmedTranscriptHash);
}

/** True if the tag is the one of this key and hash; constant time. */
export function isConfirmationTag(
  crypto: CryptoProvider,
  confirmationKey: Uint8Array,
  confirmedTranscriptHash: Uint8Array,
  tag: Uint8Array,
): boolean {
  return equalSecret(confirmationTag(crypto, confirmationKey, confirmedTranscriptHash), tag);
}

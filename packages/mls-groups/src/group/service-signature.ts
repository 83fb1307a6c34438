import { type Bytes, UsageError } from "@murmuration/base";
import { signWithLabel, verifyWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";

/** Labels of what leaves sign outside of the protocol begin with this, and no label of RFC 9420 does. */
const LABEL_PREFIX = "Murmuration ";

/**
 * SignWithLabel (RFC 9420 section 5.1.2) with the key of a leaf, for what is no MLS message: access to a delivery
 * service, an approval. One signature. Throws UsageError `mls/label-not-ours` for a label of the protocol, so that no
 * signature can be taken for a message.
 */
export function signForService(
  crypto: CryptoProvider,
  signaturePrivateKey: Uint8Array,
  label: string,
  content: Uint8Array,
): Bytes {
  if (!label.startsWith(LABEL_PREFIX)) throw new UsageError("mls/label-not-ours");
  return signWithLabel(crypto, signaturePrivateKey, label, content);
}

/** Whether {@link signForService} made this signature with the key of a leaf. False also for an unusable key. */
export function verifyLeafSignature(
  crypto: CryptoProvider,
  signatureKey: Uint8Array,
  label: string,
  content: Uint8Array,
  signature: Uint8Array,
): boolean {
  return label.startsWith(LABEL_PREFIX) && verifyWithLabel(crypto, signatureKey, label, content, signature);
}

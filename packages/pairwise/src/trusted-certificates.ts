import { RejectionError, refuseUnless } from "@murmuration/base";
import type { PublicKey, SenderCertificate } from "@signalapp/libsignal-client";
import { expirationOf } from "./own-identity.ts";

/** Certificates that are kept as trusted, at about 300 bytes each: those of some groups of the largest pairwise size. */
const MAX_TRUSTED = 2_048;

/**
 * Validates sender certificates, and knows again which it has found to be signed under the trust roots: a sender has the
 * same one in all its messages for a day. Only the signatures are not looked at twice, of the very same bytes; when a
 * certificate ends is asked each time. Costs two signature verifications for one that is new, and else a look-up.
 */
export class TrustedCertificates {
  private readonly trustRoots: readonly PublicKey[];
  /** By their bytes, when they expire, ms since 1970. The one that was used last is last. */
  private readonly trusted = new Map<string, number>();

  constructor(trustRoots: readonly PublicKey[]) {
    this.trustRoots = trustRoots;
  }

  /**
   * Whether it was good when the delivery service accepted the envelope, which may have waited for 30 days. RejectionError
   * `pairwise/certificate-malformed`, `pairwise/certificate-untrusted`, `pairwise/certificate-expired`.
   */
  validate(certificate: SenderCertificate, acceptedAtMs: number): void {
    const key = Buffer.from(certificate.serialize()).toString("latin1");
    const expiresAtMs = this.trusted.get(key) ?? this.checkSignatures(certificate);
    this.trusted.delete(key);
    this.trusted.set(key, expiresAtMs);
    if (this.trusted.size > MAX_TRUSTED) this.trusted.delete(this.trusted.keys().next().value!);
    refuseUnless(acceptedAtMs <= expiresAtMs, "pairwise/certificate-expired");
  }

  private checkSignatures(certificate: SenderCertificate): number {
    const expiresAtMs = expirationOf(certificate);
    const isTrusted = certificate.validateWithTrustRoots([...this.trustRoots], expiresAtMs);
    refuseUnless(isTrusted, "pairwise/certificate-untrusted");
    if (certificate.senderE164() !== null) throw new RejectionError("pairwise/certificate-malformed");
    return expiresAtMs;
  }
}

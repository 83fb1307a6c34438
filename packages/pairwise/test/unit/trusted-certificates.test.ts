import { SenderCertificate } from "@signalapp/libsignal-client";
import { expect, test, vi } from "vitest";
import { decodePublicKey } from "../../src/public-keys.ts";
import {
  generateCertificateSigner,
  generateTrustRoot,
  issueSenderCertificate,
} from "../../src/server/index.ts";
import { TrustedCertificates } from "../../src/trusted-certificates.ts";
import { DAY_MS, establishedPair } from "../support/peers.ts";

async function certificates() {
  const { alice, world } = await establishedPair();
  const sender = alice.engine.local()!;
  const root = generateTrustRoot();
  const until = world.nowMs + DAY_MS;
  const issue = (by: typeof root, untilMs: number): SenderCertificate =>
    SenderCertificate.deserialize(
      issueSenderCertificate(generateCertificateSigner(by.privateKey, 1), sender, untilMs),
    );
  const trusted = new TrustedCertificates([decodePublicKey(root.publicKey, "pairwise/bad-trust-root")]);
  return { root, until, issue, trusted };
}

test("the signatures of a certificate are verified once, and when it ends is asked each time", async () => {
  const { root, until, issue, trusted } = await certificates();
  const certificate = issue(root, until);
  const verify = vi.spyOn(SenderCertificate.prototype, "validateWithTrustRoots");
  for (const atMs of [until - 1, until]) trusted.validate(certificate, atMs);
  expect(() => trusted.validate(certificate, until + 1)).toThrow("pairwise/certificate-expired");
  trusted.validate(SenderCertificate.deserialize(certificate.serialize()), until);
  expect(verify).toHaveBeenCalledTimes(1);
  trusted.validate(issue(root, until + 1), until + 1);
  expect(verify).toHaveBeenCalledTimes(2);
  verify.mockRestore();
});

test("what was refused is refused again, and no byte of a trusted one may be another", async () => {
  const { root, until, issue, trusted } = await certificates();
  const foreign = issue(generateTrustRoot(), until);
  for (const _ of [1, 2])
    expect(() => trusted.validate(foreign, until)).toThrow("pairwise/certificate-untrusted");
  const good = issue(root, until);
  trusted.validate(good, until);
  const bytes = good.serialize();
  let refused = 0;
  for (const at of bytes.keys()) {
    const forged = new Uint8Array(bytes);
    forged[at]! ^= 1;
    try {
      trusted.validate(SenderCertificate.deserialize(forged), until);
    } catch {
      refused++;
    }
  }
  expect(refused).toBe(bytes.length);
});

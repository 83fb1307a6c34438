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

// libsignal throws where it is asked for a signer's certificate that it does not know by its number; validating it does not.
test("a certificate that names its signer by a number that nobody knows is untrusted, and no failure of the library", async () => {
  const { trusted, until } = await certificates();
  const { alice } = await establishedPair();
  const field = (number: number, type: number, content: Uint8Array): Buffer =>
    Buffer.concat([Buffer.from([number * 8 + type]), content]);
  const bytes = (content: Uint8Array): Buffer => Buffer.concat([Buffer.from([content.length]), content]);
  const expires = Buffer.alloc(8);
  expires.writeBigUInt64LE(BigInt(until));
  const inner = Buffer.concat([
    field(2, 0, Buffer.from([1])),
    field(3, 1, expires),
    field(4, 2, bytes(alice.engine.local()!.identityKey)),
    field(6, 2, bytes(Buffer.from("9d0652a3-dcc3-4d11-975f-74d61598733f"))),
    field(8, 0, Buffer.from([99])),
  ]);
  const certificate = SenderCertificate.deserialize(
    Buffer.concat([
      field(1, 2, Buffer.concat([Buffer.from([inner.length | 128, inner.length >> 7]), inner])),
      field(2, 2, bytes(new Uint8Array(64))),
    ]),
  );
  expect(() => certificate.serverCertificate()).toThrow("unknown server certificate ID");
  expect(() => trusted.validate(certificate, until)).toThrow("pairwise/certificate-untrusted");
});

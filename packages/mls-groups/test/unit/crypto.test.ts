import { createPublicKey } from "node:crypto";
import { type Bytes, toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { counting } from "../../src/crypto/counting.ts";
import { importPrivate, importPrivateDer, isUsablePublic } from "../../src/crypto/key-objects.ts";
import {
  decryptWithLabel,
  encryptWithLabel,
  makeKeyPackageRef,
  makeProposalRef,
  refHash,
} from "../../src/crypto/labeled.ts";
import { nativeCrypto } from "../../src/crypto/native.ts";
import {
  type CipherSuiteId,
  cipherSuite,
  cipherSuiteIds,
  requireCipherSuite,
} from "../../src/crypto/suites.ts";
import { expectCode } from "../expect-error.ts";
import { providers } from "../providers.ts";
import { seededRandom } from "../seeded.ts";

const message = utf8("message");

describe("cipher suites (RFC 9420 section 17.1)", () => {
  test("a code outside the registry is refused: from bytes a rejection, from the caller a misuse", () => {
    for (const code of [0, 8, 0x0a0a, 1.5, -1]) {
      expectCode(() => requireCipherSuite(code), "mls/unsupported-cipher-suite");
      expectCode(() => cipherSuite(code as CipherSuiteId), "mls/unknown-cipher-suite");
    }
    expect(cipherSuiteIds.map((id) => requireCipherSuite(id).id)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  test.each(cipherSuiteIds)("suite %i generates keys of the lengths it declares", (id) => {
    const crypto = nativeCrypto(id);
    const { kem, hashLength } = crypto.suite;
    const { publicKey, privateKey } = crypto.generateHpkeKeyPair();
    const { kemOutput } = crypto.hpkeSeal(publicKey, message, message, message);
    const lengths = [publicKey.length, privateKey.length, kemOutput.length, crypto.hash(message).length];
    expect(lengths).toEqual([kem.publicKeyLength, kem.privateKeyLength, kem.encLength, hashLength]);
  });
});

describe("randomness", () => {
  test.each(providers)(
    "a seeded $name provider repeats every output, another seed gives others",
    ({ make }) => {
      const outputs = (seed: string) => {
        const crypto = make(1, { random: seededRandom(seed) });
        const hpke = crypto.generateHpkeKeyPair();
        const signer = crypto.generateSignatureKeyPair();
        const sealed = crypto.hpkeSeal(hpke.publicKey, message, message, message);
        const exported = crypto.hpkeExportSend(hpke.publicKey, message, message, 32);
        return [
          crypto.random(8),
          signer.privateKey,
          sealed.kemOutput,
          sealed.ciphertext,
          exported.exported,
        ].map(toHex);
      };
      expect(outputs("a")).toEqual(outputs("a"));
      const [first, second] = [outputs("a"), outputs("b")];
      for (const [i, output] of first.entries()) expect(output).not.toBe(second[i]);
    },
  );

  test.each(providers)("without a source the $name provider draws from the platform", ({ make }) => {
    const crypto = make(1);
    const { publicKey } = crypto.generateHpkeKeyPair();
    const seal = () => toHex(crypto.hpkeSeal(publicKey, message, message, message).kemOutput);
    expect(seal()).not.toBe(seal());
    expect(toHex(crypto.random(16))).not.toBe(toHex(crypto.random(16)));
  });
});

describe("the native provider's shortcuts change no result", () => {
  test.each(cipherSuiteIds)("suite %i: private keys as DER and as raw bytes are the same keys", (id) => {
    const { signature, kem } = cipherSuite(id);
    const crypto = nativeCrypto(id);
    for (const [curve, { privateKey }] of [
      [signature, crypto.generateSignatureKeyPair()],
      [kem.name, crypto.generateHpkeKeyPair()],
    ] as const) {
      const [der, raw] = [importPrivateDer(curve, privateKey), importPrivate(curve, privateKey)];
      expect(createPublicKey(der).equals(createPublicKey(raw))).toBe(true);
    }
  });

  test("HPKE in one call of OpenSSL and composed from its parts open each other's messages", () => {
    const oneCall = nativeCrypto(1);
    const composed = nativeCrypto(1, { random: seededRandom("composed") });
    const { publicKey, privateKey } = composed.generateHpkeKeyPair();
    for (const [sender, receiver] of [
      [oneCall, composed],
      [composed, oneCall],
    ] as const) {
      const { kemOutput, ciphertext } = sender.hpkeSeal(publicKey, message, message, message);
      expect(receiver.hpkeOpen(privateKey, publicKey, kemOutput, message, message, ciphertext)).toEqual(
        message,
      );
    }
  });

  test("a signature key overwritten in place is not used from memory", () => {
    const crypto = nativeCrypto(1);
    const [first, second] = [crypto.generateSignatureKeyPair(), crypto.generateSignatureKeyPair()];
    const key = first.privateKey.slice() as Bytes;
    expect(crypto.verify(first.publicKey, message, crypto.sign(key, message))).toBe(true);
    key.set(second.privateKey);
    const signature = crypto.sign(key, message);
    expect(crypto.verify(second.publicKey, message, signature)).toBe(true);
    expect(crypto.verify(first.publicKey, message, signature)).toBe(false);
  });

  test("no error of anybody else loses its stack to an import, not even to one that fails", () => {
    const before = Error.stackTraceLimit;
    const { publicKey, privateKey } = nativeCrypto(2).generateSignatureKeyPair();
    importPrivate("p256", privateKey);
    const offCurve = publicKey.slice() as Bytes;
    offCurve[64]! ^= 1;
    expect(isUsablePublic("p256", publicKey)).toBe(true);
    expect(isUsablePublic("p256", offCurve)).toBe(false);
    expect(Error.stackTraceLimit).toBe(before);
  });

  test("random bytes drawn in bulk for short requests are given out once", () => {
    const crypto = nativeCrypto(1);
    const drawn = Array.from({ length: 400 }, (_, i) => crypto.random(5 + (i % 4)));
    const prefixes = new Set(drawn.map((bytes) => toHex(bytes.subarray(0, 5))));
    expect(prefixes.size).toBe(drawn.length);
    // A caller that writes to what it was given changes nothing of what comes after.
    drawn[0]!.fill(0);
    expect(crypto.random(8).every((byte) => byte === 0)).toBe(false);
    expect(crypto.random(0)).toEqual(new Uint8Array(0));
  });

  test("more public keys than are kept are verified all the same, whatever their order", () => {
    const crypto = nativeCrypto(1);
    const signers = Array.from({ length: 300 }, () => crypto.generateSignatureKeyPair());
    const { privateKey } = signers[0]!;
    const signature = crypto.sign(privateKey, message);
    for (let round = 0; round < 2; round++) {
      const valid = signers.map(({ publicKey }) => crypto.verify(publicKey, message, signature));
      expect(valid.indexOf(true)).toBe(0);
      expect(valid.lastIndexOf(true)).toBe(0);
    }
  });

  test("inputs longer than the scratch buffer hash as the portable provider hashes them", () => {
    const [native, portable] = providers.map(({ make }) => make(4));
    for (const length of [3960, 3968, 3969, 4096, 4097, 100_000]) {
      const data = new Uint8Array(length).fill(length);
      expect(native!.mac(message, data)).toEqual(portable!.mac(message, data));
      expect(native!.hash(message, data)).toEqual(portable!.hash(message, data));
      // A short input after a long one: what the buffer held before must not matter.
      expect(native!.mac(data, message)).toEqual(portable!.mac(data, message));
    }
  });

  test("an empty batch is verified, and a large one keeps its order", async () => {
    const crypto = nativeCrypto(1);
    const { publicKey, privateKey } = crypto.generateSignatureKeyPair();
    const signature = crypto.sign(privateKey, message);
    const jobs = Array.from({ length: 150 }, (_, i) => ({
      publicKey,
      data: i % 7 === 0 ? utf8("other") : message,
      signature,
    }));
    expect(await crypto.verifyBatch!([])).toEqual([]);
    expect(await crypto.verifyBatch!(jobs)).toEqual(jobs.map((_, i) => i % 7 !== 0));
  });
});

describe("labelled operations (RFC 9420 section 5)", () => {
  const crypto = nativeCrypto(1);

  test("references of KeyPackages and proposals are RefHash under their labels (5.2)", () => {
    expect(makeKeyPackageRef(crypto, message)).toEqual(
      refHash(crypto, "MLS 1.0 KeyPackage Reference", message),
    );
    expect(makeProposalRef(crypto, message)).toEqual(refHash(crypto, "MLS 1.0 Proposal Reference", message));
  });

  test("label and context of an encryption are authenticated (5.1.3)", () => {
    const { publicKey, privateKey } = crypto.generateHpkeKeyPair();
    const { kemOutput, ciphertext } = encryptWithLabel(crypto, publicKey, "Welcome", message, message);
    const open = (label: string, context: Uint8Array) =>
      decryptWithLabel(crypto, privateKey, publicKey, label, context, kemOutput, ciphertext);
    expect(open("Welcome", message)).toEqual(message);
    expectCode(() => open("UpdatePathNode", message), "mls/decryption-failed");
    expectCode(() => open("Welcome", utf8("other")), "mls/decryption-failed");
  });

  test("counting gives the provider's results and counts each call, batches by their jobs", async () => {
    const { provider, counts, reset } = counting(crypto);
    const { publicKey, privateKey } = provider.generateSignatureKeyPair();
    expect(provider.hash(message, message, message)).toEqual(crypto.hash(message, message, message));
    const signature = provider.sign(privateKey, message);
    const job = { publicKey, data: message, signature };
    expect(await provider.verifyBatch!([job, job, job])).toEqual([true, true, true]);
    expect(provider.verify(publicKey, message, signature)).toBe(true);
    const { hash, hashBytes, sign, verify, generateSignatureKeyPair } = counts;
    expect({ hash, hashBytes, sign, verify, generateSignatureKeyPair }).toEqual({
      hash: 1,
      hashBytes: 3 * message.length,
      sign: 1,
      verify: 4,
      generateSignatureKeyPair: 1,
    });
    reset();
    expect(Object.values(counts).every((count) => count === 0)).toBe(true);
  });
});

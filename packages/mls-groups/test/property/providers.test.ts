import { RejectionError, toHex } from "@murmuration/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { portableCrypto } from "../../src/crypto/portable.ts";
import type { CryptoProvider } from "../../src/crypto/provider.ts";
import { cipherSuite, cipherSuiteIds } from "../../src/crypto/suites.ts";
import { seededRandom } from "../seeded.ts";

/** fast-check prints the seed and the path of a failure; `fc.assert(..., { seed, path })` replays it. */
const bytes = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max });
const exactly = (length: number) => bytes(length, length);

/** Pure JavaScript on the large curves takes 10 to 50 ms an operation. */
function runs(suiteId: number): { numRuns: number } {
  const { name } = cipherSuite(suiteId as 1).kem;
  return { numRuns: name === "x25519" || name === "p256" ? 20 : 4 };
}

describe.each(cipherSuiteIds)("suite %i: native and portable agree (RFC 9420 section 5.1)", (id) => {
  const native = nativeCrypto(id);
  const portable = portableCrypto(id);
  const { suite } = native;
  const bothWays: readonly (readonly [CryptoProvider, CryptoProvider])[] = [
    [native, portable],
    [portable, native],
  ];

  test("hash, HMAC, Extract and Expand give the same bytes for inputs of any length", () => {
    const inputs = fc.tuple(bytes(0, 300), bytes(0, 300), bytes(0, 5000), fc.integer({ min: 0, max: 300 }));
    fc.assert(
      fc.property(inputs, ([key, info, data, length]) => {
        expect(native.hash(data, key, info)).toEqual(portable.hash(data, key, info));
        expect(native.hash(data)).toEqual(portable.hash(data));
        expect(native.mac(key, data)).toEqual(portable.mac(key, data));
        expect(native.extract(key, data)).toEqual(portable.extract(key, data));
        expect(native.expand(key, info, length)).toEqual(portable.expand(key, info, length));
      }),
      { numRuns: 100 },
    );
  });

  test("AEAD: the same ciphertext, and each opens what the other sealed", () => {
    const inputs = fc.tuple(
      exactly(suite.keyLength),
      exactly(suite.nonceLength),
      bytes(0, 100),
      bytes(0, 3000),
    );
    fc.assert(
      fc.property(inputs, ([key, nonce, aad, plaintext]) => {
        const sealed = native.seal(key, nonce, aad, plaintext);
        expect(sealed).toEqual(portable.seal(key, nonce, aad, plaintext));
        expect(sealed.length).toBe(plaintext.length + suite.tagLength);
        expect(native.open(key, nonce, aad, sealed)).toEqual(plaintext);
        expect(portable.open(key, nonce, aad, sealed)).toEqual(plaintext);
      }),
      { numRuns: 50 },
    );
  });

  test("DeriveKeyPair and seeded key generation give the same key pairs", () => {
    fc.assert(
      fc.property(bytes(0, 80), fc.string(), (ikm, seed) => {
        expect(native.deriveHpkeKeyPair(ikm)).toEqual(portable.deriveHpkeKeyPair(ikm));
        const [a, b] = [
          nativeCrypto(id, { random: seededRandom(seed) }),
          portableCrypto(id, { random: seededRandom(seed) }),
        ];
        expect(a.generateHpkeKeyPair()).toEqual(b.generateHpkeKeyPair());
        expect(a.generateSignatureKeyPair()).toEqual(b.generateSignatureKeyPair());
      }),
      runs(id),
    );
  });

  test("HPKE: each opens what the other sealed, with and without the public key at hand", () => {
    fc.assert(
      fc.property(bytes(0, 200), bytes(0, 50), bytes(0, 100), (info, aad, plaintext) => {
        for (const [sender, receiver] of bothWays) {
          const { publicKey, privateKey } = receiver.generateHpkeKeyPair();
          const { kemOutput, ciphertext } = sender.hpkeSeal(publicKey, info, aad, plaintext);
          for (const own of [publicKey, undefined]) {
            expect(receiver.hpkeOpen(privateKey, own, kemOutput, info, aad, ciphertext)).toEqual(plaintext);
          }
          const sent = sender.hpkeExportSend(publicKey, info, aad, 70);
          const received = receiver.hpkeExportReceive(privateKey, publicKey, sent.kemOutput, info, aad, 70);
          expect(received).toEqual(sent.exported);
        }
      }),
      runs(id),
    );
  });

  test("with the same seed both providers seal to the same bytes, ephemeral key included", () => {
    const { publicKey } = native.generateHpkeKeyPair();
    const message = Uint8Array.of(1, 2, 3);
    const seal = (crypto: CryptoProvider) => crypto.hpkeSeal(publicKey, message, message, message);
    const sealed = seal(nativeCrypto(id, { random: seededRandom("ephemeral") }));
    expect(seal(portableCrypto(id, { random: seededRandom("ephemeral") }))).toEqual(sealed);
  });

  test("signatures: each verifies what the other signed and nothing else", async () => {
    await fc.assert(
      fc.asyncProperty(bytes(0, 500), async (data) => {
        for (const [signer, verifier] of bothWays) {
          const { publicKey, privateKey } = signer.generateSignatureKeyPair();
          const signature = signer.sign(privateKey, data);
          expect(verifier.verify(publicKey, data, signature)).toBe(true);
          const other = Uint8Array.of(...data, 0);
          expect(verifier.verify(publicKey, other, signature)).toBe(false);
          const jobs = [data, other, data].map((content) => ({ publicKey, data: content, signature }));
          expect(await native.verifyBatch!(jobs)).toEqual([true, false, true]);
        }
      }),
      runs(id),
    );
  });

  test("a ciphertext, signature or public key with one bit flipped is refused by both", () => {
    const seed = `flip ${id}`;
    const random = seededRandom(seed);
    const { publicKey, privateKey } = native.generateHpkeKeyPair();
    const signer = native.generateSignatureKeyPair();
    const message = random(40);
    const { kemOutput, ciphertext } = native.hpkeSeal(publicKey, message, message, message);
    const signature = native.sign(signer.privateKey, message);
    for (let round = 0; round < 4; round++) {
      const flip = (input: Uint8Array) => {
        const out = input.slice();
        // Not the top bit of an X25519 key, which RFC 7748 section 5 ignores.
        out[random(1)[0]! % (out.length - 1)]! ^= 1 << (random(1)[0]! & 7);
        return out;
      };
      for (const crypto of [native, portable]) {
        const open = (kem: Uint8Array, sealed: Uint8Array) => () =>
          crypto.hpkeOpen(privateKey, publicKey, kem, message, message, sealed);
        expectRejection(open(kemOutput, flip(ciphertext)), "mls/decryption-failed", seed);
        expectRejection(open(flip(kemOutput), ciphertext), "mls/decryption-failed", seed);
        expect(crypto.verify(signer.publicKey, message, flip(signature)), seed).toBe(false);
        expect(crypto.verify(flip(signer.publicKey), message, signature), seed).toBe(false);
      }
    }
    expect(toHex(native.hpkeOpen(privateKey, publicKey, kemOutput, message, message, ciphertext))).toBe(
      toHex(message),
    );
  });
});

function expectRejection(action: () => unknown, code: string, seed: string): void {
  let caught: unknown;
  try {
    action();
  } catch (error) {
    caught = error;
  }
  expect(caught, seed).toBeInstanceOf(RejectionError);
  expect((caught as RejectionError).code, seed).toBe(code);
}

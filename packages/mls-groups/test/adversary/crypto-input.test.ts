import { concatBytes, fromHex } from "@murmuration/base";
import { ED448_TORSION_SUBGROUP } from "@noble/curves/ed448.js";
import { ED25519_TORSION_SUBGROUP, ed25519 } from "@noble/curves/ed25519.js";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CryptoProvider } from "../../src/crypto/provider.ts";
import { type CipherSuiteId, cipherSuiteIds } from "../../src/crypto/suites.ts";
import { codeOf, expectCode } from "../expect-error.ts";
import { providers } from "../providers.ts";

const message = Uint8Array.of(7, 7, 7);
const nist = { p256, p384, p521 } as const;

const both = providers.flatMap(({ name, make }) => cipherSuiteIds.map((id) => ({ name, make, id })));
const on = (suites: readonly CipherSuiteId[]) => both.filter(({ id }) => suites.includes(id));

/** Every way in which a KEM public key can reach a provider. */
function expectUnusable(crypto: CryptoProvider, point: Uint8Array): void {
  const { privateKey, publicKey } = crypto.generateHpkeKeyPair();
  expect(crypto.isValidHpkePublicKey(point)).toBe(false);
  expectCode(() => crypto.hpkeSeal(point, message, message, message), "mls/invalid-public-key");
  expectCode(() => crypto.hpkeExportSend(point, message, message, 32), "mls/invalid-public-key");
  const sealed = new Uint8Array(40);
  const open = () => crypto.hpkeOpen(privateKey, publicKey, point, message, message, sealed);
  expectCode(open, "mls/decryption-failed");
  const receive = () => crypto.hpkeExportReceive(privateKey, publicKey, point, message, message, 32);
  expectCode(receive, "mls/decryption-failed");
}

describe("points of small order would make every shared secret zero (RFC 7748 section 6)", () => {
  /** All u coordinates of small order: those of the Edwards torsion, u = p (zero again) and u = p + 1. */
  const montgomery25519 = [
    ...ED25519_TORSION_SUBGROUP.filter((point) => point !== ED25519_TORSION_SUBGROUP[0]).map((point) =>
      ed25519.utils.toMontgomery(fromHex(point)),
    ),
    new Uint8Array(32),
    fromHex(`ed${"ff".repeat(30)}7f`),
    fromHex(`ee${"ff".repeat(30)}7f`),
  ];
  const montgomery448 = [
    `00${"00".repeat(55)}`,
    `01${"00".repeat(55)}`,
    `fe${"ff".repeat(27)}fe${"ff".repeat(27)}`,
    `ff${"ff".repeat(27)}fe${"ff".repeat(27)}`,
    `${"00".repeat(28)}${"ff".repeat(28)}`,
  ].map(fromHex);

  test.each(on([1, 3]))("X25519, suite $id, $name", ({ make, id }) => {
    for (const point of montgomery25519) {
      expectUnusable(make(id), point);
      const withTopBit = point.slice();
      withTopBit[31]! |= 0x80;
      expectUnusable(make(id), withTopBit);
    }
  });

  test.each(on([4, 6]))("X448, suite $id, $name", ({ make, id }) => {
    for (const point of montgomery448) expectUnusable(make(id), point);
  });

  test.each(on([1]))("Ed25519 verification keys, $name", ({ make, id }) => {
    for (const point of [...ED25519_TORSION_SUBGROUP, `ed${"ff".repeat(30)}7f`, `ee${"ff".repeat(31)}`]) {
      expect(make(id).isValidSignaturePublicKey(fromHex(point)), point).toBe(false);
      // R = the key itself and S = 0 pass the verification equation for about every eighth message.
      for (let i = 0; i < 32; i++) {
        const forged = concatBytes(fromHex(point), new Uint8Array(32));
        expect(make(id).verify(fromHex(point), Uint8Array.of(i), forged)).toBe(false);
      }
    }
  });

  test.each(on([4]))("Ed448 verification keys, $name", ({ make, id }) => {
    for (const point of ED448_TORSION_SUBGROUP) {
      expect(make(id).isValidSignaturePublicKey(fromHex(point)), point).toBe(false);
    }
  });

  test.each(on([1, 3, 4, 6]))(
    "keys that anyone generates are none of them, suite $id, $name",
    ({ make, id }) => {
      const crypto = make(id);
      for (let i = 0; i < 20; i++) {
        expect(crypto.isValidHpkePublicKey(crypto.generateHpkeKeyPair().publicKey)).toBe(true);
        expect(crypto.isValidSignaturePublicKey(crypto.generateSignatureKeyPair().publicKey)).toBe(true);
      }
    },
  );
});

describe("NIST points are refused unless they are uncompressed and on the curve (RFC 9180 section 7.1.4)", () => {
  test.each(on([2, 5, 7]))("suite $id, $name", ({ make, id }) => {
    const crypto = make(id);
    const { name } = crypto.suite.kem;
    const { publicKey } = crypto.generateHpkeKeyPair();
    const half = (publicKey.length - 1) / 2;
    const change = (edit: (point: Uint8Array) => void) => {
      const point = publicKey.slice();
      edit(point);
      return point;
    };
    const bad = [
      change((point) => {
        point[point.length - 1]! ^= 1;
      }),
      change((point) => point.fill(0, 1)),
      change((point) => point.fill(0xff, 1)),
      change((point) => {
        point[0] = 2;
      }),
      change((point) => {
        point[0] = 6 + (point[point.length - 1]! & 1);
      }),
      Uint8Array.of(0),
      new Uint8Array(0),
      publicKey.subarray(0, 1 + half),
      publicKey.subarray(1),
      concatBytes(publicKey, Uint8Array.of(0)),
      nist[name as "p256"].Point.fromBytes(publicKey).toBytes(true),
    ];
    for (const point of bad) {
      expectUnusable(crypto, point);
      expect(crypto.isValidSignaturePublicKey(point)).toBe(false);
      expect(crypto.verify(point, message, message)).toBe(false);
    }
    expect(crypto.isValidHpkePublicKey(publicKey)).toBe(true);
  });

  test.each(on([5]))("a coordinate that was not reduced is refused, $name", ({ make, id }) => {
    const crypto = make(id);
    const { publicKey } = crypto.generateHpkeKeyPair();
    const { x } = p521.Point.fromBytes(publicKey).toAffine();
    const unreduced = fromHex((x + p521.Point.Fp.ORDER).toString(16).padStart(132, "0"));
    expectUnusable(crypto, concatBytes(Uint8Array.of(4), unreduced, publicKey.subarray(67)));
  });
});

describe.each(both)("hostile bytes on suite $id, $name", ({ make, id }) => {
  const crypto = make(id);
  const hpke = crypto.generateHpkeKeyPair();
  const signer = crypto.generateSignatureKeyPair();
  const key = crypto.random(crypto.suite.keyLength);
  const nonce = crypto.random(crypto.suite.nonceLength);

  test("a ciphertext cut at any byte, lengthened, or with another aad, nonce or tag does not open", () => {
    const sealed = crypto.seal(key, nonce, message, message);
    const open =
      (ciphertext: Uint8Array, aad = message, n: Uint8Array = nonce) =>
      () =>
        crypto.open(key, n, aad, ciphertext);
    for (let length = 0; length < sealed.length; length++) {
      expectCode(open(sealed.subarray(0, length)), "mls/decryption-failed");
    }
    expectCode(open(concatBytes(sealed, Uint8Array.of(0))), "mls/decryption-failed");
    expectCode(open(sealed, Uint8Array.of(7, 7)), "mls/decryption-failed");
    expectCode(open(sealed, message, new Uint8Array(nonce.length)), "mls/decryption-failed");
    const wrongTag = sealed.slice();
    wrongTag[sealed.length - 1]! ^= 0x80;
    expectCode(open(wrongTag), "mls/decryption-failed");
    expect(crypto.open(key, nonce, message, sealed)).toEqual(message);
  });

  test("an HPKE ciphertext or encapsulation cut at any byte does not open", () => {
    const { kemOutput, ciphertext } = crypto.hpkeSeal(hpke.publicKey, message, message, message);
    const open = (kem: Uint8Array, sealed: Uint8Array) => () =>
      crypto.hpkeOpen(hpke.privateKey, hpke.publicKey, kem, message, message, sealed);
    for (let length = 0; length < ciphertext.length; length += 6) {
      expectCode(open(kemOutput, ciphertext.subarray(0, length)), "mls/decryption-failed");
    }
    for (let length = 0; length < kemOutput.length; length++) {
      expectCode(open(kemOutput.subarray(0, length), ciphertext), "mls/decryption-failed");
    }
  });

  test("a signature cut at any byte, or lengthened, is invalid", () => {
    const signature = crypto.sign(signer.privateKey, message);
    expect(crypto.verify(signer.publicKey, message, signature)).toBe(true);
    for (let length = 0; length < signature.length; length++) {
      expect(crypto.verify(signer.publicKey, message, signature.subarray(0, length))).toBe(false);
    }
    expect(crypto.verify(signer.publicKey, message, concatBytes(signature, Uint8Array.of(0)))).toBe(false);
  });

  test("whatever the bytes are, no error of the platform gets out", async () => {
    const any = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.constant(hpke.publicKey),
      fc.constant(signer.publicKey),
    );
    await fc.assert(
      fc.asyncProperty(any, any, any, async (a, b, c) => {
        codeOf(() => crypto.hpkeSeal(a, b, c, c));
        codeOf(() => crypto.hpkeOpen(hpke.privateKey, hpke.publicKey, a, b, c, c));
        codeOf(() => crypto.open(key, nonce, a, b));
        crypto.isValidHpkePublicKey(a);
        crypto.isValidSignaturePublicKey(a);
        expect(crypto.verify(a, b, c)).toBe(false);
        const batch = await crypto.verifyBatch?.([{ publicKey: a, data: b, signature: c }]);
        expect(batch ?? [false]).toEqual([false]);
      }),
      { numRuns: 40 },
    );
  });

  test("what only the caller can get wrong is a UsageError, without the bytes in its message", () => {
    const short = new Uint8Array(3);
    for (const action of [
      () => crypto.seal(short, nonce, message, message),
      () => crypto.open(key, short, message, message),
      () => crypto.hpkeOpen(short, undefined, hpke.publicKey, message, message, message),
      () => crypto.sign(short, message),
      () => crypto.expand(message, message, 255 * crypto.suite.hashLength + 1),
    ]) {
      expectCode(action, "mls/bad-argument");
    }
  });
});

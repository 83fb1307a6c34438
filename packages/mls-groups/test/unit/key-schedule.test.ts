import { toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { counting } from "../../src/crypto/counting.ts";
import { nativeCrypto } from "../../src/crypto/native.ts";
import {
  confirmationTag,
  deriveEpochSecrets,
  deriveExternalKeyPair,
  deriveJoinerSecret,
  deriveWelcomeKey,
  deriveWelcomeSecret,
  exportSecret,
  isConfirmationTag,
  receiveExternalInit,
  sendExternalInit,
  zeroSecret,
} from "../../src/schedule/key-schedule.ts";
import { derivePskSecret } from "../../src/schedule/psk.ts";
import { deriveSenderDataKey, guardNonce } from "../../src/schedule/sender-data.ts";
import { expectCode } from "../expect-error.ts";
import { providers } from "../providers.ts";
import { seededRandom } from "../seeded.ts";

const crypto = nativeCrypto(1, { random: seededRandom("key schedule") });
const context = utf8("group context");
const psk = (value: number, nonce = 1) => ({
  id: { kind: "external" as const, pskId: Uint8Array.of(value), pskNonce: new Uint8Array(32).fill(nonce) },
  psk: new Uint8Array(32).fill(value),
});

describe("epoch secrets (RFC 9420 section 8)", () => {
  test("each input decides every secret, and no two secrets are equal", () => {
    const [joiner, pskSecret] = [crypto.random(32), crypto.random(32)];
    const variants = [
      deriveEpochSecrets(crypto, joiner, pskSecret, context),
      deriveEpochSecrets(crypto, crypto.random(32), pskSecret, context),
      deriveEpochSecrets(crypto, joiner, zeroSecret(crypto), context),
      deriveEpochSecrets(crypto, joiner, pskSecret, utf8("another context")),
    ].flatMap((secrets) => Object.values(secrets).map(toHex));
    expect(variants.length).toBe(36);
    expect(new Set(variants).size).toBe(36);
  });

  test("an epoch costs two expansions and two extractions around nine secrets, and its inputs are left alone", () => {
    const { provider, counts } = counting(crypto);
    const [init, commit, pskSecret] = [crypto.random(32), crypto.random(32), crypto.random(32)];
    const inputs = [init, commit, pskSecret].map(toHex);
    const joiner = deriveJoinerSecret(provider, init, commit, context);
    expect(toHex(joiner)).not.toBe(toHex(zeroSecret(crypto)));
    deriveEpochSecrets(provider, joiner, pskSecret, context);
    expect({ extract: counts.extract, expand: counts.expand }).toEqual({ extract: 2, expand: 11 });
    expect([init, commit, pskSecret].map(toHex)).toEqual(inputs);
  });

  test("welcome key and nonce come from welcome_secret (12.4.3.1)", () => {
    const [joiner, pskSecret] = [crypto.random(32), zeroSecret(crypto)];
    const { key, nonce } = deriveWelcomeKey(crypto, joiner, pskSecret);
    const sealed = crypto.seal(key, nonce, new Uint8Array(0), context);
    const again = deriveWelcomeKey(crypto, joiner, pskSecret);
    expect(crypto.open(again.key, again.nonce, new Uint8Array(0), sealed)).toEqual(context);
    expect([key.length, nonce.length, deriveWelcomeSecret(crypto, joiner, pskSecret).length]).toEqual([
      16, 12, 32,
    ]);
  });

  test("the confirmation tag is accepted whole and refused when changed or cut", () => {
    const [key, hash] = [crypto.random(32), crypto.random(32)];
    const tag = confirmationTag(crypto, key, hash);
    expect(isConfirmationTag(crypto, key, hash, tag)).toBe(true);
    const changed = tag.slice();
    changed[31]! ^= 1;
    for (const other of [changed, tag.subarray(0, 31), new Uint8Array(0)]) {
      expect(isConfirmationTag(crypto, key, hash, other)).toBe(false);
    }
  });
});

describe("external initialisation (RFC 9420 section 8.3)", () => {
  test.each(providers)("joiner and members agree on the init secret, $name", ({ make }) => {
    for (const id of [1, 2, 3, 4] as const) {
      const provider = make(id);
      const externalSecret = provider.random(provider.suite.hashLength);
      const { publicKey } = deriveExternalKeyPair(provider, externalSecret);
      const { kemOutput, initSecret } = sendExternalInit(provider, publicKey);
      expect(receiveExternalInit(provider, externalSecret, kemOutput)).toEqual(initSecret);
      expect(initSecret.length).toBe(provider.suite.hashLength);
    }
  });

  test("a foreign kem_output or external_pub is refused with a code", () => {
    expectCode(
      () => receiveExternalInit(crypto, crypto.random(32), new Uint8Array(32)),
      "mls/decryption-failed",
    );
    expectCode(
      () => receiveExternalInit(crypto, crypto.random(32), new Uint8Array(5)),
      "mls/decryption-failed",
    );
    expectCode(() => sendExternalInit(crypto, new Uint8Array(32)), "mls/invalid-public-key");
  });
});

describe("exporter (RFC 9420 section 8.5)", () => {
  test("label, context and length decide the exported secret", () => {
    const secret = crypto.random(32);
    const exported = [
      exportSecret(crypto, secret, "a", context, 32),
      exportSecret(crypto, secret, "b", context, 32),
      exportSecret(crypto, secret, "a", utf8("other"), 32),
      exportSecret(crypto, secret, "a", context, 33),
    ].map((bytes) => toHex(bytes).slice(0, 64));
    expect(new Set(exported).size).toBe(4);
    expect(exportSecret(crypto, secret, "a", context, 32)).toEqual(
      exportSecret(crypto, secret, "a", context, 32),
    );
  });

  test("lengths up to 255 Nh are exported, more is a misuse", () => {
    const secret = crypto.random(32);
    expect(exportSecret(crypto, secret, "a", context, 255 * 32).length).toBe(255 * 32);
    for (const length of [255 * 32 + 1, 70_000, -1, 1.5]) {
      expectCode(() => exportSecret(crypto, secret, "a", context, length), "mls/bad-argument");
    }
  });
});

describe("psk_secret (RFC 9420 section 8.4)", () => {
  test("without PSKs it is Nh zero bytes", () => {
    expect(derivePskSecret(crypto, [])).toEqual(new Uint8Array(32));
  });

  test("order, number, nonce and value of the PSKs decide it", () => {
    const secrets = [[psk(1)], [psk(1), psk(2)], [psk(2), psk(1)], [psk(1, 2)], [psk(2)], [psk(1), psk(1)]];
    const derived = secrets.map((psks) => toHex(derivePskSecret(crypto, psks)));
    expect(new Set(derived).size).toBe(secrets.length);
  });

  test("more PSKs than a PSKLabel can count are a misuse", () => {
    const many = Array.from({ length: 0x1_0000 }, () => psk(1));
    expectCode(() => derivePskSecret(crypto, many), "mls/bad-argument");
  });
});

describe("sender data (RFC 9420 section 6.3)", () => {
  test("key and nonce depend on the first Nh bytes of the ciphertext, a shorter one counts whole", () => {
    const secret = crypto.random(32);
    const ciphertext = crypto.random(100);
    const key = (sample: Uint8Array) => toHex(deriveSenderDataKey(crypto, secret, sample).key);
    expect(key(ciphertext)).toBe(key(ciphertext.subarray(0, 32)));
    expect(key(ciphertext)).not.toBe(key(ciphertext.subarray(0, 31)));
    expect(key(ciphertext.subarray(0, 20))).not.toBe(key(ciphertext.subarray(0, 19)));
  });

  test("the reuse guard changes the first four bytes of the nonce and nothing else (6.3.1)", () => {
    const nonce = new Uint8Array(12).fill(0x0f);
    const guarded = guardNonce(nonce, Uint8Array.of(0xff, 0, 0x0f, 1));
    expect([...guarded]).toEqual([0xf0, 0x0f, 0, 0x0e, ...new Uint8Array(8).fill(0x0f)]);
    expect(nonce).toEqual(new Uint8Array(12).fill(0x0f));
  });
});

import { createPublicKey, generateKeyPairSync, randomInt, sign, verify } from "node:crypto";
import { nativeCrypto } from "@murmuration/mls-groups";
import { verifyXEdDsa } from "@murmuration/pairwise";
import { describe, expect, test } from "vitest";
import { communityCrypto } from "../../src/shell/communities/identity.ts";

const openssl = nativeCrypto(1);
const ORDER = 2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n;
const P = 2n ** 255n - 19n;

/** Canonical encodings of the points of small order, RFC 8032 form; the sign bit is set where x has one. */
const smallOrder = [
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0000000000000000000000000000000000000000000000000000000000000080",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
].map((hex) => new Uint8Array(Buffer.from(hex, "hex")));

function littleEndian(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(32);
  for (let i = 0; i < 32; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return bytes;
}

function signer() {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const raw = new Uint8Array(Buffer.from(publicKey.export({ format: "jwk" }).x!, "base64url"));
  return { raw, sign: (data: Uint8Array) => new Uint8Array(sign(null, data, privateKey)) };
}

/** Both verdicts, which have to be the same: of one by one, and of a batch. */
async function verdict(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): Promise<boolean> {
  const expected = openssl.verify(publicKey, data, signature);
  expect(communityCrypto.verify(publicKey, data, signature)).toBe(expected);
  expect(await communityCrypto.verifyBatch!([{ publicKey, data, signature }])).toEqual([expected]);
  return expected;
}

describe("Ed25519 signatures of communities, which libsignal verifies, get OpenSSL's verdict", () => {
  test("where they are valid, in keys of either sign", async () => {
    const signs = new Set<number>();
    for (let i = 0; i < 64; i++) {
      const { raw, sign: signData } = signer();
      signs.add(raw[31]! & 0x80);
      const data = new Uint8Array(i * 7).fill(i);
      expect(await verdict(raw, data, signData(data))).toBe(true);
    }
    expect(signs.size).toBe(2);
  });

  test("where the signers were expected together, whoever else is among them", () => {
    const crypto = nativeCrypto(1, { verifyXEdDsa });
    const data = new Uint8Array(40).fill(9);
    const signers = Array.from({ length: 8 }, signer);
    const unusable = [...smallOrder, new Uint8Array(31), littleEndian(P + 3n), new Uint8Array(0)];
    const keys = [...unusable, ...signers.map(({ raw }) => raw)];
    crypto.expectSigners!(keys);
    for (const { raw, sign: signData } of signers) {
      const signature = signData(data);
      expect(crypto.verify(raw, data, signature)).toBe(true);
      for (const other of keys)
        expect(crypto.verify(other, data, signature)).toBe(openssl.verify(other, data, signature));
    }
  });

  test("where any one bit of key, data or signature is another", async () => {
    const { raw, sign: signData } = signer();
    const data = new Uint8Array(40).fill(9);
    const signature = signData(data);
    for (const original of [raw, data, signature]) {
      for (let bit = 0; bit < original.length * 8; bit++) {
        original[bit >> 3]! ^= 1 << (bit & 7);
        expect(await verdict(raw, data, signature)).toBe(false);
        original[bit >> 3]! ^= 1 << (bit & 7);
      }
    }
    expect(await verdict(raw, data, signature)).toBe(true);
  });

  test("where s was increased by the order, which makes a second signature of the first", async () => {
    const { raw, sign: signData } = signer();
    const data = new Uint8Array(3);
    const signature = signData(data);
    const s = signature.slice(32).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
    for (const factor of [1n, 2n, 7n]) {
      const other = signature.slice();
      other.set(littleEndian(s + factor * ORDER), 32);
      expect(await verdict(raw, data, other)).toBe(false);
    }
  });

  test("where the key has a small order, and anybody could sign for it: never", async () => {
    for (const key of smallOrder) {
      for (const r of smallOrder) {
        const signature = new Uint8Array(64);
        signature.set(r);
        for (let i = 0; i < 24; i++) expect(await verdict(key, Uint8Array.of(i), signature)).toBe(false);
      }
    }
  });

  test("where the key is encoded in a way that nobody encodes one", async () => {
    const keys = [P, P + 1n, P - 1n, 1n, 2n ** 255n - 1n, 2n, 3n].flatMap((y) => {
      const signed = littleEndian(y);
      signed[31]! |= 0x80;
      return [littleEndian(y), signed];
    });
    const { sign: signData } = signer();
    for (const key of keys) {
      await verdict(key, new Uint8Array(1), signData(new Uint8Array(1)));
      await verdict(key, new Uint8Array(1), new Uint8Array(64));
    }
    for (const length of [0, 31, 33])
      await verdict(new Uint8Array(length), new Uint8Array(1), new Uint8Array(64));
    for (const length of [0, 63, 65]) await verdict(signer().raw, new Uint8Array(1), new Uint8Array(length));
  });

  test("where key and signature are arbitrary bytes", async () => {
    for (let i = 0; i < 300; i++) {
      const bytes = (length: number) => Uint8Array.from({ length }, () => randomInt(256));
      await verdict(bytes(32), bytes(10), bytes(64));
    }
  });

  test("where they come in Buffers, which stay as they are", async () => {
    for (let i = 0; i < 8; i++) {
      const { raw, sign: signData } = signer();
      const data = Buffer.from("said");
      const signature = Buffer.from(signData(data));
      const before = Buffer.from(signature);
      expect(await verdict(Buffer.from(raw), data, signature)).toBe(true);
      expect(signature).toEqual(before);
    }
  });

  test("in a batch that mixes all of them, in the order of the jobs", async () => {
    const { raw, sign: signData } = signer();
    const data = new Uint8Array(5);
    const good = { publicKey: raw, data, signature: signData(data) };
    const jobs = [
      good,
      { ...good, data: new Uint8Array(6) },
      { ...good, publicKey: littleEndian(P + 1n) },
      { ...good, publicKey: new Uint8Array(3) },
      good,
    ];
    expect(await communityCrypto.verifyBatch!(jobs)).toEqual([true, false, false, false, true]);
  });

  test("and OpenSSL is not asked where libsignal can tell", () => {
    const { raw, sign: signData } = signer();
    const data = new Uint8Array(5);
    const asked: number[] = [];
    const crypto = nativeCrypto(1, {
      verifyXEdDsa: (key, content, signature) => {
        asked.push(key.length);
        return verifyXEdDsa(key, content, signature);
      },
    });
    expect(crypto.verify(raw, data, signData(data))).toBe(true);
    expect(asked).toEqual([32]);
    const key = createPublicKey({
      format: "jwk",
      key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(raw).toString("base64url") },
    });
    expect(verify(null, data, key, signData(data))).toBe(true);
  });
});

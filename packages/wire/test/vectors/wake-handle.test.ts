import { fromHex, toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { generateKeyPair, open, seal } from "../../src/push/hpke.ts";
import { openWakeHandle, sealWakeHandle, WAKE_HANDLE_BYTES } from "../../src/push/wake-handle.ts";

describe("sealing to the gateway", () => {
  test("opens the first message of RFC 9180, appendix A.2.1", () => {
    const recipient = {
      publicKey: fromHex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"),
      privateKey: fromHex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"),
    };
    const sealed = fromHex(
      `1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a${"1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"}`,
    );
    const plaintext = open(recipient, utf8("Ode on a Grecian Urn"), utf8("Count-0"), sealed);
    expect(new TextDecoder().decode(plaintext)).toBe("Beauty is truth, truth beauty");
  });

  test("what one key seals another cannot open, nor with another info, aad, or any bit changed", () => {
    const recipient = generateKeyPair();
    const [info, aad] = [utf8("info"), utf8("aad")];
    const sealed = seal(recipient.publicKey, info, aad, utf8("content"));
    expect(toHex(open(recipient, info, aad, sealed))).toBe(toHex(utf8("content")));
    const refused = expect.objectContaining({ code: "handle/cannot-open" });
    expect(() => open(generateKeyPair(), info, aad, sealed)).toThrow(refused);
    expect(() => open(recipient, utf8("other"), aad, sealed)).toThrow(refused);
    expect(() => open(recipient, info, utf8("other"), sealed)).toThrow(refused);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      // X25519 ignores the highest bit of a public key; the key schedule does not.
      const changed = sealed.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => open(recipient, info, aad, changed), `bit ${bit}`).toThrow(refused);
    }
    expect(() => open(recipient, info, aad, new Uint8Array(sealed.length))).toThrow(refused);
    expect(() => open(recipient, info, aad, sealed.slice(0, 40))).toThrow(refused);
  });
});

describe("a wake handle", () => {
  const gateway = {
    publicKey: fromHex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"),
    privateKey: fromHex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"),
  };
  const tokenId = fromHex("000102030405060708090a0b0c0d0e0f");

  test("comes out as it went in, whatever it says, and always has the same length", () => {
    for (const handle of [
      { tokenId, mentionOnly: false, expiryDay: 20_000 },
      { tokenId, mentionOnly: true, expiryDay: 0xffff_ffff },
    ]) {
      const sealed = sealWakeHandle(gateway.publicKey, handle);
      expect(sealed).toHaveLength(WAKE_HANDLE_BYTES);
      expect(openWakeHandle([generateKeyPair(), gateway], sealed)).toEqual(handle);
    }
  });

  test("of one device shares nothing with its others but version and key id", () => {
    const handle = { tokenId, mentionOnly: false, expiryDay: 20_000 };
    const [one, other] = [0, 1].map(() => sealWakeHandle(gateway.publicKey, handle));
    expect(toHex(one!.slice(0, 5))).toBe(toHex(other!.slice(0, 5)));
    const same = one!.slice(5).filter((byte, index) => byte === other![index + 5]).length;
    expect(same).toBeLessThan(8);
    expect(toHex(one!)).not.toContain(toHex(tokenId));
  });

  test("is read as the vectors say", () => {
    for (const { hex, mentionOnly, expiryDay } of HANDLES) {
      expect(openWakeHandle([gateway], fromHex(hex))).toEqual({ tokenId, mentionOnly, expiryDay });
    }
  });

  test("with another version, length or key id is refused before anything is opened", () => {
    const bytes = fromHex(HANDLES[0]!.hex);
    const other = bytes.slice();
    other[0] = 2;
    expect(() => openWakeHandle([gateway], other)).toThrow("handle/malformed");
    expect(() => openWakeHandle([gateway], bytes.slice(1))).toThrow("handle/malformed");
    expect(() => openWakeHandle([generateKeyPair()], bytes)).toThrow("handle/unknown-key");
  });
});

/** Sealed to the key of RFC 9180, appendix A.2.1. */
const HANDLES: readonly { hex: string; mentionOnly: boolean; expiryDay: number }[] = [
  {
    hex: "019e07479ca5790375fcd28932a1a27634d01a564abfa5d45b12d2fcb6047397618812296e8560a0f750915e0ef5527c9ba0ec56105672b30a80befcd4375e86001f307a10e621fc2529f6d0f00cbfaf08f92b7f04",
    mentionOnly: false,
    expiryDay: 20_600,
  },
  {
    hex: "019e07479cedaa86fe697a52a371920c20fe165fc278e650e30713c610983cc741856665759fc2b2cc6305131315ef260c755c8ce10230c3e558d00d1b5c8f66cb0b5f8da1fde4ca97e793f46e55e39622287595cc",
    mentionOnly: true,
    expiryDay: 20_510,
  },
];

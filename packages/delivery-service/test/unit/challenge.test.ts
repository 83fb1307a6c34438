import { describe, expect, it } from "vitest";
import { challengeName, createChallenge, openChallenge } from "../../src/core/challenge.ts";

const key = new Uint8Array(32).fill(7);
const nonce = new Uint8Array(8).fill(9);

describe("challenge", () => {
  it("is good until it expires, and not at that moment", () => {
    const challenge = createChallenge(key, nonce, 30_000);
    expect(challenge).toHaveLength(32);
    expect(openChallenge(key, challenge, 0)).toBe(30_000);
    expect(openChallenge(key, challenge, 29_999)).toBe(30_000);
    expect(() => openChallenge(key, challenge, 30_000)).toThrow("group/challenge-used");
  });

  it("has one name, under which it is remembered once it was spent, and no other has that", () => {
    const challenge = createChallenge(key, nonce, 30_000);
    expect(challengeName(challenge)).toBe(challengeName(createChallenge(key, nonce, 30_000)));
    expect(challengeName(challenge)).not.toBe(challengeName(createChallenge(key, nonce, 30_001)));
  });

  it("with any byte changed, of another key, or of another length is none of ours", () => {
    const challenge = createChallenge(key, nonce, 30_000);
    for (let at = 0; at < challenge.length; at++) {
      const bent = new Uint8Array(challenge);
      bent[at]! ^= 0x10;
      expect(() => openChallenge(key, bent, 0)).toThrow("group/challenge-used");
    }
    expect(() => openChallenge(new Uint8Array(32), challenge, 0)).toThrow("group/challenge-used");
    expect(() => openChallenge(key, challenge.subarray(1), 0)).toThrow("group/challenge-used");
  });
});

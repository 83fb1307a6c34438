import { describe, expect, it } from "vitest";
import { challengeName, createChallenge, spendChallenge } from "../../src/core/challenge.ts";

const key = new Uint8Array(32).fill(7);
const nonce = new Uint8Array(8).fill(9);
const none = new Map<string, number>();

describe("challenge", () => {
  it("is good until it expires, and not at that moment", () => {
    const challenge = createChallenge(key, nonce, 30_000);
    expect(challenge).toHaveLength(32);
    expect(spendChallenge(key, none, challenge, 0)).toBe(30_000);
    expect(spendChallenge(key, none, challenge, 29_999)).toBe(30_000);
    expect(() => spendChallenge(key, none, challenge, 30_000)).toThrow("group/challenge-used");
  });

  it("is good once", () => {
    const challenge = createChallenge(key, nonce, 30_000);
    const spent = new Map([[challengeName(challenge), 30_000]]);
    expect(() => spendChallenge(key, spent, challenge, 1)).toThrow("group/challenge-used");
  });

  it("with any byte changed, of another key, or of another length is none of ours", () => {
    const challenge = createChallenge(key, nonce, 30_000);
    for (let at = 0; at < challenge.length; at++) {
      const bent = new Uint8Array(challenge);
      bent[at]! ^= 0x10;
      expect(() => spendChallenge(key, none, bent, 0)).toThrow("group/challenge-used");
    }
    expect(() => spendChallenge(new Uint8Array(32), none, challenge, 0)).toThrow("group/challenge-used");
    expect(() => spendChallenge(key, none, challenge.subarray(1), 0)).toThrow("group/challenge-used");
  });
});

import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import * as native from "../../src/bytes.ts";

/** The module as it loads where there is neither Buffer nor process. */
async function withoutNode(): Promise<typeof native> {
  vi.resetModules();
  vi.stubGlobal("Buffer", undefined);
  vi.stubGlobal("process", undefined);
  try {
    return await import("../../src/bytes.ts");
  } finally {
    vi.unstubAllGlobals();
  }
}

describe("bytes", () => {
  it("are the same in hexadecimal and base64url with and without Node, and come back", async () => {
    const portable = await withoutNode();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        expect(portable.toHex(bytes)).toBe(native.toHex(bytes));
        expect(portable.toBase64Url(bytes)).toBe(native.toBase64Url(bytes));
        expect([...portable.fromBase64Url(native.toBase64Url(bytes))]).toEqual([...bytes]);
        expect([...native.fromBase64Url(native.toBase64Url(bytes))]).toEqual([...bytes]);
        expect([...native.fromHex(native.toHex(bytes))]).toEqual([...bytes]);
        expect([...portable.fromHex(native.toHex(bytes))]).toEqual([...bytes]);
      }),
    );
  });

  it("compare as secrets like any other bytes, with and without Node", async () => {
    const portable = await withoutNode();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 9 }), fc.uint8Array({ maxLength: 9 }), (a, b) => {
        expect(portable.equalSecret(a, b)).toBe(native.equalBytes(a, b));
        expect(native.equalSecret(a, b)).toBe(native.equalBytes(a, b));
        expect(portable.equalSecret(a, a.slice())).toBe(true);
        expect(native.portableEqual(a, a.slice())).toBe(true);
      }),
    );
  });

  it.each(["abc", "0g", "0x"])("refuse %s as hexadecimal", (text) => {
    expect(() => native.fromHex(text)).toThrow(RangeError);
  });

  it.each(["a", "AB", "AAB", "AA==", "AA+_", "A A "])(
    "refuse %s as base64url: alphabet, padding or spare bits",
    (text) => {
      expect(() => native.fromBase64Url(text)).toThrow(RangeError);
    },
  );

  it("are concatenated, ordered and wiped", () => {
    expect([...native.concatBytes(Uint8Array.of(1), new Uint8Array(0), Uint8Array.of(2, 3))]).toEqual([
      1, 2, 3,
    ]);
    const order = [[], [0], [0, 1], [1], [255]].map((bytes) => Uint8Array.from(bytes));
    for (const [i, a] of order.entries()) {
      for (const [j, b] of order.entries())
        expect(Math.sign(native.compareBytes(a, b))).toBe(Math.sign(i - j));
    }
    const secret = Uint8Array.of(1, 2);
    native.zeroize(secret, undefined);
    expect([...secret]).toEqual([0, 0]);
  });
});

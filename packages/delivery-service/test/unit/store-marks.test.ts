import { storeId } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import { describe, expect, it } from "vitest";
import { openStoreMark, sealStoreMark } from "../../src/core/store-marks.ts";

const key = new Uint8Array(32).fill(7);
const nonce = new Uint8Array(12).fill(9);
const store = storeId(new Uint8Array(16).fill(1));
const state = { run: new Uint8Array(8).fill(3), count: 2 ** 40 + 5 };

describe("mark of a store", () => {
  it("has one length, and opens to the state that it was made of", () => {
    const mark = sealStoreMark(key, nonce, store, state);
    expect(mark).toHaveLength(limits.storeMarkBytes);
    expect(openStoreMark(key, store, mark)).toEqual(state);
  });

  it("shows nothing of the state", () => {
    const mark = Buffer.from(sealStoreMark(key, nonce, store, state));
    expect(mark.includes(Buffer.from(state.run))).toBe(false);
  });

  it("with any byte changed, of another key, another store, or another length is none of ours", () => {
    const mark = sealStoreMark(key, nonce, store, state);
    for (let at = 0; at < mark.length; at++) {
      const bent = new Uint8Array(mark);
      bent[at]! ^= 0x10;
      expect(openStoreMark(key, store, bent)).toBeUndefined();
    }
    expect(openStoreMark(new Uint8Array(32), store, mark)).toBeUndefined();
    expect(openStoreMark(key, storeId(new Uint8Array(16)), mark)).toBeUndefined();
    expect(openStoreMark(key, store, mark.subarray(1))).toBeUndefined();
  });
});

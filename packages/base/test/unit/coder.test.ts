import { describe, expect, it } from "vitest";
import { decodeWhole, encode, fromHex, Reader, RejectionError, toHex, Writer } from "../../src/index.ts";

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof RejectionError) return error.code;
    throw error;
  }
  return "accepted";
};

describe("the coder of RFC 9420 section 2.1", () => {
  it("round-trips integers at their bounds", () => {
    const bytes = new Writer()
      .uint8(255)
      .uint16(65535)
      .uint32(0xffffffff)
      .uint64(2n ** 64n - 1n)
      .finish();
    expect(toHex(bytes)).toBe("ff".repeat(15));
    const reader = new Reader(bytes);
    expect([reader.uint8(), reader.uint16(), reader.uint32(), reader.uint64()]).toEqual([
      255,
      65535,
      0xffffffff,
      2n ** 64n - 1n,
    ]);
    reader.finish();
  });

  it.each([
    [0, "00"],
    [63, "3f"],
    [64, "4040"],
    [16383, "7fff"],
    [16384, "80004000"],
    [0x3fffffff, "bfffffff"],
  ])("writes the header %i in its shortest form (2.1.2)", (value, hex) => {
    expect(toHex(encode(value, (w, v) => w.varint(v)))).toBe(hex);
    expect(decodeWhole(fromHex(hex), (r) => r.varint())).toBe(value);
  });

  it.each([
    ["4000", "coder/non-minimal-length"],
    ["403f", "coder/non-minimal-length"],
    ["80003fff", "coder/non-minimal-length"],
    ["c000000000000000", "coder/bad-length-prefix"],
    ["40", "coder/truncated"],
    ["", "coder/truncated"],
    ["0000", "coder/trailing-bytes"],
  ])("refuses the header %s with %s", (hex, expected) => {
    expect(code(() => decodeWhole(fromHex(hex), (r) => r.varint()))).toBe(expected);
  });

  it("refuses a length bomb before anything is allocated", () => {
    expect(code(() => decodeWhole(fromHex("bfffffff00"), (r) => r.bytes()))).toBe("coder/truncated");
  });

  it("refuses an element that runs over the end of its vector", () => {
    expect(code(() => decodeWhole(fromHex("03000100ff"), (r) => r.vector((e) => e.uint16())))).toBe(
      "coder/truncated",
    );
  });

  it("refuses a presence byte other than 0 and 1", () => {
    expect(code(() => decodeWhole(fromHex("0200"), (r) => r.optional((e) => e.uint8())))).toBe(
      "coder/bad-optional",
    );
  });

  it.each([0, 63, 64, 16383, 16384])(
    "moves the content of a nested vector of %i bytes behind its header",
    (size) => {
      const content = new Uint8Array(size).map((_, i) => i);
      const bytes = new Writer(1)
        .nested((w) => w.fixed(content))
        .uint8(7)
        .finish();
      const reader = new Reader(bytes);
      expect(toHex(reader.bytes())).toBe(toHex(content));
      expect(reader.uint8()).toBe(7);
    },
  );

  it("keeps writers apart that are open at the same time, and a finished one can write again", () => {
    const [a, b] = [new Writer(), new Writer()];
    a.uint8(1);
    b.uint8(2);
    const first = a.finish();
    const c = new Writer().uint8(3);
    a.uint8(4);
    b.uint8(5);
    expect([first, a.finish(), b.finish(), c.finish()].map((bytes) => toHex(bytes))).toEqual([
      "01",
      "04",
      "0205",
      "03",
    ]);
  });

  it("leaves nothing of what was written in a buffer that the next writer gets", () => {
    new Writer().fixed(new Uint8Array(1024).fill(0xee)).finish();
    const next = new Writer();
    next.nested((w) => w.fixed(new Uint8Array(3)));
    expect(toHex(next.finish())).toBe("03000000");
  });
});

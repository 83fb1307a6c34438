import { expect, test } from "vitest";
import { hasSmallOrder } from "../../src/crypto/small-order.ts";

test.each(["x25519", "ed25519", "ed448"] as const)(
  "looking at a %s key in a Buffer leaves its bytes as they were",
  (curve) => {
    const key = Buffer.alloc(curve === "ed448" ? 57 : 32, 0xff);
    hasSmallOrder(curve, key);
    expect(key.every((byte) => byte === 0xff)).toBe(true);
  },
);

import { toHex } from "@murmuration/base";
import { expect } from "vitest";
import type { Verdict } from "./village.ts";

/** The oracle: who left got nothing, and the same routine gets everything for somebody who stayed. */
export function expectLockedOut(verdict: Verdict): void {
  expect(verdict.removed.attempts).toBeGreaterThan(20);
  expect(verdict.removed.authenticator).toBeUndefined();
  expect(verdict.removed.messages).toBe(0);
  if (verdict.stayed === undefined) return;
  expect(toHex(verdict.stayed.authenticator ?? new Uint8Array(0))).toBe(verdict.authenticator);
  expect(verdict.stayed.messages).toBe(1);
}

import { RejectionError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { acceptVersion, negotiateVersion, protocolVersions } from "../../src/index.ts";

describe("version negotiation", () => {
  test("takes the highest version that both speak", () => {
    expect(negotiateVersion([1, 2, 5], [1, 2, 3])).toBe(2);
    expect(negotiateVersion([7, 1], [1])).toBe(1);
  });

  test("refuses where there is none in common", () => {
    expect(() => negotiateVersion([4], [1, 2, 3])).toThrow(RejectionError);
    expect(() => negotiateVersion([], [1])).toThrow("version/unsupported");
  });

  test("a client refuses a choice that it did not offer", () => {
    expect(acceptVersion(1)).toBe(1);
    expect(() => acceptVersion(2, [1])).toThrow("version/unsupported");
  });

  test("this implementation speaks version 1", () => {
    expect(protocolVersions).toEqual([1]);
  });
});

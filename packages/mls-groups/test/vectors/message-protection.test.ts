import { vectorCases } from "@murmuration/spec-vectors";
import { describe, expect, it, test } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { requireCipherSuite } from "../../src/crypto/suites.ts";
import { verifyMessageProtection } from "../../src/vectors/message-protection.ts";

const makeProvider = (suite: number) => nativeCrypto(requireCipherSuite(suite).id);

describe("message-protection.json: PublicMessage and PrivateMessage, RFC 9420 section 6", () => {
  const cases = vectorCases("message-protection");
  test.each(cases)("$title", ({ vector }) => verifyMessageProtection(vector, makeProvider));

  it("the runner notices another content", () => {
    const { vector } = cases[0]!;
    expect(() => verifyMessageProtection({ ...vector, application: "00" }, makeProvider)).toThrow(
      "application_priv: other content",
    );
  });
});

import { vectorCases } from "@murmuration/spec-vectors";
import { describe, expect, it, test } from "vitest";
import { verifyDeserialization } from "../../src/vectors/deserialization.ts";
import { verifyMessages } from "../../src/vectors/messages.ts";

describe("messages.json: every struct decodes and encodes to the same bytes", () => {
  test.each(vectorCases("messages"))("$title", ({ vector }) => verifyMessages(vector));

  it("the runner notices one changed byte that still decodes", () => {
    const [first] = vectorCases("messages");
    expect(() => verifyMessages({ ...first!.vector, remove_proposal: "0000000000" })).toThrow(
      "coder/trailing-bytes",
    );
    expect(() => verifyMessages({ ...first!.vector, mls_welcome: first!.vector.mls_key_package })).toThrow(
      "wire format is mls_key_package",
    );
  });
});

describe("deserialization.json: vector headers, RFC 9420 section 2.1.2", () => {
  test.each(vectorCases("deserialization"))("$title", ({ vector }) => verifyDeserialization(vector));

  it("the runner notices another length", () => {
    expect(() => verifyDeserialization({ vlbytes_header: "0d", length: 14 })).toThrow("other length");
  });
});

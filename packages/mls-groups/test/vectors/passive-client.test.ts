import { vectorCases } from "@murmuration/spec-vectors";
import { describe, test } from "vitest";
import { runPassiveClient } from "../../src/vectors/passive-client.ts";
import { runWelcome } from "../../src/vectors/welcome.ts";
import { providers } from "../providers.ts";

describe.each(providers)("official vectors of whole clients on the $name provider", ({ make }) => {
  describe("Welcome (RFC 9420 section 12.4.3.1)", () => {
    test.each(vectorCases("welcome"))("$title", ({ vector }) => runWelcome(vector, make));
  });
});

/** The portable provider runs the same protocol code; its primitives are compared elsewhere, and it is slower. */
describe.each(providers.filter(({ name }) => name === "native"))(
  "passive clients on the $name provider",
  ({ make }) => {
    describe("joining (RFC 9420 section 12.4.3.1)", () => {
      test.each(vectorCases("passive-client-welcome"))("$title", ({ vector }) =>
        runPassiveClient(vector, make),
      );
    });

    describe("following commits (RFC 9420 section 12.4.2)", () => {
      test.each(vectorCases("passive-client-handling-commit"))("$title", ({ vector }) =>
        runPassiveClient(vector, make),
      );
    });

    describe("a long random group", () => {
      test.each(vectorCases("passive-client-random"))("$title", ({ vector }) =>
        runPassiveClient(vector, make),
      );
    });
  },
);

import { vectorCases } from "@murmuration/spec-vectors";
import { describe, test } from "vitest";
import { runCryptoBasics } from "../../src/vectors/crypto-basics.ts";
import { runKeySchedule } from "../../src/vectors/key-schedule.ts";
import { runPskSecret } from "../../src/vectors/psk-secret.ts";
import { runSecretTree } from "../../src/vectors/secret-tree.ts";
import { runTranscriptHashes } from "../../src/vectors/transcript-hashes.ts";
import { providers } from "../providers.ts";

describe.each(providers)("official vectors on the $name provider", ({ make }) => {
  describe("crypto basics (RFC 9420 section 5)", () => {
    test.each(vectorCases("crypto-basics"))("$title", ({ vector }) => runCryptoBasics(vector, make));
  });

  describe("key schedule (RFC 9420 section 8)", () => {
    test.each(vectorCases("key-schedule"))("$title", ({ vector }) => runKeySchedule(vector, make));
  });

  describe("transcript hashes (RFC 9420 section 8.2)", () => {
    test.each(vectorCases("transcript-hashes"))("$title", ({ vector }) => runTranscriptHashes(vector, make));
  });

  describe("psk secret (RFC 9420 section 8.4)", () => {
    test.each(vectorCases("psk_secret"))("$title", ({ vector }) => runPskSecret(vector, make));
  });

  describe("secret tree (RFC 9420 section 9)", () => {
    test.each(vectorCases("secret-tree"))("$title", ({ vector }) => runSecretTree(vector, make));
  });
});

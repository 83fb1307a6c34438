import { fromHex, RejectionError, Writer } from "@murmuration/base";
import { vectorCases } from "@murmuration/spec-vectors";
import { describe, expect, it, test } from "vitest";
import { decoders } from "../../src/structs/decoders.ts";
import { decodeMlsMessage, encodeMlsMessage } from "../../src/structs/mls-message.ts";
import { copyMessage } from "../../src/vectors/copy-fields.ts";

/*
 * Hostile bytes: each decoder returns a value or throws a RejectionError with a stable code, in time and memory
 * that the input's size bounds.
 */

type Decoder = (bytes: Uint8Array) => unknown;
const CODE = /^(?:coder|mls)\/[a-z0-9/-]+$/;

function outcome(decode: Decoder, bytes: Uint8Array): string {
  try {
    decode(bytes);
    return "accepted";
  } catch (error) {
    if (!(error instanceof RejectionError)) throw error;
    expect(error.code).toMatch(CODE);
    return error.code;
  }
}

const decoderOfField = {
  mls_welcome: "MLSMessage",
  mls_group_info: "MLSMessage",
  mls_key_package: "MLSMessage",
  ratchet_tree: "ratchet_tree",
  group_secrets: "GroupSecrets",
  add_proposal: "KeyPackage",
  update_proposal: "LeafNode",
  pre_shared_key_proposal: "PreSharedKeyID",
  commit: "Commit",
  public_message_application: "MLSMessage",
  public_message_proposal: "MLSMessage",
  public_message_commit: "MLSMessage",
  private_message: "MLSMessage",
} as const;

const slice = vectorCases("messages").slice(0, 3);
const samples = slice.flatMap(({ vector, title }) =>
  Object.entries(decoderOfField).map(([field, name]) => ({
    title: `${field}, ${title}`,
    decode: decoders[name] as Decoder,
    bytes: fromHex(vector[field as keyof typeof decoderOfField]),
  })),
);

describe("messages of the official vectors, damaged", () => {
  test.each(samples)("truncated at every byte: $title", ({ decode, bytes }) => {
    for (let length = 0; length < bytes.length; length++) {
      expect(outcome(decode, bytes.subarray(0, length))).not.toBe("accepted");
    }
  });

  test.each(samples)("a trailing byte is refused: $title", ({ decode, bytes }) => {
    for (const trailing of [0, 1, 0x40, 0xff]) {
      expect(outcome(decode, Uint8Array.of(...bytes, trailing))).toBe("coder/trailing-bytes");
    }
  });

  test.each(samples)("every single bit flipped in the first 400 bytes: $title", ({ decode, bytes }) => {
    const damaged = bytes.slice();
    let refused = 0;
    for (let bit = 0; bit < Math.min(400, bytes.length) * 8; bit++) {
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      if (outcome(decode, damaged) !== "accepted") refused++;
      damaged[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(refused).toBeGreaterThan(0);
    expect(damaged).toEqual(bytes);
  });
});

describe("one value has one encoding", () => {
  test.each(samples.filter(({ decode }) => decode === decoders.MLSMessage))(
    "a flipped bit that is accepted encodes to itself: $title",
    ({ bytes }) => {
      const damaged = bytes.slice();
      let accepted = 0;
      for (let bit = 0; bit < Math.min(300, bytes.length) * 8; bit++) {
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        if (outcome(decoders.MLSMessage, damaged) === "accepted") {
          accepted++;
          expect(encodeMlsMessage(copyMessage(decodeMlsMessage(damaged)))).toEqual(damaged);
        }
        damaged[bit >> 3]! ^= 1 << (bit & 7);
      }
      expect(accepted).toBeGreaterThan(0);
    },
  );
});

describe("every decoder meets crafted bytes", () => {
  const all = Object.entries(decoders as Record<string, Decoder>);

  test.each(all)("%s: empty and one-byte inputs", (_, decode) => {
    outcome(decode, new Uint8Array(0));
    for (let byte = 0; byte < 256; byte++) outcome(decode, Uint8Array.of(byte));
  });

  test.each(all)("%s: a length of 2^30 - 1 in every place allocates nothing", (_, decode) => {
    const bomb = [0xbf, 0xff, 0xff, 0xff];
    const before = process.memoryUsage().arrayBuffers;
    for (let lead = 0; lead < 64; lead++) {
      for (const fill of [0, 1, 2]) {
        outcome(decode, Uint8Array.of(...Array.from({ length: lead }, () => fill), ...bomb));
      }
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
  });

  test.each(all)("%s: a megabyte of one repeated byte is done within seconds", (_, decode) => {
    for (const fill of [0x00, 0x01, 0x02, 0x0a, 0x40, 0x80, 0xff]) {
      const filled = new Uint8Array(1 << 20).fill(fill);
      const inVector = new Writer(filled.length + 4).bytes(filled).finish();
      const start = performance.now();
      outcome(decode, filled);
      outcome(decode, inVector);
      expect(performance.now() - start).toBeLessThan(5_000);
    }
  });
});

describe("refusals have the code that says why", () => {
  const refused = (name: keyof typeof decoders, hex: string): string =>
    outcome(decoders[name] as Decoder, fromHex(hex));

  it.each<[string, keyof typeof decoders, string, string]>([
    [
      "a header longer than needed (section 2.1.2)",
      "HPKECiphertext",
      "400100" + "00",
      "coder/non-minimal-length",
    ],
    ["a four-byte header longer than needed", "HPKECiphertext", "8000003f", "coder/non-minimal-length"],
    ["the header prefix 11", "HPKECiphertext", "c0000000", "coder/bad-length-prefix"],
    ["another protocol version", "MLSMessage", "00020001", "mls/decode-unsupported-version"],
    ["wire format 0", "MLSMessage", "00010000", "mls/decode-unknown-wire-format"],
    ["wire format 6", "MLSMessage", "00010006", "mls/decode-unknown-wire-format"],
    ["sender type 0", "FramedContent", "00" + "0000000000000000" + "00", "mls/decode-unknown-sender-type"],
    ["sender type 5", "FramedContent", "00" + "0000000000000000" + "05", "mls/decode-unknown-sender-type"],
    [
      "content type 0",
      "FramedContent",
      "00" + "0000000000000000" + "03" + "00" + "00",
      "mls/decode-unknown-content-type",
    ],
    [
      "content type 4",
      "FramedContent",
      "00" + "0000000000000000" + "03" + "00" + "04",
      "mls/decode-unknown-content-type",
    ],
    ["a Welcome as AuthenticatedContent", "AuthenticatedContent", "0003", "mls/decode-unknown-wire-format"],
    ["PSK type 3", "PreSharedKeyID", "03", "mls/decode-unknown-psk-type"],
    ["resumption usage 4", "PreSharedKeyID", "0204", "mls/decode-unknown-resumption-psk-usage"],
    ["ProposalOrRef type 3", "Commit", "0103" + "00", "mls/decode-unknown-proposal-or-ref-type"],
    ["a path presence of 2", "Commit", "0002", "coder/bad-optional"],
    ["node type 3", "ratchet_tree", "020103", "mls/decode-unknown-node-type"],
    ["a node presence of 2", "ratchet_tree", "0102", "coder/bad-optional"],
    ["half a uint16 in capabilities", "Capabilities", "0100" + "00000000", "coder/truncated"],
    [
      "leaf node source 4",
      "LeafNode",
      "0000" + "000100" + "0000000000" + "04",
      "mls/decode-unknown-leaf-node-source",
    ],
  ])("%s", (_, name, hex, code) => {
    expect(refused(name, hex)).toBe(code);
  });
});

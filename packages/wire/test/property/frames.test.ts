import { RejectionError } from "@murmuration/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  decodeClientFrame,
  decodeMessage,
  decodeServiceFrame,
  encodeClientFrame,
  encodeServiceFrame,
  limits,
} from "../../src/index.ts";
import { readVectors } from "../../tools/vectors.ts";
import { declared } from "../vector-files.ts";

const valid = [...readVectors("frames.json"), ...readVectors("messages.json")].map(
  ({ hex }) => new Uint8Array(Buffer.from(hex!, "hex")),
);

/** True when it returned or threw a RejectionError; anything else is thrown on. */
function survives(run: () => unknown): boolean {
  try {
    run();
  } catch (error) {
    if (!(error instanceof RejectionError)) throw error;
  }
  return true;
}

function decodesQuietly(bytes: Uint8Array): boolean {
  return (
    survives(() => decodeClientFrame(bytes)) &&
    survives(() => decodeServiceFrame(bytes)) &&
    [...declared.values()].every((type) => survives(() => decodeMessage(type, bytes, limits.httpBodyBytes)))
  );
}

test("random bytes are decoded or refused, never anything else", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), decodesQuietly), { numRuns: 500 });
});

test("valid messages with some bytes changed are decoded or refused, never anything else", () => {
  const change = fc.tuple(fc.nat(), fc.nat({ max: 255 }));
  const mutated = fc
    .tuple(fc.constantFrom(...valid), fc.array(change, { minLength: 1, maxLength: 4 }))
    .map(([bytes, changes]) => {
      const copy = bytes.slice();
      for (const [at, byte] of changes) copy[at % copy.length] = byte;
      return copy;
    });
  fc.assert(fc.property(mutated, decodesQuietly), { numRuns: 500 });
});

test.each([
  ["client", decodeClientFrame, encodeClientFrame],
  ["service", decodeServiceFrame, encodeServiceFrame],
] as const)(
  "whatever decodes as a frame of the %s is the same frame after encoding and decoding again",
  (side, decode, encode) => {
    const frames = readVectors("frames.json").filter(({ from }) => from === side);
    const mutated = fc
      .tuple(fc.constantFrom(...frames), fc.nat(), fc.nat({ max: 255 }))
      .map(([{ hex }, at, byte]) => {
        const copy = new Uint8Array(Buffer.from(hex!, "hex"));
        copy[at % copy.length] = byte;
        return copy;
      });
    let decoded = 0;
    fc.assert(
      fc.property(mutated, (bytes) => {
        let frame: ReturnType<typeof decode>;
        try {
          frame = decode(bytes);
        } catch {
          return;
        }
        decoded++;
        expect(decode(encode(frame as never))).toEqual(frame);
      }),
      { numRuns: 1000 },
    );
    expect(decoded).toBeGreaterThan(100);
  },
);

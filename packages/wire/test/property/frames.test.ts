import { RejectionError } from "@murmuration/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  decodeClientFrame,
  decodeMessage,
  decodeServiceFrame,
  encodeClientFrame,
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

test("whatever decodes as a client frame is the same frame after encoding and decoding again", () => {
  const clients = readVectors("frames.json").filter(({ from }) => from === "client");
  const mutated = fc
    .tuple(fc.constantFrom(...clients), fc.nat(), fc.nat({ max: 255 }))
    .map(([{ hex }, at, byte]) => {
      const copy = new Uint8Array(Buffer.from(hex!, "hex"));
      copy[at % copy.length] = byte;
      return copy;
    });
  let decoded = 0;
  fc.assert(
    fc.property(mutated, (bytes) => {
      let frame: ReturnType<typeof decodeClientFrame>;
      try {
        frame = decodeClientFrame(bytes);
      } catch {
        return;
      }
      decoded++;
      expect(decodeClientFrame(encodeClientFrame(frame))).toEqual(frame);
    }),
    { numRuns: 1000 },
  );
  expect(decoded).toBeGreaterThan(100);
});

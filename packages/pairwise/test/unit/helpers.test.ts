import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { concatBytes, fromHex, toHex, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  attachmentChunkBytes,
  createAttachmentDigester,
  createAttachmentValidator,
  deriveRecipientAccessKey,
} from "../../src/index.ts";
import { random } from "../support/peers.ts";

describe("recipient access key", () => {
  test("is 16 bytes, the HKDF of the profile key, and the same everywhere", () => {
    const profileKey = fromHex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    expect(toHex(deriveRecipientAccessKey(profileKey))).toBe("ee71ea586ad71823007558cfd08a70bf");
    expect(deriveRecipientAccessKey(profileKey)).toHaveLength(16);
    const other = deriveRecipientAccessKey(random(32));
    expect(toHex(other)).not.toBe(toHex(deriveRecipientAccessKey(profileKey)));
  });

  test("a profile key of another length is the caller's mistake", () => {
    expect(() => deriveRecipientAccessKey(new Uint8Array(31))).toThrow(UsageError);
  });
});

describe("incremental MAC of attachments", () => {
  const key = random(32);
  const content = random(3 * 65_536 + 17);

  /** As a download arrives. */
  function pieces(bytes: Uint8Array): Readable {
    const starts = Array.from({ length: Math.ceil(bytes.length / 16_384) }, (_, i) => i * 16_384);
    return Readable.from(starts.map((start) => bytes.subarray(start, start + 16_384)));
  }

  async function digestsOf(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const digester = createAttachmentDigester(key, bytes.length);
    await pipeline(
      Readable.from([bytes]),
      digester,
      new Writable({ write: (_chunk, _encoding, done) => done() }),
    );
    return digester.getFinalDigest();
  }

  async function validated(bytes: Uint8Array, digests: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    const passed: Uint8Array[] = [];
    const sink = new Writable({
      write: (chunk, _encoding, done) => {
        passed.push(chunk);
        done();
      },
    });
    try {
      await pipeline(pieces(bytes), createAttachmentValidator(key, content.length, digests), sink);
    } catch (error) {
      throw Object.assign(new Error("refused"), { passed: concatBytes(...passed), cause: error });
    }
    return concatBytes(...passed);
  }

  test("an untouched ciphertext passes whole", async () => {
    expect(await validated(content, await digestsOf(content))).toEqual(content);
  });

  test("a changed byte lets pass what was before its chunk and nothing of it", async () => {
    const digests = await digestsOf(content);
    const chunk = attachmentChunkBytes(content.length);
    const changed = content.slice();
    changed[chunk + 5]! ^= 1;
    const failure = await validated(changed, digests).catch((error) => error);
    expect(failure.message).toBe("refused");
    expect(failure.passed).toEqual(content.slice(0, chunk));
  });

  test("a truncated ciphertext is refused, and so is a key of another length", async () => {
    const digests = await digestsOf(content);
    await expect(validated(content.subarray(0, content.length - 1), digests)).rejects.toThrow("refused");
    expect(() => createAttachmentDigester(random(16), 100)).toThrow(UsageError);
  });
});

import { finished } from "node:stream/promises";
import { type Bytes, blobId, formatId, parseBlobId, RejectionError, UsageError } from "@murmuration/base";
import {
  attachmentChunkBytes,
  createAttachmentDigester,
  createAttachmentValidator,
} from "@murmuration/pairwise";
import { limits } from "@murmuration/wire";
import type { AttachmentPointer, Attachments } from "../api.ts";
import {
  ATTACHMENT_KEY_BYTES,
  AttachmentReader,
  blobSize,
  digestOf,
  encryptAttachment,
  IV_BYTES,
  splitKey,
} from "../core/attachment-cipher.ts";
import { shorten } from "../core/content.ts";
import { putBlob, streamBlob } from "../shell/blobs.ts";
import type { Context } from "../shell/context.ts";
import { callersId } from "./view.ts";

/** Encrypted blobs at the service. */
export class ClientAttachments implements Attachments {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  async upload(content: {
    readonly bytes: Uint8Array;
    readonly contentType?: string;
    readonly fileName?: string;
  }): Promise<AttachmentPointer> {
    const { environment } = this.context;
    const size = content.bytes.length;
    if (blobSize(size) > limits.blobBytes) throw new UsageError("attachment/too-large");
    const key = environment.random(ATTACHMENT_KEY_BYTES);
    const blob = encryptAttachment(content.bytes, key, environment.random(IV_BYTES));
    const id = blobId(environment.random(16));
    const incrementalMac = await incrementalMacOf(blob, splitKey(key).macKey);
    await putBlob(this.context, id, blob);
    return {
      blobId: formatId(id),
      key,
      digest: digestOf(blob),
      incrementalMac,
      chunkBytes: attachmentChunkBytes(blob.length),
      size,
      contentType: shorten(content.contentType ?? "application/octet-stream", 128),
      fileName: shorten(content.fileName ?? "", 256),
    };
  }

  async *download(pointer: AttachmentPointer): AsyncIterable<Bytes> {
    const id = callersId(parseBlobId, pointer.blobId);
    const blobBytes = blobSize(pointer.size);
    if (pointer.key.length !== ATTACHMENT_KEY_BYTES || blobBytes > limits.blobBytes) {
      throw new RejectionError("attachment/bad-pointer");
    }
    const body = await streamBlob(this.context, id, blobBytes);
    const reader = new AttachmentReader(pointer.key, pointer.digest, pointer.size);
    const { macKey } = splitKey(pointer.key);
    for await (const chunk of validated(body, macKey, blobBytes, pointer.incrementalMac)) {
      const plaintext = reader.take(chunk);
      if (plaintext.length > 0) yield plaintext;
    }
    const rest = reader.finish();
    if (rest.length > 0) yield rest;
  }
}

async function incrementalMacOf(blob: Bytes, macKey: Bytes): Promise<Bytes> {
  const digester = createAttachmentDigester(macKey, blob.length);
  digester.resume();
  digester.end(blob);
  await finished(digester);
  return new Uint8Array(digester.getFinalDigest());
}

/** Passes a chunk on only when its MAC was right. Throws RejectionError `attachment/tampered`. */
async function* validated(
  body: AsyncIterable<Bytes>,
  macKey: Bytes,
  blobBytes: number,
  macs: Bytes,
): AsyncIterable<Bytes> {
  const validator = createAttachmentValidator(macKey, blobBytes, macs);
  const failure: { error?: unknown } = {};
  const feeding = (async () => {
    let fed = 0;
    try {
      for await (const piece of body) {
        fed += piece.length;
        if (fed > blobBytes) throw new RejectionError("attachment/tampered");
        if (!validator.write(piece)) await new Promise((resolve) => validator.once("drain", resolve));
        if (validator.destroyed) return;
      }
      validator.end();
    } catch (error) {
      failure.error = error;
      validator.destroy(new RejectionError("attachment/tampered"));
    }
  })();
  try {
    for await (const chunk of validator) yield new Uint8Array(chunk as Uint8Array);
  } catch {
    // What broke the download off (no connection) matters more than that it broke off.
    throw failure.error ?? new RejectionError("attachment/tampered");
  } finally {
    validator.destroy();
    void feeding;
  }
}

/**
 * Attachments: AES-256-CTR, then HMAC-SHA-256 over all of it, with two independent keys for one attachment.
 *
 *   blob = iv[16] || ciphertext || HMAC-SHA-256(mac key, iv || ciphertext)[32]
 *
 * Besides, an incremental MAC (libsignal's, under the same MAC key) lets a download be checked chunk by chunk, and
 * the SHA-256 of the blob is in the pointer. The plaintext is padded with zeros to hide its exact length.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, type Decipheriv } from "node:crypto";
import { type Bytes, concatBytes, equalSecret, RejectionError } from "@murmuration/base";

export const ATTACHMENT_KEY_BYTES = 64;
export const IV_BYTES = 16;
const MAC_BYTES = 32;

/** The keys of an attachment: the pointer carries both as one field. */
export const splitKey = (key: Bytes): { readonly cipherKey: Bytes; readonly macKey: Bytes } => ({
  cipherKey: key.slice(0, 32),
  macKey: key.slice(32),
});

/** Length of the padded plaintext: steps of 5 %, so that a blob's size tells little about its content. */
function paddedSize(size: number): number {
  const step = Math.floor(Math.log(Math.max(size, 1)) / Math.log(1.05));
  return Math.max(541, size, Math.floor(1.05 ** (step + 1)));
}

/** Encrypts a whole attachment. `iv` is 16 random bytes, never used with this key again. */
export function encryptAttachment(plaintext: Uint8Array, key: Bytes, iv: Bytes): Bytes {
  const { cipherKey, macKey } = splitKey(key);
  const cipher = createCipheriv("aes-256-ctr", cipherKey, iv);
  const padding = new Uint8Array(paddedSize(plaintext.length) - plaintext.length);
  const body = concatBytes(iv, cipher.update(plaintext), cipher.update(padding), cipher.final());
  return concatBytes(body, createHmac("sha256", macKey).update(body).digest());
}

export function digestOf(blob: Uint8Array): Bytes {
  return new Uint8Array(createHash("sha256").update(blob).digest());
}

/** Bytes of a blob whose plaintext has this size. */
export const blobSize = (size: number): number => IV_BYTES + paddedSize(size) + MAC_BYTES;

/**
 * Takes a blob piece by piece, in order, and gives out plaintext. What is taken must have passed the incremental
 * MAC before; the last piece is given out only after MAC and digest of the whole were right.
 */
export class AttachmentReader {
  private readonly hash = createHash("sha256");
  private readonly hmac: ReturnType<typeof createHmac>;
  private readonly cipherKey: Bytes;
  private readonly digest: Bytes;
  private readonly bodyBytes: number;
  private decipher: Decipheriv | undefined;
  private pending: Bytes = new Uint8Array(0);
  private taken = 0;
  private left: number;

  constructor(key: Bytes, digest: Bytes, size: number) {
    const { cipherKey, macKey } = splitKey(key);
    this.cipherKey = cipherKey;
    this.hmac = createHmac("sha256", macKey);
    this.digest = digest;
    this.left = size;
    this.bodyBytes = blobSize(size) - MAC_BYTES;
  }

  /** Plaintext of everything but the newest piece. Throws RejectionError `attachment/tampered`. */
  take(piece: Uint8Array): Bytes {
    const ready = this.decrypt(this.pending);
    this.pending = new Uint8Array(piece);
    return ready;
  }

  /** Checks the whole and gives out the rest. Throws RejectionError `attachment/tampered`. */
  finish(): Bytes {
    const last = this.pending;
    const before = this.taken;
    const macAt = this.bodyBytes - before;
    if (macAt < 0 || last.length !== macAt + MAC_BYTES) throw new RejectionError("attachment/tampered");
    this.hmac.update(last.subarray(0, macAt));
    this.hash.update(last);
    const tag = last.subarray(macAt);
    const right = equalSecret(new Uint8Array(this.hmac.digest()), tag);
    const whole = equalSecret(new Uint8Array(this.hash.digest()), this.digest);
    if (!right || !whole) throw new RejectionError("attachment/tampered");
    return this.decipherBody(last.subarray(0, macAt));
  }

  private decrypt(piece: Bytes): Bytes {
    if (this.taken + piece.length > this.bodyBytes) throw new RejectionError("attachment/tampered");
    this.taken += piece.length;
    this.hash.update(piece);
    this.hmac.update(piece);
    return this.decipherBody(piece);
  }

  private decipherBody(piece: Uint8Array): Bytes {
    if (piece.length === 0) return new Uint8Array(0);
    let rest = piece;
    if (this.decipher === undefined) {
      if (piece.length < IV_BYTES) throw new RejectionError("attachment/tampered");
      this.decipher = createDecipheriv("aes-256-ctr", this.cipherKey, piece.subarray(0, IV_BYTES));
      rest = piece.subarray(IV_BYTES);
    }
    const plaintext = this.decipher.update(rest).subarray(0, this.left);
    this.left -= plaintext.length;
    return new Uint8Array(plaintext);
  }
}

import type { Bytes } from "./bytes.ts";
import { RejectionError, UsageError } from "./errors.ts";

/**
 * The TLS presentation language with the variable-size vector header of RFC 9420 section 2.1.2.
 *
 *   uint8, uint16, uint32, uint64        big endian
 *   opaque x<V>                          header (1, 2 or 4 bytes, shortest form only) then the bytes
 *   T x<V>                               header with the length in bytes, then the elements
 *   optional<T>                          one presence byte 0 or 1, then T
 *
 * A reader never allocates more than the input's size: a length is checked against what remains before
 * anything is made, and `bytes()` returns a view. Every failure is a RejectionError with a `coder/` code.
 */
export class Reader {
  readonly input: Uint8Array;
  offset: number;
  readonly end: number;

  constructor(input: Uint8Array, offset = 0, end: number = input.length) {
    // The slice() of a Buffer is a view where that of a Uint8Array is a copy; who copies a secret out of what
    // was read and wipes the copy must not wipe the input.
    this.input = Buffer.isBuffer(input)
      ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
      : input;
    this.offset = offset;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  private take(length: number): number {
    if (length > this.end - this.offset) throw new RejectionError("coder/truncated");
    const at = this.offset;
    this.offset = at + length;
    return at;
  }

  uint8(): number {
    return this.input[this.take(1)]!;
  }

  uint16(): number {
    const at = this.take(2);
    return (this.input[at]! << 8) | this.input[at + 1]!;
  }

  uint32(): number {
    const at = this.take(4);
    const b = this.input;
    return ((b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!) >>> 0;
  }

  uint64(): bigint {
    const high = this.uint32();
    return (BigInt(high) << 32n) | BigInt(this.uint32());
  }

  /** The variable-size header of RFC 9420 section 2.1.2. The shortest form is the only one accepted. */
  varint(): number {
    const first = this.uint8();
    const prefix = first >> 6;
    if (prefix === 0) return first;
    if (prefix === 1) {
      const value = ((first & 0x3f) << 8) | this.uint8();
      if (value < 0x40) throw new RejectionError("coder/non-minimal-length");
      return value;
    }
    if (prefix === 2) {
      const value = ((first & 0x3f) << 24) | (this.uint8() << 16) | this.uint16();
      if (value < 0x4000) throw new RejectionError("coder/non-minimal-length");
      return value;
    }
    throw new RejectionError("coder/bad-length-prefix");
  }

  /** A view of `length` bytes: it lives as long as the input and must not be written to. */
  fixed(length: number): Uint8Array {
    const at = this.take(length);
    return this.input.subarray(at, at + length);
  }

  /** opaque<V>, as a view. */
  bytes(): Uint8Array {
    return this.fixed(this.varint());
  }

  /** Moves behind an opaque<V> with the same checks as `bytes()`, without making a view. */
  skipBytes(): void {
    this.take(this.varint());
  }

  /** T<V>: reads elements until the vector's bytes are used up exactly. */
  vector<T>(element: (reader: Reader) => T): T[] {
    const inner = this.nested();
    const out: T[] = [];
    while (inner.offset < inner.end) {
      const before = inner.offset;
      out.push(element(inner));
      if (inner.offset === before) throw new RejectionError("coder/empty-element");
    }
    return out;
  }

  /** A reader over the content of the vector that starts here; this reader moves behind it. */
  nested(): Reader {
    const length = this.varint();
    const at = this.take(length);
    return new Reader(this.input, at, at + length);
  }

  optional<T>(element: (reader: Reader) => T): T | undefined {
    const presence = this.uint8();
    if (presence > 1) throw new RejectionError("coder/bad-optional");
    return presence === 1 ? element(this) : undefined;
  }

  /** Throws `coder/trailing-bytes` unless everything was read. */
  finish(): void {
    if (this.offset !== this.end) throw new RejectionError("coder/trailing-bytes");
  }
}

const MAX_VECTOR = 0x3fff_ffff;

/** Number of header bytes that a vector of this many content bytes takes. */
export function varintSize(length: number): 1 | 2 | 4 {
  return length < 0x40 ? 1 : length < 0x4000 ? 2 : 4;
}

/** Small writers share a few buffers of this size: making and collecting an ArrayBuffer costs more than most encodings. */
const SHARED_SIZE = 1024;
const SHARED_COUNT = 8;
const sharedBuffers: Bytes[] = [];
const NOTHING = new Uint8Array(0);

/** Grows by doubling; `finish()` copies what was written into an array of its own. */
export class Writer {
  private buffer: Bytes;
  private used = 0;

  constructor(capacity = 256) {
    this.buffer =
      capacity <= SHARED_SIZE
        ? (sharedBuffers.pop() ?? new Uint8Array(SHARED_SIZE))
        : new Uint8Array(capacity);
  }

  get length(): number {
    return this.used;
  }

  private grow(length: number): number {
    const at = this.used;
    const needed = at + length;
    if (needed > this.buffer.length) {
      const larger = new Uint8Array(Math.max(needed, this.buffer.length * 2, SHARED_SIZE));
      larger.set(this.buffer.subarray(0, at));
      // The old buffer may hold a secret that the caller will zeroize in its own copy.
      this.buffer.fill(0, 0, at);
      this.buffer = larger;
    }
    this.used = needed;
    return at;
  }

  uint8(value: number): this {
    const at = this.grow(1);
    this.buffer[at] = value;
    return this;
  }

  uint16(value: number): this {
    const at = this.grow(2);
    this.buffer[at] = value >>> 8;
    this.buffer[at + 1] = value;
    return this;
  }

  uint32(value: number): this {
    const at = this.grow(4);
    const b = this.buffer;
    b[at] = value >>> 24;
    b[at + 1] = value >>> 16;
    b[at + 2] = value >>> 8;
    b[at + 3] = value;
    return this;
  }

  uint64(value: bigint): this {
    this.uint32(Number((value >> 32n) & 0xffff_ffffn));
    return this.uint32(Number(value & 0xffff_ffffn));
  }

  varint(value: number): this {
    if (value < 0x40) return this.uint8(value);
    if (value < 0x4000) return this.uint16(0x4000 | value);
    if (value > MAX_VECTOR) throw new UsageError("coder/vector-too-long");
    return this.uint32((0x8000_0000 | value) >>> 0);
  }

  /** Bytes as they are, without a header. */
  fixed(bytes: Uint8Array): this {
    const at = this.grow(bytes.length);
    this.buffer.set(bytes, at);
    return this;
  }

  /** opaque<V>. */
  bytes(bytes: Uint8Array): this {
    return this.varint(bytes.length).fixed(bytes);
  }

  /** T<V>. The content is written once and moved by at most three bytes when its header turns out longer. */
  vector<T>(items: Iterable<T>, element: (writer: Writer, item: T) => void): this {
    return this.nested((writer) => {
      for (const item of items) element(writer, item);
    });
  }

  /** A vector whose content `write` produces. */
  nested(write: (writer: this) => void): this {
    const header = this.grow(1);
    write(this);
    const length = this.used - header - 1;
    const size = varintSize(length);
    if (size > 1) {
      this.grow(size - 1);
      this.buffer.copyWithin(header + size, header + 1, header + 1 + length);
    }
    const end = this.used;
    this.used = header;
    this.varint(length);
    this.used = end;
    return this;
  }

  optional<T>(item: T | undefined, element: (writer: Writer, item: T) => void): this {
    if (item === undefined) return this.uint8(0);
    this.uint8(1);
    element(this, item);
    return this;
  }

  /** The written bytes, as a copy that the caller owns. The internal buffer is cleared and given to another writer. */
  finish(): Bytes {
    const out = this.buffer.slice(0, this.used);
    this.buffer.fill(0, 0, this.used);
    if (this.buffer.length === SHARED_SIZE && sharedBuffers.length < SHARED_COUNT)
      sharedBuffers.push(this.buffer);
    this.buffer = NOTHING;
    this.used = 0;
    return out;
  }
}

/** Decodes exactly one value: trailing bytes are refused. */
export function decodeWhole<T>(input: Uint8Array, read: (reader: Reader) => T): T {
  const reader = new Reader(input);
  const value = read(reader);
  reader.finish();
  return value;
}

/** Encodes one value into bytes of its own. */
export function encode<T>(value: T, write: (writer: Writer, value: T) => void, capacity = 256): Bytes {
  const writer = new Writer(capacity);
  write(writer, value);
  return writer.finish();
}

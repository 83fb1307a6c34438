import { type Bytes, encode, InvariantError, Reader, type Writer } from "@murmuration/base";
import { defaultLimits, withinLimit } from "./limits.ts";

/** How the elements of a {@link LazyVector} are passed over, read and written. */
export interface ElementCodec<T> {
  /** Moves behind one element, checking its lengths and enums, and makes no object. */
  readonly skip: (reader: Reader) => void;
  readonly read: (reader: Reader) => T;
  readonly write: (writer: Writer, element: T) => void;
}

/**
 * `T elements<V>` kept as bytes and offsets, for vectors of which a receiver needs one element: the
 * ciphertexts of an UpdatePathNode (RFC 9420 section 7.6), the secrets of a Welcome (12.4.3.1), the nodes of
 * a ratchet_tree (12.4.3.3). Reading costs one scan over the lengths and 4 bytes an element.
 */
export class LazyVector<T> {
  /** The encoded elements without the vector's header. */
  readonly content: Uint8Array;
  /** Start of each element within `content`, and its length as the last entry. */
  private readonly offsets: Uint32Array;
  readonly codec: ElementCodec<T>;

  private constructor(content: Uint8Array, offsets: Uint32Array, codec: ElementCodec<T>) {
    this.content = content;
    this.offsets = offsets;
    this.codec = codec;
  }

  /** Reads the vector that starts here. O(its elements). */
  static read<T>(
    reader: Reader,
    codec: ElementCodec<T>,
    limit: number = defaultLimits.elements,
  ): LazyVector<T> {
    return LazyVector.over(reader.bytes(), codec, limit);
  }

  /** A vector over encoded elements that have no header. */
  static over<T>(
    content: Uint8Array,
    codec: ElementCodec<T>,
    limit: number = defaultLimits.elements,
  ): LazyVector<T> {
    let offsets = new Uint32Array(16);
    let count = 0;
    const scan = new Reader(content);
    while (scan.offset < scan.end) {
      withinLimit(count + 1, limit);
      if (count + 1 >= offsets.length) offsets = grown(offsets);
      offsets[count++] = scan.offset;
      codec.skip(scan);
    }
    offsets[count] = content.length;
    return new LazyVector(content, offsets.slice(0, count + 1), codec);
  }

  /** Encodes elements into a vector. */
  static from<T>(elements: Iterable<T>, codec: ElementCodec<T>): LazyVector<T> {
    const content: Bytes = encode(undefined, (writer) => {
      for (const element of elements) codec.write(writer, element);
    });
    return LazyVector.over(content, codec, Number.POSITIVE_INFINITY);
  }

  get count(): number {
    return this.offsets.length - 1;
  }

  /** Decodes one element. O(1) in the vector's length. Throws InvariantError for an index outside. */
  at(index: number): T {
    const reader = new Reader(this.bytesAt(index));
    const element = this.codec.read(reader);
    reader.finish();
    return element;
  }

  /** The encoding of one element, as a view. */
  bytesAt(index: number): Uint8Array {
    if (!(index >= 0 && index < this.count)) throw new InvariantError("mls/lazy-vector-index");
    return this.content.subarray(this.offsets[index], this.offsets[index + 1]);
  }

  write(writer: Writer): void {
    writer.bytes(this.content);
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let index = 0; index < this.count; index++) yield this.at(index);
  }
}

function grown(offsets: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(offsets.length * 2);
  larger.set(offsets);
  return larger;
}

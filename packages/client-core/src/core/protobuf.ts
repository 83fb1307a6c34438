/**
 * Protobuf for content between clients, declared once: a message's fields give its TypeScript type, its encoder
 * and its decoder. Only what proto/content.proto uses is here: varints, booleans, bytes, strings, messages, and
 * repetition. A field with a value is written, also a zero, so presence survives. Unknown fields are skipped,
 * a field that comes twice is refused, and lengths are checked against what remains before anything is copied.
 *
 * A decoder throws RejectionError `content/malformed`, `content/missing-field`, `content/field-too-large`,
 * `content/too-many`; an encoder refuses the same values with UsageError `content/cannot-encode`.
 */
import { type Bytes, fromUtf8, RejectionError, UsageError, utf8, Writer } from "@murmuration/base";

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;
/** Content in content: a sync copy holds one content, which holds one body. */
const MAX_DEPTH = 8;

/** One kind of value: how it lies on the wire, and what is accepted. */
export interface Kind<T> {
  readonly wireType: typeof VARINT | typeof DELIMITED;
  write(writer: Writer, value: T): void;
  /** `source.end` bounds a delimited value. */
  read(source: Source, depth: number): T;
}

interface Source {
  readonly input: Uint8Array;
  offset: number;
  readonly end: number;
}

export interface Field<T, Presence extends "required" | "optional" | "repeated"> {
  readonly number: number;
  readonly kind: Kind<T>;
  readonly presence: Presence;
  readonly max: number;
}

type AnyField = Field<unknown, "required" | "optional" | "repeated">;
type Fields = Readonly<Record<string, AnyField>>;
type Keys<F extends Fields, P> = {
  [K in keyof F]: F[K] extends Field<infer _, infer Q> ? (Q extends P ? K : never) : never;
}[keyof F];
type ValueOf<F> = F extends Field<infer T, infer _> ? T : never;
type Flat<T> = { [K in keyof T]: T[K] };
type MessageValue<F extends Fields> = Flat<
  { readonly [K in Keys<F, "required">]: ValueOf<F[K]> } & {
    readonly [K in Keys<F, "optional">]?: ValueOf<F[K]>;
  } & { readonly [K in Keys<F, "repeated">]: readonly ValueOf<F[K]>[] }
>;

export type MessageOf<M> = M extends Message<infer T> ? T : never;

function refuse(code: string): never {
  throw new RejectionError(code);
}

function writeVarint(writer: Writer, value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    writer.uint8((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  writer.uint8(rest);
}

/** At most ten bytes; a value of 2^53 or more is refused. */
function readVarint(source: Source): number {
  let value = 0;
  let scale = 1;
  for (let count = 0; count < 10; count++) {
    if (source.offset >= source.end) refuse("content/malformed");
    const byte = source.input[source.offset++]!;
    value += (byte & 0x7f) * scale;
    if (value > Number.MAX_SAFE_INTEGER) refuse("content/malformed");
    if (byte < 0x80) return value;
    scale *= 0x80;
  }
  return refuse("content/malformed");
}

function take(source: Source, length: number): Source {
  if (length > source.end - source.offset) refuse("content/malformed");
  const inner = { input: source.input, offset: source.offset, end: source.offset + length };
  source.offset += length;
  return inner;
}

/** An integer from `min` to `max`, below 2^53. */
export function uint(max: number = Number.MAX_SAFE_INTEGER, min = 0): Kind<number> {
  const check = (value: number): number =>
    Number.isSafeInteger(value) && value >= min && value <= max ? value : refuse("content/malformed");
  return {
    wireType: VARINT,
    write: (writer, value) => writeVarint(writer, check(value)),
    read: (source) => check(readVarint(source)),
  };
}

export const bool: Kind<boolean> = {
  wireType: VARINT,
  write: (writer, value) => void writer.uint8(value ? 1 : 0),
  read(source) {
    const value = readVarint(source);
    return value > 1 ? refuse("content/malformed") : value === 1;
  },
};

/** Bytes of one exact length, or of a range. The decoded value is a copy. */
export function bytes(size: number | { readonly min?: number; readonly max: number }): Kind<Bytes> {
  const min = typeof size === "number" ? size : (size.min ?? 0);
  const max = typeof size === "number" ? size : size.max;
  const check = (length: number): void => {
    if (length > max) refuse("content/field-too-large");
    if (length < min) refuse("content/malformed");
  };
  return {
    wireType: DELIMITED,
    write(writer, value) {
      check(value.length);
      writeVarint(writer, value.length);
      writer.fixed(value);
    },
    read(source) {
      check(source.end - source.offset);
      return source.input.slice(source.offset, source.end) as Bytes;
    },
  };
}

/** Sixteen bytes that a constructor of @murmuration/base brands. */
export function id<T extends Bytes>(brand: (bytes: Uint8Array) => T): Kind<T> {
  const inner = bytes(16);
  return {
    wireType: DELIMITED,
    write: inner.write,
    read: (source, depth) => brand(inner.read(source, depth)),
  };
}

/** Strict UTF-8 of at most `max` bytes. */
export function text(max: number): Kind<string> {
  const inner = bytes({ max });
  return {
    wireType: DELIMITED,
    write: (writer, value) => inner.write(writer, utf8(value)),
    read(source, depth) {
      try {
        return fromUtf8(inner.read(source, depth));
      } catch (error) {
        if (error instanceof RejectionError) throw error;
        return refuse("content/malformed");
      }
    },
  };
}

export const required = <T>(number: number, kind: Kind<T>): Field<T, "required"> => ({
  number,
  kind,
  presence: "required",
  max: 1,
});
export const optional = <T>(number: number, kind: Kind<T>): Field<T, "optional"> => ({
  number,
  kind,
  presence: "optional",
  max: 1,
});
export const repeated = <T>(number: number, kind: Kind<T>, max: number): Field<T, "repeated"> => ({
  number,
  kind,
  presence: "repeated",
  max,
});

/** A declared message; it is itself a kind, so that messages nest. */
export class Message<T> implements Kind<T> {
  readonly name: string;
  readonly wireType = DELIMITED;
  readonly fields: Fields;
  private readonly byNumber: ReadonlyMap<number, readonly [string, AnyField]>;

  constructor(name: string, fields: Fields) {
    this.name = name;
    this.fields = fields;
    this.byNumber = new Map(Object.entries(fields).map(([key, field]) => [field.number, [key, field]]));
  }

  private writeFields(writer: Writer, value: Readonly<Record<string, unknown>>): void {
    for (const [key, field] of Object.entries(this.fields)) {
      const given = value[key];
      const items = field.presence === "repeated" ? (given as readonly unknown[]) : [given];
      if (items.length > field.max) refuse("content/too-many");
      for (const item of items) {
        if (item === undefined) {
          if (field.presence === "required") refuse("content/missing-field");
          continue;
        }
        writeVarint(writer, field.number * 8 + field.kind.wireType);
        field.kind.write(writer, item);
      }
    }
  }

  write(writer: Writer, value: T): void {
    const inner = new Writer();
    this.writeFields(inner, value as Readonly<Record<string, unknown>>);
    const content = inner.finish();
    writeVarint(writer, content.length);
    writer.fixed(content);
  }

  read(source: Source, depth: number): T {
    if (depth > MAX_DEPTH) refuse("content/malformed");
    const out: Record<string, unknown> = {};
    for (const [key, field] of Object.entries(this.fields)) if (field.presence === "repeated") out[key] = [];
    while (source.offset < source.end) this.readField(source, out, depth);
    for (const [key, field] of Object.entries(this.fields)) {
      if (field.presence === "required" && out[key] === undefined) refuse("content/missing-field");
    }
    return out as T;
  }

  private readField(source: Source, out: Record<string, unknown>, depth: number): void {
    const tag = readVarint(source);
    const entry = this.byNumber.get(Math.floor(tag / 8));
    const wireType = tag % 8;
    if (entry === undefined) {
      skip(source, wireType);
      return;
    }
    const [key, field] = entry;
    if (wireType !== field.kind.wireType) refuse("content/malformed");
    const inner = wireType === DELIMITED ? take(source, readVarint(source)) : source;
    const value = field.kind.read(inner, depth + 1);
    if (field.presence !== "repeated") {
      if (out[key] !== undefined) refuse("content/malformed");
      out[key] = value;
      return;
    }
    const list = out[key] as unknown[];
    if (list.length >= field.max) refuse("content/too-many");
    list.push(value);
  }

  /** The bytes of a value that a decoder would accept. Throws UsageError `content/cannot-encode`. */
  encode(value: T): Bytes {
    try {
      const writer = new Writer();
      this.writeFields(writer, value as Readonly<Record<string, unknown>>);
      return writer.finish();
    } catch (error) {
      if (error instanceof RejectionError) throw new UsageError("content/cannot-encode", error.code);
      throw error;
    }
  }

  /** Decodes exactly one value. O(input length). */
  decode(input: Uint8Array): T {
    return this.read({ input, offset: 0, end: input.length }, 0);
  }
}

function skip(source: Source, wireType: number): void {
  if (wireType === VARINT) readVarint(source);
  else if (wireType === DELIMITED) take(source, readVarint(source));
  else if (wireType === FIXED64) take(source, 8);
  else if (wireType === FIXED32) take(source, 4);
  else refuse("content/malformed");
}

/** Declares a message by the name that it has in proto/content.proto. */
export function message<F extends Fields>(name: string, fields: F): Message<MessageValue<F>> {
  return new Message<MessageValue<F>>(name, fields);
}

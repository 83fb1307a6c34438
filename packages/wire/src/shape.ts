/**
 * A message declared once: its fields with their sizes give the TypeScript type, the validation on the way
 * in and the validation on the way out. The bytes themselves are made and parsed by protobufjs. A test
 * holds these declarations and the .proto files together, field by field.
 *
 * Decoding tolerates unknown fields, copies every bytes field out of the input (a view would keep a pooled
 * buffer alive), and fails with RejectionError and a `wire/` code only. uint64 is a number below 2^53.
 */
import { type Bytes, MurmurationError, RejectionError, UsageError } from "@murmuration/base";
import protobuf from "protobufjs/minimal.js";
import { murmuration } from "./generated/messages.js";

type Raw = Readonly<Record<string, unknown>>;

/** What protobufjs-cli generates for each message. */
export interface GeneratedMessage {
  encode(message: Raw, writer?: protobuf.Writer): protobuf.Writer;
  decode(reader: protobuf.Reader | Uint8Array, length?: number): object;
}

/** One field: `check` turns what protobufjs gives into the typed value, or throws a RejectionError. */
export interface Field<out T> {
  readonly presence: "required" | "optional" | "repeated";
  /** The type as the .proto file spells it: for the test that compares both. */
  readonly protoType: string;
  check(raw: unknown, path: string): T;
}

export interface OptionalField<out T> extends Field<T | undefined> {
  readonly presence: "optional";
}

type Fields = Readonly<Record<string, Field<unknown>>>;
type OptionalKeys<S extends Fields> = {
  [K in keyof S]: S[K] extends OptionalField<unknown> ? K : never;
}[keyof S];
type Value<F> = F extends Field<infer T> ? T : never;
type FieldValues<S extends Fields> = {
  readonly [K in Exclude<keyof S, OptionalKeys<S>>]: Value<S[K]>;
} & { readonly [K in OptionalKeys<S>]?: Exclude<Value<S[K]>, undefined> };
type Flat<T> = { [K in keyof T]: T[K] };

/** A declared message. */
export interface MessageType<out T> {
  readonly name: string;
  readonly fields: Fields;
  /** Validates a decoded or caller-made value and copies the declared fields. Throws RejectionError. */
  check(raw: unknown, path?: string): T;
}

/** The TypeScript type of a declared message. */
export type MessageOf<M> = M extends MessageType<infer T> ? T : never;

function refuse(code: string, path: string): never {
  throw new RejectionError(code, path);
}

/** Declares a message by the name that it has in the .proto files. */
export function message<S extends Fields>(name: string, fields: S): MessageType<Flat<FieldValues<S>>> {
  const entries = Object.entries(fields);
  return {
    name,
    fields,
    check(raw, path = name) {
      if (typeof raw !== "object" || raw === null) refuse("wire/missing-field", path);
      const out: Record<string, unknown> = {};
      for (const [key, field] of entries) {
        const value = field.check((raw as Raw)[key], `${path}.${key}`);
        if (value !== undefined) out[key] = value;
      }
      return out as Flat<FieldValues<S>>;
    },
  };
}

const required = "required" as const;

/** Bytes of one exact length, or of a range of lengths; empty counts as missing unless `min` is 0. */
export function bytes(size: number | { readonly min?: number; readonly max: number }): Field<Bytes> {
  const min = typeof size === "number" ? size : (size.min ?? 1);
  const max = typeof size === "number" ? size : size.max;
  return {
    presence: required,
    protoType: "bytes",
    check(raw, path) {
      const value = raw ?? new Uint8Array(0);
      if (!(value instanceof Uint8Array)) refuse("wire/invalid-field", path);
      if (value.length === 0 && min > 0) refuse("wire/missing-field", path);
      if (value.length > max) refuse("wire/field-too-large", path);
      if (value.length < min) refuse("wire/invalid-field", path);
      return ownBytes(value);
    },
  };
}

/**
 * The bytes in an array of their own: what is decoded lies in the frame, which is not kept for it. What has its memory to
 * itself stays where it is, since records of half a megabyte are copied often enough.
 */
function ownBytes(value: Uint8Array): Bytes {
  const { buffer } = value;
  const isAlone = value.byteLength === buffer.byteLength && buffer instanceof ArrayBuffer;
  if (!isAlone) return new Uint8Array(value);
  return value.constructor === Uint8Array ? (value as Bytes) : new Uint8Array(buffer);
}

/** Bytes that a constructor brands, such as an id: its RejectionError becomes `wire/invalid-field`. */
export function branded<T>(length: number, brand: (value: Uint8Array) => T): Field<T> {
  const inner = bytes(length);
  return { ...inner, check: (raw, path) => brand(inner.check(raw, path)) };
}

function integer(protoType: string, min: number, max: number): Field<number> {
  return {
    presence: required,
    protoType,
    check(raw, path) {
      const value = toNumber(raw ?? 0, path);
      if (value === 0 && min > 0) refuse("wire/missing-field", path);
      if (!Number.isInteger(value) || value < min || value > max) refuse("wire/invalid-field", path);
      return value;
    },
  };
}

/** protobufjs gives 64-bit integers as Long where that library is installed, as number elsewhere. */
function toNumber(raw: unknown, path: string): number {
  if (typeof raw === "number") return raw;
  if (typeof raw !== "object" || raw === null) refuse("wire/invalid-field", path);
  const { high, low } = raw as { high?: unknown; low?: unknown };
  if (typeof high !== "number" || typeof low !== "number") refuse("wire/invalid-field", path);
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

export const uint32 = (min = 0, max = 0xffff_ffff): Field<number> => integer("uint32", min, max);

/** uint64 as a number; 2^53 and more is refused. */
export const uint64 = (min = 0): Field<number> => integer("uint64", min, Number.MAX_SAFE_INTEGER);

/** A device id, an envelope id: a number that a constructor brands. */
export function brandedNumber<T extends number>(inner: Field<number>): Field<T> {
  return inner as Field<unknown> as Field<T>;
}

export function bool(): Field<boolean> {
  return {
    presence: required,
    protoType: "bool",
    check(raw, path) {
      const value = raw ?? false;
      if (typeof value !== "boolean") refuse("wire/invalid-field", path);
      return value;
    },
  };
}

/** Text that matches a pattern; an absent one counts as missing. */
export function text(pattern: RegExp): Field<string> {
  return {
    presence: required,
    protoType: "string",
    check(raw, path) {
      const value = raw ?? "";
      if (value === "") refuse("wire/missing-field", path);
      if (typeof value !== "string" || !pattern.test(value)) refuse("wire/invalid-field", path);
      return value;
    },
  };
}

/** An enum as string literals. The numbers are those of the .proto file, and 0 counts as missing. */
export function choice<const T extends Readonly<Record<string, number>>>(
  protoType: string,
  numbers: T,
): Field<keyof T & string> & { readonly numbers: T } {
  const names = new Map(Object.entries(numbers).map(([name, number]) => [number as unknown, name]));
  return {
    presence: required,
    protoType,
    numbers,
    check(raw, path) {
      const value = raw ?? 0;
      if (value === 0) refuse("wire/missing-field", path);
      const name = typeof value === "string" && Object.hasOwn(numbers, value) ? value : names.get(value);
      return name ?? refuse("wire/invalid-field", path);
    },
  };
}

export function nested<T>(type: MessageType<T>): Field<T> & { readonly message: MessageType<T> } {
  return {
    presence: required,
    protoType: type.name,
    message: type,
    check: (raw, path) => type.check(raw, path),
  };
}

export function optional<T>(field: Field<T>): OptionalField<T> {
  return {
    ...field,
    presence: "optional",
    check: (raw, path) => (raw === undefined || raw === null ? undefined : field.check(raw, path)),
  };
}

/** Zero to `max` elements, or at least `min` of them. */
export function list<T>(field: Field<T>, max: number, min = 0): Field<readonly T[]> {
  return {
    ...field,
    presence: "repeated",
    check(raw, path) {
      const values = raw ?? [];
      if (!Array.isArray(values)) refuse("wire/invalid-field", path);
      if (values.length > max) refuse("wire/too-many", path);
      if (values.length < min) refuse("wire/missing-field", path);
      return values.map((value, index) => field.check(value, `${path}[${index}]`));
    },
  };
}

const generated = murmuration.wire.v1 as Readonly<Record<string, GeneratedMessage>>;

/**
 * Fields of one message, with those of all nested ones: a submit to 256 accounts with 5 devices each has 5,900.
 * The limits of lists come too late for memory: an empty element takes two bytes on the wire and a hundred
 * times that as an object, so that one frame of four megabytes would keep the process busy for seconds.
 */
const MAX_FIELDS = 16_384;

/** protobufjs's reader that gives up at MAX_FIELDS; it asks for a tag before each field, known or not. */
class BoundedReader extends protobuf.Reader {
  private fields = 0;

  override tag(): number {
    if (++this.fields > MAX_FIELDS) refuse("wire/too-many", "fields");
    return super.tag();
  }

  /** Packed numbers have no tags; each takes at least one byte. A list may come in any number of pieces. */
  override uint32s(values: number[]): number[] {
    this.fields += packedBytes(this);
    if (this.fields > MAX_FIELDS) refuse("wire/too-many", "fields");
    return super.uint32s(values);
  }
}

/** The length that a packed field announces; the reader does not move. */
function packedBytes(reader: protobuf.Reader): number {
  const at = reader.pos;
  const length = reader.uint32();
  reader.pos = at;
  return length;
}

/**
 * Parses without validating: what protobufjs made of the bytes. Throws `wire/too-large`, `wire/too-many`,
 * `wire/garbage`.
 */
export function parse(name: string, input: Uint8Array, maxBytes: number): Raw {
  if (input.length > maxBytes) refuse("wire/too-large", name);
  try {
    const reader = new BoundedReader(input);
    reader.discardUnknown = true;
    return generated[name]!.decode(reader) as Raw;
  } catch (error) {
    if (error instanceof RejectionError) throw error;
    // Truncation, bad wire types, bad UTF-8, too much nesting: protobufjs names them by text only.
    return refuse("wire/garbage", name);
  }
}

/** Serialises what `toRaw` made. The result is an array of its own. */
export function serialise(name: string, raw: Raw): Bytes {
  return ownBytes(generated[name]!.encode(raw).finish());
}

/**
 * Decodes and validates one message. The size is checked first.
 * Throws RejectionError: wire/too-large, wire/garbage, wire/missing-field, wire/invalid-field,
 * wire/field-too-large, wire/too-many. The explanation names the field and never its content.
 */
export function decodeMessage<T>(type: MessageType<T>, input: Uint8Array, maxBytes: number): T {
  return checked(type, parse(type.name, input, maxBytes));
}

/** Validates; whatever a field's own constructor refuses is an invalid field. */
export function checked<T>(type: MessageType<T>, raw: unknown, path?: string): T {
  try {
    return type.check(raw, path);
  } catch (error) {
    if (error instanceof RejectionError && !error.code.startsWith("wire/")) {
      throw new RejectionError("wire/invalid-field", type.name);
    }
    throw error;
  }
}

/** Encodes one message. Throws UsageError `wire/cannot-encode` if a decoder would refuse it. */
export function encodeMessage<T>(type: MessageType<T>, value: T): Bytes {
  return serialise(type.name, toRaw(type, value));
}

/** Validates an outgoing value and replaces enum names by their numbers. */
export function toRaw<T>(type: MessageType<T>, value: T): Raw {
  try {
    return numbered(type.fields, checked(type, value) as Raw);
  } catch (error) {
    if (error instanceof MurmurationError) throw new UsageError("wire/cannot-encode", error.message);
    throw error;
  }
}

function numbered(fields: Fields, value: Raw): Raw {
  const out: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fields)) {
    const item = value[key];
    if (item === undefined) continue;
    out[key] = Array.isArray(item) ? item.map((one) => toWire(field, one)) : toWire(field, item);
  }
  return out;
}

function toWire(field: Field<unknown>, value: unknown): unknown {
  if ("message" in field) return numbered((field.message as MessageType<unknown>).fields, value as Raw);
  if ("numbers" in field) return (field.numbers as Readonly<Record<string, number>>)[value as string];
  return value;
}

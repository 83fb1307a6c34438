import { invariant } from "@murmuration/base";

const BOOL = 16;
const BYTEA = 17;
const INT8 = 20;
const INT2 = 21;
const INT4 = 23;
const TEXTS = [19, 25, 1043];

/**
 * Reads columns in PostgreSQL's text format; `pg` has no other, so bytes come as hexadecimal digits. A type that no table
 * here has is an error, not a guess.
 */
export const readText = {
  getTypeParser(oid: number): (value: string) => unknown {
    if (oid === BYTEA) return (value) => Uint8Array.from(Buffer.from(value.slice(2), "hex"));
    if (oid === INT8 || oid === INT4 || oid === INT2) return (value) => safe(Number(value));
    if (oid === BOOL) return (value) => value === "t";
    if (TEXTS.includes(oid)) return (value) => value;
    return () => invariant(false, "store/unknown-column-type");
  },
};

function safe(number: number): number {
  invariant(Number.isSafeInteger(number), "store/number-too-large");
  return number;
}

/** A bytea column as bytes. */
export function bytea(value: unknown): Uint8Array<ArrayBuffer> {
  return value as Uint8Array<ArrayBuffer>;
}

/** A bytea column that may be NULL. */
export function optionalBytea(value: unknown): Uint8Array<ArrayBuffer> | undefined {
  return value === null ? undefined : (value as Uint8Array<ArrayBuffer>);
}

import { RejectionError } from "@murmuration/base";

/** Bytes `from` up to but not including `to`. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
  /** True when a Range header asked for it. */
  readonly partial: boolean;
}

/**
 * Parses a Range header (RFC 9110 section 14.2) with one range of bytes; no header means everything. Throws
 * RejectionError `blob/bad-range` for another form, several ranges, or a range that holds no byte of the blob.
 */
export function parseRange(header: string | undefined, totalBytes: number): ByteRange {
  if (header === undefined) return { from: 0, to: totalBytes, partial: false };
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header);
  const [, first = "", last = ""] = match ?? [];
  if (match === null || (first === "" && last === "")) throw new RejectionError("blob/bad-range");
  const range =
    first === ""
      ? { from: Math.max(0, totalBytes - Number(last)), to: totalBytes }
      : { from: Number(first), to: last === "" ? totalBytes : Math.min(Number(last) + 1, totalBytes) };
  if (range.from >= range.to) throw new RejectionError("blob/bad-range");
  return { ...range, partial: true };
}

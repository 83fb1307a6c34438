export {
  type Bytes,
  compareBytes,
  concatBytes,
  equalBytes,
  equalSecret,
  fromBase64Url,
  fromHex,
  fromUtf8,
  toBase64Url,
  toHex,
  utf8,
  zeroize,
} from "./bytes.ts";
export { decodeWhole, encode, Reader, varintSize, Writer } from "./coder.ts";
export {
  type DecisionNeeded,
  InvariantError,
  invariant,
  MurmurationError,
  type Rejected,
  RejectionError,
  refuseUnless,
  rejected,
  UnavailableError,
  UsageError,
} from "./errors.ts";

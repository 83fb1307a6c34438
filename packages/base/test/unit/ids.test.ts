import { describe, expect, test } from "vitest";
import {
  accountId,
  blobId,
  deviceId,
  envelopeId,
  formatAddress,
  formatId,
  groupId,
  messageId,
  parseAccountId,
  parseAddress,
  parseBlobId,
  parseGroupId,
  parseMessageId,
  RejectionError,
  storeId,
  submitId,
} from "../../src/index.ts";

const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length).fill(1);

describe("random ids", () => {
  const brands = { accountId, groupId, messageId, blobId, submitId, storeId };
  test.each(Object.entries(brands))("%s is a copy of exactly 16 bytes", (_, brand) => {
    const input = bytes(16);
    const id = brand(input);
    input.fill(9);
    expect(id).toEqual(bytes(16));
    for (const length of [0, 15, 17]) expect(() => brand(bytes(length))).toThrow("id/bad-length");
  });

  const parsers = { parseAccountId, parseGroupId, parseMessageId, parseBlobId };
  test.each(Object.entries(parsers))("%s reads the canonical text form and nothing else", (_, parse) => {
    const text = formatId(accountId(bytes(16)));
    expect(text).toBe("AQEBAQEBAQEBAQEBAQEBAQ");
    expect(parse(text)).toEqual(bytes(16));
    for (const wrong of ["", text.slice(1), `${text}A`, `${text.slice(0, -1)}R`, `${text.slice(0, -1)}=`]) {
      expect(() => parse(wrong)).toThrow(RejectionError);
    }
  });
});

describe("device and envelope ids", () => {
  test("device ids are 1 to 127", () => {
    expect([1, 127].map(deviceId)).toEqual([1, 127]);
    for (const wrong of [0, 128, -1, 1.5, Number.NaN])
      expect(() => deviceId(wrong)).toThrow("id/bad-device-id");
  });

  test("envelope ids stay below 2^53", () => {
    expect(envelopeId(Number.MAX_SAFE_INTEGER)).toBe(Number.MAX_SAFE_INTEGER);
    for (const wrong of [-1, 2 ** 53, 0.5]) expect(() => envelopeId(wrong)).toThrow("id/bad-envelope-id");
  });
});

describe("device addresses", () => {
  const address = { accountId: accountId(bytes(16)), deviceId: deviceId(5) };
  test("have a text form", () => {
    expect(formatAddress(address)).toBe("AQEBAQEBAQEBAQEBAQEBAQ.5");
    expect(parseAddress(formatAddress(address))).toEqual(address);
  });
  test.each(["", "AQEBAQEBAQEBAQEBAQEBAQ", "AQEBAQEBAQEBAQEBAQEBAQ.05", "AQEBAQEBAQEBAQEBAQEBAQ.1.1", ".1"])(
    "%j is none",
    (text) => expect(() => parseAddress(text)).toThrow("id/bad-text"),
  );
});

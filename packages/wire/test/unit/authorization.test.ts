import { accountId, deviceId, groupId, RejectionError, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  encodeGroupAccessTbs,
  formatAccessKey,
  formatDeviceAuth,
  formatGroupAccess,
  parseAccessKey,
  parseDeviceAuth,
  parseGroupAccess,
} from "../../src/index.ts";

const fill = (byte: number, length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length).fill(byte);
const refused = (run: () => unknown): void => {
  expect(run).toThrow(RejectionError);
  expect(run).toThrow("auth/malformed");
};

describe("Authorization of a device", () => {
  const auth = { accountId: accountId(fill(1, 16)), deviceId: deviceId(3), token: fill(2, 32) };
  const text = formatDeviceAuth(auth);

  test("is written and read", () => {
    expect(text).toBe("Bearer AQEBAQEBAQEBAQEBAQEBAQ.3.AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI");
    expect(parseDeviceAuth(text)).toEqual(auth);
  });

  test.each([
    "",
    text.slice(7),
    text.replace("Bearer", "bearer"),
    text.replace(".3.", ".0."),
    text.replace(".3.", ".03."),
    text.replace(".3.", ".128."),
    `${text}A`,
    text.slice(0, -1),
    // The last character carries bits that must be zero: this one is no canonical encoding.
    `${text.slice(0, -1)}J`,
    `${text} `,
  ])("%j is malformed", (header) => refused(() => parseDeviceAuth(header)));
});

describe("Murmuration-Access", () => {
  test("is written and read", () => {
    expect(parseAccessKey(formatAccessKey(fill(9, 16)))).toEqual(fill(9, 16));
  });
  test.each(["", "AAAA", "A".repeat(21), "A".repeat(23), "!".repeat(22)])("%j is malformed", (header) =>
    refused(() => parseAccessKey(header)),
  );
});

describe("Murmuration-Group-Access", () => {
  const access = { challenge: fill(4, 32), signature: fill(5, 64) };
  const text = formatGroupAccess(access);

  test("is written and read", () => {
    expect(parseGroupAccess(text)).toEqual(access);
  });
  test.each(["", ".", text.replace(".", ""), `${text}.`, text.slice(1), `${text}A`])(
    "%j is malformed",
    (header) => refused(() => parseGroupAccess(header)),
  );

  test("signs label, challenge, group, operation and the body's hash, in this order", () => {
    const tbs = encodeGroupAccessTbs({
      challenge: fill(0xc1, 32),
      groupId: groupId(fill(0x91, 16)),
      operation: "write",
      bodyHash: fill(0xb0, 32),
    });
    const label = Buffer.from("Murmuration PairwiseGroupAccess 1");
    expect(toHex(tbs)).toBe(
      `21${label.toString("hex")}${"c1".repeat(32)}${"91".repeat(16)}02${"b0".repeat(32)}`,
    );
  });
});

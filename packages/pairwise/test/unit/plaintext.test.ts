import { accountId, type DeviceAddress, deviceId, RejectionError, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { MAX_BODY_BYTES } from "../../src/index.ts";
import { AddressedPlaintext, decodePlaintext, encodePlaintext, paddedLength } from "../../src/plaintext.ts";

const address = (byte: number, device: number): DeviceAddress => ({
  accountId: accountId(new Uint8Array(16).fill(byte)),
  deviceId: deviceId(device),
});
const sender = address(1, 2);
const recipient = address(3, 4);
const plaintext = (length: number) => ({
  sender,
  senderListVersion: 7,
  recipient,
  recipientListVersion: 9,
  sentAtMs: 1_800_000_000_123,
  body: new Uint8Array(length).fill(0x80),
});

describe("gotcha 11: libsignal does not hide lengths, so the plaintext is padded to size classes", () => {
  test("the classes are 160, 320, 640, 1280 and then double", () => {
    expect([0, 1, 160].map(paddedLength)).toEqual([160, 160, 160]);
    expect([161, 320, 321, 640, 641, 1_280, 1_281].map(paddedLength)).toEqual([
      320, 320, 640, 640, 1_280, 1_280, 2_560,
    ]);
  });

  test("every body length up to three classes comes back exactly, and only its class shows", () => {
    const lengths = new Set<number>();
    for (let length = 0; length <= 640; length++) {
      const padded = encodePlaintext(plaintext(length));
      lengths.add(padded.length);
      expect(decodePlaintext(padded, sender, recipient)).toEqual(plaintext(length));
    }
    expect([...lengths]).toEqual([160, 320, 640, 1_280]);
  });

  test("the largest body fits, one byte more is the caller's mistake", () => {
    const largest = encodePlaintext(plaintext(MAX_BODY_BYTES));
    expect(largest.length).toBe(40_960);
    expect(decodePlaintext(largest, sender, recipient).body.length).toBe(MAX_BODY_BYTES);
    expect(() => encodePlaintext(plaintext(MAX_BODY_BYTES + 1))).toThrow(UsageError);
  });

  test("padding that is not zero, not there, or of another class is refused", () => {
    const padded = encodePlaintext(plaintext(20));
    for (let i = padded.lastIndexOf(0x80); i < padded.length; i++) {
      const changed = padded.slice();
      changed[i]! ^= 1;
      expect(() => decodePlaintext(changed, sender, recipient)).toThrow("pairwise/bad-plaintext");
    }
    const larger = new Uint8Array(320);
    larger.set(padded);
    expect(() => decodePlaintext(larger, sender, recipient)).toThrow("pairwise/bad-plaintext");
    expect(() => decodePlaintext(padded.subarray(0, 159), sender, recipient)).toThrow(RejectionError);
    expect(() => decodePlaintext(new Uint8Array(0), sender, recipient)).toThrow(RejectionError);
  });
});

test("one plaintext for many recipients is, for each of them, the one that would be made for it alone", () => {
  const { recipient: _, recipientListVersion: __, ...common } = plaintext(300);
  const addressed = new AddressedPlaintext(common);
  const first = addressed.for(recipient, 9);
  const second = addressed.for(address(5, 127), 0xffff_ffff);
  expect(first).toEqual(encodePlaintext(plaintext(300)));
  expect(second).toEqual(
    encodePlaintext({ ...common, recipient: address(5, 127), recipientListVersion: 0xffff_ffff }),
  );
  addressed.zeroize();
  expect(addressed.for(sender, 0).lastIndexOf(0x80)).toBe(-1);
  expect(first).toEqual(encodePlaintext(plaintext(300)));
});

describe("gotcha 12: addresses are not bound by libsignal, so they stand in the plaintext", () => {
  test("another sender or recipient, by account or by device, is refused", () => {
    const padded = encodePlaintext(plaintext(5));
    expect(() => decodePlaintext(padded, address(9, 2), recipient)).toThrow("pairwise/wrong-sender");
    expect(() => decodePlaintext(padded, address(1, 3), recipient)).toThrow("pairwise/wrong-sender");
    expect(() => decodePlaintext(padded, sender, address(9, 4))).toThrow("pairwise/wrong-recipient");
    expect(() => decodePlaintext(padded, sender, address(3, 5))).toThrow("pairwise/wrong-recipient");
  });
});

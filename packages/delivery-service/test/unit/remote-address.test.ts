import { describe, expect, it } from "vitest";
import { addressText, clientAddress } from "../../src/adapters/remote-address.ts";

describe("the address of a client", () => {
  it("is the other end of the connection where no proxy is trusted, whatever the peer claims", () => {
    expect(clientAddress("192.0.2.1", "203.0.113.66, 198.51.100.7", 0)).toBe("192.0.2.1");
  });

  it("is what the outermost trusted proxy saw, and the other end where that proxy said nothing", () => {
    expect(clientAddress("192.0.2.1", "203.0.113.66, 198.51.100.7", 1)).toBe("198.51.100.7");
    expect(clientAddress("192.0.2.1", "203.0.113.66, 198.51.100.7", 2)).toBe("203.0.113.66");
    expect(clientAddress("192.0.2.1", "198.51.100.7", 2)).toBe("192.0.2.1");
    expect(clientAddress("192.0.2.1", undefined, 1)).toBe("192.0.2.1");
  });

  it("is one text for IPv4, also where it came as IPv6", () => {
    const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1);
    expect(addressText(mapped)).toBe("127.0.0.1");
    expect(addressText(mapped.subarray(12))).toBe("127.0.0.1");
  });

  it("is written in groups for IPv6, and empty where there is none", () => {
    const bytes = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 1);
    expect(addressText(bytes)).toBe("2001:db8:0:0:0:0:0:ab01");
    expect(addressText(new Uint8Array(0))).toBe("");
  });
});

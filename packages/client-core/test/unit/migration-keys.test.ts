import { accountId, deviceId, groupId, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  MIGRATION_SECRET_BYTES,
  migrationGroupId,
  migrationPsk,
  type RosterLeaf,
  rosterHash,
} from "../../src/core/migration/keys.ts";

/* The fixed values were computed apart from this code, with Python's hashlib and hmac. */

const conversation = groupId(Uint8Array.from({ length: 16 }, (_, index) => index));

const leaf = (account: number, device: number, identityKey: number, signatureKey: number): RosterLeaf => ({
  accountId: accountId(new Uint8Array(16).fill(account)),
  deviceId: deviceId(device),
  deviceIdentityKey: new Uint8Array(33).fill(identityKey),
  signatureKey: new Uint8Array(32).fill(signatureKey),
});

const roster = [leaf(1, 1, 0x11, 0x21), leaf(1, 2, 0x12, 0x22), leaf(2, 1, 0x13, 0x23)];

describe("the MLS group of a migration", () => {
  test.each([
    [0, "498a1c5ec9c8bfc6cdaa5064e4d06254"],
    [1, "d53751e88d1e26537f32ea0640f5e0da"],
    [258, "9b7bb1f798ec9d9eba5072a00733a3a5"],
  ])("of generation %i has a fixed id", (generation, id) => {
    expect(toHex(migrationGroupId(conversation, generation))).toBe(id);
  });

  test.each([-1, 1.5, 2 ** 32])("has no generation %d", (generation) => {
    expect(() => migrationGroupId(conversation, generation)).toThrow("migration/bad-generation");
  });
});

describe("the key of the switching commit", () => {
  test("follows from the sorted roster and the creator's bytes", () => {
    const hash = rosterHash(roster);
    expect(toHex(hash)).toBe("44d387514fc6de8016611e6e1c7d56c7892d7b11fb94051b288d1b260ec41a1b");
    expect(toHex(migrationPsk(hash, new Uint8Array(32).fill(7)))).toBe(
      "10b6325712cf4afbbdf4c26ee2ca4d3477211c3e31bc4d5e96c8f24612fb88a8",
    );
  });

  test("does not depend on the order in which leaves come", () => {
    expect(rosterHash([...roster].reverse())).toEqual(rosterHash(roster));
  });

  test("is another one with another leaf, identity key or signature key", () => {
    const others = [
      [...roster, leaf(3, 1, 0x14, 0x24)],
      roster.slice(1),
      [leaf(1, 1, 0x99, 0x21), ...roster.slice(1)],
      [leaf(1, 1, 0x11, 0x99), ...roster.slice(1)],
    ];
    const hashes = [roster, ...others].map((leaves) => toHex(rosterHash(leaves)));
    expect(new Set(hashes).size).toBe(hashes.length);
  });

  test("knows a device once", () => {
    expect(() => rosterHash([...roster, leaf(1, 2, 0x15, 0x25)])).toThrow("migration/device-twice");
  });

  test("takes a hash and 32 bytes", () => {
    const secret = new Uint8Array(MIGRATION_SECRET_BYTES);
    expect(() => migrationPsk(new Uint8Array(31), secret)).toThrow("migration/bad-roster-hash");
    expect(() => migrationPsk(new Uint8Array(32), secret.subarray(1))).toThrow("migration/bad-secret-length");
  });
});

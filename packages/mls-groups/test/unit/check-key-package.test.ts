import { concatBytes } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  type CryptoProvider,
  checkKeyPackage,
  communityExtensions,
  encodeMlsMessage,
  generateKeyPackage,
  type KeyPackage,
  type KeyPackageOptions,
  keyPackageRef,
  lastResortExtension,
  nativeCrypto,
} from "../../src/index.ts";
import { signedKeyPackage } from "../adversary/wrong-messages.ts";
import { Client } from "../clients.ts";
import { contextWith, Device } from "../community-kit.ts";
import { codeOf, expectCode } from "../expect-error.ts";

const crypto = nativeCrypto(1);
const now = 1_000_000n;

function messageOf(keyPackage: KeyPackage): Uint8Array {
  return encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage });
}

function made(options: KeyPackageOptions = {}, of: CryptoProvider = crypto): Uint8Array {
  return messageOf(new Client("bob", of).keyPackage(options).keyPackage);
}

describe("a KeyPackage by itself", () => {
  test("is described when it is valid, in bytes that the message does not share", () => {
    const bob = new Client("bob", crypto);
    const until = { notBefore: now - 10n, notAfter: now + 10n };
    const { keyPackage } = generateKeyPackage(crypto, bob.identity, until);
    const message = messageOf(keyPackage);
    const checked = checkKeyPackage(crypto, message, now);
    message.fill(0);
    expect(checked).toMatchObject({ notAfter: now + 10n, lastResort: false, cipherSuite: 1 });
    expect(checked.reference).toEqual(keyPackageRef(crypto, keyPackage));
    expect(checked.credential).toEqual(bob.identity.credential);
    expect(checked.signatureKey).toEqual(bob.identity.signatureKeys.publicKey);
    const lastResort = made({ keyPackageExtensions: [lastResortExtension()] });
    expect(checkKeyPackage(crypto, lastResort, now).lastResort).toBe(true);
  });

  test("is refused outside of its lifetime", () => {
    const bob = new Client("bob", crypto);
    const { keyPackage } = generateKeyPackage(crypto, bob.identity, { notBefore: 5n, notAfter: 10n });
    for (const at of [4n, 11n]) {
      expectCode(() => checkKeyPackage(crypto, messageOf(keyPackage), at), "mls/leaf-node/lifetime");
    }
    for (const at of [5n, 10n]) checkKeyPackage(crypto, messageOf(keyPackage), at);
  });

  test("is refused with either signature damaged, with another suite, as another message", () => {
    const { keyPackage } = new Client("bob", crypto).keyPackage();
    const other = new Client("bob", crypto).keyPackage().keyPackage;
    const { signature } = other;
    expectCode(
      () => checkKeyPackage(crypto, messageOf({ ...keyPackage, signature }), now),
      "mls/key-package/signature",
    );
    expectCode(() => checkKeyPackage(nativeCrypto(3), made(), now), "mls/key-package/cipher-suite");
    const alice = new Client("alice", crypto);
    alice.create("friends");
    expectCode(() => checkKeyPackage(crypto, alice.group.groupInfo(), now), "mls/key-package/wire-format");
    const equalKeys = { ...keyPackage, initKey: keyPackage.leafNode.encryptionKey };
    expectCode(() => checkKeyPackage(crypto, messageOf(equalKeys), now), "mls/key-package/init-key-differs");
  });

  test("leaf-node/signature (10.1): the leaf's own signature is verified beside that of the KeyPackage", () => {
    const bob = new Client("bob", crypto);
    const { keyPackage } = bob.keyPackage();
    const { signature } = bob.keyPackage().keyPackage.leafNode;
    const resigned = signedKeyPackage(bob, {
      ...keyPackage,
      leafNode: { ...keyPackage.leafNode, signature },
    });
    expectCode(() => checkKeyPackage(crypto, messageOf(resigned), now), "mls/leaf-node/signature");
  });

  test("is held to what a group asks of every leaf, if the caller names one", () => {
    const extensions = communityExtensions(contextWith({ owners: ["alice"] }));
    const bob = new Device(crypto, { account: "bob" });
    checkKeyPackage(crypto, messageOf(bob.keyPackage().keyPackage), now, extensions);
    checkKeyPackage(crypto, made(), now);
    expectCode(
      () => checkKeyPackage(crypto, made(), now, extensions),
      "mls/leaf-node/group-extensions-supported",
    );
  });

  test("is refused when cut anywhere, with a byte too many, and with any byte changed", () => {
    const message = made();
    for (let length = 0; length < message.length; length++) {
      expect(codeOf(() => checkKeyPackage(crypto, message.subarray(0, length), now))).toBeDefined();
    }
    expectCode(
      () => checkKeyPackage(crypto, concatBytes(message, Uint8Array.of(0)), now),
      "coder/trailing-bytes",
    );
    for (let at = 0; at < message.length; at++) {
      const damaged = message.slice();
      damaged[at]! ^= 1;
      expect(
        codeOf(() => checkKeyPackage(crypto, damaged, now)),
        `byte ${at}`,
      ).toBeDefined();
    }
  });
});

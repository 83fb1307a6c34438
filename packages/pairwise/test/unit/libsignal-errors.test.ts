import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import * as libsignal from "@signalapp/libsignal-client";
import { beforeAll, describe, expect, test } from "vitest";
import { classifyLibsignal, type LibsignalFailure } from "../../src/libsignal-errors.ts";

const { PrivateKey, KEMKeyPair, IdentityKeyPair, PreKeyBundle } = libsignal;

/** One party over plain maps: the failures are libsignal's own, nothing of the engine is in between. */
class Party {
  readonly address: libsignal.ProtocolAddress;
  readonly identity = IdentityKeyPair.generate();
  readonly preKey = PrivateKey.generate();
  readonly signedPreKey = PrivateKey.generate();
  readonly kyberPreKey = KEMKeyPair.generate();
  trust = true;
  refuseKyber = false;
  readonly sessionStore: libsignal.SessionStore;
  readonly identityStore: libsignal.IdentityKeyStore;
  readonly preKeyStore: libsignal.PreKeyStore;
  readonly signedStore: libsignal.SignedPreKeyStore;
  readonly kyberStore: libsignal.KyberPreKeyStore;

  constructor(byte: number) {
    const aci = libsignal.Aci.fromUuidBytes(new Uint8Array(16).fill(byte));
    this.address = libsignal.ProtocolAddress.new(aci, 1);
    const sign = (bytes: Uint8Array<ArrayBuffer>) => this.identity.privateKey.sign(bytes);
    const records = new Map<string, Uint8Array<ArrayBuffer>>();
    this.sessionStore = {
      saveSession: async (name, record) => void records.set(name.toString(), record.serialize()),
      getSession: async (name) => {
        const bytes = records.get(name.toString());
        return bytes === undefined ? null : libsignal.SessionRecord.deserialize(bytes);
      },
      getExistingSessions: async () => [],
    };
    this.identityStore = {
      getIdentityKey: async () => this.identity.privateKey,
      getIdentityKeyPair: async () => this.identity,
      getLocalRegistrationId: async () => 5,
      saveIdentity: async () => libsignal.IdentityChange.NewOrUnchanged,
      isTrustedIdentity: async () => this.trust,
      getIdentity: async () => null,
    };
    this.preKeyStore = {
      savePreKey: async () => {},
      getPreKey: async (id) => libsignal.PreKeyRecord.new(id, this.preKey.getPublicKey(), this.preKey),
      removePreKey: async () => {},
    };
    this.signedStore = {
      saveSignedPreKey: async () => {},
      getSignedPreKey: async (id) => {
        const publicKey = this.signedPreKey.getPublicKey();
        const signature = sign(publicKey.serialize());
        return libsignal.SignedPreKeyRecord.new(id, 1, publicKey, this.signedPreKey, signature);
      },
    };
    this.kyberStore = {
      saveKyberPreKey: async () => {},
      getKyberPreKey: async (id) => {
        const signature = sign(this.kyberPreKey.getPublicKey().serialize());
        return libsignal.KyberPreKeyRecord.new(id, 1, this.kyberPreKey, signature);
      },
      markKyberPreKeyUsed: async () => {
        if (this.refuseKyber) throw new Error("refused by the store");
      },
    };
  }

  bundle(spoil?: "signed" | "kyber"): libsignal.PreKeyBundle {
    const sign = (bytes: Uint8Array<ArrayBuffer>, bad: boolean) => {
      const signature = this.identity.privateKey.sign(bytes);
      if (bad) signature[3]! ^= 1;
      return signature;
    };
    const signed = this.signedPreKey.getPublicKey();
    const kyber = this.kyberPreKey.getPublicKey();
    return PreKeyBundle.new(
      5,
      1,
      1,
      this.preKey.getPublicKey(),
      2,
      signed,
      sign(signed.serialize(), spoil === "signed"),
      this.identity.publicKey,
      3,
      kyber,
      sign(kyber.serialize(), spoil === "kyber"),
    );
  }

  process(other: Party, bundle = other.bundle()): Promise<void> {
    const { sessionStore, identityStore } = this;
    return libsignal.processPreKeyBundle(bundle, other.address, this.address, sessionStore, identityStore);
  }

  encrypt(other: Party, now = new Date()): Promise<libsignal.CiphertextMessage> {
    const { sessionStore, identityStore } = this;
    const body = new Uint8Array(20);
    return libsignal.signalEncrypt(body, other.address, this.address, sessionStore, identityStore, now);
  }

  decryptFirst(other: Party, message: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    return libsignal.signalDecryptPreKey(
      libsignal.PreKeySignalMessage.deserialize(message),
      other.address,
      this.address,
      this.sessionStore,
      this.identityStore,
      this.preKeyStore,
      this.signedStore,
      this.kyberStore,
    );
  }

  decrypt(other: Party, message: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    const parsed = libsignal.SignalMessage.deserialize(message);
    return libsignal.signalDecrypt(
      parsed,
      other.address,
      this.address,
      this.sessionStore,
      this.identityStore,
    );
  }
}

async function failureOf(body: () => unknown): Promise<LibsignalFailure> {
  try {
    await body();
  } catch (error) {
    return classifyLibsignal(error);
  }
  throw new Error("it did not fail");
}

const spoilLast = (bytes: Uint8Array<ArrayBuffer>) => {
  const copy = bytes.slice();
  copy[copy.length - 1]! ^= 1;
  return copy;
};

describe("gotcha 4: failures of libsignal are classified in one place, pinned to version 0.103.0", () => {
  let alice: Party;
  let bob: Party;
  let first: Uint8Array<ArrayBuffer>;
  let answer: Uint8Array<ArrayBuffer>;

  beforeAll(async () => {
    alice = new Party(1);
    bob = new Party(2);
    await alice.process(bob);
    first = (await alice.encrypt(bob)).serialize();
    await bob.decryptFirst(alice, first);
    answer = (await bob.encrypt(alice)).serialize();
  });

  test("the installed version is the one that these tests were written against", () => {
    const main = createRequire(import.meta.url).resolve("@signalapp/libsignal-client");
    const manifest = JSON.parse(readFileSync(new URL("../package.json", `file://${main}`), "utf8"));
    expect(manifest.version).toBe("0.103.0");
  });

  test("no session, for encrypting and for decrypting", async () => {
    expect(await failureOf(() => new Party(3).encrypt(bob))).toBe("session-missing");
    expect(await failureOf(() => new Party(3).decrypt(bob, answer))).toBe("session-missing");
  });

  test("a changed ciphertext, as first message and later", async () => {
    const carol = new Party(6);
    await carol.process(bob);
    const hello = (await carol.encrypt(bob)).serialize();
    expect(await failureOf(() => alice.decrypt(bob, spoilLast(answer)))).toBe("undecryptable");
    expect(await failureOf(() => bob.decryptFirst(carol, spoilLast(hello)))).toBe("undecryptable");
  });

  test("a message that was decrypted before", async () => {
    expect(await failureOf(() => bob.decryptFirst(alice, first))).toBe("duplicate");
    // The counter is looked at before the MAC: what is called a duplicate need not be one.
    expect(await failureOf(() => bob.decryptFirst(alice, spoilLast(first)))).toBe("duplicate");
  });

  test("a bundle with a wrong signature on either prekey, or under another identity key", async () => {
    const carol = new Party(4);
    expect(await failureOf(() => carol.process(bob, bob.bundle("signed")))).toBe("bad-signature");
    expect(await failureOf(() => carol.process(bob, bob.bundle("kyber")))).toBe("bad-signature");
  });

  test("an identity key that the store does not trust", async () => {
    const carol = new Party(4);
    carol.trust = false;
    expect(await failureOf(() => carol.process(bob))).toBe("untrusted-identity");
    alice.trust = false;
    expect(await failureOf(() => alice.encrypt(bob))).toBe("untrusted-identity");
    expect(await failureOf(() => alice.decrypt(bob, answer))).toBe("untrusted-identity");
    alice.trust = true;
  });

  test("a store that throws: libsignal passes on nothing but a text", async () => {
    const carol = new Party(5);
    await carol.process(bob);
    const message = (await carol.encrypt(bob)).serialize();
    bob.refuseKyber = true;
    expect(await failureOf(() => bob.decryptFirst(carol, message))).toBe("store-refused");
    bob.refuseKyber = false;
  });

  test("bytes that are no message, no key, no certificate", async () => {
    const garbage = new Uint8Array(40);
    expect(await failureOf(() => libsignal.PreKeySignalMessage.deserialize(garbage))).toBe("malformed");
    expect(await failureOf(() => libsignal.SignalMessage.deserialize(garbage))).toBe("malformed");
    expect(await failureOf(() => libsignal.SignalMessage.deserialize(new Uint8Array(0)))).toBe("malformed");
    expect(await failureOf(() => libsignal.PlaintextContent.deserialize(garbage))).toBe("malformed");
    expect(await failureOf(() => libsignal.PublicKey.deserialize(garbage))).toBe("malformed");
    expect(await failureOf(() => libsignal.PublicKey.deserialize(new Uint8Array(0)))).toBe("malformed");
    expect(await failureOf(() => libsignal.KEMPublicKey.deserialize(garbage))).toBe("malformed");
    expect(await failureOf(() => libsignal.SenderCertificate.deserialize(garbage))).toBe("malformed");
    const versioned = first.slice();
    versioned[0] = 0x55;
    expect(await failureOf(() => libsignal.PreKeySignalMessage.deserialize(versioned))).toBe("malformed");
  });

  test("a sealed envelope for somebody else", async () => {
    const unseal = (bytes: Uint8Array<ArrayBuffer>) =>
      failureOf(() => libsignal.sealedSenderDecryptToUsmc(bytes, bob.identityStore));
    expect(await unseal(new Uint8Array(0))).toBe("unseal-failed");
    expect(await unseal(new Uint8Array(300).fill(0x11))).toBe("malformed");
    expect(await unseal(new Uint8Array(300).fill(0x99))).toBe("malformed");
  });

  test("a peer's number that JavaScript cannot hold, which is thrown as a plain RangeError", async () => {
    // Content with a DecryptionErrorMessage whose timestamp is 2^64 - 1.
    const huge = [0x10, ...Array(9).fill(0xff), 0x01, 0x18, 0x01];
    const body = new Uint8Array([0x42, huge.length, ...huge, 0x80]);
    const message = libsignal.DecryptionErrorMessage.extractFromSerializedBody(body);
    expect(await failureOf(() => message.timestamp())).toBe("malformed");
    expect(await failureOf(() => libsignal.DecryptionErrorMessage.forOriginal(answer, 2, -1, 1))).toBe(
      "malformed",
    );
    expect(() => classifyLibsignal(new RangeError("ours"))).toThrow(RangeError);
  });

  test("what libsignal did not throw is not interpreted", () => {
    expect(() => classifyLibsignal(new TypeError("ours"))).toThrow(TypeError);
  });
});

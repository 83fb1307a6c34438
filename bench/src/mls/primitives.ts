/**
 * What one cryptographic primitive costs on this machine, by the cheapest way node:crypto has for it. The
 * floor is made of these; `openssl speed` beside them says whether the way is cheap indeed.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  generateKeyPairSync,
  hash,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { withoutStacks } from "./key-material.ts";

/** Microseconds of one call, or of one byte where the name says so. */
export interface PrimitiveCosts {
  /** Ed25519 over 300 bytes, key objects at hand. */
  readonly sign: number;
  readonly verify: number;
  /** A public key from its raw bytes. */
  readonly importPublicKey: number;
  /** X25519: a fresh key pair. */
  readonly generateKeyPair: number;
  /** X25519: the public key of a private key. */
  readonly derivePublicKey: number;
  readonly diffieHellman: number;
  /** SHA-256 of 64 bytes. */
  readonly hash: number;
  readonly hashByte: number;
  /** HMAC-SHA-256 of 64 bytes, as two hashes. */
  readonly mac: number;
  /** AES-128-GCM of 64 bytes with a fresh key. */
  readonly seal: number;
  readonly open: number;
}

/** Best mean of several batches, in microseconds: the floor is what the machine can do, not what it did once. */
function cost(action: () => unknown, batches = 5, budgetMs = 8): number {
  action();
  let best = Number.POSITIVE_INFINITY;
  for (let batch = 0; batch < batches; batch++) {
    const start = performance.now();
    let calls = 0;
    let elapsed = 0;
    while (elapsed < budgetMs) {
      for (let i = 0; i < 8; i++) action();
      calls += 8;
      elapsed = performance.now() - start;
    }
    best = Math.min(best, (elapsed / calls) * 1000);
  }
  return best;
}

/**
 * An import while errors record no stack, which is what makes it cheap: Node tells a description of a key from a
 * KeyObject by catching two errors, and their stack traces take three times as long as the import.
 */
function importCost(importKey: () => unknown): number {
  return withoutStacks(() => cost(importKey));
}

/** From the raw bytes where this Node has that, which its types do not know yet; as a JWK before. */
function importPrivateKey(key: KeyObject): () => KeyObject {
  const jwk = { format: "jwk", key: key.export({ format: "jwk" }) } as const;
  const raw = {
    format: "raw-private",
    key: Buffer.from(jwk.key.d!, "base64url"),
    asymmetricKeyType: "x25519",
  } as unknown as typeof jwk;
  try {
    createPrivateKey(raw);
    return () => createPrivateKey(raw);
  } catch {
    return () => createPrivateKey(jwk);
  }
}

const sha256 = (data: Uint8Array): Buffer => hash("sha256", data, "buffer");

const inner = Buffer.alloc(128, 0x36);
const outer = Buffer.alloc(96, 0x5c);

/** HMAC of 64 bytes from two hashes over blocks with the padded key: createHmac costs five times as much. */
function hmac(data: Uint8Array): Buffer {
  inner.set(data, 64);
  outer.set(sha256(inner), 64);
  return sha256(outer);
}

export function measurePrimitives(): PrimitiveCosts {
  const message = Buffer.alloc(300, 7);
  const [short, long] = [Buffer.alloc(64, 3), Buffer.alloc(65_536 + 64, 5)];
  const signer = generateKeyPairSync("ed25519");
  const signature = sign(null, message, signer.privateKey);
  const publicJwk = signer.publicKey.export({ format: "jwk" });
  const own = generateKeyPairSync("x25519");
  const peer = generateKeyPairSync("x25519");
  const importPrivate = importPrivateKey(own.privateKey);
  const key = Buffer.alloc(16, 9);
  const nonce = Buffer.alloc(12, 1);
  const seal = (data: Uint8Array): [Buffer, Buffer] => {
    const cipher = createCipheriv("aes-128-gcm", createSecretKey(key), nonce);
    const text = cipher.update(data);
    cipher.final();
    return [text, cipher.getAuthTag()];
  };
  const [ciphertext, tag] = seal(short);
  const open = (): Buffer => {
    const decipher = createDecipheriv("aes-128-gcm", createSecretKey(key), nonce);
    decipher.setAuthTag(tag);
    const text = decipher.update(ciphertext);
    decipher.final();
    return text;
  };
  const [hashShort, hashLong] = [cost(() => sha256(short)), cost(() => sha256(long))];
  return {
    sign: cost(() => sign(null, message, signer.privateKey)),
    verify: cost(() => verify(null, message, signer.publicKey, signature)),
    importPublicKey: importCost(() => createPublicKey({ format: "jwk", key: publicJwk })),
    generateKeyPair: cost(() => generateKeyPairSync("x25519")),
    derivePublicKey: importCost(importPrivate),
    diffieHellman: cost(() => diffieHellman({ privateKey: own.privateKey, publicKey: peer.publicKey })),
    hash: hashShort,
    hashByte: Math.max(0, (hashLong - hashShort) / 65_536),
    mac: cost(() => hmac(short)),
    seal: cost(() => seal(short)),
    open: cost(open),
  };
}

/** The lesser of each: what the machine can do shows when it is not doing something else. */
export function leastCosts<T extends Partial<PrimitiveCosts>>(a: T, b: T): T {
  const names = Object.keys({ ...a, ...b }) as (keyof T)[];
  const least = (name: keyof T): number =>
    Math.min((a[name] as number | undefined) ?? Infinity, (b[name] as number | undefined) ?? Infinity);
  return Object.fromEntries(names.map((name) => [name, least(name)])) as T;
}

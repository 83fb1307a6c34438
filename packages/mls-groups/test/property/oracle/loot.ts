import { type Bytes, toHex } from "@murmuration/base";
import { decodeHead, decodeOwnUpdate, decodePending, decodeRetained } from "../../../src/group/group-rows.ts";
import { type CryptoProvider, type GroupWrites, MemoryGroupStore } from "../../../src/index.ts";
import { decodeRatchet } from "../../../src/schedule/hash-ratchet.ts";

/** A store that never lets go: it also keeps every value that was ever written, as a hostile client may. */
export class HoardingStore extends MemoryGroupStore {
  readonly hoard: { readonly key: string; readonly value: Bytes }[] = [];

  override apply(writes: GroupWrites): void {
    for (const [key, value] of writes.puts) this.hoard.push({ key, value: value.slice() });
    super.apply(writes);
  }
}

/** Byte strings without repetition, in the order in which they came. */
export class ByteSet {
  readonly #byHex = new Map<string, Bytes>();

  add(bytes: Uint8Array): boolean {
    const hex = toHex(bytes);
    if (this.#byHex.has(hex)) return false;
    this.#byHex.set(hex, bytes.slice() as Bytes);
    return true;
  }
  get size(): number {
    return this.#byHex.size;
  }
  [Symbol.iterator](): Iterator<Bytes> {
    return this.#byHex.values();
  }
}

/** Rows of a secret tree by their name inside the epoch. */
type SecretTreeRows = Map<string, Bytes>;

/** Everything a member ever held, sorted by what an attacker can do with it. */
export class Loot {
  /** HPKE private keys: of leaves, of parent nodes, of Updates and KeyPackages. */
  readonly privateKeys = new ByteSet();
  /** Every secret of Nh bytes, whatever it was meant for. */
  readonly secrets = new ByteSet();
  /** external_secret of each epoch. */
  readonly externalSecrets = new ByteSet();
  /** Each epoch's secret tree as it was first written, before any key was deleted. */
  readonly secretTrees = new Map<string, SecretTreeRows>();

  /** Takes over all that another one holds: two who left share what they know. */
  merge(other: Loot): this {
    for (const key of other.privateKeys) this.privateKeys.add(key);
    for (const secret of other.secrets) this.secrets.add(secret);
    for (const secret of other.externalSecrets) this.externalSecrets.add(secret);
    for (const [epoch, rows] of other.secretTrees) {
      const known = this.secretTrees.get(epoch) ?? new Map<string, Bytes>();
      for (const [key, row] of rows) if (!known.has(key)) known.set(key, row);
      this.secretTrees.set(epoch, known);
    }
    return this;
  }
}

/** Reads every version of every row that a client stored. */
export function lootOf(crypto: CryptoProvider, store: HoardingStore): Loot {
  const loot = new Loot();
  for (const { key, value } of store.hoard) collect(crypto, loot, key, value);
  return loot;
}

function collect(crypto: CryptoProvider, loot: Loot, key: string, value: Bytes): void {
  switch (key[0]) {
    case "g": {
      const head = decodeHead(value);
      for (const privateKey of head.privateKeys.values()) loot.privateKeys.add(privateKey);
      for (const secret of Object.values(head.secrets)) loot.secrets.add(secret);
      loot.externalSecrets.add(head.secrets.externalSecret);
      return;
    }
    case "c": {
      const pending = decodePending(value);
      for (const privateKey of pending.privateKeys.values()) loot.privateKeys.add(privateKey);
      loot.secrets.add(pending.joinerSecret);
      loot.secrets.add(pending.pskSecret);
      return;
    }
    case "u":
      loot.privateKeys.add(decodeOwnUpdate(value).leafPrivateKey);
      return;
    case "e":
      loot.secrets.add(decodeRetained(value).senderDataSecret);
      return;
    case "r":
      loot.secrets.add(value);
      return;
    case "s":
      collectSecretTree(crypto, loot, key, value);
  }
}

function collectSecretTree(crypto: CryptoProvider, loot: Loot, key: string, value: Bytes): void {
  const slash = key.indexOf("/");
  const epoch = key.slice(1, slash);
  const name = key.slice(slash + 1);
  const rows = loot.secretTrees.get(epoch) ?? new Map<string, Bytes>();
  // The first version of a ratchet is the one that reaches furthest.
  if (!rows.has(name)) rows.set(name, value);
  loot.secretTrees.set(epoch, rows);
  loot.secrets.add(name.startsWith("n") ? value : decodeRatchet(crypto, value).secret);
}

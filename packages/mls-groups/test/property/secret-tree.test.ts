import type { Bytes } from "@murmuration/base";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { deriveSecret, deriveTreeSecret, expandWithLabel } from "../../src/crypto/labeled.ts";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { type RatchetType, SecretTree } from "../../src/schedule/secret-tree.ts";
import { codeOf } from "../expect-error.ts";

const crypto = nativeCrypto(1);
const utf8 = new TextEncoder();
const LEAVES = 11;
const LIMITS = { maxForward: 12, maxSkipped: 4 };

interface Step {
  readonly leaf: number;
  readonly type: RatchetType;
  readonly generation: number;
  readonly ending: "merge" | "discard" | "merge, crash before the write" | "merge, then reload";
}

/** The keys by their definition, eagerly and without deletion (RFC 9420 section 9). */
class Definition {
  readonly #root: Bytes;

  constructor(root: Bytes) {
    this.#root = root;
  }

  key(leaf: number, type: RatchetType, generation: number): Bytes {
    let secret = this.#root;
    for (let bit = 3; bit >= 0; bit--) {
      const side = (leaf >> bit) & 1 ? "right" : "left";
      secret = expandWithLabel(crypto, secret, "tree", utf8.encode(side), 32);
    }
    secret = deriveSecret(crypto, secret, type);
    for (let i = 0; i < generation; i++) secret = deriveTreeSecret(crypto, secret, "secret", i, 32);
    return deriveTreeSecret(crypto, secret, "key", generation, 16);
  }
}

/** Which generations may still open, by the rules alone. */
class Window {
  next = 0;
  late: number[] = [];

  verdict(generation: number): string | undefined {
    if (generation < this.next) return this.late.includes(generation) ? undefined : "mls/generation-spent";
    return generation - this.next > LIMITS.maxForward ? "mls/generation-too-far" : undefined;
  }

  consume(generation: number): void {
    if (generation < this.next) {
      this.late = this.late.filter((other) => other !== generation);
      return;
    }
    while (this.next < generation) this.late.push(this.next++);
    this.next++;
    this.late = this.late.slice(-LIMITS.maxSkipped);
  }
}

const steps = fc.array(
  fc.record<Step>({
    leaf: fc.integer({ min: 0, max: LEAVES - 1 }),
    type: fc.constantFrom("handshake", "application"),
    generation: fc.integer({ min: 0, max: 30 }),
    ending: fc.constantFrom("merge", "discard", "merge, crash before the write", "merge, then reload"),
  }),
  { maxLength: 120 },
);

describe("the lazy secret tree is the one that RFC 9420 section 9 defines", () => {
  test("through any sequence of messages, forgeries, crashes and reloads", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), steps, (root, sequence) => {
        const definition = new Definition(root.slice() as Bytes);
        const windows = new Map<string, Window>();
        let tree = SecretTree.create(crypto, root.slice() as Bytes, LEAVES, LIMITS);
        const store = tree.rows();
        const reload = () => SecretTree.load(crypto, LEAVES, (key) => store.get(key), LIMITS);
        for (const { leaf, type, generation, ending } of sequence) {
          const name = `${type} ${leaf}`;
          const window = windows.get(name) ?? new Window();
          windows.set(name, window);
          const verdict = window.verdict(generation);
          if (verdict !== undefined) {
            expect(codeOf(() => tree.stageReceive(leaf, type, generation))).toBe(verdict);
            continue;
          }
          const staged = tree.stageReceive(leaf, type, generation);
          expect(staged.key).toEqual(definition.key(leaf, type, generation));
          if (ending === "discard") {
            staged.discard();
            continue;
          }
          const writes = staged.merge();
          if (ending !== "merge, crash before the write") {
            window.consume(generation);
            for (const key of writes.deletes) store.delete(key);
            for (const [key, value] of writes.puts) store.set(key, value);
          }
          if (ending !== "merge") tree = reload();
          for (const [key, value] of tree.rows()) expect(store.get(key)).toEqual(value);
        }
      }),
      { numRuns: 60 },
    );
  });
});

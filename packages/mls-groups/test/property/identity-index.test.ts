import { type Bytes, concatBytes, decodeWhole } from "@murmuration/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import { nativeCrypto } from "../../src/index.ts";
import { type LeafNode, readLeafNode } from "../../src/structs/leaf-node.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { expectCode } from "../expect-error.ts";
import { encodeLeaf, leafContent } from "../tree-kit.ts";

const crypto = nativeCrypto(1);

/** A leaf whose identity has one of a few middles; some are too short to have any, some are no basic credential. */
function leafWith(middle: number): Bytes {
  const bytes = concatBytes(crypto.random(1), Uint8Array.of(middle, middle), crypto.random(60 + middle * 4));
  const identity = middle === 6 ? Uint8Array.of(0, 6) : bytes;
  const credential: LeafNode["credential"] =
    middle === 7 ? { kind: "x509", certificates: [bytes] } : { kind: "basic", identity };
  return encodeLeaf({
    ...leafContent(crypto.random(32), crypto.random(32), { credential }),
    signature: crypto.random(64),
  });
}

/** What the index should say, by looking at every leaf. */
function scanned(tree: RatchetTree, from: number, part: Uint8Array): number[] {
  return [...tree.members()].filter((leaf) => {
    const { credential } = decodeWhole(tree.leafBytes(leaf)!, readLeafNode);
    if (credential.kind !== "basic") return false;
    const found = credential.identity.subarray(from, from + part.length);
    return found.length === part.length && found.every((byte, i) => byte === part[i]);
  });
}

const change = fc.tuple(fc.constantFrom("add", "update", "remove", "fork", "back"), fc.nat(7), fc.nat());

test("leaves are found by a part of their identity in every tree of a line, whichever was asked or changed last", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      let tree = RatchetTree.create(crypto, leafWith(0));
      const past: RatchetTree[] = [];
      const agree = (one: RatchetTree): void => {
        for (let middle = 0; middle < 8; middle++) {
          for (const [from, part] of [
            [1, Uint8Array.of(middle, middle)],
            [2, Uint8Array.of(middle)],
          ] as const) {
            const sorted = one.leavesByIdentityPart(from, part).sort((a, b) => a - b);
            expect(sorted).toEqual(scanned(one, from, part));
          }
        }
      };
      for (const [what, middle, choice] of changes) {
        const leaves = [...tree.members()];
        const leaf = leaves[choice % leaves.length]!;
        if (what === "add") tree.addLeaf(leafWith(middle));
        else if (what === "update") tree.updateLeaf(leaf, leafWith(middle));
        else if (what === "remove" && leaves.length > 1) tree.removeLeaf(leaf);
        else if (what === "fork") {
          past.push(tree);
          tree = tree.fork();
        } else if (what === "back" && past.length > 0) agree(past[choice % past.length]!);
      }
      agree(tree);
      for (const one of past) agree(one);
    }),
    { numRuns: 60 },
  );
});

test("an empty part of an identity is nothing to look for", () => {
  const tree = RatchetTree.create(crypto, leafWith(0));
  expectCode(() => tree.leavesByIdentityPart(0, new Uint8Array(0)), "mls/empty-identity-part");
});

test("an extension is read out of a leaf as it would be decoded", () => {
  const extensions = [
    { type: 0xf0a2, data: crypto.random(70) },
    { type: 1, data: new Uint8Array(0) },
  ];
  for (const source of [
    { kind: "key_package", lifetime: { notBefore: 0n, notAfter: 1n } },
    { kind: "commit", parentHash: crypto.random(32) },
    { kind: "update" },
  ] as const) {
    const content = leafContent(crypto.random(32), crypto.random(32), { extensions, source });
    const tree = RatchetTree.create(crypto, encodeLeaf({ ...content, signature: crypto.random(64) }));
    for (const { type, data } of extensions) expect(tree.leafExtension(0, type)).toEqual(data);
    expect(tree.leafExtension(0, 2)).toBeUndefined();
    expect(tree.leafExtension(1, 1)).toBeUndefined();
  }
});

import { decodeWhole, encode, Reader, type Writer } from "@murmuration/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readCommit, writeCommit } from "../../src/structs/commit.ts";
import { readCredential, skipCredential, writeCredential } from "../../src/structs/credential.ts";
import { readDistinctExtensions, skipExtensions, writeExtensions } from "../../src/structs/extension.ts";
import { readFramedContent, writeFramedContent } from "../../src/structs/framed-content.ts";
import { readGroupContext, writeGroupContext } from "../../src/structs/group-context.ts";
import { groupInfoTbs, readGroupInfo, writeGroupInfo } from "../../src/structs/group-info.ts";
import { keyPackageTbs, readKeyPackage, writeKeyPackage } from "../../src/structs/key-package.ts";
import { leafNodeTbs, readLeafNode, skipLeafNode, writeLeafNode } from "../../src/structs/leaf-node.ts";
import { decodeMlsMessage, encodeMlsMessage } from "../../src/structs/mls-message.ts";
import { readParentNode, skipParentNode, writeParentNode } from "../../src/structs/parent-node.ts";
import { readProposal, writeProposal } from "../../src/structs/proposal.ts";
import { readPreSharedKeyId, writePreSharedKeyId } from "../../src/structs/psk-id.ts";
import { readRatchetTree, writeRatchetTree } from "../../src/structs/ratchet-tree.ts";
import { readUpdatePath, writeUpdatePath } from "../../src/structs/update-path.ts";
import { readGroupSecrets, readWelcome, writeGroupSecrets, writeWelcome } from "../../src/structs/welcome.ts";
import { copyFields, copyMessage } from "../../src/vectors/copy-fields.ts";
import * as any from "./arbitraries.ts";

/** Decoding what was encoded gives equal fields, and these encode to the same bytes again. */
function roundTrips<T>(
  values: fc.Arbitrary<T>,
  read: (reader: Reader) => T,
  write: (writer: Writer, value: T) => void,
): void {
  fc.assert(
    fc.property(values, (value) => {
      const encoded = encode(value, write);
      const decoded = decodeWhole(encoded, read);
      expect(copyFields(decoded)).toEqual(copyFields(value));
      expect(encode(copyFields(decoded), write)).toEqual(encoded);
      expect(encode(decoded, write)).toEqual(encoded);
    }),
  );
}

/** Skipping ends where reading ends. */
function skips<T>(
  values: fc.Arbitrary<T>,
  skip: (reader: Reader) => void,
  write: (writer: Writer, value: T) => void,
): void {
  fc.assert(
    fc.property(values, (value) => {
      const reader = new Reader(encode(value, write));
      skip(reader);
      reader.finish();
    }),
  );
}

describe("arbitrary structs survive encoding and decoding", () => {
  it("Credential, unknown types too", () => roundTrips(any.credential, readCredential, writeCredential));
  it("Extensions", () => roundTrips(any.extensions, readDistinctExtensions, writeExtensions));
  it("LeafNode", () => roundTrips(any.leafNode, readLeafNode, writeLeafNode));
  it("KeyPackage", () => roundTrips(any.keyPackage, readKeyPackage, writeKeyPackage));
  it("PreSharedKeyID", () => roundTrips(any.preSharedKeyId, readPreSharedKeyId, writePreSharedKeyId));
  it("Proposal, unknown types too", () => roundTrips(any.proposal, readProposal, writeProposal));
  it("UpdatePath", () => roundTrips(any.updatePath, (r) => readUpdatePath(r), writeUpdatePath));
  it("Commit", () => roundTrips(any.commit, (r) => readCommit(r), writeCommit));
  it("FramedContent", () => roundTrips(any.framedContent, (r) => readFramedContent(r), writeFramedContent));
  it("GroupContext", () => roundTrips(any.groupContext, readGroupContext, writeGroupContext));
  it("GroupInfo", () => roundTrips(any.groupInfo, readGroupInfo, writeGroupInfo));
  it("GroupSecrets", () => roundTrips(any.groupSecrets, readGroupSecrets, writeGroupSecrets));
  it("Welcome", () => roundTrips(any.welcome, (r) => readWelcome(r), writeWelcome));
  it("ParentNode", () => roundTrips(any.parentNode, readParentNode, writeParentNode));
  it("ratchet_tree", () => roundTrips(any.ratchetTree, (r) => readRatchetTree(r), writeRatchetTree));

  it("MLSMessage of every wire format", () => {
    fc.assert(
      fc.property(any.mlsMessage, (message) => {
        const encoded = encodeMlsMessage(message);
        const decoded = decodeMlsMessage(encoded);
        expect(copyMessage(decoded)).toEqual(copyMessage(message));
        expect(encodeMlsMessage(copyMessage(decoded))).toEqual(encoded);
        expect(encodeMlsMessage(decoded)).toEqual(encoded);
      }),
    );
  });
});

describe("skipping agrees with reading", () => {
  it("Credential", () => skips(any.credential, skipCredential, writeCredential));
  it("Extensions", () => skips(any.extensions, skipExtensions, writeExtensions));
  it("LeafNode", () => skips(any.leafNode, skipLeafNode, writeLeafNode));
  it("ParentNode", () => skips(any.parentNode, skipParentNode, writeParentNode));

  it("and any bytes that a LeafNode reader refuses, skipping refuses with the same code", () => {
    const outcome = (run: (reader: Reader) => unknown, bytes: Uint8Array): string | number => {
      const reader = new Reader(bytes);
      try {
        run(reader);
        return reader.offset;
      } catch (error) {
        return (error as Error).message;
      }
    };
    const corrupted = fc
      .record({ leaf: any.leafNode, at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) })
      .map(({ leaf, at, value }) => {
        const bytes = encode(leaf, writeLeafNode);
        bytes[at % bytes.length] = value;
        return bytes;
      });
    fc.assert(
      fc.property(corrupted, (bytes) => {
        expect(outcome(skipLeafNode, bytes)).toEqual(outcome(readLeafNode, bytes));
      }),
      { numRuns: 1000 },
    );
  });
});

describe("what is signed is the same whether it is cut from received bytes or made from fields", () => {
  const position = { groupId: new Uint8Array([1, 2, 3]), leafIndex: 9 };

  it("LeafNodeTBS", () => {
    fc.assert(
      fc.property(any.leafNode, (leaf) => {
        const received = decodeWhole(encode(leaf, writeLeafNode), readLeafNode);
        expect(leafNodeTbs(received, position)).toEqual(leafNodeTbs(leaf, position));
      }),
    );
  });

  it("KeyPackageTBS", () => {
    fc.assert(
      fc.property(any.keyPackage, (keyPackage) => {
        const received = decodeWhole(encode(keyPackage, writeKeyPackage), readKeyPackage);
        expect(keyPackageTbs(received)).toEqual(keyPackageTbs(keyPackage));
      }),
    );
  });

  it("GroupInfoTBS", () => {
    fc.assert(
      fc.property(any.groupInfo, (info) => {
        const received = decodeWhole(encode(info, writeGroupInfo), readGroupInfo);
        expect(groupInfoTbs(received)).toEqual(groupInfoTbs(info));
      }),
    );
  });
});

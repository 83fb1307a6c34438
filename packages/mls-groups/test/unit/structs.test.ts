import { decodeWhole, encode, MurmurationError, toHex, utf8, Writer } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { disableRule } from "../../src/rules.ts";
import {
  greaseValues,
  isDefaultExtensionType,
  isDefaultProposalType,
} from "../../src/structs/code-points.ts";
import { readCommit, writeCommit } from "../../src/structs/commit.ts";
import { decoders } from "../../src/structs/decoders.ts";
import {
  applicationId,
  applicationIdExtension,
  externalPub,
  externalPubExtension,
  externalSenders,
  externalSendersExtension,
  isLastResort,
  lastResortExtension,
  readDistinctExtensions,
  requiredCapabilities,
  requiredCapabilitiesExtension,
  writeExtensions,
} from "../../src/structs/extension.ts";
import { groupContextBytes, readGroupContext, writeGroupContext } from "../../src/structs/group-context.ts";
import { hpkeCiphertextVector } from "../../src/structs/hpke-ciphertext.ts";
import { keyPackageBytes, readKeyPackage, writeKeyPackage } from "../../src/structs/key-package.ts";
import { LazyVector } from "../../src/structs/lazy-vector.ts";
import { leafNodeBytes, leafNodeTbs, readLeafNode, writeLeafNode } from "../../src/structs/leaf-node.ts";
import { defaultLimits } from "../../src/structs/limits.ts";
import { decodeMlsMessage, encodeMlsMessage } from "../../src/structs/mls-message.ts";
import {
  isAllowedFromExternalSender,
  type Proposal,
  proposalType,
  requiresPath,
} from "../../src/structs/proposal.ts";
import { pskLabel } from "../../src/structs/psk-id.ts";
import { readRatchetTree, treeNodeCodec } from "../../src/structs/ratchet-tree.ts";
import {
  findNewMember,
  readWelcome,
  welcomeForOne,
  welcomeSecrets,
  writeWelcome,
} from "../../src/structs/welcome.ts";
import { bytes, groupContext, keyPackage, leafNode, updatePath } from "./samples.ts";

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof MurmurationError) return error.code;
    throw error;
  }
  return "accepted";
}

describe("received bytes", () => {
  it("what was decoded encodes to a view of the very bytes it came from", () => {
    const encoded = encode(keyPackage(), writeKeyPackage);
    const decoded = decodeWhole(encoded, readKeyPackage);
    expect(keyPackageBytes(decoded).buffer).toBe(encoded.buffer);
    expect(keyPackageBytes(decoded)).toEqual(encoded);
    expect(leafNodeBytes(decoded.leafNode).buffer).toBe(encoded.buffer);
    const context = encode(groupContext, writeGroupContext);
    expect(groupContextBytes(decodeWhole(context, readGroupContext)).buffer).toBe(context.buffer);
  });

  it("a copy with a changed field is encoded from its fields", () => {
    const decoded = decodeWhole(encode(leafNode({ kind: "update" }), writeLeafNode), readLeafNode);
    const changed = { ...decoded, signature: bytes(64, 77) };
    expect(decodeWhole(encode(changed, writeLeafNode), readLeafNode).signature).toEqual(bytes(64, 77));
    const tampered = { ...decoded, encryptionKey: bytes(32, 78) };
    expect(leafNodeTbs(tampered, { groupId: bytes(1, 1), leafIndex: 0 })).not.toEqual(
      leafNodeTbs(decoded, { groupId: bytes(1, 1), leafIndex: 0 }),
    );
  });
});

describe("LeafNodeTBS, section 7.2", () => {
  const fields = (source: Parameters<typeof leafNode>[0]) => {
    const encoded = encode(leafNode(source), writeLeafNode);
    return toHex(encoded.subarray(0, encoded.length - 66));
  };
  const position = { groupId: utf8("g"), leafIndex: 258 };

  it("ends with group id and leaf index for update and commit, and not for key_package", () => {
    const lifetime = { notBefore: 1n, notAfter: 2n };
    expect(toHex(leafNodeTbs(leafNode({ kind: "key_package", lifetime })))).toBe(
      fields({ kind: "key_package", lifetime }),
    );
    expect(toHex(leafNodeTbs(leafNode({ kind: "update" }), position))).toBe(
      `${fields({ kind: "update" })}016700000102`,
    );
    const commit = { kind: "commit" as const, parentHash: bytes(32, 1) };
    expect(toHex(leafNodeTbs(leafNode(commit), position))).toBe(`${fields(commit)}016700000102`);
  });

  it("a missing position is the caller's mistake", () => {
    expect(codeOf(() => leafNodeTbs(leafNode({ kind: "update" })))).toBe("mls/leaf-node-position");
  });
});

describe("extensions, section 13.4", () => {
  it("extensions/distinct: two extensions of one type are refused wherever a list stands", () => {
    const twice = [
      { type: 0x0a0a, data: bytes(1, 1) },
      { type: 0x0a0a, data: bytes(1, 2) },
    ];
    const list = encode(twice, writeExtensions);
    const attempts: [string, () => unknown][] = [
      ["list", () => decodeWhole(list, readDistinctExtensions)],
      [
        "KeyPackage",
        () => decoders.KeyPackage(encode({ ...keyPackage(), extensions: twice }, writeKeyPackage)),
      ],
      [
        "GroupContext",
        () => decoders.GroupContext(encode({ ...groupContext, extensions: twice }, writeGroupContext)),
      ],
      ["GroupContextExtensions", () => decoders.Proposal(new Writer().uint16(7).fixed(list).finish())],
    ];
    for (const [name, attempt] of attempts) {
      expect([name, codeOf(attempt)]).toEqual([name, "mls/extensions/distinct"]);
      const enable = disableRule("extensions/distinct");
      try {
        expect([name, codeOf(attempt)]).toEqual([name, "accepted"]);
      } finally {
        enable();
      }
    }
  });

  it("typed extensions survive", () => {
    const required = { extensionTypes: [10], proposalTypes: [0x0a0a], credentialTypes: [1, 2] };
    const sender = {
      signatureKey: bytes(32, 1),
      credential: { kind: "basic" as const, identity: utf8("bot") },
    };
    const list = [
      requiredCapabilitiesExtension(required),
      externalSendersExtension([sender]),
      externalPubExtension(bytes(32, 2)),
      applicationIdExtension(utf8("app")),
      lastResortExtension(),
    ];
    expect(requiredCapabilities(list)).toEqual(required);
    expect(externalSenders(list)).toEqual([sender]);
    expect(externalPub(list)).toEqual(bytes(32, 2));
    expect(applicationId(list)).toEqual(utf8("app"));
    expect(isLastResort(list)).toBe(true);
    expect([requiredCapabilities([]), externalSenders([]), externalPub([]), isLastResort([])]).toEqual([
      undefined,
      [],
      undefined,
      false,
    ]);
    const withContent = [{ ...lastResortExtension(), data: bytes(1, 0) }];
    expect(codeOf(() => isLastResort(withContent))).toBe("coder/trailing-bytes");
  });

  it("the GREASE values of section 13.5, none of them a default type", () => {
    expect(greaseValues.map((value) => value.toString(16))).toEqual([
      "a0a",
      "1a1a",
      "2a2a",
      "3a3a",
      "4a4a",
      "5a5a",
      "6a6a",
      "7a7a",
      "8a8a",
      "9a9a",
      "aaaa",
      "baba",
      "caca",
      "dada",
      "eaea",
    ]);
    expect(greaseValues.some((v) => isDefaultExtensionType(v) || isDefaultProposalType(v))).toBe(false);
  });
});

describe("proposals, sections 12.1.8 and 17.4", () => {
  const psk = { kind: "external" as const, pskId: bytes(1, 1), pskNonce: bytes(32, 2) };
  const table: [Proposal, number, boolean, boolean][] = [
    [{ kind: "add", keyPackage: keyPackage() }, 1, true, false],
    [{ kind: "update", leafNode: leafNode({ kind: "update" }) }, 2, false, true],
    [{ kind: "remove", removed: 1 }, 3, true, true],
    [{ kind: "psk", psk }, 4, true, false],
    [{ kind: "reinit", groupId: bytes(1, 1), version: 1, cipherSuite: 1, extensions: [] }, 5, true, false],
    [{ kind: "external_init", kemOutput: bytes(32, 1) }, 6, false, true],
    [{ kind: "group_context_extensions", extensions: [] }, 7, true, true],
    [{ kind: "self_remove" }, 10, false, true],
    [{ kind: "unknown", type: 0xf000, content: bytes(0, 0) }, 0xf000, false, true],
  ];

  it.each(table)(
    "proposal %#: code point, allowed from external senders, path required",
    (proposal, type, external, path) => {
      expect([proposalType(proposal), isAllowedFromExternalSender(proposal), requiresPath(proposal)]).toEqual(
        [type, external, path],
      );
    },
  );

  it("PSKLabel, section 8.4", () => {
    expect(toHex(pskLabel({ kind: "external", pskId: utf8("x"), pskNonce: utf8("n") }, 1, 2))).toBe(
      "010178016e00010002",
    );
  });
});

describe("vectors of which a receiver needs one element", () => {
  const ciphertext = (i: number) => ({
    kemOutput: bytes(32, i & 255),
    ciphertext: bytes(48, (i >> 8) & 255),
  });

  it("a Commit with 9,999 ciphertexts decodes within the default limits and gives each of them", () => {
    const many = Array.from({ length: 9_999 }, (_, i) => ciphertext(i));
    const node = { encryptionKey: bytes(32, 1), encryptedPathSecret: hpkeCiphertextVector(many) };
    const encoded = encode({ proposals: [], path: { ...updatePath(), nodes: [node] } }, writeCommit);
    expect(encoded.length).toBeGreaterThan(800_000);
    const decoded = decodeWhole(encoded, (reader) => readCommit(reader)).path!.nodes[0]!.encryptedPathSecret;
    expect(decoded.count).toBe(9_999);
    expect(decoded.at(9_998)).toEqual(ciphertext(9_998));
    expect(decoded.content.buffer).toBe(encoded.buffer);
    expect(codeOf(() => decoded.at(9_999))).toBe("mls/lazy-vector-index");
    expect(codeOf(() => decoded.at(-1))).toBe("mls/lazy-vector-index");
  });

  it("a Welcome with 10,000 secrets decodes, finds a member, and is cut down to that member", () => {
    const ref = (i: number) => new Writer().uint32(i).fixed(bytes(28, 1)).finish();
    const entries = Array.from({ length: 10_000 }, (_, i) => ({
      newMember: ref(i),
      encryptedGroupSecrets: ciphertext(i),
    }));
    const welcome = { cipherSuite: 1, secrets: welcomeSecrets(entries), encryptedGroupInfo: bytes(400, 2) };
    const decoded = decodeWhole(encode(welcome, writeWelcome), (reader) => readWelcome(reader));
    expect(findNewMember(decoded, ref(7_777))).toBe(7_777);
    expect(findNewMember(decoded, ref(10_000))).toBeUndefined();
    const one = decodeWhole(encode(welcomeForOne(decoded, 7_777), writeWelcome), (reader) =>
      readWelcome(reader),
    );
    expect([...one.secrets]).toEqual([entries[7_777]]);
    expect(one.encryptedGroupInfo).toEqual(welcome.encryptedGroupInfo);
  });

  it("a ratchet_tree of 50,000 leaves decodes within the default limits", () => {
    const leaf = { kind: "leaf" as const, leafNode: leafNode({ kind: "update" }) };
    const nodes = Array.from({ length: 99_999 }, (_, i) => (i % 2 === 0 ? leaf : undefined));
    const encoded = encode(
      LazyVector.from(nodes, treeNodeCodec),
      (writer, tree) => tree.write(writer),
      1 << 24,
    );
    const decoded = decodeWhole(encoded, (reader) => readRatchetTree(reader));
    expect(decoded.count).toBe(99_999);
    expect(decoded.at(1)).toBeUndefined();
    const last = decoded.at(99_998);
    expect(last?.kind === "leaf" ? last.leafNode : undefined).toEqual(leaf.leafNode);
  });

  it("elements inside a lazy vector are checked when it is read, not when they are asked for", () => {
    const broken = new Writer()
      .uint16(1)
      .bytes(Uint8Array.of(1, 0xaa, 2, 0xbb))
      .bytes(bytes(1, 1))
      .finish();
    expect(codeOf(() => decodeWhole(broken, (reader) => readWelcome(reader)))).toBe("coder/truncated");
  });
});

describe("decoding limits", () => {
  const path = updatePath();
  const node = path.nodes[0]!;
  const decode = (commit: Parameters<typeof writeCommit>[1], limits: Partial<typeof defaultLimits>) =>
    codeOf(() =>
      decodeWhole(encode(commit, writeCommit), (reader) =>
        readCommit(reader, { ...defaultLimits, ...limits }),
      ),
    );

  it("proposals, path nodes, ciphertexts and message bytes are bounded, each at its limit and not before", () => {
    const reference = { kind: "reference" as const, reference: bytes(32, 1) };
    const two = { proposals: [reference, reference], path: { ...path, nodes: [node, node] } };
    expect(decode(two, { proposals: 2, pathNodes: 2, elements: 1 })).toBe("accepted");
    expect(decode(two, { proposals: 1 })).toBe("mls/decode-limit-exceeded");
    expect(decode(two, { pathNodes: 1 })).toBe("mls/decode-limit-exceeded");
    expect(decode(two, { elements: 0 })).toBe("mls/decode-limit-exceeded");
    const message = encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage: keyPackage() });
    const bounded = (messageBytes: number) =>
      codeOf(() => decodeMlsMessage(message, { ...defaultLimits, messageBytes }));
    expect(bounded(message.length)).toBe("accepted");
    expect(bounded(message.length - 1)).toBe("mls/decode-limit-exceeded");
  });
});

import { encode, fromHex, RejectionError, toHex, utf8 } from "@murmuration/base";
import { vectorCases } from "@murmuration/spec-vectors";
import { describe, expect, it } from "vitest";
import type { InspectNode } from "../../src/inspect/annotate.ts";
import { inspect, renderInspection, structureNames } from "../../src/inspect/inspect.ts";
import { externalSendersExtension, requiredCapabilitiesExtension } from "../../src/structs/extension.ts";
import { groupContextBytes, writeGroupContext } from "../../src/structs/group-context.ts";
import { encodeMlsMessage } from "../../src/structs/mls-message.ts";
import { writeGroupSecrets } from "../../src/structs/welcome.ts";
import { bytes, groupContext, keyPackage } from "./samples.ts";

const names = (node: InspectNode): string[] => [node.name, ...node.children.flatMap(names)];

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof RejectionError) return error.code;
    throw error;
  }
  return "accepted";
}

describe("inspect", () => {
  const message = encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage: keyPackage() });

  it("names every field of a KeyPackage as RFC 9420 does, and code points by name", () => {
    const text = renderInspection(inspect(message));
    expect(text.split("\n").slice(0, 6)).toEqual([
      "MLSMessage: mls_key_package",
      "  key_package",
      "    cipher_suite: 1 (MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519)",
      `    init_key: ${"03".repeat(32)} (32 bytes)`,
      "    leaf_node",
      `      encryption_key: ${"01".repeat(32)} (32 bytes)`,
    ]);
    expect(text).toContain('identity: 616c696365 (5 bytes, "alice")');
    expect(text).toContain("[1]: 2570 (GREASE)");
    expect(text).toContain("not_before: 0 (1970-01-01T00:00:00.000Z)");
    expect(text).toContain("not_after: 18446744073709551615\n");
    expect(text).toContain("source: key_package");
  });

  it("decodes the extensions it knows and shows those that do not decode as bytes with the code", () => {
    const required = { extensionTypes: [0x0a0a], proposalTypes: [10], credentialTypes: [1] };
    const sender = {
      signatureKey: bytes(32, 1),
      credential: { kind: "basic" as const, identity: utf8("bot") },
    };
    const extensions = [requiredCapabilitiesExtension(required), externalSendersExtension([sender])];
    const text = renderInspection(inspect(encode({ ...groupContext, extensions }, writeGroupContext)));
    expect(text).toContain("[0]: 3 (required_capabilities)");
    expect(text).toContain("[0]: 10 (self_remove)");
    expect(text).toContain('identity: 626f74 (3 bytes, "bot")');
    const broken = [{ type: 3, data: bytes(1, 0xff) }];
    const brokenText = renderInspection(
      inspect(encode({ ...groupContext, extensions: broken }, writeGroupContext)),
    );
    expect(brokenText).toContain("extension_data: ff (1 byte)");
    expect(brokenText).toContain("error: coder/bad-length-prefix");
  });

  it("elides secrets and application data", () => {
    const secrets = { joinerSecret: bytes(32, 0xa1), pathSecret: bytes(32, 0xa2), psks: [] };
    const text = renderInspection(inspect(encode(secrets, writeGroupSecrets), "GroupSecrets"));
    expect(text).toContain("joiner_secret: elided, 32 bytes");
    expect(text).toContain("path_secret: elided, 32 bytes");
    expect(text).not.toMatch(/a1a1|a2a2/);
    const { vector } = vectorCases("messages")[0]!;
    expect(renderInspection(inspect(fromHex(vector.public_message_application)))).toMatch(
      /application_data: elided, \d+ bytes/,
    );
  });

  it("never repeats bytes that could steer a terminal", () => {
    const credential = { kind: "basic" as const, identity: utf8("\u001b[2J") };
    const sample = keyPackage();
    const hostile = { ...sample, leafNode: { ...sample.leafNode, credential } };
    const text = renderInspection(
      inspect(encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage: hostile })),
    );
    expect(text).not.toContain("\u001b");
    expect(text).toContain(`identity: ${toHex(credential.identity)} (4 bytes)`);
  });

  it("recognises every structure of the official message vectors", () => {
    for (const { vector } of vectorCases("messages").slice(0, 10)) {
      const seen = (hex: string) => inspect(fromHex(hex)).name;
      expect(seen(vector.mls_welcome)).toBe("MLSMessage");
      expect(seen(vector.mls_welcome.slice(8))).toBe("Welcome");
      expect(seen(vector.mls_group_info.slice(8))).toBe("GroupInfo");
      expect(seen(vector.mls_key_package.slice(8))).toBe("KeyPackage");
      expect(seen(vector.ratchet_tree)).toBe("ratchet_tree");
      expect(seen(vector.group_secrets)).toBe("GroupSecrets");
      expect(names(inspect(fromHex(vector.public_message_commit)))).toContain("confirmation_tag");
    }
    expect(inspect(groupContextBytes(groupContext)).name).toBe("GroupContext");
  });

  it("shows at most as many elements and bytes as asked for", () => {
    const text = renderInspection(inspect(message, "MLSMessage", { elements: 1, bytes: 2 }));
    expect(text).toContain("init_key: 0303... (32 bytes)");
    expect(text).toContain("...: 1 more");
  });

  it("hostile bytes give a code: of the MLSMessage if they begin like one", () => {
    expect(codeOf(() => inspect(message.subarray(0, 60)))).toBe("coder/truncated");
    expect(codeOf(() => inspect(bytes(40, 0xff)))).toBe("mls/inspect-not-recognised");
    for (const name of structureNames)
      expect(codeOf(() => inspect(bytes(40, 0xff), name))).toMatch(/^(coder|mls)\//);
  });
});

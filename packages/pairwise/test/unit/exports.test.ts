import { describe, expect, test } from "vitest";
import * as bench from "../../src/bench/index.ts";
import * as main from "../../src/index.ts";
import * as server from "../../src/server/index.ts";

describe("entry points", () => {
  test("sender keys and sealed sender v2 are exported from the benchmark entry only", () => {
    const compared = ["groupEncrypt", "groupDecrypt", "SenderKeyStore", "sealedSenderMultiRecipientEncrypt"];
    for (const name of compared) {
      expect(bench).toHaveProperty(name);
      expect(main).not.toHaveProperty(name);
      expect(server).not.toHaveProperty(name);
    }
  });

  test("the main entry gives out nothing of libsignal's own", () => {
    expect(Object.keys(main).sort()).toEqual([
      "ACCESS_KEY_BYTES",
      "ATTACHMENT_MAC_KEY_BYTES",
      "MAX_BODY_BYTES",
      "MAX_CIPHERTEXT_BYTES",
      "MAX_RECIPIENTS",
      "PROFILE_KEY_BYTES",
      "attachmentChunkBytes",
      "createAttachmentDigester",
      "createAttachmentValidator",
      "deriveRecipientAccessKey",
      "openPairwiseEngine",
      "verifyAlternateIdentity",
      "verifyDeviceList",
      "verifyDeviceSignature",
      "verifyXEdDsa",
    ]);
  });

  test("the server entry has no stores and no engine", () => {
    expect(Object.keys(server).sort()).toEqual([
      "generateCertificateSigner",
      "generateTrustRoot",
      "issueSenderCertificate",
      "validateDeviceListUpload",
      "validatePreKeyUpload",
      "verifyAlternateIdentity",
      "verifyDeviceList",
      "verifyDeviceSignature",
    ]);
  });
});

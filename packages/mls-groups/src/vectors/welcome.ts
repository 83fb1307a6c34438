import { decodeWhole, fromHex, toHex } from "@murmuration/base";
import { decryptWithLabel, makeKeyPackageRef, verifyWithLabel } from "../crypto/labeled.ts";
import {
  confirmationTag,
  deriveEpochSecrets,
  deriveWelcomeKey,
  zeroSecret,
} from "../schedule/key-schedule.ts";
import { groupContextBytes } from "../structs/group-context.ts";
import { groupInfoTbs, readGroupInfo } from "../structs/group-info.ts";
import { keyPackageBytes } from "../structs/key-package.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import { findNewMember, readGroupSecrets } from "../structs/welcome.ts";
import { expectBytes, expectTrue, type MakeProvider, providerOf } from "./expect.ts";

/** welcome.json. Bytes in hexadecimal. */
export interface WelcomeVector {
  readonly cipher_suite: number;
  readonly init_priv: string;
  readonly signer_pub: string;
  readonly key_package: string;
  readonly welcome: string;
}

/** Opens a Welcome (RFC 9420 section 12.4.3.1), verifies the GroupInfo's signature and its confirmation tag. */
export function runWelcome(vector: WelcomeVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  const message = decodeMlsMessage(fromHex(vector.welcome));
  const own = decodeMlsMessage(fromHex(vector.key_package));
  if (message.wireFormat !== "mls_welcome" || own.wireFormat !== "mls_key_package") {
    throw new Error("welcome or key_package holds another message");
  }
  const { welcome } = message;
  const index = findNewMember(welcome, makeKeyPackageRef(crypto, keyPackageBytes(own.keyPackage)));
  expectTrue("the Welcome lists the KeyPackage", index !== undefined);
  const { kemOutput, ciphertext } = welcome.secrets.at(index!).encryptedGroupSecrets;
  const secrets = decodeWhole(
    decryptWithLabel(
      crypto,
      fromHex(vector.init_priv),
      undefined,
      "Welcome",
      welcome.encryptedGroupInfo,
      kemOutput,
      ciphertext,
    ),
    readGroupSecrets,
  );
  const noPsk = zeroSecret(crypto);
  const { key, nonce } = deriveWelcomeKey(crypto, secrets.joinerSecret, noPsk);
  const info = decodeWhole(
    crypto.open(key, nonce, new Uint8Array(0), welcome.encryptedGroupInfo),
    readGroupInfo,
  );
  expectTrue(
    "the GroupInfo's signature",
    verifyWithLabel(crypto, fromHex(vector.signer_pub), "GroupInfoTBS", groupInfoTbs(info), info.signature),
  );
  const context = info.groupContext;
  const { confirmationKey } = deriveEpochSecrets(
    crypto,
    secrets.joinerSecret,
    noPsk,
    groupContextBytes(context),
  );
  const tag = confirmationTag(crypto, confirmationKey, context.confirmedTranscriptHash);
  expectBytes("confirmation_tag", tag, toHex(info.confirmationTag));
}

import { type Bytes, encode, InvariantError, RejectionError, zeroize } from "@murmuration/base";
import { encryptWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { deriveWelcomeKey } from "../schedule/key-schedule.ts";
import { type GroupInfo, groupInfoBytes } from "../structs/group-info.ts";
import type { KeyPackage } from "../structs/key-package.ts";
import { decodeMlsMessage, encodeMlsMessage } from "../structs/mls-message.ts";
import type { PreSharedKeyId } from "../structs/psk-id.ts";
import {
  type EncryptedGroupSecrets,
  type Welcome,
  welcomeForOne,
  welcomeSecrets,
  writeGroupSecrets,
} from "../structs/welcome.ts";
import type { LeafIndex } from "../tree/math.ts";
import { type CreatedUpdatePath, pathSecretFor } from "../tree/tree-kem.ts";
import { keyPackageRef } from "./key-package.ts";

const EMPTY = new Uint8Array(0);

export interface CreateWelcome {
  readonly groupInfo: GroupInfo;
  readonly joinerSecret: Uint8Array;
  readonly pskSecret: Uint8Array;
  readonly psks: readonly PreSharedKeyId[];
  readonly sender: LeafIndex;
  readonly path: CreatedUpdatePath | undefined;
  readonly joiners: readonly { readonly leaf: LeafIndex; readonly keyPackage: KeyPackage }[];
}

/** Creates the Welcome for all new members of a commit (12.4.3.1). One HPKE seal for each joiner. O(joiners). */
export function createWelcome(crypto: CryptoProvider, request: CreateWelcome): Welcome {
  const { key, nonce } = deriveWelcomeKey(crypto, request.joinerSecret, request.pskSecret);
  const encryptedGroupInfo = crypto.seal(key, nonce, EMPTY, groupInfoBytes(request.groupInfo));
  zeroize(key, nonce);
  const entries = request.joiners.map(({ leaf, keyPackage }): EncryptedGroupSecrets => {
    const pathSecret =
      request.path === undefined ? undefined : pathSecretFor(request.path, request.sender, leaf);
    if (request.path !== undefined && pathSecret === undefined)
      throw new InvariantError("mls/welcome-path-secret");
    const secrets = encode(
      { joinerSecret: request.joinerSecret, pathSecret, psks: request.psks },
      writeGroupSecrets,
    );
    const encryptedGroupSecrets = encryptWithLabel(
      crypto,
      keyPackage.initKey,
      "Welcome",
      encryptedGroupInfo,
      secrets,
    );
    zeroize(secrets);
    return { newMember: keyPackageRef(crypto, keyPackage), encryptedGroupSecrets };
  });
  return { cipherSuite: crypto.suite.id, secrets: welcomeSecrets(entries), encryptedGroupInfo };
}

/** A Welcome as an MLSMessage. */
export function encodeWelcome(welcome: Welcome): Bytes {
  return encodeMlsMessage({ wireFormat: "mls_welcome", welcome });
}

/** Decodes an MLSMessage that must hold a Welcome. Throws RejectionError. O(entries). */
export function decodeWelcome(bytes: Uint8Array): Welcome {
  const message = decodeMlsMessage(bytes);
  if (message.wireFormat !== "mls_welcome") throw new RejectionError("mls/welcome/wire-format");
  return message.welcome;
}

/** What a Welcome must keep to be cut up by somebody who did not make it. */
export interface TrimLimits {
  /** Its entries: one for each Add. */
  readonly joiners: number;
  /** Bytes of each Welcome that is cut from it. */
  readonly maxBytes: number;
}

/**
 * The Welcome of a commit cut into one for each joiner, in the order of the Adds: the list of entries is not
 * signed, so a joiner need not download those of the others. About 1 KB each. O(joiners). Each holds the whole
 * encrypted GroupInfo, so thousands of empty entries would be thousands of copies: what does not keep the limits is
 * refused before the first, and costs a scan. Throws RejectionError `mls/welcome/entries`, `mls/welcome/too-large`.
 */
export function trimWelcomes(welcome: Uint8Array, limits?: TrimLimits): Bytes[] {
  const whole = decodeWelcome(welcome);
  const { count } = whole.secrets;
  const { joiners, maxBytes } = limits ?? { joiners: count, maxBytes: Number.POSITIVE_INFINITY };
  if (count !== joiners) throw new RejectionError("mls/welcome/entries");
  if (whole.encryptedGroupInfo.length > maxBytes) throw new RejectionError("mls/welcome/too-large");
  return Array.from({ length: count }, (_, i) => {
    const trimmed = encodeWelcome(welcomeForOne(whole, i));
    if (trimmed.length > maxBytes) throw new RejectionError("mls/welcome/too-large");
    return trimmed;
  });
}

import { equalBytes, Reader, type Writer } from "@murmuration/base";
import {
  type HpkeCiphertext,
  readHpkeCiphertext,
  skipHpkeCiphertext,
  writeHpkeCiphertext,
} from "./hpke-ciphertext.ts";
import { type ElementCodec, LazyVector } from "./lazy-vector.ts";
import { type DecodeLimits, defaultLimits } from "./limits.ts";
import { type PreSharedKeyId, readPreSharedKeyId, writePreSharedKeyId } from "./psk-id.ts";

/**
 * RFC 9420 section 12.4.3.1, encrypted to one new member. Secret: zeroize it when used.
 *
 *   struct { opaque path_secret<V>; } PathSecret;
 *   struct {
 *     opaque joiner_secret<V>;
 *     optional<PathSecret> path_secret;
 *     PreSharedKeyID psks<V>;
 *   } GroupSecrets;
 */
export interface GroupSecrets {
  readonly joinerSecret: Uint8Array;
  readonly pathSecret: Uint8Array | undefined;
  readonly psks: readonly PreSharedKeyId[];
}

export function readGroupSecrets(reader: Reader): GroupSecrets {
  return {
    joinerSecret: reader.bytes(),
    pathSecret: reader.optional((r) => r.bytes()),
    psks: reader.vector(readPreSharedKeyId),
  };
}

export function writeGroupSecrets(writer: Writer, secrets: GroupSecrets): void {
  writer.bytes(secrets.joinerSecret);
  writer.optional(secrets.pathSecret, (w, secret) => w.bytes(secret));
  writer.vector(secrets.psks, writePreSharedKeyId);
}

/**
 *   struct {
 *     KeyPackageRef new_member;
 *     HPKECiphertext encrypted_group_secrets;
 *   } EncryptedGroupSecrets;
 */
export interface EncryptedGroupSecrets {
  readonly newMember: Uint8Array;
  readonly encryptedGroupSecrets: HpkeCiphertext;
}

const encryptedGroupSecretsCodec: ElementCodec<EncryptedGroupSecrets> = {
  skip: (reader) => {
    reader.skipBytes();
    skipHpkeCiphertext(reader);
  },
  read: (reader) => ({ newMember: reader.bytes(), encryptedGroupSecrets: readHpkeCiphertext(reader) }),
  write: (writer, entry) => {
    writer.bytes(entry.newMember);
    writeHpkeCiphertext(writer, entry.encryptedGroupSecrets);
  },
};

/**
 *   struct {
 *     CipherSuite cipher_suite;
 *     EncryptedGroupSecrets secrets<V>;
 *     opaque encrypted_group_info<V>;
 *   } Welcome;
 */
export interface Welcome {
  readonly cipherSuite: number;
  readonly secrets: LazyVector<EncryptedGroupSecrets>;
  readonly encryptedGroupInfo: Uint8Array;
}

/** The secrets of a Welcome that is being made. */
export function welcomeSecrets(entries: Iterable<EncryptedGroupSecrets>): LazyVector<EncryptedGroupSecrets> {
  return LazyVector.from(entries, encryptedGroupSecretsCodec);
}

/** O(entries), one scan over their lengths; an entry becomes an object when it is asked for. */
export function readWelcome(reader: Reader, limits: DecodeLimits = defaultLimits): Welcome {
  return {
    cipherSuite: reader.uint16(),
    secrets: LazyVector.read(reader, encryptedGroupSecretsCodec, limits.elements),
    encryptedGroupInfo: reader.bytes(),
  };
}

export function writeWelcome(writer: Writer, welcome: Welcome): void {
  writer.uint16(welcome.cipherSuite);
  welcome.secrets.write(writer);
  writer.bytes(welcome.encryptedGroupInfo);
}

/** Index of the entry for this KeyPackageRef, or undefined. O(entries). */
export function findNewMember(welcome: Welcome, keyPackageRef: Uint8Array): number | undefined {
  for (let index = 0; index < welcome.secrets.count; index++) {
    const newMember = new Reader(welcome.secrets.bytesAt(index)).bytes();
    if (equalBytes(newMember, keyPackageRef)) return index;
  }
  return undefined;
}

/** The same Welcome for one new member: entries are not signed, so whoever delivers it may leave the others out. */
export function welcomeForOne(welcome: Welcome, index: number): Welcome {
  return { ...welcome, secrets: LazyVector.over(welcome.secrets.bytesAt(index), encryptedGroupSecretsCodec) };
}

/** The derivations of RFC 9420 in their plainest form, over {@link ReferenceSuite}. */
import { concat, type ReferenceSuite } from "./suites.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

export function uint(value: number | bigint, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let rest = BigInt(value);
  for (let i = bytes - 1; i >= 0; i--) {
    out[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return out;
}

/** opaque<V>, RFC 9420 section 2.1.2. */
export function vector(content: Uint8Array): Uint8Array {
  const { length } = content;
  if (length < 64) return concat(uint(length, 1), content);
  if (length < 16384) return concat(uint(0x4000 | length, 2), content);
  return concat(uint(0x8000_0000n | BigInt(length), 4), content);
}

/** RFC 9420 section 5.2. */
export function refHash(suite: ReferenceSuite, label: string, value: Uint8Array): Uint8Array {
  return suite.hash(concat(vector(text(label)), vector(value)));
}

/** RFC 9420 section 8. */
export function expandWithLabel(
  suite: ReferenceSuite,
  secret: Uint8Array,
  label: string,
  context: Uint8Array,
  length: number,
): Uint8Array {
  const info = concat(uint(length, 2), vector(text(`MLS 1.0 ${label}`)), vector(context));
  return suite.expand(secret, info, length);
}

export function deriveSecret(suite: ReferenceSuite, secret: Uint8Array, label: string): Uint8Array {
  return expandWithLabel(suite, secret, label, new Uint8Array(), suite.hashLength);
}

/** RFC 9420 section 9.1. */
export function deriveTreeSecret(
  suite: ReferenceSuite,
  secret: Uint8Array,
  label: string,
  generation: number,
  length: number,
): Uint8Array {
  return expandWithLabel(suite, secret, label, uint(generation, 4), length);
}

/** SignContent and EncryptContext, RFC 9420 sections 5.1.2 and 5.1.3. */
export function labeledContent(label: string, content: Uint8Array): Uint8Array {
  return concat(vector(text(`MLS 1.0 ${label}`)), vector(content));
}

export interface GroupContextFields {
  readonly groupId: Uint8Array;
  readonly epoch: number;
  readonly treeHash: Uint8Array;
  readonly confirmedTranscriptHash: Uint8Array;
}

/** GroupContext without extensions, RFC 9420 section 8.1. */
export function encodeGroupContext(suite: ReferenceSuite, fields: GroupContextFields): Uint8Array {
  return concat(
    uint(1, 2),
    uint(suite.id, 2),
    vector(fields.groupId),
    uint(fields.epoch, 8),
    vector(fields.treeHash),
    vector(fields.confirmedTranscriptHash),
    vector(new Uint8Array()),
  );
}

/** The secrets of one epoch, RFC 9420 section 8. */
export function keySchedule(
  suite: ReferenceSuite,
  initSecret: Uint8Array,
  commitSecret: Uint8Array,
  pskSecret: Uint8Array,
  groupContext: Uint8Array,
) {
  const extracted = suite.extract(initSecret, commitSecret);
  const joiner = expandWithLabel(suite, extracted, "joiner", groupContext, suite.hashLength);
  const member = suite.extract(joiner, pskSecret);
  const epoch = expandWithLabel(suite, member, "epoch", groupContext, suite.hashLength);
  const derive = (label: string) => deriveSecret(suite, epoch, label);
  return {
    joinerSecret: joiner,
    welcomeSecret: deriveSecret(suite, member, "welcome"),
    initSecret: derive("init"),
    senderDataSecret: derive("sender data"),
    encryptionSecret: derive("encryption"),
    exporterSecret: derive("exporter"),
    epochAuthenticator: derive("authentication"),
    externalSecret: derive("external"),
    confirmationKey: derive("confirm"),
    membershipKey: derive("membership"),
    resumptionPsk: derive("resumption"),
  };
}

/** MLS-Exporter, RFC 9420 section 8.5. */
export function exporter(
  suite: ReferenceSuite,
  exporterSecret: Uint8Array,
  label: string,
  context: Uint8Array,
  length: number,
): Uint8Array {
  const secret = deriveSecret(suite, exporterSecret, label);
  return expandWithLabel(suite, secret, "exported", suite.hash(context), length);
}

export interface ExternalPsk {
  readonly id: Uint8Array;
  readonly nonce: Uint8Array;
  readonly psk: Uint8Array;
}

/** psk_secret of external PSKs, RFC 9420 section 8.4. */
export function pskSecret(suite: ReferenceSuite, psks: readonly ExternalPsk[]): Uint8Array {
  const zero = new Uint8Array(suite.hashLength);
  return psks.reduce((secret, { id, nonce, psk }, index) => {
    const label = concat(uint(1, 1), vector(id), vector(nonce), uint(index, 2), uint(psks.length, 2));
    const input = expandWithLabel(suite, suite.extract(zero, psk), "derived psk", label, suite.hashLength);
    return suite.extract(input, secret);
  }, zero);
}

/** Secrets of each leaf, by halving a full tree, RFC 9420 section 9. */
export function leafSecrets(suite: ReferenceSuite, leaves: number, secret: Uint8Array): Uint8Array[] {
  let width = 1;
  while (width < leaves) width *= 2;
  return fullLeafSecrets(suite, width, secret).slice(0, leaves);
}

function fullLeafSecrets(suite: ReferenceSuite, width: number, secret: Uint8Array): Uint8Array[] {
  if (width === 1) return [secret];
  return ["left", "right"].flatMap((side) =>
    fullLeafSecrets(suite, width / 2, expandWithLabel(suite, secret, "tree", text(side), suite.hashLength)),
  );
}

/** Key and nonce of one generation of one ratchet of a leaf, RFC 9420 section 9.1. */
export function ratchetKey(suite: ReferenceSuite, leafSecret: Uint8Array, kind: string, generation: number) {
  let secret = expandWithLabel(suite, leafSecret, kind, new Uint8Array(), suite.hashLength);
  for (let i = 0; i < generation; i++) {
    secret = deriveTreeSecret(suite, secret, "secret", i, suite.hashLength);
  }
  return {
    key: deriveTreeSecret(suite, secret, "key", generation, suite.keyLength),
    nonce: deriveTreeSecret(suite, secret, "nonce", generation, suite.nonceLength),
  };
}

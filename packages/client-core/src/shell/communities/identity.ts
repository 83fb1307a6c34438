/**
 * Who this device is in MLS groups: one signature key for all of them, bound to the libsignal identity by the
 * credential (docs/communities.md), so that one safety number covers both protocols.
 */
import { type Bytes, equalBytes, InvariantError, UsageError } from "@murmuration/base";
import {
  type Credential,
  type CryptoProvider,
  encodeKeyBinding,
  encodeMemberCredential,
  type IdentityVerifier,
  KEY_BINDING_LABEL,
  type MemberIdentity,
  nativeCrypto,
} from "@murmuration/mls-groups";
import {
  verifyAlternateIdentity,
  verifyDeviceList,
  verifyDeviceSignature,
  verifyXEdDsa,
} from "@murmuration/pairwise";
import type { Context } from "../context.ts";

/**
 * The cipher suite of communities: MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519. libsignal verifies its signatures in
 * half of the time that OpenSSL takes, and they are most of what joining a large group costs
 * (docs/adr/0011-ed25519-verified-by-libsignal.md).
 */
export const communityCrypto: CryptoProvider = nativeCrypto(1, { verifyXEdDsa });

/** Checks the signatures of credentials with libsignal. */
export const identityVerifier: IdentityVerifier = { verifyAlternateIdentity, verifyDeviceSignature };

/** This device's MLS identity; made and persisted when it is first asked for. */
export function communityIdentity(context: Context): MemberIdentity {
  const { meta } = context;
  const stored = meta.bytes("mls-credential");
  if (stored !== undefined) return identityOf(context, { kind: "basic", identity: stored });
  const keys = communityCrypto.generateSignatureKeyPair();
  const credential = createCredential(context, keys.publicKey);
  if (credential.kind !== "basic") throw new InvariantError("mls/credential-kind");
  const { identity } = credential;
  context.transaction(() => {
    meta.setBytes("mls-signature-public", keys.publicKey);
    meta.setBytes("mls-signature-private", keys.privateKey);
    meta.setBytes("mls-credential", new Uint8Array(identity));
  });
  return { credential, signatureKeys: keys };
}

/** The credential of this device's leaves as it goes over the wire. */
export function encodedCredential(context: Context): Bytes {
  communityIdentity(context);
  return context.meta.require("mls-credential");
}

function identityOf({ meta }: Context, credential: Credential): MemberIdentity {
  const publicKey = meta.require("mls-signature-public");
  const privateKey = meta.require("mls-signature-private");
  return { credential, signatureKeys: { publicKey, privateKey } };
}

/** The account's signature over the device key is the one of the signed device list. */
function createCredential(context: Context, signatureKey: Uint8Array): Credential {
  const local = context.engine.local();
  if (local === undefined) throw new UsageError("client/not-registered");
  const { accountId, deviceId } = local.address;
  const listed = verifyDeviceList(local.deviceList).devices.find((device) => device.deviceId === deviceId);
  if (listed === undefined || !equalBytes(listed.identityKey, local.identityKey))
    throw new InvariantError("mls/device-not-listed");
  const { accountIdentityKey } = local;
  const binding = encodeKeyBinding({ accountId, deviceId, accountIdentityKey, signatureKey });
  return encodeMemberCredential({
    accountId,
    deviceId,
    accountIdentityKey,
    deviceIdentityKey: local.identityKey,
    accountSignature: listed.accountSignature,
    keySignature: context.engine.signWithDeviceKey(KEY_BINDING_LABEL, binding),
  });
}

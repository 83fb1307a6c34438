import {
  type AccountId,
  accountId,
  type Bytes,
  concatBytes,
  deviceId,
  equalBytes,
  type GroupId,
  groupId,
  utf8,
} from "@murmuration/base";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import {
  type CommunityContext,
  type CryptoProvider,
  communityExtensions,
  communityLeaf,
  type ExpectedAccount,
  type Extension,
  encodeKeyBinding,
  encodeMemberCredential,
  Group,
  type GroupConfig,
  generateKeyPackage,
  type IdentityVerifier,
  KEY_BINDING_LABEL,
  type KeyPackageBundle,
  type KeyPackageOptions,
  type LeafOptions,
  type MemberIdentity,
} from "../src/index.ts";
import { Client, lifetime } from "./clients.ts";

/*
 * libsignal is not at hand here, so identity keys are stand-ins: 33 bytes, and a signature is a hash of the key with
 * what is signed. Anybody could make one, but nobody makes one by mistake.
 */

function standInSignature(key: Uint8Array, ...content: readonly Uint8Array[]): Bytes {
  return new Uint8Array(sha512(concatBytes(key, ...content)));
}

function vouch(accountKey: Uint8Array, deviceKey: Uint8Array): Bytes {
  return standInSignature(accountKey, utf8("vouches for"), deviceKey);
}

function signWithDevice(deviceKey: Uint8Array, label: string, content: Uint8Array): Bytes {
  return standInSignature(deviceKey, utf8(label), content);
}

/** Verifies the stand-ins and counts how often it was asked. */
export class StandInIdentities implements IdentityVerifier {
  verifications = 0;

  verifyAlternateIdentity(accountKey: Uint8Array, deviceKey: Uint8Array, signature: Uint8Array): boolean {
    this.verifications++;
    return equalBytes(vouch(accountKey, deviceKey), signature);
  }

  verifyDeviceSignature(
    deviceKey: Uint8Array,
    label: string,
    content: Uint8Array,
    signature: Uint8Array,
  ): boolean {
    this.verifications++;
    return equalBytes(signWithDevice(deviceKey, label, content), signature);
  }
}

/** 16 bytes that follow from a name. */
export function idOf(name: string): Bytes {
  return new Uint8Array(sha512(utf8(`id of ${name}`)).subarray(0, 16));
}

export function accountOf(name: string): AccountId {
  return accountId(idOf(name));
}

function keyOf(name: string): Bytes {
  const key = new Uint8Array(sha512(utf8(`key of ${name}`)).subarray(0, 33));
  key[0] = 5;
  return key;
}

/** What stands behind a device: the name of its account, its number, and whose identity key it says it has. */
export interface DeviceOf {
  readonly account: string;
  readonly device?: number;
  /** Another account key than that of this name: an impostor, or an account that began anew. */
  readonly accountKey?: string;
}

/** The identity of a device in every group; its signatures can be spoilt by the caller. */
export function identityOf(
  crypto: CryptoProvider,
  { account, device = 1, accountKey }: DeviceOf,
): MemberIdentity {
  const signatureKeys = crypto.generateSignatureKeyPair();
  return {
    credential: credentialFor(signatureKeys.publicKey, { account, device, accountKey }),
    signatureKeys,
  };
}

function credentialFor(
  signatureKey: Uint8Array,
  {
    account,
    device = 1,
    accountKey = account,
  }: { account: string; device?: number; accountKey?: string | undefined },
): MemberIdentity["credential"] {
  const accountIdentityKey = keyOf(accountKey);
  const deviceIdentityKey = keyOf(`${accountKey} device ${device}`);
  const about = { accountId: accountOf(account), deviceId: deviceId(device), accountIdentityKey };
  const binding = encodeKeyBinding({ ...about, signatureKey });
  return encodeMemberCredential({
    ...about,
    deviceIdentityKey,
    accountSignature: vouch(accountIdentityKey, deviceIdentityKey),
    keySignature: signWithDevice(deviceIdentityKey, KEY_BINDING_LABEL, binding),
  });
}

/** The entry of an account that is left behind; `accountKey` as in {@link DeviceOf}. */
export function expecting(account: string, accountKey = account): ExpectedAccount {
  return { accountId: accountOf(account), fingerprint: new Uint8Array(sha256(keyOf(accountKey))) };
}

/** A context with these owners and admins, and the defaults of a new community beside that. */
export function contextWith(
  { owners, admins = [] }: { readonly owners: readonly string[]; readonly admins?: readonly string[] },
  fields: Partial<CommunityContext> = {},
): CommunityContext {
  return {
    generation: 1,
    roleHolders: [
      ...owners.map((name) => ({ accountId: accountOf(name), role: "owner" as const })),
      ...admins.map((name) => ({ accountId: accountOf(name), role: "admin" as const })),
    ],
    links: [],
    addBy: "member",
    profileBy: "admin",
    announcementOnly: false,
    slowModeSeconds: 0,
    joinsPerMinute: 0,
    expireAfterSeconds: 0,
    banListHash: new Uint8Array(0),
    profileHash: new Uint8Array(0),
    expected: [],
    preparing: false,
    ...fields,
  };
}

/** A device in a test of communities. */
export class Device extends Client {
  override readonly identity: MemberIdentity;
  readonly account: AccountId;

  constructor(crypto: CryptoProvider, of: DeviceOf, config: Partial<GroupConfig> = {}) {
    super(`${of.account}.${of.device ?? 1}`, crypto, config);
    this.identity = identityOf(crypto, of);
    this.account = accountOf(of.account);
  }

  override keyPackage(options: KeyPackageOptions = {}): KeyPackageBundle {
    return generateKeyPackage(this.crypto, this.identity, lifetime, { ...communityLeaf, ...options });
  }

  /** Creates a community whose id follows from its name; `extensions` and `leaf` are for groups that are none. */
  found(
    name: string,
    context: CommunityContext,
    extensions: readonly Extension[] = communityExtensions(context),
    leaf: LeafOptions = communityLeaf,
  ): GroupId {
    const id = groupId(idOf(name));
    const request = { groupId: id, identity: this.identity, lifetime, leaf, extensions };
    const { group, writes } = Group.create(this.crypto, request, this.config);
    this.save(writes);
    this.group = group;
    return id;
  }
}

/**
 * MLS groups in the form that Murmuration's communities have: each leaf with its credential of 212 bytes, the settings
 * in the GroupContext, one owner at leaf 0. So the delivery service takes them, and trees weigh what they weigh there.
 */
import { type Bytes, concatBytes, utf8 } from "@murmuration/base";
import {
  type CommunityContext,
  communityExtensions,
  communityLeaf,
  encodeKeyBinding,
  encodeMemberCredential,
  type InviteLink,
  KEY_BINDING_LABEL,
  type MemberCredential,
  nativeCrypto,
} from "@murmuration/mls-groups";
import { type AdoptedLeaf, adoptEpoch } from "@murmuration/mls-groups/bench";
import { IdentityKeyPair, PrivateKey } from "@murmuration/pairwise/bench";
import { type GroupFixture, type GroupForm, makeGroup, privateKeysOf } from "../mls/fixture.ts";
import { derived, keyPairOf, SUITE } from "../mls/key-material.ts";
import { accountAt, DEVICE_ID } from "./accounts.ts";
import type { Temperature } from "./protocols.ts";

export const communityCrypto = nativeCrypto(SUITE);

/** Whose credentials the service verifies: leaves that commit, and members that are added. The others' are of the right size. */
const SIGNED_LEAVES = 32;

/** An invite link of every community, with the private key that stands in its URL. */
export function communityLink(seed: string): { readonly linkId: Bytes; readonly linkSeed: Bytes } {
  return { linkId: derived(seed, "link-id").slice(0, 16), linkSeed: derived(seed, "link-seed") };
}

const linkOf = (seed: string): InviteLink => {
  const { linkId, linkSeed } = communityLink(seed);
  return {
    linkId,
    publicKey: keyPairOf("Ed25519", linkSeed).publicKey,
    maxUses: 0,
    approval: false,
    expiresAtMs: 0,
  };
};

const settings = (seed: string): CommunityContext => ({
  generation: 1,
  roleHolders: [{ accountId: accountAt(seed, 0).accountId, role: "owner" }],
  links: [linkOf(seed)],
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
});

function identityKeys(seed: string, index: number, whose: string): IdentityKeyPair {
  const key = PrivateKey.deserialize(derived(seed, whose, index));
  return new IdentityKeyPair(key.getPublicKey(), key);
}

/** The credential of a member's device, with the two signatures that the service verifies. */
function credentialOf(seed: string, index: number, signatureKey: Uint8Array): Bytes {
  const { accountId } = accountAt(seed, index);
  const account = identityKeys(seed, index, "account-identity");
  const device = identityKeys(seed, index, "device-identity");
  const about = { accountId, deviceId: DEVICE_ID, accountIdentityKey: account.publicKey.serialize() };
  const binding = concatBytes(
    utf8(`Murmuration ${KEY_BINDING_LABEL}\0`),
    encodeKeyBinding({ ...about, signatureKey }),
  );
  return identityOf({
    ...about,
    deviceIdentityKey: device.publicKey.serialize(),
    accountSignature: account.signAlternateIdentity(device.publicKey),
    keySignature: device.privateKey.sign(binding),
  });
}

/** One of the same size that nobody will verify: making a real one takes longer than making its leaf. */
function standInCredential(seed: string, index: number): Bytes {
  const { accountId } = accountAt(seed, index);
  const random = (name: string) => derived(seed, "stand-in", index, name);
  const key = (name: string) => concatBytes(Uint8Array.of(5), random(name));
  // As little compressible as real ones: trees are served compressed.
  const signature = (name: string) => concatBytes(random(`${name}/r`), random(`${name}/s`));
  return identityOf({
    accountId,
    deviceId: DEVICE_ID,
    accountIdentityKey: key("account"),
    deviceIdentityKey: key("device"),
    accountSignature: signature("account"),
    keySignature: signature("device"),
  });
}

function identityOf(member: MemberCredential): Bytes {
  const credential = encodeMemberCredential(member);
  if (credential.kind !== "basic") throw new Error("a member's credential is a basic one");
  return credential.identity as Bytes;
}

/** `newcomersFrom`: members with this number and above are added by somebody, so their credentials are verified. */
export function communityForm(seed: string, newcomersFrom = Number.POSITIVE_INFINITY): GroupForm {
  const { extensions = [], proposals = [] } = communityLeaf.capabilities!;
  return {
    identity: (index, signatureKey) =>
      index < SIGNED_LEAVES || index >= newcomersFrom
        ? credentialOf(seed, index, signatureKey)
        : standInCredential(seed, index),
    extensionTypes: extensions,
    proposalTypes: proposals,
    contextExtensions: communityExtensions(settings(seed)),
  };
}

/** A community as data, for all processes of a benchmark. */
export interface CommunityFile {
  readonly seeds: CommunitySeeds;
  readonly members: number;
  readonly groupId: Bytes;
  readonly epoch: number;
  readonly groupInfo: Bytes;
  readonly ratchetTree: Bytes;
  readonly treeHash: Bytes;
  readonly groupContext: Bytes;
  readonly confirmationTag: Bytes;
  readonly interimTranscriptHash: Bytes;
  readonly secrets: GroupFixture["secrets"];
  readonly signaturePrivateKeys: readonly Bytes[];
  /** Of the leaves that live in some process. */
  readonly leaves: readonly AdoptedLeaf[];
}

/** `accounts`: the seed of the accounts behind the leaves; `group`: that of the group's own keys. */
export interface CommunitySeeds {
  readonly accounts: string;
  readonly group: string;
}

export function makeCommunity(
  seeds: CommunitySeeds,
  members: number,
  temperature: Temperature,
  leaves: readonly number[],
): CommunityFile {
  const fixture = makeGroup(seeds.group, members, temperature, communityForm(seeds.accounts, members - 1));
  const adopted = [...new Set([0, ...leaves])].map((leaf) => ({
    leaf,
    signaturePrivateKey: fixture.leaves[leaf]!.signatureKeys.privateKey,
    privateKeys: privateKeysOf(fixture, leaf),
  }));
  const { group } = adoptEpoch(communityCrypto, fixture)(adopted[0]!);
  return {
    seeds,
    members,
    groupId: fixture.groupId,
    epoch: Number(fixture.epoch),
    groupInfo: group.groupInfo(),
    ratchetTree: fixture.ratchetTree,
    treeHash: fixture.treeHash,
    groupContext: fixture.groupContext,
    confirmationTag: fixture.confirmationTag,
    interimTranscriptHash: fixture.interimTranscriptHash,
    secrets: fixture.secrets,
    signaturePrivateKeys: fixture.leaves.map(({ signatureKeys }) => signatureKeys.privateKey),
    leaves: adopted,
  };
}

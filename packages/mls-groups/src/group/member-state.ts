import type { Bytes } from "@murmuration/base";
import { zeroize } from "@murmuration/base";
import type { EpochSecrets } from "../schedule/key-schedule.ts";
import type { SecretTree } from "../schedule/secret-tree.ts";
import type { LeafIndex } from "../tree/math.ts";
import { type PrivateKeys, retirePrivateKeys } from "../tree/tree-kem.ts";
import type { PublicEpoch } from "./public-epoch.ts";

/**
 * The secrets of an epoch that a member keeps while the epoch lasts. encryption_secret is not among them: the
 * secret tree took it over; confirmation_key is not either: it is spent once the tag was checked.
 */
export type HeldSecrets = Omit<EpochSecrets, "encryptionSecret" | "confirmationKey">;

/** Everything a member knows in one epoch. Immutable but for the secret tree, which deletes what it uses. */
export interface MemberState {
  readonly public: PublicEpoch;
  readonly ownLeaf: LeafIndex;
  readonly signaturePrivateKey: Bytes;
  readonly privateKeys: PrivateKeys;
  readonly secrets: HeldSecrets;
  readonly secretTree: SecretTree;
}

const SECRET_NAMES = [
  "senderDataSecret",
  "exporterSecret",
  "externalSecret",
  "membershipKey",
  "resumptionPsk",
  "epochAuthenticator",
  "initSecret",
] as const satisfies readonly (keyof HeldSecrets)[];

/** How many secrets a member holds in an epoch. */
export const SECRET_COUNT: number = SECRET_NAMES.length;

/** The held secrets in their stored order. */
export function secretList(secrets: HeldSecrets): Bytes[] {
  return SECRET_NAMES.map((name) => secrets[name]);
}

/** The inverse of {@link secretList}. */
export function secretsFromList(list: readonly Bytes[]): HeldSecrets {
  return Object.fromEntries(SECRET_NAMES.map((name, i) => [name, list[i]!])) as unknown as HeldSecrets;
}

/**
 * Wipes what an epoch no longer needs once its successor is stored. sender_data_secret and the secret tree live
 * on in the receive window, resumption_psk with the PSKs; the caller wipes those.
 */
export function retireState(old: MemberState, next: MemberState | undefined): void {
  retirePrivateKeys(old.privateKeys, next?.privateKeys ?? new Map());
  const { exporterSecret, externalSecret, membershipKey, epochAuthenticator, initSecret } = old.secrets;
  zeroize(exporterSecret, externalSecret, membershipKey, epochAuthenticator, initSecret);
  if (next === undefined || next.signaturePrivateKey !== old.signaturePrivateKey) {
    zeroize(old.signaturePrivateKey);
  }
}

import { type Bytes, zeroize } from "@murmuration/base";
import {
  confirmationTag,
  deriveEpochSecrets,
  deriveJoinerSecret,
  type EpochSecrets,
} from "../schedule/key-schedule.ts";
import { SecretTree, type SecretTreeLimits } from "../schedule/secret-tree.ts";
import { confirmedTranscriptHash, interimTranscriptHash } from "../schedule/transcript-hash.ts";
import { type AuthenticatedContent, confirmedTranscriptHashInput } from "../structs/authenticated-content.ts";
import type { GroupContext } from "../structs/group-context.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { PrivateKeys } from "../tree/tree-kem.ts";
import type { MemberState } from "./member-state.ts";
import { encodeGroupContext, type PublicEpoch } from "./public-epoch.ts";
import type { StagedPublic } from "./stage-public.ts";

/** The GroupContext that a signed commit leads to (8.2): the provisional one with the new confirmed transcript hash. */
export function nextContext(
  epoch: PublicEpoch,
  staged: Pick<StagedPublic, "provisional">,
  signed: AuthenticatedContent,
): { readonly context: GroupContext; readonly contextBytes: Bytes } {
  const confirmed = confirmedTranscriptHash(
    epoch.crypto,
    epoch.interimTranscriptHash,
    confirmedTranscriptHashInput(signed),
  );
  const context = { ...staged.provisional, confirmedTranscriptHash: confirmed };
  return { context, contextBytes: encodeGroupContext(context) };
}

/** The public side of the new epoch, once the confirmation tag is known. */
export function nextPublicEpoch(
  epoch: PublicEpoch,
  staged: Pick<StagedPublic, "tree">,
  next: { readonly context: GroupContext; readonly contextBytes: Bytes },
  tag: Uint8Array,
): PublicEpoch {
  const { crypto } = epoch;
  return {
    crypto,
    context: next.context,
    contextBytes: next.contextBytes,
    tree: staged.tree,
    confirmationTag: tag.slice() as Bytes,
    interimTranscriptHash: interimTranscriptHash(crypto, next.context.confirmedTranscriptHash, tag),
  };
}

/** What enters the key schedule at the border of two epochs (8). Spent by {@link advanceSecrets}, but for init_secret. */
export interface KeyScheduleInput {
  readonly initSecret: Uint8Array;
  readonly commitSecret: Bytes;
  readonly pskSecret: Uint8Array;
}

/** joiner_secret and all secrets of the new epoch, with the confirmation tag that follows from them (8, 6.1). */
export function advanceSecrets(
  epoch: PublicEpoch,
  input: KeyScheduleInput,
  next: { readonly context: GroupContext; readonly contextBytes: Bytes },
): { readonly joinerSecret: Bytes; readonly secrets: EpochSecrets; readonly tag: Bytes } {
  const { crypto } = epoch;
  const joinerSecret = deriveJoinerSecret(crypto, input.initSecret, input.commitSecret, next.contextBytes);
  zeroize(input.commitSecret);
  const secrets = deriveEpochSecrets(crypto, joinerSecret, input.pskSecret, next.contextBytes);
  const tag = confirmationTag(crypto, secrets.confirmationKey, next.context.confirmedTranscriptHash);
  return { joinerSecret, secrets, tag };
}

/** A member's state from the public side and the secrets of an epoch. The secret tree takes encryption_secret over. */
export function memberState(
  epoch: PublicEpoch,
  secrets: EpochSecrets,
  own: {
    readonly ownLeaf: LeafIndex;
    readonly signaturePrivateKey: Bytes;
    readonly privateKeys: PrivateKeys;
    readonly ratchetLimits: SecretTreeLimits;
  },
): MemberState {
  const { encryptionSecret, confirmationKey, ...held } = secrets;
  zeroize(confirmationKey);
  return {
    public: epoch,
    ownLeaf: own.ownLeaf,
    signaturePrivateKey: own.signaturePrivateKey,
    privateKeys: own.privateKeys,
    secrets: held,
    secretTree: SecretTree.create(epoch.crypto, encryptionSecret, epoch.tree.leafSlots, own.ratchetLimits),
  };
}

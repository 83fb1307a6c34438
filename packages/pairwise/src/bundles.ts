import { equalBytes, RejectionError, refuseUnless, rejected } from "@murmuration/base";
import { PreKeyBundle as LibsignalBundle, processPreKeyBundle } from "@signalapp/libsignal-client";
import { readDeviceList } from "./accounts.ts";
import { protocolAddress } from "./address.ts";
import type { BundleOutcome, PreKeyBundle, PublicPreKey } from "./api.ts";
import { listedDevice } from "./device-list.ts";
import { classifyLibsignal } from "./libsignal-errors.ts";
import { LibsignalStores } from "./libsignal-stores.ts";
import type { Overlay } from "./overlay.ts";
import { MAX_REGISTRATION_ID, type OwnDevice } from "./own-identity.ts";
import { MAX_PRE_KEY_ID } from "./prekeys.ts";
import { decodeKyberPublicKey, decodePublicKey } from "./public-keys.ts";

const TAMPERED = "pairwise/bundle-tampered";

/**
 * Makes a session from a bundle (PQXDH), replacing the one there is. The one-time EC prekey is not signed by
 * anybody: a swapped one yields a session whose first message the recipient cannot read, and nobody else.
 */
export async function processBundle(
  overlay: Overlay,
  own: OwnDevice,
  bundle: PreKeyBundle,
  nowMs: number,
): Promise<BundleOutcome> {
  const { address } = bundle;
  const listed = listedDevice(readDeviceList(overlay, address.accountId), address.deviceId);
  if (listed === undefined || !equalBytes(listed.identityKey, bundle.identityKey)) {
    return { kind: "device-list-needed", address };
  }
  const staged = overlay.child();
  try {
    const parsed = parseBundle(bundle);
    await createSession(staged, own, parsed, bundle, nowMs);
  } catch (error) {
    return { ...rejected(error), address };
  }
  overlay.absorb(staged);
  return { kind: "session-created", address };
}

/**
 * Throws RejectionError `pairwise/bundle-tampered` unless every key parses and every number fits: libsignal takes
 * registration id 0 and any key id. The signatures over both prekeys it verifies itself, before anything else.
 */
function parseBundle(bundle: PreKeyBundle): LibsignalBundle {
  const { registrationId, address, preKey, signedPreKey, kyberPreKey } = bundle;
  const registered = Number.isInteger(registrationId) && registrationId >= 1;
  refuseUnless(registered && registrationId <= MAX_REGISTRATION_ID, TAMPERED);
  for (const key of [preKey, signedPreKey, kyberPreKey]) refuseUnless(isKeyId(key), TAMPERED);
  const identityKey = decodePublicKey(bundle.identityKey, TAMPERED);
  const signedKey = decodePublicKey(signedPreKey.publicKey, TAMPERED);
  const kyberKey = decodeKyberPublicKey(kyberPreKey.publicKey, TAMPERED);
  return LibsignalBundle.new(
    registrationId,
    address.deviceId,
    preKey?.id ?? null,
    preKey === undefined ? null : decodePublicKey(preKey.publicKey, TAMPERED),
    signedPreKey.id,
    signedKey,
    signedPreKey.signature,
    identityKey,
    kyberPreKey.id,
    kyberKey,
    kyberPreKey.signature,
  );
}

function isKeyId(key: PublicPreKey | undefined): boolean {
  return key === undefined || (Number.isInteger(key.id) && key.id >= 1 && key.id <= MAX_PRE_KEY_ID);
}

async function createSession(
  overlay: Overlay,
  own: OwnDevice,
  parsed: LibsignalBundle,
  bundle: PreKeyBundle,
  nowMs: number,
): Promise<void> {
  const { sessions, identities } = new LibsignalStores(overlay, own);
  const remote = protocolAddress(bundle.address);
  try {
    const local = protocolAddress(own.address);
    await processPreKeyBundle(parsed, remote, local, sessions, identities, new Date(nowMs));
  } catch (error) {
    classifyLibsignal(error);
    throw new RejectionError(TAMPERED);
  }
}

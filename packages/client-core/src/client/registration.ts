import { createHash } from "node:crypto";
import { accountId, type Bytes, formatId, UnavailableError, UsageError } from "@murmuration/base";
import { deriveRecipientAccessKey, type PreKeyUpload } from "@murmuration/pairwise";
import type { OwnAccount } from "../api.ts";
import { MAX_NAME_BYTES, PROFILE_KEY_BYTES, shorten } from "../core/content.ts";
import { fingerprintOf, formatContactCard } from "../core/profile.ts";
import type { Context } from "../shell/context.ts";
import { type Directory, toWireUpload } from "../shell/directory.ts";

const TOKEN_BYTES = 32;

/** The own account, once registration or linking is complete. */
export function ownAccount(context: Context): OwnAccount | undefined {
  if (!context.registered) return undefined;
  const { accountIdentityKey, address } = context.engine.local()!;
  const name = context.meta.text("name");
  return {
    accountId: formatId(address.accountId),
    deviceId: address.deviceId,
    name,
    contactCard: formatContactCard({
      accountId: address.accountId,
      profileKey: context.meta.require("profile-key"),
      fingerprint: fingerprintOf(accountIdentityKey),
      name,
    }),
  };
}

/**
 * Creates an account with this as its first device. Keys are persisted before the service hears of them, so an
 * interrupted registration is repeated with the same ones.
 */
export async function register(
  context: Context,
  directory: Directory,
  options: { readonly name?: string; readonly inviteCode?: Bytes },
): Promise<void> {
  if (context.registered) throw new UsageError("client/already-registered");
  const info = await context.api.call("info");
  context.trust(info.certificateTrustRoot);
  if (context.engine.local() === undefined) {
    await generateAccount(context, info.certificateTrustRoot, options.name ?? "");
  }
  const preKeys = await firstPreKeys(context);
  const { storeId } = await context.api.call("register", undefined, {
    ...registrationOf(context),
    preKeys: toWireUpload(preKeys),
    ...(options.inviteCode === undefined ? {} : { inviteCode: options.inviteCode }),
  });
  await directory.confirmUpload(preKeys.uploadId);
  context.transaction(() => {
    context.meta.setBytes("store-id", storeId);
    context.meta.setNumber("access-published", 1);
    context.meta.setNumber("registered", 1);
  });
}

async function generateAccount(context: Context, trustRoot: Bytes, name: string): Promise<void> {
  const { environment, meta } = context;
  await context.engine.generateAccount(accountId(environment.random(16)), ({ writeSet }) =>
    context.transaction(() => {
      context.pairwiseRows.applyWriteSet(writeSet);
      meta.setBytes("trust-root", trustRoot);
      meta.setBytes("token", environment.random(TOKEN_BYTES));
      meta.setBytes("profile-key", environment.random(PROFILE_KEY_BYTES));
      meta.setText("name", shorten(name, MAX_NAME_BYTES));
    }),
  );
}

/** The prekeys that a new device uploads; the same ones when it is asked again before they were confirmed. */
export async function firstPreKeys(context: Context): Promise<PreKeyUpload> {
  const none = { preKeys: 0, kyberPreKeys: 0 };
  const upload = await context.engine.preparePreKeys(none, ({ writeSet, output }) =>
    context.transaction(() => {
      context.pairwiseRows.applyWriteSet(writeSet);
      return output;
    }),
  );
  if (upload === undefined) throw new UnavailableError("client/no-prekeys");
  return upload;
}

function registrationOf(context: Context) {
  const local = context.engine.local()!;
  const tokenHash = createHash("sha256").update(context.meta.require("token")).digest();
  return {
    accountId: local.address.accountId,
    accountIdentityKey: local.accountIdentityKey,
    deviceList: local.deviceList,
    device: {
      deviceId: local.address.deviceId,
      registrationId: local.registrationId,
      identityKey: local.identityKey,
      tokenHash: new Uint8Array(tokenHash),
    },
    accessKey: deriveRecipientAccessKey(context.meta.require("profile-key")),
  };
}

/** KeyPackages: how others can add this device to groups while it is offline. */
import { type Bytes, equalBytes, InvariantError } from "@murmuration/base";
import {
  communityLeaf,
  decodeMlsMessage,
  encodeMlsMessage,
  generateKeyPackage,
  type KeyPackageBundle,
  keyPackageRef,
  lastResortExtension,
} from "@murmuration/mls-groups";
import { ServiceRefusal } from "../../core/refusal.ts";
import type { KeyPackageRow } from "../../store/mls.ts";
import type { Context } from "../context.ts";
import { communityCrypto, communityIdentity } from "./identity.ts";

const DAY_MS = 86_400_000;
/** How long a KeyPackage may be used by others. */
const LIFETIME_MS = 90 * DAY_MS;
/** Clocks differ: a KeyPackage is good from a little before it was made. */
const BACKDATED_MS = 3_600_000;
/** A last-resort KeyPackage is replaced when it has less than this left. */
const RESERVE_MS = 30 * DAY_MS;
/** A Welcome may wait this long in the mailbox after its KeyPackage expired. */
const LATE_WELCOME_MS = 31 * DAY_MS;
const UPLOAD_ID_BYTES = 16;

export class KeyPackages {
  private readonly context: Context;
  private running: Promise<void> | undefined;

  constructor(context: Context) {
    this.context = context;
  }

  /** Fills the stock at the service up; the same KeyPackages again after an interruption. */
  replenish(): Promise<void> {
    this.running ??= this.fillUntilNoneIsLost().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  /** What is on its way while it turns out that private keys were lost has to be replaced as well. */
  private async fillUntilNoneIsLost(): Promise<void> {
    do await this.fill();
    while (this.lost);
  }

  /** Inside a transaction: what is published may have lost its private keys, and is replaced as a whole. */
  noteLost(): void {
    this.context.mls.deleteKeyPackages();
    this.noteServiceLost();
  }

  /**
   * Inside a transaction: the service was set back, and hands out what was claimed before. All of it is replaced. The
   * private keys stay: a Welcome for one that was not used may be on its way.
   */
  noteServiceLost(): void {
    this.context.meta.setNumber("key-packages-lost", 1);
    // Whatever is on its way was made before.
    this.context.meta.delete("key-packages-replacement");
  }

  /** Whether this upload was made to replace all that the service has: another one it may have taken already. */
  private isReplacement(upload: Bytes): boolean {
    const wanted = this.context.meta.bytes("key-packages-replacement");
    return this.lost && wanted !== undefined && equalBytes(wanted, upload);
  }

  private get lost(): boolean {
    return this.context.meta.number("key-packages-lost") === 1;
  }

  private async fill(): Promise<void> {
    const { api, deviceAuthorisation, mls, settings } = this.context;
    if (this.lost && mls.unconfirmedKeyPackages() === undefined)
      this.generate(settings.keyPackageStock, true);
    if (mls.unconfirmedKeyPackages() === undefined) {
      const { keyPackages, lastResort } = await api.call("countKeyPackages", deviceAuthorisation);
      const now = this.context.now();
      const missing = keyPackages * 2 > settings.keyPackageStock ? 0 : settings.keyPackageStock - keyPackages;
      const needsLastResort = !lastResort || !mls.hasLastResort(now + RESERVE_MS);
      if (missing === 0 && !needsLastResort) return;
      this.generate(missing, needsLastResort);
    }
    await this.upload();
  }

  /** PERSIST before anything is uploaded: a Welcome for a KeyPackage whose keys are lost could never be opened. */
  private generate(count: number, lastResort: boolean): void {
    const { context } = this;
    const now = context.now();
    const identity = communityIdentity(context);
    const lifetime = {
      notBefore: BigInt(Math.floor((now - BACKDATED_MS) / 1000)),
      notAfter: BigInt(Math.floor((now + LIFETIME_MS) / 1000)),
    };
    const made = Array.from({ length: count + (lastResort ? 1 : 0) }, (_, index) => {
      const isLast = index === count;
      const options = isLast
        ? { ...communityLeaf, keyPackageExtensions: [lastResortExtension()] }
        : communityLeaf;
      return { isLast, bundle: generateKeyPackage(communityCrypto, identity, lifetime, options) };
    });
    const upload = context.environment.random(UPLOAD_ID_BYTES);
    context.transaction(() => {
      if (this.lost) context.meta.setBytes("key-packages-replacement", upload);
      context.mls.forgetKeyPackages(now - LATE_WELCOME_MS);
      for (const { bundle, isLast } of made) {
        const { keyPackage, initPrivateKey, leafPrivateKey } = bundle;
        const row = {
          reference: keyPackageRef(communityCrypto, keyPackage),
          message: encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage }),
          initPrivateKey,
          leafPrivateKey,
          lastResort: isLast,
          expiresAtMs: now + LIFETIME_MS,
        };
        context.mls.addKeyPackage(row, upload, now);
      }
    });
  }

  private async upload(): Promise<void> {
    const { api, deviceAuthorisation, mls } = this.context;
    const waiting = mls.unconfirmedKeyPackages();
    if (waiting === undefined) return;
    const last = waiting.rows.find((row) => row.lastResort);
    const replace = this.isReplacement(waiting.upload);
    try {
      await api.call("uploadKeyPackages", deviceAuthorisation, {
        uploadId: waiting.upload,
        keyPackages: waiting.rows.filter((row) => !row.lastResort).map((row) => row.message),
        replace,
        ...(last === undefined ? {} : { lastResort: last.message }),
      });
    } catch (error) {
      // Enough are stored: the upload is settled as well.
      if (!(error instanceof ServiceRefusal) || error.code !== "key-packages/too-many") throw error;
    }
    this.context.transaction(() => {
      // Found to be lost while they were uploaded: the service has some whose private keys are gone.
      const present = mls.unconfirmedKeyPackages()?.upload;
      if (present === undefined || !equalBytes(present, waiting.upload)) return;
      mls.confirmKeyPackages(waiting.upload);
      if (this.isReplacement(waiting.upload)) this.context.meta.setNumber("key-packages-lost", 0);
    });
  }
}

/** A stored KeyPackage in the engine's form. */
export function bundleOf(row: KeyPackageRow, signaturePrivateKey: Bytes): KeyPackageBundle {
  const message = decodeMlsMessage(row.message);
  if (message.wireFormat !== "mls_key_package") throw new InvariantError("mls/stored-key-package");
  const { initPrivateKey, leafPrivateKey } = row;
  return { keyPackage: message.keyPackage, initPrivateKey, leafPrivateKey, signaturePrivateKey };
}

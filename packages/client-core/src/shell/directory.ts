import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  equalBytes,
  formatId,
  RejectionError,
  UnavailableError,
} from "@murmuration/base";
import type {
  DeviceListOutcome,
  NotReady,
  PreKeyBundle,
  PreKeyCounts,
  PreKeyUpload,
} from "@murmuration/pairwise";
import { deriveRecipientAccessKey } from "@murmuration/pairwise";
import type { BundleReply, PreKeyUpload as WirePreKeyUpload } from "@murmuration/wire";
import { fingerprintOf } from "../core/profile.ts";
import { isTemporary, ServiceRefusal } from "../core/refusal.ts";
import type { Context } from "./context.ts";
import { OwnDeviceList } from "./own-device-list.ts";
import { ofAccount } from "./service-api.ts";

/** Why an account cannot be reached now. */
export type Unreachable =
  | { readonly kind: "unknown-account" }
  /** Waits for the user: the identity key changed. */
  | { readonly kind: "decision" }
  /** `pairwise/bundle-tampered` and the like: nothing may be sent. */
  | { readonly kind: "refused"; readonly code: string }
  /** Its mailbox had no room at the last try. */
  | { readonly kind: "mailbox-full" }
  /** No keys uploaded yet, or too many requests. */
  | { readonly kind: "later"; readonly retryAfterMs: number };

/** How many accounts are looked up at a time. */
const PARALLEL = 8;
/** A certificate is replaced when it has less than this left. */
const CERTIFICATE_RESERVE_MS = 3600_000;
/** A service gives one for a day. */
const LONGEST_CERTIFICATE_MS = 2 * 86_400_000;
/** How long one that seems to last longer is used before another is fetched. */
const REFETCH_MS = 12 * 3600_000;
const LATER_MS = 5_000;

/** Keys, certificates and device lists: what has to be fetched before anything can be encrypted or checked. */
export class Directory {
  private readonly context: Context;
  private certificate: Promise<void> | undefined;
  private toldOfCertificate = false;
  /** By a clock that nobody sets; never, as far as this program knows. */
  private fetchedAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: Context) {
    this.context = context;
  }

  /** A sender certificate that lasts a while. Whoever asks meanwhile waits for the same one. */
  async ensureCertificate(force = false): Promise<void> {
    const { engine, environment } = this.context;
    const leftMs = (engine.certificateExpiresAtMs() ?? 0) - environment.now();
    // By a clock that is behind it lasts for weeks, and others refuse it after a day.
    const isPlausible = leftMs <= LONGEST_CERTIFICATE_MS || performance.now() < this.fetchedAtMs + REFETCH_MS;
    if (!force && leftMs > CERTIFICATE_RESERVE_MS && isPlausible) return;
    this.certificate ??= this.fetchCertificate().finally(() => {
      this.certificate = undefined;
    });
    await this.certificate;
  }

  private async fetchCertificate(): Promise<void> {
    const { engine, pairwiseRows } = this.context;
    const certificate = await this.requestCertificate();
    try {
      await engine.acceptCertificate(certificate, ({ writeSet }) =>
        this.context.transaction(() => pairwiseRows.applyWriteSet(writeSet)),
      );
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      this.tellOfRefusedCertificate();
      throw new UnavailableError("certificate/refused");
    }
    this.fetchedAtMs = performance.now();
  }

  /** Where it is refused nothing can be sent: this device was removed, for one, and the connection says so. */
  private async requestCertificate(): Promise<Bytes> {
    const { api, deviceAuthorisation } = this.context;
    try {
      return (await api.call("certificate", deviceAuthorisation)).certificate;
    } catch (error) {
      const isFinal = error instanceof ServiceRefusal && !isTemporary(error);
      throw isFinal ? new UnavailableError(error.code) : error;
    }
  }

  /** Mostly this device's clock is wrong, by more than a certificate lasts; or the service is another one. Told once in a run. */
  private tellOfRefusedCertificate(): void {
    if (this.toldOfCertificate) return;
    this.toldOfCertificate = true;
    const { context } = this;
    const event = { kind: "decision-needed", detail: "certificate/refused", atMs: context.now() } as const;
    context.transaction(() => context.events.append(event));
    context.notifier.flush();
  }

  /** Uploads prekeys where the service runs low; the same ones again after an interruption. */
  async replenish(): Promise<void> {
    const { api, deviceAuthorisation } = this.context;
    const counts = await api.call("countKeys", deviceAuthorisation);
    await this.upload(
      { preKeys: counts.oneTimePreKeys, kyberPreKeys: counts.oneTimeKyberPreKeys },
      { replace: false },
    );
  }

  /**
   * All prekeys anew, and none of those that the service has: it was set back and would hand some out a second time, or this
   * device was, and has lost the private keys of some. Private keys stay: a first message may be on its way.
   */
  async renew(): Promise<void> {
    // An upload that a crash has left is settled first, or it would be taken for this one.
    await this.replenish();
    await this.upload({ preKeys: 0, kyberPreKeys: 0, renew: true }, { replace: true });
  }

  private async upload(counts: PreKeyCounts, { replace }: { readonly replace: boolean }): Promise<void> {
    const { api, deviceAuthorisation, engine, pairwiseRows } = this.context;
    const upload = await engine.preparePreKeys(counts, ({ writeSet, output }) =>
      this.context.transaction(() => {
        pairwiseRows.applyWriteSet(writeSet);
        return output;
      }),
    );
    if (upload === undefined) return;
    try {
      await api.call("uploadKeys", deviceAuthorisation, { ...toWireUpload(upload), replace });
    } catch (error) {
      // Enough keys are stored: the upload is settled as well.
      if (!(error instanceof ServiceRefusal) || error.code !== "keys/too-many") throw error;
    }
    await this.confirmUpload(upload.uploadId);
  }

  async confirmUpload(uploadId: Bytes): Promise<void> {
    await this.context.engine.confirmPreKeyUpload(uploadId, ({ writeSet }) =>
      this.context.transaction(() => this.context.pairwiseRows.applyWriteSet(writeSet)),
    );
  }

  /** Fetches an account's device list and adopts it. */
  async refreshDeviceList(account: AccountId): Promise<Unreachable | undefined> {
    const { api, deviceAuthorisation } = this.context;
    try {
      const reply = await api.call("deviceList", deviceAuthorisation, undefined, ofAccount(account));
      return await this.acceptDeviceList(account, reply.deviceList);
    } catch (error) {
      return unreachableOf(error);
    }
  }

  private async acceptDeviceList(account: AccountId, deviceList: Bytes): Promise<Unreachable | undefined> {
    const { context } = this;
    const outcome = await context.engine.acceptDeviceList(account, deviceList, ({ writeSet, output }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        this.afterDeviceList(account, output);
        return output;
      }),
    );
    context.notifier.flush();
    if (outcome.kind === "decision-needed") return { kind: "decision" };
    if (outcome.kind !== "rejected") return undefined;
    if (outcome.code !== "device-list/rolled-back") return { kind: "refused", code: outcome.code };
    // An older list than the one we know: the service is behind, and ours is good.
    if (context.isOwn(account)) context.transaction(() => new OwnDeviceList(context).isBehind());
    return undefined;
  }

  /** Inside the transaction: compares a contact card's fingerprint, and asks the user about a changed identity. */
  private afterDeviceList(account: AccountId, outcome: DeviceListOutcome): void {
    const { contacts, environment, events, heard } = this.context;
    const atMs = environment.now();
    if (outcome.kind === "decision-needed") {
      events.append({ kind: "decision-needed", account, detail: outcome.code, atMs });
      return;
    }
    if (outcome.kind !== "accepted" && outcome.kind !== "unchanged") return;
    const devices = outcome.list.devices.map(({ deviceId }) => deviceId);
    heard.listed(account, devices, atMs);
    if (outcome.kind === "unchanged") return;
    const expected = contacts.get(account)?.fingerprint;
    if (expected !== undefined && !equalBytes(expected, fingerprintOf(outcome.list.accountIdentityKey))) {
      throw new RejectionError("contact/fingerprint-mismatch");
    }
    this.context.identities.learned(account);
  }

  /**
   * Fetches bundles for devices of an account (all, if none are named) and makes sessions. Undefined when that
   * worked for each of them.
   */
  async fetchBundles(account: AccountId, devices: readonly DeviceId[]): Promise<Unreachable | undefined> {
    try {
      const reply = await this.requestBundles(account, devices);
      const unreachable = await this.acceptDeviceList(account, reply.deviceList);
      if (unreachable !== undefined) return unreachable;
      return await this.processBundles(account, reply);
    } catch (error) {
      return unreachableOf(error);
    }
  }

  /** Anonymously where the access key is known, so that the service does not learn who talks to whom. */
  private async requestBundles(account: AccountId, devices: readonly DeviceId[]): Promise<BundleReply> {
    const { api, contacts, deviceAuthorisation } = this.context;
    const profileKey = this.context.isOwn(account) ? undefined : contacts.get(account)?.profileKey;
    const body = { deviceIds: [...devices] };
    if (profileKey === undefined) return api.call("bundles", deviceAuthorisation, body, ofAccount(account));
    const accessKey = deriveRecipientAccessKey(profileKey);
    try {
      return await api.call("bundles", { kind: "access", accessKey }, body, ofAccount(account));
    } catch (error) {
      if (!(error instanceof ServiceRefusal) || error.code !== "auth/access-denied") throw error;
      return api.call("bundles", deviceAuthorisation, body, ofAccount(account));
    }
  }

  private async processBundles(account: AccountId, reply: BundleReply): Promise<Unreachable | undefined> {
    const { context } = this;
    const listed = new Set(context.engine.devicesOf(account).map((address) => address.deviceId));
    const bundles = reply.bundles
      .map((bundle) => toBundle(account, bundle))
      .filter((b) => listed.has(b.address.deviceId));
    if (bundles.length === 0) return undefined;
    const outcomes = await context.engine.processBundles(bundles, ({ writeSet, output }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        return output;
      }),
    );
    const refused = outcomes.find((outcome) => outcome.kind === "rejected");
    if (refused?.kind === "rejected") return { kind: "refused", code: refused.code };
    const stale = outcomes.some((outcome) => outcome.kind === "device-list-needed");
    return stale ? { kind: "later", retryAfterMs: LATER_MS } : undefined;
  }

  /** Fetches whatever an encryption said is missing. Returns the accounts for which that failed, by id as text. */
  async repair(notReady: NotReady): Promise<ReadonlyMap<string, Unreachable>> {
    if (notReady.certificateNeeded) await this.ensureCertificate(true);
    const failed = new Map<string, Unreachable>();
    for (const { accountId: account } of notReady.decisionsNeeded) {
      failed.set(formatId(accountId(account)), { kind: "decision" });
    }
    const devices = new Map<string, DeviceAddress[]>();
    for (const address of notReady.sessionsNeeded) {
      const key = formatId(accountId(address.accountId));
      devices.set(key, [...(devices.get(key) ?? []), address as DeviceAddress]);
    }
    const lists = notReady.deviceListsNeeded.map((account) => accountId(account));
    const tasks = [
      ...lists.map((account) => ({ account, devices: [] as DeviceId[] })),
      ...[...devices.values()].map((all) => ({
        account: all[0]!.accountId,
        devices: all.map((address) => address.deviceId),
      })),
    ];
    await inParallel(tasks, async (task) => {
      const key = formatId(task.account);
      if (failed.has(key)) return;
      const unreachable = await this.fetchBundles(task.account, task.devices);
      if (unreachable !== undefined) failed.set(key, unreachable);
    });
    return failed;
  }

  /** Makes sure that a device list is known for each account. Returns the accounts for which there is none. */
  async ensureAccounts(accounts: readonly AccountId[]): Promise<Map<string, Unreachable>> {
    const failed = new Map<string, Unreachable>();
    const missing = this.context.pairwiseRows.missing("device-list", accounts.map(formatId));
    const unknown = missing.map((i) => accounts[i]!);
    await inParallel(unknown, async (account) => {
      const unreachable = await this.fetchBundles(account, []);
      if (unreachable !== undefined) failed.set(formatId(account), unreachable);
    });
    return failed;
  }

  /** Forgets sessions with devices that the service calls stale or gone. */
  async forgetSessions(addresses: readonly DeviceAddress[] | undefined): Promise<void> {
    const { context } = this;
    await context.engine.deleteSessions(addresses, ({ writeSet }) =>
      context.transaction(() => context.pairwiseRows.applyWriteSet(writeSet)),
    );
  }
}

/** Runs a task for each item, a few at a time. */
async function inParallel<T>(items: readonly T[], task: (item: T) => Promise<void>): Promise<void> {
  const rest = items[Symbol.iterator]();
  const worker = async () => {
    for (let next = rest.next(); next.done !== true; next = rest.next()) await task(next.value);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, worker));
}

/** Sorts a failed look-up; what is not about the account (no connection) is thrown on. */
function unreachableOf(error: unknown): Unreachable {
  if (error instanceof ServiceRefusal) {
    if (error.code === "accounts/unknown") return { kind: "unknown-account" };
    if (error.action === "retry" || error.action === "retry-later") {
      return { kind: "later", retryAfterMs: error.retryAfterMs ?? LATER_MS };
    }
    return { kind: "refused", code: error.code };
  }
  if (error instanceof RejectionError) return { kind: "refused", code: error.code };
  throw error;
}

function toBundle(account: AccountId, bundle: BundleReply["bundles"][number]): PreKeyBundle {
  const { signedPreKey, kyberPreKey, oneTimePreKey } = bundle;
  return {
    address: { accountId: account, deviceId: bundle.deviceId },
    registrationId: bundle.registrationId,
    identityKey: bundle.identityKey,
    preKey: oneTimePreKey && { id: oneTimePreKey.keyId, publicKey: oneTimePreKey.publicKey },
    signedPreKey: {
      id: signedPreKey.keyId,
      publicKey: signedPreKey.publicKey,
      signature: signedPreKey.signature,
    },
    kyberPreKey: {
      id: kyberPreKey.keyId,
      publicKey: kyberPreKey.publicKey,
      signature: kyberPreKey.signature,
    },
  };
}

/** The engine's upload in the words of the contract. */
export function toWireUpload(upload: PreKeyUpload): WirePreKeyUpload {
  const signed = (key: NonNullable<PreKeyUpload["signedPreKey"]>) => ({
    keyId: key.id,
    publicKey: key.publicKey,
    signature: key.signature,
  });
  return {
    uploadId: upload.uploadId,
    ...(upload.signedPreKey === undefined ? {} : { signedPreKey: signed(upload.signedPreKey) }),
    ...(upload.lastResortKyberPreKey === undefined
      ? {}
      : { lastResortKyberPreKey: signed(upload.lastResortKyberPreKey) }),
    oneTimePreKeys: upload.preKeys.map((key) => ({ keyId: key.id, publicKey: key.publicKey })),
    oneTimeKyberPreKeys: upload.kyberPreKeys.map(signed),
    replace: false,
  };
}

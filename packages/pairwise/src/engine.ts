import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  RejectionError,
  UsageError,
} from "@murmuration/base";
import type { PublicKey } from "@signalapp/libsignal-client";
import {
  acceptDeviceList,
  decideIdentity,
  identityKeysOf,
  identityOf,
  readDeviceList,
  setVerified,
} from "./accounts.ts";
import { accountKey, addressKey, sameAddress } from "./address.ts";
import type {
  AccountIdentity,
  BundleOutcome,
  DecryptOutcome,
  DecryptRequest,
  DeviceList,
  DeviceListOutcome,
  EncryptOutcome,
  EncryptRequest,
  LinkRequest,
  LocalDevice,
  NewLinkRequest,
  NotReady,
  PairwiseEngine,
  PairwiseEngineOptions,
  Persist,
  PreKeyBundle,
  PreKeyCounts,
  PreKeyUpload,
  SafetyNumber,
} from "./api.ts";
import { processBundle } from "./bundles.ts";
import { encryptToAll, validateRequest } from "./encrypting.ts";
import { REFERENCE_BYTES, referenceFrom } from "./envelope-format.ts";
import { KeyedQueue } from "./keyed-queue.ts";
import { Overlay, OWN_QUEUE, rowsOf } from "./overlay.ts";
import {
  acceptCertificate,
  addDevice,
  adoptLink,
  generateAccount,
  generateLinkRequest,
  localDevice,
  readCertificate,
  readOwnRow,
  rememberOwnDeviceIds,
  removeDevice,
  requireOwnAddress,
  requireOwnDevice,
} from "./own-identity.ts";
import { ParsedLists } from "./parsed-lists.ts";
import { confirmPreKeyUpload, MAX_ONE_TIME, preparePreKeys } from "./prekeys.ts";
import { decodePublicKey, signWithLabel } from "./public-keys.ts";
import { decryptAll } from "./receiving.ts";
import { deriveSafetyNumber, matchesSafetyNumber } from "./safety-number.ts";
import { TrustedCertificates } from "./trusted-certificates.ts";
import { WorkMeter } from "./work-meter.ts";

/** Opens an engine over the caller's store. Reads nothing yet. UsageError `pairwise/bad-trust-root`, `pairwise/bad-stock`. */
export function openPairwiseEngine(options: PairwiseEngineOptions): PairwiseEngine {
  return new Engine(options);
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Engine implements PairwiseEngine {
  private readonly options: PairwiseEngineOptions;
  private readonly queue = new KeyedQueue();
  /** Decrypt operations run in call order as a whole, since their senders are known only after unsealing. */
  private readonly mailboxQueue = new KeyedQueue();
  private readonly meter: WorkMeter;
  private readonly trustRoots: readonly PublicKey[];
  private readonly certificates: TrustedCertificates;
  private readonly lists = new ParsedLists();

  constructor(options: PairwiseEngineOptions) {
    if (options.trustRoots.length === 0) throw new UsageError("pairwise/bad-trust-root");
    const { preKeyStock = MAX_ONE_TIME } = options;
    if (!Number.isInteger(preKeyStock) || preKeyStock < 1 || preKeyStock > MAX_ONE_TIME)
      throw new UsageError("pairwise/bad-stock");
    this.options = options;
    this.trustRoots = options.trustRoots.map(parseTrustRoot);
    this.certificates = new TrustedCertificates(this.trustRoots);
    this.meter = new WorkMeter(options.yieldToOthers ?? nextTurn, () => options.store.transactionOpen());
  }

  /** Runs one operation in its queues: an overlay, the work, then the caller's transaction. */
  private async operate<T, R>(
    queues: ReadonlySet<string> | readonly string[] | "all",
    work: (overlay: Overlay) => T | Promise<T>,
    persist: Persist<T, R>,
  ): Promise<R> {
    this.meter.refuseInTransaction();
    const held: ReadonlySet<string> | "all" = queues === "all" ? queues : new Set(queues);
    return this.queue.run(held, async () => {
      const overlay = this.overlayFor(held);
      const output = await work(overlay);
      return this.hand(overlay, output, persist);
    });
  }

  private overlayFor(held: ReadonlySet<string> | "all"): Overlay {
    return new Overlay(rowsOf(this.options.store), (queue) => held === "all" || held.has(queue));
  }

  /** Lets the caller write, inside the queues: the next operation on them reads what this one wrote. */
  private hand<T, R>(overlay: Overlay, output: T, persist: Persist<T, R>): R {
    const result = persist({ writeSet: overlay.writeSet(), output });
    if (result instanceof Promise) throw new UsageError("pairwise/persist-not-synchronous");
    return result;
  }

  private get rows() {
    return rowsOf(this.options.store);
  }

  /** The queue of the own account's rows, besides that of the own keys. */
  private ownQueues(): string[] {
    const row = readOwnRow(this.rows);
    return row === undefined ? [OWN_QUEUE] : [OWN_QUEUE, accountKey(row.accountId)];
  }

  // Own identity.

  local(): LocalDevice | undefined {
    return localDevice(this.rows);
  }

  generateAccount<R>(accountId: AccountId, persist: Persist<LocalDevice, R>): Promise<R> {
    const work = (overlay: Overlay) => generateAccount(overlay, accountId, this.options.random);
    return this.operate("all", work, persist);
  }

  generateLinkRequest<R>(
    account: { readonly accountId: AccountId; readonly accountIdentityKey: Bytes },
    persist: Persist<NewLinkRequest, R>,
  ): Promise<R> {
    const work = (overlay: Overlay) => generateLinkRequest(overlay, account, this.options.random);
    return this.operate("all", work, persist);
  }

  addDevice<R>(
    request: LinkRequest,
    persist: Persist<{ readonly deviceList: Bytes; readonly deviceId: DeviceId }, R>,
  ): Promise<R> {
    return this.operate(this.ownQueues(), (overlay) => addDevice(overlay, request), persist);
  }

  adoptLink<R>(deviceList: Bytes, persist: Persist<LocalDevice, R>): Promise<R> {
    return this.operate("all", (overlay) => adoptLink(overlay, deviceList), persist);
  }

  removeDevice<R>(deviceId: DeviceId, persist: Persist<{ readonly deviceList: Bytes }, R>): Promise<R> {
    return this.operate(this.ownQueues(), (overlay) => removeDevice(overlay, deviceId), persist);
  }

  signWithDeviceKey(label: string, content: Uint8Array): Bytes {
    return signWithLabel(requireOwnDevice(this.rows).identityKeyPair.privateKey, label, content);
  }

  // Prekeys and certificate.

  preparePreKeys<R>(counts: PreKeyCounts, persist: Persist<PreKeyUpload | undefined, R>): Promise<R> {
    const { now, random, preKeyStock = MAX_ONE_TIME } = this.options;
    const work = (overlay: Overlay) =>
      preparePreKeys(overlay, counts, now(), random, this.meter, preKeyStock);
    return this.operate([OWN_QUEUE], work, persist);
  }

  confirmPreKeyUpload<R>(uploadId: Bytes, persist: Persist<void, R>): Promise<R> {
    const work = (overlay: Overlay) => confirmPreKeyUpload(overlay, uploadId, this.options.now());
    return this.operate([OWN_QUEUE], work, persist);
  }

  certificateExpiresAtMs(): number | undefined {
    return readCertificate(this.rows)?.expiration();
  }

  acceptCertificate<R>(certificate: Bytes, persist: Persist<void, R>): Promise<R> {
    const work = (overlay: Overlay) =>
      acceptCertificate(overlay, certificate, this.trustRoots, this.options.now());
    return this.operate([OWN_QUEUE], work, persist);
  }

  // Other accounts.

  acceptDeviceList<R>(
    accountId: AccountId,
    deviceList: Bytes,
    persist: Persist<DeviceListOutcome, R>,
  ): Promise<R> {
    const work = (overlay: Overlay) => {
      const { address } = requireOwnDevice(overlay);
      const own = accountKey(address.accountId) === accountKey(accountId);
      const outcome = acceptDeviceList(overlay, accountId, deviceList, own);
      if (own && outcome.kind === "accepted") rememberOwnDeviceIds(overlay, outcome.list);
      return outcome;
    };
    return this.operate([OWN_QUEUE, accountKey(accountId)], work, persist);
  }

  devicesOf(accountId: AccountId): readonly DeviceAddress[] {
    return this.devicesOfEach([accountId])[0] ?? [];
  }

  devicesOfEach(accountIds: readonly AccountId[]): readonly (readonly DeviceAddress[] | undefined)[] {
    const { rows } = this;
    const own = requireOwnAddress(rows);
    const names = accountIds.map(accountKey);
    return rows.readEach("device-list", names).map((encoded, i) => {
      if (encoded === undefined) return undefined;
      const addresses: DeviceAddress[] = [];
      for (const { address } of this.lists.parse(names[i]!, encoded).devices.values()) {
        if (!sameAddress(address, own)) addresses.push(address);
      }
      return addresses;
    });
  }

  deviceListOf(accountId: AccountId): DeviceList | undefined {
    return readDeviceList(this.rows, accountId);
  }

  identityOf(accountId: AccountId): AccountIdentity | undefined {
    return identityOf(this.rows, accountId);
  }

  identityKeysOf(accountIds: readonly AccountId[]): readonly (Bytes | undefined)[] {
    return identityKeysOf(this.rows, accountIds);
  }

  decideIdentity<R>(
    decision: { readonly accountId: AccountId; readonly claimedAccountKey: Bytes; readonly accept: boolean },
    persist: Persist<void, R>,
  ): Promise<R> {
    const work = (overlay: Overlay) => decideIdentity(overlay, decision);
    return this.operate([accountKey(decision.accountId)], work, persist);
  }

  setVerified<R>(
    identity: {
      readonly accountId: AccountId;
      readonly accountIdentityKey: Bytes;
      readonly verified: boolean;
    },
    persist: Persist<void, R>,
  ): Promise<R> {
    const work = (overlay: Overlay) => setVerified(overlay, identity);
    return this.operate([accountKey(identity.accountId)], work, persist);
  }

  safetyNumber(accountId: AccountId): SafetyNumber | undefined {
    const remote = identityOf(this.rows, accountId);
    return remote && deriveSafetyNumber(requireOwnDevice(this.rows).row, remote);
  }

  claimedSafetyNumber(accountId: AccountId): SafetyNumber | undefined {
    const accountIdentityKey = identityOf(this.rows, accountId)?.claimedAccountKey;
    if (accountIdentityKey === undefined) return undefined;
    return deriveSafetyNumber(requireOwnDevice(this.rows).row, { accountId, accountIdentityKey });
  }

  safetyNumberMatches(accountId: AccountId, scanned: Bytes): boolean {
    const remote = identityOf(this.rows, accountId);
    if (remote === undefined) throw new UsageError("pairwise/unknown-account");
    return matchesSafetyNumber(requireOwnDevice(this.rows).row, remote, scanned);
  }

  // Sessions and messages.

  processBundles<R>(
    bundles: readonly PreKeyBundle[],
    persist: Persist<readonly BundleOutcome[], R>,
  ): Promise<R> {
    const addresses = bundles.map(({ address }) => address);
    if (new Set(addresses.map(addressKey)).size !== addresses.length) {
      throw new UsageError("pairwise/bundle-twice");
    }
    const work = async (overlay: Overlay) => {
      const own = requireOwnDevice(overlay);
      const outcomes: BundleOutcome[] = [];
      for (const bundle of bundles) {
        await this.meter.step();
        outcomes.push(await processBundle(overlay, own, bundle, this.options.now()));
      }
      return outcomes;
    };
    return this.operate(accountQueues(addresses), work, persist);
  }

  async encrypt<R>(
    request: EncryptRequest,
    persist: Persist<Extract<EncryptOutcome, { kind: "encrypted" }>, R>,
  ): Promise<{ readonly kind: "persisted"; readonly result: R } | NotReady> {
    const recipients = validateRequest(request);
    this.meter.refuseInTransaction();
    const { now, random } = this.options;
    const reference = request.reference ?? referenceFrom(random(REFERENCE_BYTES));
    const queues = new Set(recipients.map(({ account }) => account));
    return this.queue.run(queues, async () => {
      const overlay = this.overlayFor(queues);
      const own = requireOwnDevice(overlay);
      const { body, mode } = request;
      const tools = { lists: this.lists, meter: this.meter, nowMs: now() };
      const outcome = await encryptToAll(overlay, own, { body, mode, reference }, recipients, tools);
      if (outcome.kind === "not-ready") return outcome;
      return { kind: "persisted", result: this.hand(overlay, outcome, persist) };
    });
  }

  async decrypt<R>(request: DecryptRequest, persist: Persist<readonly DecryptOutcome[], R>): Promise<R> {
    const { now } = this.options;
    return this.mailboxQueue.run(new Set(["mailbox"]), () =>
      decryptAll(this.rows, request, this.certificates, now(), this.meter, (queues, work) =>
        this.operate(queues, work, persist),
      ),
    );
  }

  deleteSessions<R>(addresses: readonly DeviceAddress[] | undefined, persist: Persist<void, R>): Promise<R> {
    const work = (overlay: Overlay) => {
      const keys = addresses?.map(addressKey) ?? overlay.keys("session");
      for (const key of keys) overlay.write("session", key, undefined);
    };
    return this.operate(addresses === undefined ? "all" : accountQueues(addresses), work, persist);
  }
}

/** A pinned key is the caller's, so a wrong one is the caller's mistake. */
function parseTrustRoot(root: Bytes): PublicKey {
  try {
    return decodePublicKey(root, "pairwise/bad-trust-root");
  } catch (error) {
    if (error instanceof RejectionError) throw new UsageError(error.code);
    throw error;
  }
}

function accountQueues(addresses: readonly DeviceAddress[]): Set<string> {
  return new Set(addresses.map((address) => accountKey(address.accountId)));
}

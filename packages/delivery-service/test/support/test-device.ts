import { createHash } from "node:crypto";
import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  formatId,
  submitId,
} from "@murmuration/base";
import {
  type LocalDevice,
  openPairwiseEngine,
  type PairwiseEngine,
  type Persist,
  type WriteSet,
} from "@murmuration/pairwise";
import { generateTrustRoot } from "@murmuration/pairwise/server";
import {
  type BundleReply,
  type DeviceAuth,
  decodeMessage,
  encodeMessage,
  formatAccessKey,
  formatDeviceAuth,
  type MessageType,
  type NewDevice,
  type PathParameter,
  PROTOBUF_CONTENT_TYPE,
  type PreKeyUpload,
  type RegisterRequest,
  type Rejection,
  type RouteName,
  rejection,
  routePath,
  routes,
  type SealedRecipient,
  type SubmitSealed,
} from "@murmuration/wire";

import { random } from "./random.ts";

const digest = (bytes: Uint8Array): Bytes => new Uint8Array(createHash("sha256").update(bytes).digest());

/** An HTTP answer: a decoded body, or the rejection. */
export interface HttpAnswer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly rejection: Rejection | undefined;
  readonly raw: Bytes;
  readonly headers: Headers;
}

/** Calls a route with any headers and any bytes. */
export async function callRaw(
  base: string,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: Uint8Array,
): Promise<HttpAnswer> {
  const init = { method, headers, ...(body === undefined ? {} : { body: new Uint8Array(body) }) };
  const response = await fetch(`${base}${path}`, init);
  const raw = new Uint8Array(await response.arrayBuffer());
  const refused = response.status >= 400 && raw.length > 0 && !path.startsWith("/health");
  return {
    status: response.status,
    body: {},
    rejection: refused ? decodeMessage(rejection, raw, 4096) : undefined,
    raw,
    headers: response.headers,
  };
}

/** Calls a route of the wire's table; the body is encoded, the answer decoded. */
export async function call(
  base: string,
  name: RouteName,
  options: {
    readonly parameters?: Partial<Record<PathParameter, string>>;
    readonly headers?: Record<string, string>;
    readonly body?: object;
  } = {},
): Promise<HttpAnswer> {
  const { method, request, reply } = routes[name];
  const encoded =
    options.body === undefined
      ? undefined
      : encodeMessage(request as MessageType<unknown>, options.body as unknown);
  const answer = await callRaw(
    base,
    method,
    routePath(name, options.parameters),
    { "content-type": PROTOBUF_CONTENT_TYPE, ...options.headers },
    encoded,
  );
  if (answer.status !== 200 || typeof reply !== "object") return answer;
  return {
    ...answer,
    body: decodeMessage(reply as MessageType<Record<string, unknown>>, answer.raw, 4 * 1024 * 1024),
  };
}

/** A pairwise engine over rows in memory: the tests' devices have real keys and sign real device lists. */
class MemoryEngine {
  private readonly rows = new Map<string, Bytes>();
  readonly engine: PairwiseEngine;

  constructor(trustRoot: Bytes) {
    this.engine = openPairwiseEngine({
      store: {
        read: (table, key) => this.rows.get(`${table} ${key}`),
        readEach: (table, keys) => keys.map((key) => this.rows.get(`${table} ${key}`)),
        keys: (table) =>
          [...this.rows.keys()]
            .filter((row) => row.startsWith(`${table} `))
            .map((row) => row.slice(table.length + 1)),
        transactionOpen: () => false,
        applyWriteSet: (writeSet) => this.apply(writeSet),
      },
      trustRoots: [trustRoot],
      now: () => Date.now(),
      random,
    });
  }

  keep<T>(): Persist<T, T> {
    return ({ writeSet, output }) => {
      this.apply(writeSet);
      return output;
    };
  }

  private apply({ changes }: WriteSet): void {
    for (const { table, key, value } of changes) {
      if (value === undefined) this.rows.delete(`${table} ${key}`);
      else this.rows.set(`${table} ${key}`, value.slice());
    }
  }
}

/** A point on the curve that some engine may trust: the tests' devices never look at a certificate. */
const ANY_TRUST_ROOT = generateTrustRoot().publicKey;

/** A device with real keys: registers, signs device lists, and knows its own token and access key. */
export class TestDevice implements DeviceAddress {
  readonly accountId: AccountId;
  readonly deviceId: DeviceId;
  readonly local: LocalDevice;
  readonly token = random(32);
  readonly accessKey = random(16);
  readonly memory: MemoryEngine;
  private readonly upload: PreKeyUpload;

  private constructor(memory: MemoryEngine, local: LocalDevice, upload: PreKeyUpload) {
    this.memory = memory;
    this.local = local;
    this.accountId = local.address.accountId;
    this.deviceId = local.address.deviceId as DeviceId;
    this.upload = upload;
  }

  /** Makes the first device of a new account, without a server. `oneTime`: 100 one-time keys of each kind. */
  static async generate(
    oneTime = false,
    trustRoot = ANY_TRUST_ROOT,
    account = accountId(random(16)),
  ): Promise<TestDevice> {
    const memory = new MemoryEngine(trustRoot);
    const local = await memory.engine.generateAccount(account, memory.keep());
    return new TestDevice(memory, local, await prepareUpload(memory, oneTime));
  }

  static async register(base: string, oneTime = false): Promise<TestDevice> {
    const info = await call(base, "info");
    const device = await TestDevice.generate(oneTime, info.body["certificateTrustRoot"] as Bytes);
    const answer = await call(base, "register", { body: device.registration() });
    if (answer.status !== 200) throw new Error(`registration refused: ${answer.rejection?.code}`);
    return device;
  }

  registration(): RegisterRequest {
    return {
      accountId: this.accountId,
      accountIdentityKey: this.local.accountIdentityKey,
      deviceList: this.local.deviceList,
      device: this.newDevice(),
      accessKey: this.accessKey,
      preKeys: this.upload,
    };
  }

  newDevice(): NewDevice {
    return {
      deviceId: this.deviceId,
      registrationId: this.local.registrationId,
      identityKey: this.local.identityKey,
      tokenHash: digest(this.token),
    };
  }

  /** Signs another device into this one's account, without a server. */
  async pair(): Promise<TestDevice> {
    const memory = new MemoryEngine(ANY_TRUST_ROOT);
    const account = { accountId: this.accountId, accountIdentityKey: this.local.accountIdentityKey };
    const request = await memory.engine.generateLinkRequest(account, memory.keep());
    const { deviceList } = await this.memory.engine.addDevice(request, this.memory.keep());
    const local = await memory.engine.adoptLink(deviceList, memory.keep());
    return new TestDevice(memory, local, await prepareUpload(memory, false));
  }

  /** Links another device to this one's account, at the server too. */
  async link(base: string): Promise<TestDevice> {
    const device = await this.pair();
    const body = { deviceList: device.local.deviceList, added: [device.newDevice()] };
    const answer = await call(base, "updateDevices", { headers: this.headers(), body });
    if (answer.status !== 204) throw new Error(`link refused: ${answer.rejection?.code}`);
    await call(base, "uploadKeys", { headers: device.headers(), body: device.upload });
    return device;
  }

  /** Signs a list with two more devices, without telling the server; they are described as they should be. */
  async listTwoMore(
    ...others: readonly [TestDevice, TestDevice]
  ): Promise<{ readonly first: NewDevice; readonly second: NewDevice; readonly deviceList: Bytes }> {
    const described: NewDevice[] = [];
    let deviceList = this.local.deviceList;
    for (const other of others) {
      const memory = new MemoryEngine(ANY_TRUST_ROOT);
      const account = { accountId: this.accountId, accountIdentityKey: this.local.accountIdentityKey };
      const request = await memory.engine.generateLinkRequest(account, memory.keep());
      const added = await this.memory.engine.addDevice(request, this.memory.keep());
      deviceList = added.deviceList;
      const { deviceId } = added;
      described.push({ ...other.newDevice(), deviceId, identityKey: request.identityKey });
    }
    return { first: described[0]!, second: described[1]!, deviceList };
  }

  /** Removes a linked device from the account, at the server too. */
  async unlink(base: string, linked: TestDevice): Promise<void> {
    const { deviceList } = await this.memory.engine.removeDevice(linked.deviceId, this.memory.keep());
    const body = { deviceList, added: [] };
    const answer = await call(base, "updateDevices", { headers: this.headers(), body });
    if (answer.status !== 204) throw new Error(`unlink refused: ${answer.rejection?.code}`);
  }

  /** Needs the engine to have been made for this service's trust root: see `register`. */
  async acceptCertificate(certificate: Bytes): Promise<void> {
    await this.memory.engine.acceptCertificate(certificate, this.memory.keep());
  }

  /** Fetches list and bundles of another account, as a client does before it sends. */
  async meet(base: string, other: TestDevice): Promise<void> {
    const parameters = { accountId: formatId(other.accountId) };
    const headers = other.accessHeaders();
    const reply = (await call(base, "bundles", { parameters, headers, body: { deviceIds: [] } }))
      .body as unknown as BundleReply;
    const { engine } = this.memory;
    const accepted = await engine.acceptDeviceList(other.accountId, reply.deviceList, this.memory.keep());
    if (accepted.kind !== "accepted") throw new Error(`device list: ${accepted.kind}`);
    const bundles = reply.bundles.map((bundle) => ({
      address: { accountId: other.accountId, deviceId: bundle.deviceId },
      registrationId: bundle.registrationId,
      identityKey: bundle.identityKey,
      preKey: bundle.oneTimePreKey && fromWire(bundle.oneTimePreKey),
      signedPreKey: fromWire(bundle.signedPreKey),
      kyberPreKey: fromWire(bundle.kyberPreKey),
    }));
    const outcomes = await engine.processBundles(bundles, this.memory.keep());
    if (outcomes.some((outcome) => outcome.kind !== "session-created")) throw new Error("no session");
  }

  /** Seals one body to other devices with real sealed sender; one ciphertext each, in order. */
  async sealTo(others: readonly TestDevice[], body: Bytes): Promise<readonly Bytes[]> {
    const recipients = others.map((other) => other.local.address);
    const outcome = await this.memory.engine.encrypt(
      { recipients, body, mode: "sealed" },
      this.memory.keep(),
    );
    if (outcome.kind !== "persisted") throw new Error("not ready to seal");
    return outcome.result.ciphertexts.map((each) => each.ciphertext);
  }

  auth(): DeviceAuth {
    return { accountId: this.accountId, deviceId: this.deviceId, token: this.token };
  }

  headers(): Record<string, string> {
    return { authorization: formatDeviceAuth(this.auth()) };
  }

  accessHeaders(accessKey = this.accessKey): Record<string, string> {
    return { "murmuration-access": formatAccessKey(accessKey) };
  }
}

function fromWire<T extends { readonly keyId: number }>({ keyId, ...key }: T) {
  return { id: keyId, ...key };
}

async function prepareUpload(memory: MemoryEngine, oneTime: boolean): Promise<PreKeyUpload> {
  const stocked = oneTime ? 0 : 100;
  const upload = await memory.engine.preparePreKeys(
    { preKeys: stocked, kyberPreKeys: stocked },
    memory.keep(),
  );
  const rename = <T extends { id: number }>({ id, ...key }: T) => ({ keyId: id, ...key });
  if (upload?.signedPreKey === undefined || upload.lastResortKyberPreKey === undefined) {
    throw new Error("the engine prepared no keys");
  }
  return {
    uploadId: upload.uploadId,
    signedPreKey: rename(upload.signedPreKey),
    lastResortKyberPreKey: rename(upload.lastResortKyberPreKey),
    oneTimePreKeys: upload.preKeys.map(rename),
    oneTimeKyberPreKeys: upload.kyberPreKeys.map(rename),
    replace: false,
  };
}

/** Registers many devices, a few at a time. */
export async function registerMany(base: string, count: number): Promise<TestDevice[]> {
  const devices: TestDevice[] = [];
  while (devices.length < count) {
    const batch = Math.min(8, count - devices.length);
    devices.push(...(await Promise.all(Array.from({ length: batch }, () => TestDevice.register(base)))));
  }
  return devices;
}

/** One recipient of a sealed submit with one ciphertext for each of its devices. */
export function recipientOf(devices: readonly TestDevice[], ciphertext: Bytes): SealedRecipient {
  const [first] = devices;
  return {
    accountId: first!.accountId,
    accessKey: first!.accessKey,
    devices: devices.map((device) => ({
      deviceId: device.deviceId,
      registrationId: device.local.registrationId,
      ciphertext,
    })),
  };
}

/** A sealed submit of one ciphertext to single-device accounts. */
export function sealedTo(devices: readonly TestDevice[], ciphertext = random(200)): SubmitSealed {
  return {
    submitId: submitId(random(16)),
    recipients: devices.map((device) => recipientOf([device], ciphertext)),
    ephemeral: false,
  };
}

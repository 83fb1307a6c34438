/**
 * A real delivery service and real clients in one process, over real sockets and real encrypted databases. What a
 * test replaces is named in the options; everything else is the product.
 */
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Client,
  type ClientSettings,
  connectTo,
  type Environment,
  openClient,
  openSqlcipher,
  type Storage,
  systemEnvironment,
  type Transport,
} from "@murmuration/client-core";
import {
  createConfig,
  type DeliveryServiceConfig,
  type Replacements,
  startDeliveryService,
} from "@murmuration/delivery-service";
import { limits } from "@murmuration/wire";

type RunningService = Awaited<ReturnType<typeof startDeliveryService>>;

/** No rate keeps a test waiting: every client here comes from one address. */
/** For whoever runs a story to see it fail (npm run canaries), and does not want to wait as long as a story may. */
const MOST_PATIENCE_MS = Number(process.env["PATIENCE_MS"] ?? Number.POSITIVE_INFINITY);
const unlimited = { burst: 1_000_000_000, perMinute: 1_000_000_000 };
export const testLimits: DeliveryServiceConfig["limits"] = {
  ...limits,
  rates: Object.fromEntries(Object.keys(limits.rates).map((name) => [name, unlimited])) as never,
};

/** What makes clients quick in tests; nothing else differs from the product. */
export const testSettings: Partial<ClientSettings> = {
  acceptUnknown: true,
  receiptDelayMs: 5,
  reconnectMinMs: 20,
  reconnectMaxMs: 200,
  requestTimeoutMs: 5_000,
  migrationPatienceMs: 3_000,
  fullMailboxRetryMs: 2_000,
  pushSpreadMs: 50,
  // Most of what a device, and the service for it, computes before it can say anything.
  preKeyStock: 8,
  keyPackageStock: 4,
};

export interface WorldOptions {
  readonly service?: Partial<DeliveryServiceConfig>;
  /** What the service runs on instead of the system's clock. */
  readonly serviceClock?: Parameters<typeof startDeliveryService>[1] extends infer R
    ? R extends { readonly clock?: infer C }
      ? C
      : never
    : never;
  /** Other parts of the service that a test replaces, anew at each start: to make it lie. */
  readonly replacements?: () => Replacements;
}

export interface DeviceOptions {
  readonly name?: string;
  readonly settings?: Partial<ClientSettings>;
  readonly environment?: Environment;
  /** Wraps the database and the network: for faults. */
  readonly wrapStorage?: (storage: Storage) => Storage;
  readonly wrapTransport?: (transport: Transport) => Transport;
  /** Swallows what a killed client throws. */
  readonly onFailure?: (error: unknown) => void;
  /** Another way to the service, such as a proxy. */
  readonly origin?: string;
}

/** One simulated device: its database outlives the client that runs on it. */
export class SimulatedDevice {
  readonly path: string;
  readonly key: Uint8Array<ArrayBuffer>;
  private readonly service: { readonly origin: string };
  private options: DeviceOptions;
  private running: Client | undefined;

  constructor(service: { readonly origin: string }, path: string, options: DeviceOptions) {
    this.service = service;
    this.path = path;
    this.options = options;
    this.key = systemEnvironment.random(32);
  }

  get client(): Client {
    if (this.running === undefined) throw new Error("the device is not running");
    return this.running;
  }

  get id(): string {
    return this.client.account!.accountId;
  }

  /** Opens the database; with other options from here on, if given. Does not connect. */
  async open(options: DeviceOptions = {}): Promise<Client> {
    this.options = { ...this.options, ...options };
    const { wrapStorage, wrapTransport, settings, environment, origin, onFailure } = this.options;
    const storage = openSqlcipher({ path: this.path, key: this.key });
    const transport = connectTo(origin ?? this.service.origin);
    this.running = await openClient({
      storage: wrapStorage?.(storage) ?? storage,
      transport: wrapTransport?.(transport) ?? transport,
      settings: { ...testSettings, ...settings },
      ...(environment === undefined ? {} : { environment }),
      ...(onFailure === undefined ? {} : { onFailure }),
    });
    return this.running;
  }

  async start(options: DeviceOptions = {}): Promise<Client> {
    const client = await this.open(options);
    client.connection.start();
    return client;
  }

  /** Ends the client in good order; the database stays. */
  async stop(): Promise<void> {
    await this.running?.close();
    this.running = undefined;
  }

  /** The client is gone without a word (a fault wrapper has already cut it off). */
  abandon(): void {
    this.running = undefined;
  }

  /** A copy of the database as it is now; only while the device is stopped. */
  saveCopy(): () => void {
    const copy = `${this.path}.copy`;
    copyFileSync(this.path, copy);
    return () => {
      for (const suffix of ["-wal", "-shm"]) rmSync(this.path + suffix, { force: true });
      copyFileSync(copy, this.path);
    };
  }

  exists(): boolean {
    return existsSync(this.path);
  }
}

/** A delivery service with any number of devices. Dispose of it to end everything it started. */
export class World {
  readonly directory: string;
  readonly devices: SimulatedDevice[] = [];
  private service: RunningService | undefined;
  private readonly options: WorldOptions;
  private port = 0;

  private constructor(options: WorldOptions) {
    this.options = options;
    this.directory = mkdtempSync(join(tmpdir(), "murmuration-"));
  }

  static async start(options: WorldOptions = {}): Promise<World> {
    const world = new World(options);
    await world.startService();
    return world;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get serviceDirectory(): string {
    return join(this.directory, "service");
  }

  /** Starts the service, on the port it had before. */
  async startService(): Promise<void> {
    const config = createConfig({
      dataDirectory: this.serviceDirectory,
      logLevel: "silent",
      limits: testLimits,
      port: this.port,
      ...this.options.service,
    });
    const { serviceClock } = this.options;
    const replacements = {
      ...this.options.replacements?.(),
      ...(serviceClock === undefined ? {} : { clock: serviceClock }),
    };
    this.service = await startDeliveryService(config, replacements);
    this.port = this.service.port;
  }

  /** Cuts every connection and closes the store. */
  async stopService(): Promise<void> {
    await this.service?.close();
    this.service = undefined;
  }

  /** Removes at the service what its clock says is too old. */
  async runRetention(): Promise<void> {
    await this.service?.runRetention();
  }

  /** A device that is not registered yet. */
  device(options: DeviceOptions = {}): SimulatedDevice {
    const device = new SimulatedDevice(
      this,
      join(this.directory, `device-${this.devices.length}.db`),
      options,
    );
    this.devices.push(device);
    return device;
  }

  /** A registered, connected device of a new account. */
  async join(name: string, options: DeviceOptions = {}): Promise<SimulatedDevice> {
    const device = this.device({ name, ...options });
    const client = await device.open();
    await client.register({ name });
    client.connection.start();
    await client.connection.caughtUp();
    return device;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const device of this.devices) await device.stop();
    await this.stopService();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Everybody has the contact cards of everybody else: no message request stands between them. */
export async function introduce(...devices: readonly SimulatedDevice[]): Promise<void> {
  for (const device of devices) {
    for (const other of devices) {
      if (other !== device) await device.client.contacts.add(other.client.account!.contactCard);
    }
  }
}

/** Waits until a condition holds, looking again every few milliseconds; PATIENCE_MS of the environment bounds the time. */
export async function until(condition: () => boolean, timeoutMs = 20_000, what = "condition"): Promise<void> {
  const patienceMs = Math.min(timeoutMs, MOST_PATIENCE_MS);
  const deadline = Date.now() + patienceMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`still not so after ${patienceMs} ms: ${what}`);
    await systemEnvironment.sleep(10);
  }
}

/** Texts of a conversation in order, as this device shows them. */
export function textsOf(client: Client, conversationId: string): readonly string[] {
  const lines = client.conversations.get(conversationId)?.history({ limit: 10_000 }) ?? [];
  return lines.flatMap((line) => (line.kind === "message" ? [line.text] : []));
}

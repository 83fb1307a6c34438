/**
 * A real delivery service in a process of its own, and real clients, in this process or in processes of their own.
 * Everything can be killed (SIGKILL) and started again on the same data, key and port.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toHex } from "@murmuration/base";
import { type ClientSettings, type Role, systemEnvironment } from "@murmuration/client-core";
import type { DeliveryServiceConfig } from "@murmuration/delivery-service";
import type { OpenParameters, Standing } from "./client-worker.ts";
import { WorkerProcess } from "./processes.ts";
import { type DeviceOptions, SimulatedDevice, testLimits, testSettings } from "./world.ts";

const WAIT_MS = 20_000;

export interface HarnessOptions {
  readonly limits?: Partial<DeliveryServiceConfig["limits"]>;
}

/** A client in a process of its own; its database and key outlive the process. */
export class ClientProcess {
  private readonly parameters: OpenParameters;
  private worker: WorkerProcess | undefined;
  private account: { readonly accountId: string; readonly contactCard: string } | undefined;

  constructor(parameters: OpenParameters) {
    this.parameters = parameters;
  }

  get id(): string {
    return this.account!.accountId;
  }

  get contactCard(): string {
    return this.account!.contactCard;
  }

  get pid(): number {
    return this.running.pid;
  }

  private get running(): WorkerProcess {
    if (this.worker === undefined) throw new Error("the client is not running");
    return this.worker;
  }

  /** Starts the process, registers at the first start, and connects. */
  async start(): Promise<void> {
    this.worker = new WorkerProcess(new URL("./client-worker.ts", import.meta.url));
    this.account = await this.worker.request("open", this.parameters);
  }

  async kill(): Promise<void> {
    await this.running.kill();
    this.worker = undefined;
  }

  async close(): Promise<void> {
    await this.worker?.close();
    this.worker = undefined;
  }

  /** Moves this process's clock ahead; the next one has the machine's again. */
  passTime(ms: number): Promise<void> {
    return this.running.request("passTime", { ms });
  }

  addContact(card: string): Promise<void> {
    return this.running.request("addContact", { card });
  }

  createGroup(title: string, members: readonly string[]): Promise<string> {
    return this.running.request("createGroup", { title, members });
  }

  /** Resolves when the message is persisted, as `conversation.send` does. `to`: an account or a group. */
  send(to: string, text: string): Promise<string> {
    return this.running.request("send", { to, text });
  }

  settled(timeoutMs = WAIT_MS): Promise<void> {
    return this.running.request("settled", { timeoutMs });
  }

  caughtUp(timeoutMs = WAIT_MS): Promise<void> {
    return this.running.request("caughtUp", { timeoutMs });
  }

  texts(conversationId: string): Promise<string[]> {
    return this.running.request("texts", { id: conversationId });
  }

  /** Waits until each of these texts is there at least once. */
  awaitTexts(conversationId: string, texts: readonly string[], timeoutMs = WAIT_MS): Promise<void> {
    return this.running.request("awaitTexts", { id: conversationId, texts, timeoutMs });
  }

  setRole(group: string, member: string, role: Role): Promise<void> {
    return this.running.request("setRole", { id: group, member, role });
  }

  remove(group: string, member: string): Promise<void> {
    return this.running.request("remove", { id: group, member });
  }

  migrate(group: string, step: "start" | "finish-now"): Promise<void> {
    return this.running.request("migrate", { id: group, step });
  }

  standing(group: string): Promise<Standing> {
    return this.running.request("standing", { id: group });
  }

  awaitActive(conversationId: string, timeoutMs = WAIT_MS): Promise<void> {
    return this.running.request("awaitActive", { id: conversationId, timeoutMs });
  }
}

/** Dispose of it to end every process, client and file that it started. */
export class Harness {
  readonly directory: string;
  private readonly options: HarnessOptions;
  private readonly devices: SimulatedDevice[] = [];
  private readonly clients: ClientProcess[] = [];
  private service: WorkerProcess | undefined;
  private servicePort = 0;

  private constructor(options: HarnessOptions) {
    this.options = options;
    this.directory = mkdtempSync(join(tmpdir(), "murmuration-"));
  }

  static async start(options: HarnessOptions = {}): Promise<Harness> {
    const harness = new Harness(options);
    try {
      await harness.startService();
    } catch (error) {
      await harness[Symbol.asyncDispose]();
      throw error;
    }
    return harness;
  }

  get port(): number {
    return this.servicePort;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.servicePort}`;
  }

  get servicePid(): number {
    return this.service?.pid ?? 0;
  }

  /** Starts the service on its data folder, on the port it had before. */
  async startService(): Promise<void> {
    this.service = new WorkerProcess(new URL("./service-worker.ts", import.meta.url));
    this.servicePort = await this.service.request<number>("start", {
      dataDirectory: join(this.directory, "service"),
      port: this.servicePort,
      logLevel: "silent",
      limits: { ...testLimits, ...this.options.limits },
    });
  }

  async killService(): Promise<void> {
    await this.service?.kill();
    this.service = undefined;
  }

  /** A registered, connected client in this process. */
  async join(name: string, options: DeviceOptions = {}): Promise<SimulatedDevice> {
    const path = join(this.directory, `device-${this.devices.length}.db`);
    const device = new SimulatedDevice(this, path, { name, ...options });
    this.devices.push(device);
    const client = await device.open();
    await client.register({ name });
    client.connection.start();
    await client.connection.caughtUp();
    return device;
  }

  /** A registered, connected client in a process of its own. */
  async joinProcess(name: string, settings: Partial<ClientSettings> = {}): Promise<ClientProcess> {
    const client = new ClientProcess({
      path: join(this.directory, `process-${this.clients.length}.db`),
      key: toHex(systemEnvironment.random(32)),
      origin: this.origin,
      name,
      settings: { ...testSettings, ...settings },
    });
    this.clients.push(client);
    await client.start();
    await client.caughtUp();
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const device of this.devices) await device.stop();
    for (const client of this.clients) await client.close();
    await this.service?.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

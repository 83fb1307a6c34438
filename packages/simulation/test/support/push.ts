/** A push gateway as a process of its own, and a Web Push service on this machine that speaks the real protocol. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemEnvironment } from "@murmuration/client-core";
import {
  type GatewayProcess,
  startGatewayProcess,
} from "../../../delivery-service/test/support/gateway-process.ts";
import { certificateFile, startLocalWebPush } from "../../../push-gateway/test/support/local-services.ts";
import { until } from "../../src/index.ts";

const SECRET = "what-the-two-processes-share-0123";
/** Longer than the delivery service gathers, reads and sends, and the gateway spreads. */
const QUIET_MS = 2_500;

type WebPush = Awaited<ReturnType<typeof startLocalWebPush>>["config"];

function startGateway(webPush: WebPush, directory: string, port?: number): Promise<GatewayProcess> {
  const { hosts, privateKey, publicKey, subject } = webPush;
  const settings = {
    DATA: directory,
    WAKE_SECRET: SECRET,
    CERTIFICATE_FILE: certificateFile,
    WINDOW_SECONDS: "1",
    SPREAD_MS: "50",
    WEB_PUSH_SUBJECT: subject,
    WEB_PUSH_PUBLIC_KEY: publicKey,
    WEB_PUSH_PRIVATE_KEY: privateKey,
    WEB_PUSH_HOSTS: hosts.join(","),
  };
  return startGatewayProcess(settings, port);
}

export class PushServices {
  private gateway: GatewayProcess;
  private readonly webPush: Awaited<ReturnType<typeof startLocalWebPush>>;
  private readonly directory: string;

  private constructor(
    gateway: GatewayProcess,
    webPush: Awaited<ReturnType<typeof startLocalWebPush>>,
    directory: string,
  ) {
    this.gateway = gateway;
    this.webPush = webPush;
    this.directory = directory;
  }

  static async start(): Promise<PushServices> {
    const directory = mkdtempSync(join(tmpdir(), "push-gateway-"));
    const webPush = await startLocalWebPush();
    return new PushServices(await startGateway(webPush.config, directory), webPush, directory);
  }

  /** The gateway loses its file, and with it every token and its key; it comes back at the same address. */
  async loseEverything(): Promise<void> {
    const port = Number(new URL(this.gateway.base).port);
    await this.gateway.terminate();
    rmSync(this.directory, { recursive: true });
    this.gateway = await startGateway(this.webPush.config, this.directory, port);
  }

  /** What the delivery service is configured with. */
  get config(): { readonly url: string; readonly secret: string } {
    return { url: this.gateway.base, secret: SECRET };
  }

  /** What an application hands in for a device of this name. */
  options(name: string) {
    const address = this.webPush.subscription(name);
    return { gateway: this.gateway.base, kind: "web-push", address } as const;
  }

  /** Who was woken since the last call of {@link forget}, each name once, in alphabetical order. */
  woken(): readonly string[] {
    const names = this.webPush.received.map(({ to }) => to.split("/").at(-1)!);
    return [...new Set(names)].sort();
  }

  /** What was under way so far is not counted any more. */
  async forget(): Promise<void> {
    await systemEnvironment.sleep(QUIET_MS);
    this.webPush.received.length = 0;
  }

  /** Waits until these and nobody else were woken, and a while longer for those who should not be. */
  async onlyWoken(...names: readonly string[]): Promise<void> {
    await until(() => names.every((name) => this.woken().includes(name)), 15_000, `woken: ${names}`);
    await systemEnvironment.sleep(QUIET_MS);
    const woken = this.woken();
    if (woken.join() !== [...names].sort().join()) throw new Error(`woken were: ${woken}`);
    this.webPush.received.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway.terminate();
    await this.webPush.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

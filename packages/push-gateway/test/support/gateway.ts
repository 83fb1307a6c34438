import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bytes, toBase64Url, utf8 } from "@murmuration/base";
import { PushGatewayClient, sealWakeHandle } from "@murmuration/wire/push";
import { createConfig, type PushGatewayConfig } from "../../src/config.ts";
import { type Replacements, type RunningPushGateway, startPushGateway } from "../../src/main.ts";

const WAKE_SECRET = "a-secret-between-two-processes-32";
const DAY_MS = 86_400_000;
export const today = (): number => Math.floor(Date.now() / DAY_MS);

/** A gateway on a directory of its own; `stop` removes both. */
export interface TestGateway extends RunningPushGateway {
  readonly base: string;
  readonly directory: string;
  readonly logged: readonly string[];
  readonly client: PushGatewayClient;
  /** A handle for a token, good for 30 days. */
  handle(tokenId: Bytes, mentionOnly?: boolean, expiryDay?: number): Promise<Bytes>;
  /** Asks for wake-ups as the delivery service does. Resolves with the status. */
  wake(handles: readonly Bytes[], mentioned?: boolean, secret?: string): Promise<number>;
  /** A counter of its metrics; 0 where it never counted. */
  count(name: string, label: string): Promise<number>;
  stop(): Promise<void>;
}

/** Starts a gateway that wakes at once and has a window of 200 ms, unless told otherwise. */
export async function startTestGateway(
  config: Partial<PushGatewayConfig>,
  replacements: Replacements = {},
): Promise<TestGateway> {
  const directory = config.dataDirectory ?? mkdtempSync(join(tmpdir(), "push-gateway-"));
  const logged: string[] = [];
  const write = (event: string, fields?: object) => void logged.push(JSON.stringify({ event, ...fields }));
  const gateway = await startPushGateway(
    createConfig({
      wakeSecret: utf8(WAKE_SECRET),
      pace: { windowMs: 200, spreadMs: 0 },
      retry: { firstMs: 20, maxMs: 100, tries: 4, lifetimeMs: DAY_MS },
      ...config,
      dataDirectory: directory,
    }),
    { log: { info: write, warn: write, error: write }, ...replacements },
  );
  const base = `http://127.0.0.1:${gateway.port}`;
  const client = new PushGatewayClient(base);
  return {
    ...gateway,
    base,
    directory,
    logged,
    client,
    async handle(tokenId, mentionOnly = false, expiryDay = today() + 30) {
      const { handleKey } = await client.info();
      return sealWakeHandle(handleKey, { tokenId, mentionOnly, expiryDay });
    },
    async wake(handles, mentioned = false, secret = WAKE_SECRET) {
      const wakes = handles.map((handle) => ({ handle: toBase64Url(handle), mentioned }));
      const response = await fetch(`${base}/v1/wake`, {
        method: "POST",
        headers: { authorization: `Bearer ${secret}` },
        body: JSON.stringify({ wakes }),
      });
      return response.status;
    },
    async count(name, label) {
      const text = await (await fetch(`${base}/metrics`)).text();
      const line = text
        .split("\n")
        .find((one) => one.startsWith(`push_gateway_${name}_total{label="${label}"}`));
      return Number(line?.split(" ")[1] ?? 0);
    },
    async stop() {
      await gateway.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

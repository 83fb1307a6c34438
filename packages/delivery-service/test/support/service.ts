import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Limits, limits } from "@murmuration/wire";
import { createInProcessValidator } from "../../src/adapters/in-process-validator.ts";
import { createConfig, type DeliveryServiceConfig, defaultTiming } from "../../src/config.ts";
import { type Replacements, type RunningDeliveryService, startDeliveryService } from "../../src/main.ts";
import type { Clock, Log } from "../../src/ports/environment.ts";
import type { ServiceTiming } from "../../src/service/context.ts";

const FREE = { burst: 1_000_000_000, perMinute: 1_000_000_000 };

/** Limits of the wire without rates, so that a test meets only the limit it is about. */
export const unhurried: Limits = {
  ...limits,
  rates: Object.fromEntries(Object.keys(limits.rates).map((name) => [name, FREE])) as Limits["rates"],
};

export interface TestServiceOptions extends Replacements {
  readonly limits?: Partial<Limits>;
  readonly timing?: Partial<ServiceTiming>;
  readonly config?: Partial<DeliveryServiceConfig>;
  /** Validates commits in a thread, as an operator's service does. */
  readonly thread?: boolean;
}

/** A service on a directory of its own; `stop` removes both. */
export interface TestService extends RunningDeliveryService {
  readonly directory: string;
  readonly databasePath: string;
  readonly base: string;
  readonly logged: readonly string[];
  stop(): Promise<void>;
}

export function temporaryDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "delivery-service-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export async function startTestService(options: TestServiceOptions = {}): Promise<TestService> {
  const directory = temporaryDirectory();
  const logged: string[] = [];
  const write: Log["info"] = (event, fields) => void logged.push(JSON.stringify({ event, ...fields }));
  const service = await startDeliveryService(
    createConfig({
      dataDirectory: directory.path,
      limits: { ...unhurried, ...options.limits },
      timing: { ...defaultTiming, ...options.timing },
      ...options.config,
    }),
    {
      log: { info: write, warn: write, error: write },
      // A thread for each service would cost each test a second.
      ...(options.thread !== true && { validator: createInProcessValidator() }),
      ...options,
    },
  );
  return {
    ...service,
    directory: directory.path,
    databasePath: join(directory.path, "delivery-service.sqlite"),
    base: `http://127.0.0.1:${service.port}`,
    logged,
    async stop() {
      await service.close();
      directory.remove();
    },
  };
}

/** A clock that a test moves; timers run on the machine's. */
export function movableClock(startMs: number): Clock & { advance(ms: number): void } {
  let nowMs = startMs;
  return {
    now: () => nowMs,
    after(delayMs, run) {
      const timer = setTimeout(run, delayMs);
      timer.unref();
      return () => clearTimeout(timer);
    },
    advance(ms) {
      nowMs += ms;
    },
  };
}

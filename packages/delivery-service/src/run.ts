import { systemClock } from "./adapters/system-environment.ts";
import type { DeliveryServiceConfig } from "./config.ts";
import { startDeliveryService } from "./main.ts";

/** Closing files and connections takes milliseconds, unless an engine hangs; what was accepted is durable either way. */
const CLOSE_MS = 2_000;

/**
 * Runs a service until `signal` aborts, drains it and closes it. Resolves at the latest two seconds after the configured
 * time for draining; what an engine that hangs still holds open then must not keep the process.
 */
export async function runUntilStopped(
  config: DeliveryServiceConfig,
  signal: AbortSignal,
  listening: (port: number) => void,
): Promise<void> {
  const service = await startDeliveryService(config);
  listening(service.port);
  if (!signal.aborted) {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }
  const { drainTimeoutMs } = config.timing;
  const closed = service.drain().then(() => service.close());
  // The clock's timers do not keep the process alive.
  const late = new Promise<void>((resolve) => systemClock.after(drainTimeoutMs + CLOSE_MS, resolve));
  await Promise.race([closed, late]);
}

import { UsageError, utf8 } from "@murmuration/base";
import { type Limits, limits } from "@murmuration/wire";
import type { ServiceTiming } from "./service/context.ts";

/** Everything an operator decides. */
export interface DeliveryServiceConfig {
  /** Directory of the embedded store; created when absent. */
  readonly dataDirectory: string;
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  readonly registration:
    | { readonly kind: "open" }
    | { readonly kind: "invite"; readonly codes: readonly Uint8Array[] };
  readonly logLevel: "debug" | "info" | "warn" | "error" | "silent";
  /** TCP connections at a time, of all kinds. Keep it below the limit of open files. */
  readonly maxConnections: number;
  /** Proxies in front whose X-Forwarded-For is believed. */
  readonly trustedProxies: number;
  /** Memory for the trees of groups in use, bytes. About 1.5 KB a member; what does not fit is loaded again. */
  readonly validatorBytes: number;
  readonly limits: Limits;
  readonly timing: ServiceTiming;
}

const MIB = 1024 * 1024;

export const defaultTiming: ServiceTiming = {
  certificateLifetimeMs: 24 * 3_600_000,
  slowReaderMs: 10_000,
  reconnectAfterMs: 1_000,
  drainTimeoutMs: 10_000,
};

/** A configuration with defaults for what `given` leaves out: what tests and the command line start from. */
export function createConfig(
  given: Pick<DeliveryServiceConfig, "dataDirectory"> & Partial<DeliveryServiceConfig>,
): DeliveryServiceConfig {
  return {
    host: "127.0.0.1",
    port: 0,
    registration: { kind: "open" },
    logLevel: "info",
    maxConnections: 16_000,
    trustedProxies: 0,
    validatorBytes: 256 * MIB,
    limits,
    timing: defaultTiming,
    ...given,
  };
}

/** Characters; shorter codes can be guessed. */
const MIN_INVITE_CODE = 16;
const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

/** Reads the configuration of a service process. Throws UsageError `config/invalid` that names the key. */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): DeliveryServiceConfig {
  const text = (key: string, fallback: string) => environment[`MURMURATION_${key}`] || fallback;
  const integer = (key: string, fallback: number, max: number) => {
    const value = text(key, String(fallback));
    if (!/^\d{1,9}$/.test(value) || Number(value) > max) throw invalid(key);
    return Number(value);
  };
  const logLevel = LOG_LEVELS.find((level) => level === text("LOG_LEVEL", "info"));
  if (logLevel === undefined) throw invalid("LOG_LEVEL");
  return createConfig({
    dataDirectory: text("DATA", "murmuration-data"),
    host: text("HOST", "127.0.0.1"),
    port: integer("PORT", 8080, 65_535),
    registration: readRegistration(text("REGISTRATION", "open"), text("INVITE_CODES", "")),
    logLevel,
    maxConnections: integer("MAX_CONNECTIONS", 16_000, 1_000_000),
    trustedProxies: integer("TRUSTED_PROXIES", 0, 16),
    validatorBytes: integer("VALIDATOR_MIB", 256, 65_536) * MIB,
  });
}

function readRegistration(kind: string, listedCodes: string): DeliveryServiceConfig["registration"] {
  if (kind === "open") return { kind };
  if (kind !== "invite") throw invalid("REGISTRATION");
  const codes = listedCodes.split(",").map((code) => code.trim());
  if (codes.some((code) => code.length < MIN_INVITE_CODE)) throw invalid("INVITE_CODES");
  return { kind, codes: codes.map(utf8) };
}

function invalid(key: string): UsageError {
  return new UsageError("config/invalid", `MURMURATION_${key}`);
}

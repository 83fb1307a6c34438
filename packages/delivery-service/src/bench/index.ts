/**
 * The service without sockets, for benchmarks only: everything from a frame's bytes to the bytes that would be handed
 * to a socket, on the embedded store, in the calling process. What is left out is the kernel's part and that of the
 * WebSocket library.
 */
import type { Bytes } from "@murmuration/base";
import { type Limits, limits } from "@murmuration/wire";
import { createInProcessValidator } from "../adapters/in-process-validator.ts";
import { MemoryGroupMemory } from "../adapters/memory-group-memory.ts";
import { MemoryGroupSignals } from "../adapters/memory-group-signals.ts";
import { MemoryMailboxSignals } from "../adapters/memory-mailbox-signals.ts";
import { MemoryPresence } from "../adapters/memory-presence.ts";
import { MemoryRateLimits } from "../adapters/memory-rate-limits.ts";
import { MemorySpentChallenges } from "../adapters/memory-spent-challenges.ts";
import { createPinoLog } from "../adapters/pino-log.ts";
import { createPrometheusMetrics } from "../adapters/prometheus-metrics.ts";
import { openRegistration } from "../adapters/registration-verifiers.ts";
import { openSqliteStores } from "../adapters/sqlite-stores.ts";
import { systemClock, systemRandom } from "../adapters/system-environment.ts";
import { defaultTiming } from "../config.ts";
import { Connections } from "../service/connections.ts";
import type { ServiceContext } from "../service/context.ts";
import { openAuthority } from "../service/delivery-service.ts";
import { GroupHub } from "../service/group-hub.ts";

export { openSocketServer } from "../adapters/open-socket-server.ts";
export { sha256 } from "../core/submit.ts";
export type { NewEnvelope } from "../ports/mailboxes.ts";
export type { Connection as SocketConnection } from "../ports/socket-server.ts";
export type { ServiceContext } from "../service/context.ts";

/** One client's end of a connection that is no socket. */
export interface BenchConnection {
  /** A frame of the client arrives. */
  receive(frame: Bytes): void;
  close(): void;
}

export interface BenchService {
  readonly context: ServiceContext;
  /** `sent` is called with each frame that would go to this client. */
  connect(sent: (frame: Uint8Array) => void): BenchConnection;
  close(): Promise<void>;
}

/** Memory for followers: one group of 50,000 members fits. */
const VALIDATOR_BYTES = 512 * 1024 * 1024;

/**
 * Limits under which a benchmark is not slowed down for being one client that does the work of thousands. Those of
 * frames stay: a message to 10,000 mailboxes is 40 submits here as anywhere.
 */
function benchLimits(): Limits {
  const generous = { burst: 1e15, perMinute: 1e15 };
  const rates = Object.fromEntries(Object.keys(limits.rates).map((name) => [name, generous]));
  return {
    ...limits,
    unidentifiedConnections: 1e9,
    connectionsPerAddress: 1e9,
    unacknowledgedEnvelopes: 1e9,
    unacknowledgedEntries: 1e9,
    mailboxBytes: 1e15,
    mailboxEnvelopes: 1e9,
    // No turn passes to the next member while something is measured.
    turnMs: 24 * 3_600_000,
    rates: rates as unknown as Limits["rates"],
  };
}

/** Opens the service on a directory, which it creates. */
export async function openBenchService(dataDirectory: string): Promise<BenchService> {
  const stores = openSqliteStores(dataDirectory);
  const validator = createInProcessValidator(VALIDATOR_BYTES);
  const context: ServiceContext = {
    stores,
    clock: systemClock,
    random: systemRandom,
    log: createPinoLog("silent"),
    metrics: createPrometheusMetrics(),
    signals: new MemoryMailboxSignals(),
    groupSignals: new MemoryGroupSignals(),
    presence: new MemoryPresence(),
    groupMemory: new MemoryGroupMemory(systemClock),
    spentChallenges: new MemorySpentChallenges(systemClock),
    // Nobody is asked to commit: a turn that somebody else holds would refuse the commits that are measured.
    validator: { ...validator, nextTurn: async () => undefined },
    rateLimits: new MemoryRateLimits(systemClock),
    probes: [],
    registrationVerifier: openRegistration,
    pushGateway: undefined,
    limits: benchLimits(),
    storeId: await stores.mailboxes.storeId(),
    authority: await openAuthority(stores.certificates),
    challengeKey: systemRandom.bytes(32),
    markKey: systemRandom.bytes(32),
    timing: defaultTiming,
  };
  const hub = new GroupHub(context);
  const connections = new Connections(hub);
  return {
    context,
    connect(sent) {
      const handler = connections.opened({
        remoteAddress: "127.0.0.1",
        bufferedBytes: () => 0,
        send: sent,
        setReading: () => {},
        close: () => {},
        terminate: () => {},
      });
      return { receive: (frame) => handler.received(frame), close: () => handler.closed("peer") };
    },
    async close() {
      await hub.close();
      await context.validator.close();
      await stores.close();
    },
  };
}

/** How much of everything is measured. */
import type { FanoutLoad } from "./fan-out.ts";
import type { MemoryResult } from "./report.ts";

export interface Plan {
  readonly members: number;
  /** Of a message before it is encrypted, bytes. */
  readonly payloadBytes: number;
  readonly fanout: FanoutLoad;
  readonly appends: {
    readonly groups: readonly number[];
    readonly payloadBytes: readonly number[];
    readonly seconds: number;
    readonly warmUpSeconds: number;
  };
  readonly storm: {
    readonly devices: number;
    readonly communities: number;
    readonly envelopes: number;
    readonly entries: number;
    readonly limitSeconds: number;
  };
  readonly idle: number;
  readonly idleKinds: readonly MemoryResult["kind"][];
  /** Processes of load clients. */
  readonly processes: number;
}

export function planOf(members: number, devices: number, idle: number): Plan {
  return {
    members,
    payloadBytes: 256,
    fanout: {
      messagesPerSecond: 10,
      latencySeconds: 30,
      inFlight: 16,
      throughputSeconds: 6,
      warmUpSeconds: 3,
    },
    appends: { groups: [1, 64], payloadBytes: [64, 1024], seconds: 4, warmUpSeconds: 1 },
    storm: { devices, communities: Math.ceil(devices / 1000), envelopes: 10, entries: 10, limitSeconds: 60 },
    idle,
    idleKinds: ["said Hello", "mailbox of a device", "reader of a group"],
    processes: 4,
  };
}

/** A slice of everything that takes seconds: whether it works, not how fast. */
export const quickPlan: Plan = {
  members: 24,
  payloadBytes: 256,
  fanout: {
    messagesPerSecond: 10,
    latencySeconds: 1,
    inFlight: 16,
    throughputSeconds: 0.5,
    warmUpSeconds: 0.2,
  },
  appends: { groups: [1, 4], payloadBytes: [64], seconds: 0.4, warmUpSeconds: 0.1 },
  storm: { devices: 40, communities: 2, envelopes: 3, entries: 3, limitSeconds: 20 },
  idle: 40,
  idleKinds: ["reader of a group"],
  processes: 2,
};

export { CrashPlan, Killed } from "./crash-points.ts";
export {
  type Direction,
  type FaultCounts,
  FaultProxy,
  type FaultProxyOptions,
  startFaultProxy,
} from "./fault-proxy.ts";
export { FrameTap } from "./frame-tap.ts";
export { ClientProcess, Harness, type HarnessOptions } from "./harness.ts";
export type { LinkShape } from "./link-shape.ts";
export { ProcessEnded, WorkerFailure, WorkerProcess } from "./processes.ts";
export { type SeededRandom, seededRandom } from "./seeded-random.ts";
export { ShiftedClock } from "./shifted-clock.ts";
export {
  type DeviceOptions,
  introduce,
  SimulatedDevice,
  testLimits,
  textsOf,
  until,
  World,
  type WorldOptions,
} from "./world.ts";

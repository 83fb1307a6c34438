export { CrashPlan, Killed } from "./crash-points.ts";
export { FrameTap } from "./frame-tap.ts";
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

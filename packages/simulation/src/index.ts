export { CrashPlan, Killed } from "./crash-points.ts";
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

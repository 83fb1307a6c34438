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

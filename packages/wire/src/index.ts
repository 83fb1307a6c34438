export * from "./authorization.ts";
export {
  type ClientBody,
  type ClientFrame,
  decodeClientFrame,
  decodeServiceFrame,
  encodeClientFrame,
  encodeServiceFrame,
  type Frame,
  FrameRejection,
  type ServiceBody,
  type ServiceFrame,
} from "./frames.ts";
export * from "./group-access.ts";
export { encodeGroupMarkInput, GROUP_MARK_BYTES } from "./group-marks.ts";
export { type Limits, limits, type Rate } from "./limits.ts";
export * from "./messages.ts";
export * from "./migration.ts";
export * from "./rejections.ts";
export * from "./routes.ts";
export { decodeMessage, encodeMessage, type MessageOf, type MessageType } from "./shape.ts";
export * from "./version.ts";

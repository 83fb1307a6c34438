export {
  ACCESS_KEY_BYTES,
  deriveRecipientAccessKey,
  PROFILE_KEY_BYTES,
} from "./access-key.ts";
export * from "./api.ts";
export {
  ATTACHMENT_MAC_KEY_BYTES,
  attachmentChunkBytes,
  createAttachmentDigester,
  createAttachmentValidator,
} from "./attachment-mac.ts";
export { verifyDeviceList } from "./device-list.ts";
export { openPairwiseEngine } from "./engine.ts";
export { verifyXEdDsa } from "./public-keys.ts";
export { verifyAlternateIdentity, verifyDeviceSignature } from "./server/uploads.ts";

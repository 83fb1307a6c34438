/**
 * Sender keys and sealed sender v2, for the comparison in the benchmarks only. Murmuration does not use them:
 * below 256 members a message is one session ciphertext for each device, above that MLS takes over. Sealed
 * sender v2 would also need one identity key for all devices of an account.
 */
export {
  ContentHint,
  groupDecrypt,
  groupEncrypt,
  IdentityKeyPair,
  IdentityKeyStore,
  PreKeyBundle,
  ProtocolAddress,
  processPreKeyBundle,
  processSenderKeyDistributionMessage,
  SenderKeyDistributionMessage,
  SenderKeyRecord,
  SenderKeyStore,
  SessionStore,
  sealedSenderMultiRecipientEncrypt,
  UnidentifiedSenderMessageContent,
} from "@signalapp/libsignal-client";
export { default as SealedSenderMultiRecipientMessage } from "@signalapp/libsignal-client/dist/SealedSenderMultiRecipientMessage.js";
export { openSealedSenderFloor } from "./sealed-floor.ts";

/**
 * libsignal as the benchmarks use it, with sender keys and sealed sender v2. Murmuration does not use those two:
 * below 256 members a message is one session ciphertext for each device, above that MLS takes over. Sealed
 * sender v2 would also need one identity key for all devices of an account.
 */
export {
  ContentHint,
  groupDecrypt,
  groupEncrypt,
  IdentityChange,
  IdentityKeyPair,
  IdentityKeyStore,
  KEMKeyPair,
  KyberPreKeyRecord,
  KyberPreKeyStore,
  PreKeyBundle,
  type PreKeyRecord,
  PreKeySignalMessage,
  PreKeyStore,
  PrivateKey,
  ProtocolAddress,
  PublicKey,
  processPreKeyBundle,
  processSenderKeyDistributionMessage,
  SenderCertificate,
  SenderKeyDistributionMessage,
  SenderKeyRecord,
  SenderKeyStore,
  ServerCertificate,
  SessionRecord,
  SessionStore,
  SignalMessage,
  SignedPreKeyRecord,
  SignedPreKeyStore,
  sealedSenderDecryptToUsmc,
  sealedSenderEncryptMessage,
  sealedSenderMultiRecipientEncrypt,
  signalDecrypt,
  signalDecryptPreKey,
  signalEncrypt,
  UnidentifiedSenderMessageContent,
} from "@signalapp/libsignal-client";
export { default as SealedSenderMultiRecipientMessage } from "@signalapp/libsignal-client/dist/SealedSenderMultiRecipientMessage.js";
export { createListedDevice, signDeviceList } from "../device-list.ts";
export { openSealedSenderFloor } from "./sealed-floor.ts";

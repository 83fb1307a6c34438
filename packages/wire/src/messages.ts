/** Every message of proto/*.proto with its sizes. The .proto files say what each field means. */
import {
  accountId,
  type DeviceId,
  type EnvelopeId,
  groupId,
  ID_BYTES,
  MAX_DEVICE_ID,
  storeId,
  submitId,
} from "@murmuration/base";
import { GROUP_MARK_BYTES } from "./group-marks.ts";
import { limits } from "./limits.ts";
import { migrationStates } from "./migration.ts";
import {
  bool,
  branded,
  brandedNumber,
  bytes,
  choice,
  list,
  type MessageOf,
  message,
  nested,
  optional,
  text,
  uint32,
  uint64,
} from "./shape.ts";

const account = branded(ID_BYTES, accountId);
const group = branded(ID_BYTES, groupId);
const store = branded(ID_BYTES, storeId);
const storeMark = bytes(limits.storeMarkBytes);
const submit = branded(ID_BYTES, submitId);
const device = brandedNumber<DeviceId>(uint32(1, MAX_DEVICE_ID));
const envelope = brandedNumber<EnvelopeId>(uint64(0));
const registration = uint32(1, limits.registrationId);
const publicKey = bytes(limits.publicKeyBytes);
const signature = bytes(limits.signatureBytes);
const fenceBytes = bytes(16);
const leaseToken = bytes(limits.leaseTokenBytes);
const accessKey = bytes(limits.accessKeyBytes);
const ciphertext = bytes({ max: limits.envelopeBytes });
const deviceList = bytes({ max: limits.deviceListBytes });
const groupBlob = bytes({ max: limits.groupRecordBytes });
const treeHash = bytes(limits.treeHashBytes);
const groupMessage = bytes({ max: limits.groupMessageBytes });
const groupCommitBytes = bytes({ max: limits.groupCommitBytes });
const groupInfoBytes = bytes({ max: limits.groupInfoBytes });
const groupProposalBytes = bytes({ max: limits.groupProposalBytes });
/** May be empty: a commit that lifts the last ban. */
const banList = bytes({ min: 0, max: limits.banListBytes });
const keyPackageBytes = bytes({ max: limits.keyPackageBytes });
/** MLS signatures and signature keys: their length is the cipher suite's. */
const mlsSignature = bytes({ max: limits.mlsSignatureBytes });
const mlsSignatureKey = bytes({ max: limits.mlsSignatureKeyBytes });
const pushHandle = bytes(limits.pushHandleBytes);
const keyId = uint32(1, 0xff_ffff);
const version = uint32(1, 0xffff);
const devices = limits.devicesPerAccount;

// ---- common.proto ----

export const actions = {
  retry: 1,
  "retry-later": 2,
  "fix-and-resend": 3,
  "repair-devices": 4,
  "re-register": 5,
  "give-up": 6,
} as const;
/** What a client should do about a rejection. */
export type Action = keyof typeof actions;

export const rejection = message("Rejection", {
  code: text(/^[a-z0-9-]{1,32}\/[a-z0-9-]{1,64}$/),
  action: choice("Action", actions),
  retryAfterMs: optional(uint32()),
});
export const deviceAuth = message("DeviceAuth", {
  accountId: account,
  deviceId: device,
  token: bytes(limits.tokenBytes),
});
export const signedPreKey = message("SignedPreKey", { keyId, publicKey, signature });
export const oneTimePreKey = message("OneTimePreKey", { keyId, publicKey });
export const kyberPreKey = message("KyberPreKey", {
  keyId,
  publicKey: bytes(limits.kyberPublicKeyBytes),
  signature,
});

// ---- frames.proto, from the client ----

export const hello = message("Hello", {
  versions: list(version, limits.versionsPerHello, 1),
  auth: optional(nested(deviceAuth)),
  storeMark: optional(storeMark),
});
export const acknowledge = message("Acknowledge", {
  throughEnvelopeId: brandedNumber<EnvelopeId>(uint64(1)),
});
export const sealedCiphertext = message("SealedCiphertext", {
  deviceId: device,
  registrationId: registration,
  ciphertext,
});
export const sealedRecipient = message("SealedRecipient", {
  accountId: account,
  accessKey,
  devices: list(nested(sealedCiphertext), devices, 1),
});
export const groupFence = message("GroupFence", { groupId: group, fence: fenceBytes });
export const submitSealed = message("SubmitSealed", {
  submitId: submit,
  recipients: list(nested(sealedRecipient), limits.recipientsPerSubmit, 1),
  fence: optional(nested(groupFence)),
  ephemeral: bool(),
});
export const identifiedCiphertext = message("IdentifiedCiphertext", {
  deviceId: device,
  registrationId: registration,
  ciphertext,
});
export const submitIdentified = message("SubmitIdentified", {
  submitId: submit,
  accountId: account,
  devices: list(nested(identifiedCiphertext), devices, 1),
});
export const ping = message("Ping", {});

// ---- frames.proto, from the delivery service ----

export const connectionLimits = message("ConnectionLimits", {
  frameBytes: uint32(1),
  envelopeBytes: uint32(1),
  recipientsPerSubmit: uint32(1),
  pingIntervalMs: uint32(1),
});
export const helloReply = message("HelloReply", {
  version,
  storeId: store,
  challenge: bytes(limits.challengeBytes),
  serverTimeMs: uint64(),
  limits: nested(connectionLimits),
  lastEnvelopeId: optional(envelope),
  storeMark: optional(storeMark),
});
export const sealedContent = message("SealedContent", { ciphertext });
export const identifiedContent = message("IdentifiedContent", {
  senderAccountId: account,
  senderDeviceId: device,
  ciphertext,
});
export const welcomeContent = message("WelcomeContent", {
  groupId: group,
  welcome: bytes({ max: limits.trimmedWelcomeBytes }),
  treeHash,
  sequence: uint64(1),
});
/** One of `sealed`, `identified` and `welcome` is present: `frames.ts` checks it. */
export const envelopeMessage = message("Envelope", {
  envelopeId: envelope,
  serverTimeMs: uint64(),
  sealed: optional(nested(sealedContent)),
  identified: optional(nested(identifiedContent)),
  welcome: optional(nested(welcomeContent)),
});
export const deliver = message("Deliver", {
  envelopes: list(nested(envelopeMessage), limits.envelopesPerDeliver, 1),
  storeMark: optional(storeMark),
});
export const queueEmpty = message("QueueEmpty", {});
export const resumeHint = message("ResumeHint", { retryAfterMs: uint32() });
export const drain = message("Drain", { retryAfterMs: uint32() });
export const submitAccepted = message("SubmitAccepted", { serverTimeMs: uint64(), repeatedSubmit: bool() });
export const accountMismatch = message("AccountMismatch", {
  accountId: account,
  unknownAccount: bool(),
  missingDevices: list(device, devices),
  extraDevices: list(device, devices),
  staleDevices: list(device, devices),
  accessDenied: bool(),
  mailboxFull: bool(),
});
export const submitMismatch = message("SubmitMismatch", {
  accounts: list(nested(accountMismatch), limits.recipientsPerSubmit, 1),
});
export const acknowledged = message("Acknowledged", { throughEnvelopeId: envelope });
export const pong = message("Pong", { storeMark: optional(storeMark) });
export const preKeysLow = message("PreKeysLow", { oneTimePreKeys: uint32(), oneTimeKyberPreKeys: uint32() });

// ---- groups.proto, from the client ----

export const groupCreate = message("GroupCreate", {
  groupId: group,
  groupInfo: groupInfoBytes,
  ratchetTree: bytes({ max: limits.keyPackageBytes }),
});
export const groupMark = message("GroupMark", { sequence: uint64(1), hash: bytes(GROUP_MARK_BYTES) });
export const groupAccess = message("GroupAccess", {
  groupId: group,
  epoch: uint64(),
  leafIndex: uint32(),
  signature: mlsSignature,
  afterSequence: optional(uint64()),
  marks: list(nested(groupMark), limits.marksPerAccess),
});
export const groupAcknowledge = message("GroupAcknowledge", { groupId: group, throughSequence: uint64(1) });
export const groupMentions = message("GroupMentions", {
  leaves: list(uint32(), limits.mentionsPerMessage),
  everybody: bool(),
});
export const groupSubmit = message("GroupSubmit", {
  groupId: group,
  submitId: submit,
  message: groupMessage,
  mentions: optional(nested(groupMentions)),
});
export const groupPushHandle = message("GroupPushHandle", { groupId: group, handle: optional(pushHandle) });
export const welcomeRecipient = message("WelcomeRecipient", { accountId: account, deviceId: device });
export const groupCommit = message("GroupCommit", {
  groupId: group,
  commit: groupCommitBytes,
  groupInfo: groupInfoBytes,
  welcome: optional(bytes({ max: limits.welcomeBytes })),
  recipients: list(nested(welcomeRecipient), limits.addsPerCommit),
  turn: optional(uint64(1)),
  banList: optional(banList),
});
export const groupPropose = message("GroupPropose", { groupId: group, proposal: groupProposalBytes });
export const groupTurnRelease = message("GroupTurnRelease", { groupId: group, turn: uint64(1) });
export const groupLeafProof = message("GroupLeafProof", {
  signatureKey: mlsSignatureKey,
  signature: mlsSignature,
});
export const groupLinkProof = message("GroupLinkProof", { linkId: bytes(ID_BYTES), signature });
export const groupExpectedProof = message("GroupExpectedProof", {
  signatureKey: mlsSignatureKey,
  credential: bytes(limits.memberCredentialBytes),
  signature: mlsSignature,
});
export const groupInfoRequest = message("GroupInfoRequest", {
  groupId: group,
  leaf: optional(nested(groupLeafProof)),
  link: optional(nested(groupLinkProof)),
  expected: optional(nested(groupExpectedProof)),
});
export const groupBan = message("GroupBan", {
  groupId: group,
  leafIndex: uint32(),
  orderId: bytes(ID_BYTES),
  signatureKeys: list(mlsSignatureKey, limits.leavesPerAccount, 1),
  signature: mlsSignature,
});
export const groupRefuse = message("GroupRefuse", {
  groupId: group,
  sequence: uint64(1),
  signature: mlsSignature,
  commitHash: bytes(32),
});

export const groupPastCommit = message("GroupPastCommit", {
  commit: groupCommitBytes,
  proposals: list(groupProposalBytes, limits.pendingProposals),
  banList: optional(banList),
});
export const groupRefeed = message("GroupRefeed", {
  groupId: group,
  commits: list(nested(groupPastCommit), limits.commitsPerRefeed),
  groupInfo: optional(groupInfoBytes),
  agreedSequence: uint64(),
});

// ---- groups.proto, from the delivery service ----

export const groupCreated = message("GroupCreated", { lastSequence: uint64() });
export const groupAccessGranted = message("GroupAccessGranted", {
  epoch: uint64(),
  firstSequence: uint64(),
  lastSequence: uint64(),
  removed: bool(),
  agreedSequence: uint64(),
  commitHash: optional(bytes(32)),
});
export const groupApplication = message("GroupApplication", { message: groupMessage });
export const groupProposal = message("GroupProposal", { proposal: groupProposalBytes });
export const groupCommitEntry = message("GroupCommitEntry", {
  commit: groupCommitBytes,
  banList: optional(banList),
  partedSequence: optional(uint64()),
});
export const groupRefusal = message("GroupRefusal", { leafIndex: uint32(), signature: mlsSignature });
/** Refusals may be missing on the wire: what proves too little is for the client to judge, not for its decoder. */
export const groupVoid = message("GroupVoid", {
  sequence: uint64(1),
  refusals: list(nested(groupRefusal), limits.refusalsPerVoid),
});
/** Exactly one content is present: `frames.ts` checks it. */
export const groupEntry = message("GroupEntry", {
  sequence: uint64(1),
  serverTimeMs: uint64(),
  application: optional(nested(groupApplication)),
  proposal: optional(nested(groupProposal)),
  commit: optional(nested(groupCommitEntry)),
  void: optional(nested(groupVoid)),
});
export const groupEntries = message("GroupEntries", {
  groupId: group,
  entries: list(nested(groupEntry), limits.entriesPerDeliver, 1),
  lastSequence: uint64(1),
});
export const groupSubmitAccepted = message("GroupSubmitAccepted", {
  sequence: uint64(1),
  serverTimeMs: uint64(),
  repeatedSubmit: bool(),
});
export const groupCommitAccepted = message("GroupCommitAccepted", {
  sequence: uint64(1),
  epoch: uint64(1),
  repeatedCommit: bool(),
});
export const groupCommitLost = message("GroupCommitLost", {
  epoch: uint64(),
  entries: list(nested(groupEntry), limits.entriesPerCommitLost),
  proposals: list(groupProposalBytes, limits.pendingProposals),
  place: uint32(),
  turn: optional(uint64(1)),
  turnExpiresInMs: optional(uint32()),
});
export const groupProposeAccepted = message("GroupProposeAccepted", {});
export const turnReasons = { line: 1, proposals: 2, "warm-up": 3, ban: 4 } as const;
/** Why a turn was granted. */
export type TurnReason = keyof typeof turnReasons;
export const groupTurn = message("GroupTurn", {
  groupId: group,
  turn: uint64(1),
  reason: choice("TurnReason", turnReasons),
  expiresInMs: uint32(),
  proposals: list(groupProposalBytes, limits.pendingProposals),
  bannedLeaves: list(uint32(), limits.bannedLeavesPerTurn),
});
export const groupInfoReply = message("GroupInfoReply", {
  epoch: uint64(),
  lastSequence: uint64(),
  groupInfo: groupInfoBytes,
  treeHash,
  banList: optional(banList),
});
export const groupDone = message("GroupDone", {});
export const keyPackagesLow = message("KeyPackagesLow", { keyPackages: uint32() });

// ---- http.proto ----

export const serviceInfo = message("ServiceInfo", {
  versions: list(version, limits.versionsPerHello, 1),
  storeId: store,
  certificateTrustRoot: publicKey,
  serverTimeMs: uint64(),
});
export const newDevice = message("NewDevice", {
  deviceId: device,
  registrationId: registration,
  identityKey: publicKey,
  tokenHash: bytes(limits.tokenBytes),
});
export const preKeyUpload = message("PreKeyUpload", {
  uploadId: bytes(ID_BYTES),
  signedPreKey: optional(nested(signedPreKey)),
  lastResortKyberPreKey: optional(nested(kyberPreKey)),
  oneTimePreKeys: list(nested(oneTimePreKey), limits.oneTimePreKeysPerUpload),
  oneTimeKyberPreKeys: list(nested(kyberPreKey), limits.oneTimePreKeysPerUpload),
  replace: bool(),
});
export const registerRequest = message("RegisterRequest", {
  accountId: account,
  accountIdentityKey: publicKey,
  deviceList,
  device: nested(newDevice),
  accessKey,
  preKeys: nested(preKeyUpload),
  inviteCode: optional(bytes({ max: limits.inviteCodeBytes })),
});
export const registerReply = message("RegisterReply", { storeId: store, certificateTrustRoot: publicKey });
export const updateDevicesRequest = message("UpdateDevicesRequest", {
  deviceList,
  added: list(nested(newDevice), devices),
});
export const deviceListReply = message("DeviceListReply", { accountIdentityKey: publicKey, deviceList });
export const preKeyCounts = message("PreKeyCounts", {
  oneTimePreKeys: uint32(),
  oneTimeKyberPreKeys: uint32(),
});
export const bundleRequest = message("BundleRequest", { deviceIds: list(device, devices) });
export const preKeyBundle = message("PreKeyBundle", {
  deviceId: device,
  registrationId: registration,
  identityKey: publicKey,
  signedPreKey: nested(signedPreKey),
  oneTimePreKey: optional(nested(oneTimePreKey)),
  kyberPreKey: nested(kyberPreKey),
});
export const bundleReply = message("BundleReply", {
  accountIdentityKey: publicKey,
  deviceList,
  bundles: list(nested(preKeyBundle), devices, 1),
});
export const certificateReply = message("CertificateReply", {
  certificate: bytes({ max: limits.certificateBytes }),
  expiresAtMs: uint64(1),
});
export const profileUpdate = message("ProfileUpdate", {
  accessKey,
  profile: bytes({ min: 0, max: limits.profileBytes }),
});
export const profileReply = message("ProfileReply", { profile: bytes({ min: 0, max: limits.profileBytes }) });
export const challengeReply = message("ChallengeReply", {
  challenge: bytes(limits.challengeBytes),
  validForMs: uint32(1),
});
const migrationState = choice("MigrationState", migrationStates);
/** Of a migration, and not of the group key: from 1. */
const migrationGeneration = uint32(1);
export const groupMigration = message("GroupMigration", {
  state: migrationState,
  generation: migrationGeneration,
  leaseLeftMs: uint32(),
});
export const groupMigrationStep = message("GroupMigrationStep", {
  state: migrationState,
  generation: migrationGeneration,
  leaseToken: optional(leaseToken),
  newLeaseToken: optional(leaseToken),
});
export const groupRecord = message("GroupRecord", {
  revision: uint64(1),
  blob: groupBlob,
  migration: optional(nested(groupMigration)),
});
export const groupGeneration = message("GroupGeneration", { accessPublicKey: bytes(32), fence: fenceBytes });
export const groupWriteRequest = message("GroupWriteRequest", {
  expectedRevision: uint64(),
  blob: groupBlob,
  generation: optional(nested(groupGeneration)),
  migration: optional(nested(groupMigrationStep)),
});
export const groupWriteReply = message("GroupWriteReply", {
  revision: uint64(1),
  leaseLeftMs: optional(uint32()),
});
export const groupLeaseRenewal = message("GroupLeaseRenewal", {
  generation: migrationGeneration,
  leaseToken,
});
export const groupLeaseReply = message("GroupLeaseReply", { leaseLeftMs: uint32() });
export const keyPackageUpload = message("KeyPackageUpload", {
  uploadId: bytes(ID_BYTES),
  keyPackages: list(keyPackageBytes, limits.keyPackagesPerUpload),
  lastResort: optional(keyPackageBytes),
  replace: bool(),
});
export const keyPackageCounts = message("KeyPackageCounts", { keyPackages: uint32(), lastResort: bool() });
export const keyPackageClaimRequest = message("KeyPackageClaimRequest", {
  accountIds: list(account, limits.accountsPerClaim, 1),
});
export const claimedKeyPackage = message("ClaimedKeyPackage", {
  deviceId: device,
  keyPackage: keyPackageBytes,
});
export const claimedAccount = message("ClaimedAccount", {
  accountId: account,
  unknownAccount: bool(),
  keyPackages: list(nested(claimedKeyPackage), devices),
  devicesWithout: list(device, devices),
});
export const keyPackageClaimReply = message("KeyPackageClaimReply", {
  accounts: list(nested(claimedAccount), limits.accountsPerClaim, 1),
});
export const pushHandleUpload = message("PushHandleUpload", { handle: pushHandle });

export type Rejection = MessageOf<typeof rejection>;
export type DeviceAuth = MessageOf<typeof deviceAuth>;
export type SignedPreKey = MessageOf<typeof signedPreKey>;
export type OneTimePreKey = MessageOf<typeof oneTimePreKey>;
export type KyberPreKey = MessageOf<typeof kyberPreKey>;
export type Hello = MessageOf<typeof hello>;
export type Acknowledge = MessageOf<typeof acknowledge>;
export type SealedCiphertext = MessageOf<typeof sealedCiphertext>;
export type SealedRecipient = MessageOf<typeof sealedRecipient>;
export type GroupFence = MessageOf<typeof groupFence>;
export type SubmitSealed = MessageOf<typeof submitSealed>;
export type IdentifiedCiphertext = MessageOf<typeof identifiedCiphertext>;
export type SubmitIdentified = MessageOf<typeof submitIdentified>;
export type ConnectionLimits = MessageOf<typeof connectionLimits>;
export type HelloReply = MessageOf<typeof helloReply>;
export type IdentifiedContent = MessageOf<typeof identifiedContent>;
export type Envelope = MessageOf<typeof envelopeMessage>;
export type Deliver = MessageOf<typeof deliver>;
export type AccountMismatch = MessageOf<typeof accountMismatch>;
export type SubmitMismatch = MessageOf<typeof submitMismatch>;
export type ServiceInfo = MessageOf<typeof serviceInfo>;
export type NewDevice = MessageOf<typeof newDevice>;
export type PreKeyUpload = MessageOf<typeof preKeyUpload>;
export type RegisterRequest = MessageOf<typeof registerRequest>;
export type RegisterReply = MessageOf<typeof registerReply>;
export type UpdateDevicesRequest = MessageOf<typeof updateDevicesRequest>;
export type DeviceListReply = MessageOf<typeof deviceListReply>;
export type PreKeyCounts = MessageOf<typeof preKeyCounts>;
export type BundleRequest = MessageOf<typeof bundleRequest>;
export type PreKeyBundle = MessageOf<typeof preKeyBundle>;
export type BundleReply = MessageOf<typeof bundleReply>;
export type CertificateReply = MessageOf<typeof certificateReply>;
export type ProfileUpdate = MessageOf<typeof profileUpdate>;
export type ProfileReply = MessageOf<typeof profileReply>;
export type ChallengeReply = MessageOf<typeof challengeReply>;
export type GroupRecord = MessageOf<typeof groupRecord>;
export type GroupGeneration = MessageOf<typeof groupGeneration>;
export type GroupWriteRequest = MessageOf<typeof groupWriteRequest>;
export type GroupWriteReply = MessageOf<typeof groupWriteReply>;
export type GroupMigration = MessageOf<typeof groupMigration>;
export type GroupMigrationStep = MessageOf<typeof groupMigrationStep>;
export type GroupLeaseRenewal = MessageOf<typeof groupLeaseRenewal>;
export type GroupLeaseReply = MessageOf<typeof groupLeaseReply>;
export type WelcomeContent = MessageOf<typeof welcomeContent>;
export type GroupCreate = MessageOf<typeof groupCreate>;
export type GroupAccessFrame = MessageOf<typeof groupAccess>;
export type GroupAcknowledge = MessageOf<typeof groupAcknowledge>;
export type GroupSubmit = MessageOf<typeof groupSubmit>;
export type GroupMentions = MessageOf<typeof groupMentions>;
export type GroupPushHandle = MessageOf<typeof groupPushHandle>;
export type WelcomeRecipient = MessageOf<typeof welcomeRecipient>;
export type GroupCommit = MessageOf<typeof groupCommit>;
export type GroupPropose = MessageOf<typeof groupPropose>;
export type GroupTurnRelease = MessageOf<typeof groupTurnRelease>;
export type GroupInfoRequest = MessageOf<typeof groupInfoRequest>;
export type GroupExpectedProof = MessageOf<typeof groupExpectedProof>;
export type GroupBan = MessageOf<typeof groupBan>;
export type GroupRefuse = MessageOf<typeof groupRefuse>;
export type GroupRefusal = MessageOf<typeof groupRefusal>;
export type GroupVoid = MessageOf<typeof groupVoid>;
export type GroupMark = MessageOf<typeof groupMark>;
export type GroupPastCommit = MessageOf<typeof groupPastCommit>;
export type GroupRefeed = MessageOf<typeof groupRefeed>;
export type GroupAccessGranted = MessageOf<typeof groupAccessGranted>;
export type GroupEntry = MessageOf<typeof groupEntry>;
export type GroupEntries = MessageOf<typeof groupEntries>;
export type GroupSubmitAccepted = MessageOf<typeof groupSubmitAccepted>;
export type GroupCommitAccepted = MessageOf<typeof groupCommitAccepted>;
export type GroupCommitLost = MessageOf<typeof groupCommitLost>;
export type GroupTurn = MessageOf<typeof groupTurn>;
export type GroupInfoReply = MessageOf<typeof groupInfoReply>;
export type KeyPackageUpload = MessageOf<typeof keyPackageUpload>;
export type KeyPackageCounts = MessageOf<typeof keyPackageCounts>;
export type KeyPackageClaimRequest = MessageOf<typeof keyPackageClaimRequest>;
export type ClaimedAccount = MessageOf<typeof claimedAccount>;
export type KeyPackageClaimReply = MessageOf<typeof keyPackageClaimReply>;
export type PushHandleUpload = MessageOf<typeof pushHandleUpload>;

/**
 * Every limit of the protocol in one typed object. The delivery service enforces them, a client keeps them;
 * a service may raise or lower what `ConnectionLimits` carries, and says so in its HelloReply.
 */
import { MAX_DEVICES_PER_ACCOUNT } from "@murmuration/base";

/** A token bucket: `burst` at once, refilled at `perMinute`. */
export interface Rate {
  readonly burst: number;
  readonly perMinute: number;
}

export const limits = {
  /** First frame of a connection (Hello), bytes. Small, because anybody may send it. */
  helloBytes: 1024,
  /** Time a new connection has for its Hello, ms. */
  helloTimeoutMs: 10_000,
  /** Any frame after Hello, bytes, in both directions. */
  frameBytes: 4 * 1024 * 1024,
  /** One ciphertext for one device, bytes. */
  envelopeBytes: 64 * 1024,
  /** Accounts that one SubmitSealed may address. */
  recipientsPerSubmit: 256,
  /** Devices of one account. */
  devicesPerAccount: MAX_DEVICES_PER_ACCOUNT,
  /** Protocol versions that a Hello may list. */
  versionsPerHello: 16,
  /** A mark of the service's store: nonce, sealed state, tag. */
  storeMarkBytes: 44,
  /** Envelopes in one Deliver. */
  envelopesPerDeliver: 100,
  /** Ciphertext bytes in one Deliver, unless a single envelope is larger. */
  deliverBytes: 256 * 1024,
  /** Envelopes delivered but not yet acknowledged, per device. */
  unacknowledgedEnvelopes: 400,
  /** Envelopes that one mailbox holds. */
  mailboxEnvelopes: 50_000,
  /** Ciphertext bytes that one mailbox holds. */
  mailboxBytes: 256 * 1024 * 1024,
  /** Time an envelope waits for its device, ms (30 days). */
  envelopeLifetimeMs: 30 * 24 * 3600_000,
  /** Time the service remembers a submit id, ms (48 hours). A client gives up resending before that. */
  submitMemoryMs: 48 * 3600_000,
  /** A side that sent nothing for this long sends Ping, ms. */
  pingIntervalMs: 30_000,
  /** A side that heard nothing for this long closes the connection, ms. */
  silenceTimeoutMs: 60_000,
  /** Connections that said no Hello yet, per service process. */
  unidentifiedConnections: 12_000,
  /** Connections from one address. */
  connectionsPerAddress: 20_000,
  /** Bytes a slow reader may leave in the service's send buffer before it is closed with ResumeHint. */
  sendBufferBytes: 8 * 1024 * 1024,

  /** Body of an HTTP request unless its route says otherwise, bytes. */
  httpBodyBytes: 512 * 1024,
  /** Time a client has to send an HTTP request, ms. */
  httpRequestTimeoutMs: 30_000,
  /** A signed device list, bytes. */
  deviceListBytes: 4096,
  /** Public key with its type byte (Curve25519), bytes. */
  publicKeyBytes: 33,
  /** Kyber-1024 public key with its type byte, bytes. */
  kyberPublicKeyBytes: 1569,
  /** Signature by an identity key, bytes. */
  signatureBytes: 64,
  /** Largest registration id (14 bits, without the reserved tail). */
  registrationId: 16_380,
  /** Device token and its SHA-256, bytes. */
  tokenBytes: 32,
  /** Access key of a recipient, bytes. */
  accessKeyBytes: 16,
  /** Invite code, bytes. */
  inviteCodeBytes: 64,
  /** One-time keys of one kind that a device may have stored. */
  oneTimePreKeysStored: 200,
  /** One-time keys of one kind in one upload. */
  oneTimePreKeysPerUpload: 100,
  /** Below this many one-time keys of a kind the service sends PreKeysLow. */
  preKeysLow: 25,
  /** Encrypted profile, bytes. */
  profileBytes: 16 * 1024,
  /** SenderCertificate, bytes. */
  certificateBytes: 1024,
  /** Encrypted record of a pairwise group, bytes. */
  groupRecordBytes: 1024 * 1024,
  /** Token of a migration's lease, bytes. */
  leaseTokenBytes: 16,
  /** Time for which a lease is begun or renewed, ms: then others may go on with the migration. */
  migrationLeaseMs: 60_000,
  /** Challenge, bytes. */
  challengeBytes: 32,
  /** Time a challenge is good for, ms. */
  challengeLifetimeMs: 30_000,
  /** Opaque attachment, bytes. */
  blobBytes: 100 * 1024 * 1024,
  /** Time an attachment is kept after its bytes were uploaded last, ms (30 days). */
  blobLifetimeMs: 30 * 24 * 3600_000,

  /** Application message of an MLS group, bytes. */
  groupMessageBytes: 64 * 1024,
  /** Commit of an MLS group, bytes: 256 Adds, or a path through a blank tree of 20,000 members. */
  groupCommitBytes: 2 * 1024 * 1024,
  /** Proposal of an MLS group that waits at the service, bytes: an Add with its KeyPackage. */
  groupProposalBytes: 5 * 1024,
  /** GroupInfo without the tree, bytes. A Welcome with one entry has it inside, and up to 11 KB of a profile beside it. */
  groupInfoBytes: 16 * 1024,
  /** Welcome with an entry for everybody that a commit adds, bytes. */
  welcomeBytes: 512 * 1024,
  /** Welcome with one entry, bytes. */
  trimmedWelcomeBytes: 32 * 1024,
  /** Adds in one commit of a client. */
  addsPerCommit: 256,
  /** Ban list of an MLS group, bytes: 16 for each account, 4,096 accounts. */
  banListBytes: 64 * 1024,
  /** MLSMessage with a KeyPackage, or the tree of a new group, bytes. */
  keyPackageBytes: 4096,
  /** KeyPackages in one upload. */
  keyPackagesPerUpload: 100,
  /** KeyPackages that a device may have stored. */
  keyPackagesStored: 200,
  /** Below this many KeyPackages the service sends KeyPackagesLow. */
  keyPackagesLow: 10,
  /** Accounts in one claim of KeyPackages: their devices fit into one commit, and the answer into 1 MiB. */
  accountsPerClaim: 50,
  /** Time that a KeyPackage must still be good for when it is stored, ms (1 day). */
  keyPackageLifetimeMs: 24 * 3600_000,
  /** Tree hash, bytes: all suites of this version that groups use hash to 32. */
  treeHashBytes: 32,
  /** Signature by an MLS leaf, bytes. */
  mlsSignatureBytes: 256,
  /** Signature key of an MLS leaf, bytes. */
  mlsSignatureKeyBytes: 256,
  /** Exactly: docs/communities.md, Credential. */
  memberCredentialBytes: 212,
  /** Ratchet tree after decompression, bytes: 50,000 members and room to grow. A client stops there. */
  treeBytes: 64 * 1024 * 1024,
  /** Entries of a group's log in one GroupEntries. */
  entriesPerDeliver: 100,
  /** Content bytes in one GroupEntries, unless a single entry is larger. */
  entriesBytes: 256 * 1024,
  /** Entries in one GroupCommitLost; entriesBytes in all, unless the commit that won with its proposals is larger. */
  entriesPerCommitLost: 512,
  /** Entries delivered but not yet acknowledged, per group and connection. */
  unacknowledgedEntries: 400,
  /** Groups that one connection may open. */
  groupsPerConnection: 1000,
  /** Proposals of one group that wait at the service. */
  pendingProposals: 256,
  /** Bytes of waiting proposals that one GroupTurn or GroupCommitLost hands out; the others wait for the next. */
  proposalBytesPerTurn: 512 * 1024,
  /** Leaves that one account may have in a group, hence signature keys in one GroupBan: the number of device ids. */
  leavesPerAccount: 127,
  /** Banned leaves that one turn is asked to remove. */
  bannedLeavesPerTurn: 256,
  /** Time an entry of a group's log is kept, ms (30 days). */
  groupLogLifetimeMs: 30 * 24 * 3600_000,
  /** Epochs by which an application message may be behind, if nobody was removed since. */
  groupEpochsBehind: 4,
  /** Time for which a turn is granted, ms. */
  turnMs: 5000,
  /** How long no leaf may have come before a member is asked to warm the tree, ms; a minute after a commit it is anyway. */
  warmUpQuietMs: 5000,
  /** Time after which a Welcome that found its mailbox full is tried again, ms. */
  welcomeRetryMs: 60_000,
  /** Entries that a client names when it opens a group, to find where its log and the service's part. */
  marksPerAccess: 32,
  /** Refusals in a void entry: as many as take a commit back. */
  refusalsPerVoid: 2,
  /** Commits in one GroupRefeed. */
  commitsPerRefeed: 512,
  /** Commits with their proposals and ban lists in all frames of one re-feeding, bytes: what a client keeps of a group. */
  refeedBytes: 8 * 1024 * 1024,
  /** Commits in all frames of one re-feeding. */
  refeedCommits: 4096,
  /** Bytes of frames of re-feedings that wait for their last one, in the whole service. */
  waitingRefeedBytes: 64 * 1024 * 1024,
  /** Time for which frames of a re-feeding wait for the next one, ms. */
  refeedPauseMs: 30_000,
  /** Time for which clients keep commits to feed a service that was set back, ms (7 days). */
  refeedLifetimeMs: 7 * 24 * 3600_000,
  /** Time by which a leaf's cursor on disk may be behind what it acknowledged, ms. */
  cursorDelayMs: 5000,
  /** A handle by which the push gateway wakes a device, bytes: all have the same length. */
  pushHandleBytes: 85,
  /** Leaves that one message may say that it mentions. */
  mentionsPerMessage: 64,
  /** Time for which a handle is kept that its device does not renew, ms (60 days). */
  pushHandleLifetimeMs: 60 * 24 * 3600_000,

  rates: {
    /** Registrations from one address. */
    registrationsPerAddress: { burst: 20, perMinute: 10 },
    /** Sealed submits from one address. */
    submitsPerAddress: { burst: 600, perMinute: 1200 },
    /** Envelopes to one recipient account, whoever sends. */
    envelopesPerRecipient: { burst: 2000, perMinute: 1200 },
    /** Message requests by one account. */
    requestsPerAccount: { burst: 30, perMinute: 10 },
    /** Bundles fetched of one account, whoever asks: slows an attacker who empties its one-time keys. */
    bundlesPerTarget: { burst: 300, perMinute: 60 },
    /** Bundles fetched by one account or anonymous address. */
    bundlesPerCaller: { burst: 600, perMinute: 300 },
    /** Group record requests and challenges from one address. */
    groupRequestsPerAddress: { burst: 600, perMinute: 600 },
    /** KeyPackages claimed by one account. */
    claimsPerAccount: { burst: 20_000, perMinute: 2000 },
    /** KeyPackages of one account claimed by one other: further ones get the last-resort one. */
    claimsPerPair: { burst: 10, perMinute: 0.1 },
    /** MLS groups created, GroupInfos asked for and external commits from one address. */
    groupEntriesPerAddress: { burst: 2000, perMinute: 2000 },
    /** MLS groups opened, and turns given back, from one address: what 20,000 connections do when they all come back. */
    groupAccessesPerAddress: { burst: 200_000, perMinute: 100_000 },
    /**
     * Bytes of MLS groups stored for one address: first epochs, messages, proposals, commits with their GroupInfo and
     * Welcomes, what it fed again. Nobody is asked for an account, and thousands may be behind one address.
     */
    groupBytesPerAddress: { burst: 1024 * 1024 * 1024, perMinute: 64 * 1024 * 1024 },
    /**
     * Bytes of stored trees (snapshot and deltas) that the service loads or compresses because one address asked: whoever asks
     * first pays for all that ask for the same. A tree of 10,000 leaves is 3.9 MB. Loading it takes 90 ms of the one thread
     * that validates, and compressing it for a download 200 ms. The 68 such trees at once are more than a service keeps in
     * memory as it is delivered; the 17 a minute take at most four seconds of that thread.
     */
    treeBytesPerAddress: { burst: 256 * 1024 * 1024, perMinute: 64 * 1024 * 1024 },
    /** Application messages of one leaf. */
    messagesPerLeaf: { burst: 120, perMinute: 300 },
    /** Commits and proposals of one leaf. */
    commitsPerLeaf: { burst: 120, perMinute: 120 },
    /** Application messages of all leaves of a group. */
    messagesPerGroup: { burst: 6_000, perMinute: 12_000 },
    /** Commits and proposals of all leaves of a group, and what is fed again; orders that ban are not among them. */
    commitsPerGroup: { burst: 4_000, perMinute: 2_000 },
    /** Frames by which one leaf feeds a group again. */
    refeedsPerLeaf: { burst: 64, perMinute: 16 },
    /** Push handles set by one device, and by one leaf. */
    pushHandlesPerDevice: { burst: 20, perMinute: 2 },
    /** Attachment bytes uploaded by one account. */
    blobBytesPerAccount: { burst: 500 * 1024 * 1024, perMinute: 50 * 1024 * 1024 },
  },
} as const satisfies Record<string, number | Record<string, Rate>>;

/** The same names with any numbers: what a service is configured with. */
export type Limits = {
  readonly [K in keyof typeof limits]: K extends "rates"
    ? { readonly [R in keyof typeof limits.rates]: Rate }
    : number;
};

import { accountId, deviceId, groupId, MAX_DEVICES_PER_ACCOUNT } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  type ClientBody,
  decodeClientFrame,
  decodeMessage,
  decodeServiceFrame,
  encodeClientFrame,
  encodeMessage,
  encodeServiceFrame,
  type GroupEntry,
  keyPackageClaimReply,
  keyPackageUpload,
  limits,
  routes,
  type ServiceBody,
} from "../../src/index.ts";

const fill = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length).fill(7);
const many = <T>(count: number, item: T): T[] => Array.from({ length: count }, () => item);
const largest = Number.MAX_SAFE_INTEGER;
const group = groupId(fill(16));

const proposal = fill(limits.groupProposalBytes);
const entry = (content: Pick<GroupEntry, "proposal" | "commit">): GroupEntry => ({
  sequence: largest,
  serverTimeMs: largest,
  ...content,
});
const commitEntry = entry({
  commit: { commit: fill(limits.groupCommitBytes), banList: fill(limits.banListBytes) },
});
const proposalEntries = many(limits.pendingProposals, entry({ proposal: { proposal } }));
const smallEntries = (bytes: number, count: number): GroupEntry[] =>
  many(count, entry({ proposal: { proposal: fill(Math.floor(bytes / count)) } }));
const turnProposals = many(
  limits.pendingProposals,
  fill(limits.proposalBytesPerTurn / limits.pendingProposals),
);

describe("every frame at its largest fits into frameBytes, and its fields into what a reader takes", () => {
  const fromClient: ClientBody[] = [
    {
      kind: "groupCommit",
      groupId: group,
      commit: fill(limits.groupCommitBytes),
      groupInfo: fill(limits.groupInfoBytes),
      welcome: fill(limits.welcomeBytes),
      recipients: many(limits.addsPerCommit, { accountId: accountId(fill(16)), deviceId: deviceId(127) }),
      turn: largest,
      banList: fill(limits.banListBytes),
    },
    {
      kind: "groupBan",
      groupId: group,
      leafIndex: 0xffff_ffff,
      orderId: fill(16),
      signatureKeys: many(limits.leavesPerAccount, fill(limits.mlsSignatureKeyBytes)),
      signature: fill(limits.mlsSignatureBytes),
    },
    {
      kind: "groupRefeed",
      groupId: group,
      commits: [
        {
          commit: fill(limits.groupCommitBytes),
          proposals: many(limits.pendingProposals, proposal),
          banList: fill(limits.banListBytes),
        },
      ],
      groupInfo: fill(limits.groupInfoBytes),
      agreedSequence: largest,
    },
    {
      kind: "groupRefeed",
      groupId: group,
      commits: many(limits.commitsPerRefeed, { commit: fill(2048), proposals: [] }),
      agreedSequence: largest,
    },
  ];
  test.each(fromClient)("$kind", (body) => {
    const bytes = encodeClientFrame({ requestId: 0xffff_ffff, body });
    expect(bytes.length).toBeLessThanOrEqual(limits.frameBytes);
    expect(decodeClientFrame(bytes).body).toEqual(body);
  });

  const lastSequence = largest;
  const fromService: ServiceBody[] = [
    { kind: "groupEntries", groupId: group, entries: [commitEntry], lastSequence },
    {
      kind: "groupEntries",
      groupId: group,
      entries: smallEntries(limits.entriesBytes, limits.entriesPerDeliver),
      lastSequence,
    },
    {
      // The commit that won with all its proposals, and all that a turn hands out.
      kind: "groupCommitLost",
      epoch: largest,
      entries: [...proposalEntries, commitEntry],
      proposals: turnProposals,
      place: 0xffff_ffff,
      turn: largest,
      turnExpiresInMs: 0xffff_ffff,
    },
    {
      // Many small commits.
      kind: "groupCommitLost",
      epoch: largest,
      entries: smallEntries(limits.entriesBytes, limits.entriesPerCommitLost),
      proposals: turnProposals,
      place: 0xffff_ffff,
      turn: largest,
      turnExpiresInMs: 0xffff_ffff,
    },
    {
      kind: "groupTurn",
      groupId: group,
      turn: largest,
      reason: "ban",
      expiresInMs: 0xffff_ffff,
      proposals: turnProposals,
      bannedLeaves: many(limits.bannedLeavesPerTurn, 0xffff_ffff),
    },
    {
      kind: "groupInfoReply",
      epoch: largest,
      lastSequence,
      groupInfo: fill(limits.groupInfoBytes),
      treeHash: fill(limits.treeHashBytes),
      banList: fill(limits.banListBytes),
    },
  ];
  test.each(fromService)("$kind", (body) => {
    const bytes = encodeServiceFrame({ requestId: 0xffff_ffff, body });
    expect(bytes.length).toBeLessThanOrEqual(limits.frameBytes);
    expect(decodeServiceFrame(bytes).body).toEqual(body);
  });
});

describe("limits that lean on each other", () => {
  test("the largest upload of KeyPackages fits into its route", () => {
    const bytes = encodeMessage(keyPackageUpload, {
      uploadId: fill(16),
      keyPackages: many(limits.keyPackagesPerUpload, fill(limits.keyPackageBytes)),
      lastResort: fill(limits.keyPackageBytes),
      replace: true,
    });
    expect(bytes.length).toBeLessThanOrEqual(routes.uploadKeyPackages.maxBodyBytes);
    expect(limits.keyPackagesPerUpload).toBeLessThanOrEqual(limits.keyPackagesStored);
  });

  test("the largest claim is answered in 1 MiB, and its devices fit into one commit", () => {
    const devices = Array.from({ length: MAX_DEVICES_PER_ACCOUNT }, (_, index) => ({
      deviceId: deviceId(127 - index),
      keyPackage: fill(limits.keyPackageBytes),
    }));
    const account = {
      accountId: accountId(fill(16)),
      unknownAccount: false,
      keyPackages: devices,
      devicesWithout: [],
    };
    const bytes = encodeMessage(keyPackageClaimReply, { accounts: many(limits.accountsPerClaim, account) });
    expect(bytes.length).toBeLessThanOrEqual(1024 * 1024);
    expect(decodeMessage(keyPackageClaimReply, bytes, bytes.length).accounts).toHaveLength(
      limits.accountsPerClaim,
    );
    expect(limits.accountsPerClaim * MAX_DEVICES_PER_ACCOUNT).toBeLessThanOrEqual(limits.addsPerCommit);
  });

  test("an Add with the largest KeyPackage is no larger than a proposal, nor a GroupInfo than its Welcome", () => {
    expect(limits.keyPackageBytes + 1024).toBeLessThanOrEqual(limits.groupProposalBytes);
    expect(limits.addsPerCommit * limits.keyPackageBytes).toBeLessThanOrEqual(limits.groupCommitBytes);
    expect(limits.groupInfoBytes).toBeLessThanOrEqual(limits.trimmedWelcomeBytes / 2);
    expect(limits.trimmedWelcomeBytes).toBeLessThanOrEqual(limits.envelopeBytes);
  });
});

import {
  concatBytes,
  equalBytes,
  type GroupId,
  RejectionError,
  toHex,
  UnavailableError,
} from "@murmuration/base";
import type { GroupPropose, GroupPushHandle, GroupSubmit, GroupSubmitAccepted } from "@murmuration/wire";
import { dayOf } from "../core/days.ts";
import { compareEpoch, decideSender } from "../core/group-decisions.ts";
import { type MlsHeader, readMlsHeader } from "../core/mls-header.ts";
import { sha256 } from "../core/submit.ts";
import type { TakeBack } from "../ports/group-memory.ts";
import type { AppendMessageOutcome } from "../ports/mls-groups.ts";
import type { Charge } from "../ports/rate-limits.ts";
import type { ServiceContext } from "./context.ts";
import { type AnonymousPeer, bytesCharge } from "./group-access.ts";
import type { GroupReader } from "./group-delivery.ts";
import type { GroupTurns } from "./group-turns.ts";
import type { LiveGroup } from "./live-group.ts";
import { charge, chargeFor } from "./refusals.ts";
import { paidBy } from "./tree-charges.ts";

/**
 * Takes an application message of a leaf, once. Answered after it is durable. Throws RejectionError
 * `group/not-a-member`, `group/not-allowed`, `group/slow-mode`, `group/epoch-outdated`, `group/epoch-unknown`,
 * `wire/invalid-field`, `rate/limited`.
 */
export async function submitToGroup(
  context: ServiceContext,
  peer: AnonymousPeer,
  reader: GroupReader,
  frame: GroupSubmit,
): Promise<GroupSubmitAccepted> {
  const { clock, limits, stores } = context;
  const live = reader.group;
  const { epoch } = headerFor(live, frame.message, "application");
  // Another node may have taken the commit that led there, and removed this leaf by it.
  if (epoch > live.epoch) await live.refresh();
  const leaf = await reader.member();
  await charge(context.rateLimits, [
    chargeFor("group-messages", nameOf(reader), limits.rates.messagesPerLeaf),
    chargeFor("messages-of-group", toHex(live.groupId), limits.rates.messagesPerGroup),
    bytesCharge(context, peer, frame.message.length),
  ]);
  const pauseMs = decideSender(leaf);
  const submitHash = sha256(frame.submitId);
  const now = clock.now();
  const append = () =>
    stores.mlsGroups.appendMessage({
      groupId: live.groupId,
      submitHash,
      message: frame.message,
      epoch,
      epochsBehind: limits.groupEpochsBehind,
      acceptedAtMs: now,
    });
  // By another name than in the log: no name says which leaf a message came from.
  const submit = () => toHex(sha256(concatBytes(frame.submitId, reader.signatureKey)));
  const speak = () => context.groupMemory.speak(live.groupId, reader.name, submit(), pauseMs);
  const outcome = await (pauseMs > 0 ? countingFirst(speak(), append) : append());
  switch (outcome.kind) {
    case "appended":
      live.said({
        sequence: outcome.sequence,
        kind: "application",
        message: frame.message,
        acceptedAtMs: now,
        banList: undefined,
        voids: undefined,
        partedSequence: undefined,
      });
      context.metrics.count("group_messages", "accepted");
      return { sequence: outcome.sequence, serverTimeMs: now, repeatedSubmit: false };
    case "repeated":
      live.known(outcome.sequence);
      context.metrics.count("group_messages", "repeated");
      return { sequence: outcome.sequence, serverTimeMs: now, repeatedSubmit: true };
    case "outdated":
      throw new RejectionError("group/epoch-outdated");
    case "unknown-epoch":
      throw new RejectionError("group/epoch-unknown");
    case "unknown-group":
      throw new RejectionError("group/unknown");
  }
}

/**
 * Counts a message for slow mode before it is stored, so that a frame right behind it finds it, on whichever node. It counts no
 * more if it is not stored, or was before; where that is not known it does, and may be sent again.
 */
async function countingFirst(
  speak: Promise<TakeBack | undefined>,
  append: () => Promise<AppendMessageOutcome>,
): Promise<AppendMessageOutcome> {
  const takeBack = await speak;
  if (takeBack === undefined) throw new RejectionError("group/slow-mode");
  try {
    const outcome = await append();
    if (outcome.kind !== "appended") await takeBack();
    return outcome;
  } catch (error) {
    // Nothing happened: a commit may come before it is said again, in another epoch and by another name.
    if (error instanceof UnavailableError && error.code === "store/postgres-unreachable") await takeBack();
    throw error;
  }
}

/**
 * Takes a proposal of a leaf, which waits unseen by members until a commit takes it. The same bytes again are answered
 * alike; others of the leaf are too many, or one leaf could take every place: whoever leaves need not say it twice.
 * O(waiting proposals). Throws RejectionError `group/commit-invalid`, `group/too-many-proposals`, `group/epoch-outdated`,
 * `group/epoch-unknown`, `group/not-a-member`, `rate/limited`.
 */
export async function proposeToGroup(
  context: ServiceContext,
  peer: AnonymousPeer,
  reader: GroupReader,
  turns: GroupTurns,
  frame: GroupPropose,
): Promise<void> {
  const { limits, stores, validator } = context;
  const live = reader.group;
  const header = headerFor(live, frame.proposal, "proposal");
  if (header.sender?.kind !== "member") throw new RejectionError("group/commit-invalid");
  await reader.member();
  await charge(context.rateLimits, [
    ...commitCharges(context, reader),
    bytesCharge(context, peer, frame.proposal.length),
  ]);
  await live.exclusive(async () => {
    const { leafIndex: sender } = await reader.member();
    if (header.epoch > live.epoch) await live.refresh();
    const { epoch } = live;
    const base = paidBy(context, peer, live.baseOf(epoch));
    if (compareEpoch(header.epoch, epoch) === "past") throw new RejectionError("group/epoch-outdated");
    const proposals = await stores.mlsGroups.pendingProposals(live.groupId);
    const own = proposals.find((waiting) => isOfLeaf(waiting, sender));
    const max = limits.pendingProposals;
    // Before it is validated: what is valid stays in the follower, though there is no place for it.
    if (own === undefined ? proposals.length >= max : !equalBytes(own, frame.proposal)) {
      throw new RejectionError("group/too-many-proposals");
    }
    await validator.proposal(base, { proposal: frame.proposal, proposals, sender });
    const outcome = await stores.mlsGroups.addProposal(live.groupId, epoch, frame.proposal, max);
    if (outcome === "full") throw new RejectionError("group/too-many-proposals");
    if (outcome === "outdated") throw new RejectionError("group/epoch-outdated");
  });
  turns.offer();
}

/**
 * Sets the handle by which a leaf is woken when it has the group open no more, or deletes it. Throws RejectionError
 * `group/not-a-member`, `rate/limited`.
 */
export async function setLeafHandle(
  context: ServiceContext,
  reader: GroupReader,
  { handle }: GroupPushHandle,
): Promise<void> {
  const { clock, limits, rateLimits, stores } = context;
  const { signatureKey } = reader;
  const { groupId } = reader.group;
  await charge(rateLimits, [chargeFor("leaf-handles", nameOf(reader), limits.rates.pushHandlesPerDevice)]);
  if (handle === undefined) return stores.pushHandles.removeLeaf(groupId, signatureKey);
  await reader.member();
  await stores.pushHandles.setLeaf(groupId, { signatureKey, handle }, dayOf(clock.now()));
}

/** Of a proposal that was validated, so that it is of the leaf that it names. */
function isOfLeaf(proposal: Uint8Array, leafIndex: number): boolean {
  const { sender } = readMlsHeader(proposal);
  return sender?.kind === "member" && sender.leafIndex === leafIndex;
}

/** The header of a message of this kind for this group. Throws RejectionError `wire/invalid-field`. */
export function headerFor(live: LiveGroup, message: Uint8Array, content: MlsHeader["content"]): MlsHeader {
  const header = readMlsHeader(message);
  // Handshakes are public, application messages private: nothing else is ordered here.
  const isPublic = header.sender !== undefined;
  const fits = header.content === content && isPublic === (content !== "application");
  if (!fits || !equalBytes(header.groupId, live.groupId)) throw new RejectionError("wire/invalid-field");
  return header;
}

/** What a commit or a proposal costs its leaf, and its group. */
export function commitCharges(context: ServiceContext, reader: GroupReader): readonly Charge[] {
  return [
    chargeFor("group-commits", nameOf(reader), context.limits.rates.commitsPerLeaf),
    groupCommitsCharge(context, reader.group.groupId, 1),
  ];
}

/** What so many commits or proposals cost their group. */
export function groupCommitsCharge({ limits }: ServiceContext, groupId: GroupId, count: number): Charge {
  return chargeFor("commits-of-group", toHex(groupId), limits.rates.commitsPerGroup, count);
}

/** A leaf in all groups: for its rates. */
export function nameOf(reader: GroupReader): string {
  return `${toHex(reader.group.groupId)} ${reader.name}`;
}

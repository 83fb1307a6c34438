import {
  type DeviceAddress,
  equalBytes,
  formatId,
  RejectionError,
  UnavailableError,
} from "@murmuration/base";
import type { AccountMismatch, ServiceBody, SubmitIdentified, SubmitSealed } from "@murmuration/wire";
import { dayOf, toMinute } from "../core/days.ts";
import {
  decideIdentifiedSubmit,
  decideSealedSubmit,
  fullMailboxes,
  type SubmitDecision,
  sha256,
  switchedGroup,
} from "../core/submit.ts";
import { addressKey } from "../core/token-bucket.ts";
import type { GroupRecord } from "../ports/group-records.ts";
import type { AppendOutcome, NewEnvelope } from "../ports/mailboxes.ts";
import type { ServiceContext } from "./context.ts";
import { appendToDevices } from "./mailboxes.ts";
import { charge, chargeFor } from "./refusals.ts";

/** Part of a mailbox, as a divisor, that message requests may fill: they cost a stranger nothing but accounts. */
const REQUEST_SHARE = 8;

/** Invited by an access key or one's own account; or not: then others' messages keep their room and their rate. */
type Origin = "invited" | "request";

type Full = Extract<AppendOutcome, { kind: "full" }>;
type SubmitAnswer = Extract<ServiceBody, { kind: "submitAccepted" | "submitMismatch" }>;

/**
 * Takes a sealed submit that came over an anonymous connection. Answered as accepted only after every envelope
 * is durable; with the accounts that have no room as a mismatch, so that the sender can serve the others. Throws
 * RejectionError with the codes of decideSealedSubmit, `rate/limited`.
 */
export async function submitSealed(
  context: ServiceContext,
  remoteAddress: string,
  submit: SubmitSealed,
): Promise<SubmitAnswer> {
  const { limits, rateLimits, stores } = context;
  await charge(rateLimits, [chargeFor("submits", addressKey(remoteAddress), limits.rates.submitsPerAddress)]);
  const decide = async () => {
    const [accounts, group] = await Promise.all([
      stores.accounts.loadMany(submit.recipients.map((recipient) => recipient.accountId)),
      submit.fence === undefined ? undefined : stores.groupRecords.load(submit.fence.groupId),
    ]);
    if (switchedGroup(group)) context.metrics.count("migration_stragglers");
    const decision = decideSealedSubmit({ accounts, group }, submit);
    // A group that is written to is in use, though nobody reads its record: an expired id would be anybody's.
    if (group !== undefined && decision.kind === "store") await touchGroup(context, group);
    return decision;
  };
  if (submit.ephemeral) return submitEphemeral(context, await decide());
  const answer = await store(context, submit.submitId, "invited", decide);
  return answer.kind === "full" ? mismatch(context, fullMailboxes(answer.devices)) : answer;
}

/**
 * Takes an identified submit of an authenticated device: a message request, or copies for the account's own other
 * devices, which count as no request. Throws RejectionError like {@link submitSealed}, and `submit/mailbox-full`:
 * there is one recipient, and nobody else to serve.
 */
export async function submitIdentified(
  context: ServiceContext,
  sender: DeviceAddress,
  submit: SubmitIdentified,
): Promise<SubmitAnswer> {
  const { limits, rateLimits, stores } = context;
  const origin = equalBytes(submit.accountId, sender.accountId) ? "invited" : "request";
  if (origin === "request") {
    await charge(rateLimits, [
      chargeFor("requests", formatId(sender.accountId), limits.rates.requestsPerAccount),
    ]);
  }
  const decide = async () =>
    decideIdentifiedSubmit(await stores.accounts.load(submit.accountId), submit, sender);
  const answer = await store(context, submit.submitId, origin, decide);
  if (answer.kind === "full") throw new RejectionError("submit/mailbox-full");
  return answer;
}

async function touchGroup(context: ServiceContext, group: GroupRecord): Promise<void> {
  const today = dayOf(context.clock.now());
  if (group.lastUsedDay < today) await context.stores.groupRecords.touch(group.groupId, today);
}

async function store(
  context: ServiceContext,
  submitId: Uint8Array,
  origin: Origin,
  decide: () => Promise<SubmitDecision>,
): Promise<SubmitAnswer | Full> {
  const { mailboxes } = context.stores;
  const submitHash = sha256(submitId);
  // Before the decision: a submit that was stored stays accepted, even if devices changed since.
  if (await mailboxes.wasStored(submitHash)) return repeated(context, decide);
  const decision = await decide();
  if (decision.kind === "mismatch") return mismatch(context, decision.accounts);
  await chargeRecipients(context, origin, decision.envelopes);
  const now = context.clock.now();
  const share = origin === "request" ? REQUEST_SHARE : 1;
  const outcome = await appendToDevices(context, {
    submitHash,
    envelopes: decision.envelopes,
    acceptedAtMs: toMinute(now),
    limits: {
      maxEnvelopes: context.limits.mailboxEnvelopes / share,
      maxBytes: context.limits.mailboxBytes / share,
    },
  });
  switch (outcome.kind) {
    case "stored":
      context.metrics.count("envelopes_stored", "", decision.envelopes.length);
      context.signals.publish(decision.envelopes.map((envelope) => envelope.recipient));
      return accepted(context, false);
    case "repeated":
      return repeated(context, decide);
    case "full":
      return outcome;
    case "missing":
      return afterMissing(context, await decide());
  }
}

/** A device went away between the decision and the transaction: what is known now says so. */
function afterMissing(context: ServiceContext, decision: SubmitDecision): SubmitAnswer {
  if (decision.kind === "mismatch") return mismatch(context, decision.accounts);
  throw new UnavailableError("submit/mailbox-missing");
}

async function submitEphemeral(context: ServiceContext, decision: SubmitDecision): Promise<SubmitAnswer> {
  if (decision.kind === "mismatch") return mismatch(context, decision.accounts);
  await chargeRecipients(context, "invited", decision.envelopes);
  const acceptedAtMs = toMinute(context.clock.now());
  for (const { recipient, ciphertext } of decision.envelopes) {
    context.signals.forward(recipient, { ciphertext, acceptedAtMs });
  }
  return accepted(context, false);
}

async function chargeRecipients(
  context: ServiceContext,
  origin: Origin,
  envelopes: readonly NewEnvelope[],
): Promise<void> {
  const costs = new Map<string, number>();
  for (const { recipient } of envelopes) {
    const name = formatId(recipient.accountId);
    costs.set(name, (costs.get(name) ?? 0) + 1);
  }
  const rate = context.limits.rates.envelopesPerRecipient;
  await charge(
    context.rateLimits,
    [...costs].map(([name, cost]) => chargeFor(`${origin}-envelopes`, name, rate, cost)),
  );
}

/**
 * The node that stored it may have died before it told anybody: those whom this submit may reach look again. Whatever has
 * changed about them since, it stays accepted.
 */
async function repeated(
  context: ServiceContext,
  decide: () => Promise<SubmitDecision>,
): Promise<SubmitAnswer> {
  try {
    const decision = await decide();
    if (decision.kind === "store")
      context.signals.publish(decision.envelopes.map((envelope) => envelope.recipient));
  } catch (error) {
    if (!(error instanceof RejectionError || error instanceof UnavailableError)) throw error;
  }
  return accepted(context, true);
}

function accepted(context: ServiceContext, repeatedSubmit: boolean): SubmitAnswer {
  context.metrics.count("submits", repeatedSubmit ? "repeated" : "accepted");
  return { kind: "submitAccepted", serverTimeMs: context.clock.now(), repeatedSubmit };
}

function mismatch(context: ServiceContext, accounts: readonly AccountMismatch[]): SubmitAnswer {
  context.metrics.count("submits", "mismatch");
  return { kind: "submitMismatch", accounts };
}

/**
 * What a delivery service would do with sealed sender v2, from the parts that Murmuration's does the other submits
 * with: one look at the fence, devices compared with the accounts', one envelope for each mailbox, one transaction.
 * Access keys are not checked, since one message cannot carry 10,000 of them: a service that takes such messages
 * checks an endorsement instead, which would cost about a millisecond more.
 */
import { accountId, equalBytes, type GroupId } from "@murmuration/base";
import { type NewEnvelope, type ServiceContext, sha256 } from "@murmuration/delivery-service/bench";
import { SealedSenderMultiRecipientMessage } from "@murmuration/pairwise/bench";
import { encodeServiceFrame } from "@murmuration/wire";
import { DEVICE_ID } from "./accounts.ts";
import { decodeMultiRecipient } from "./frames.ts";

const MINUTE_MS = 60_000;

const bytesOfUuid = (uuid: string) => accountId(Buffer.from(uuid.replaceAll("-", ""), "hex"));

/** Answers one frame of `encodeMultiRecipient`; the answer is the encoded SubmitAccepted. */
export async function submitMultiRecipient(
  context: ServiceContext,
  group: GroupId,
  frame: Uint8Array,
): Promise<Uint8Array> {
  const { stores, signals, clock, limits } = context;
  const submit = decodeMultiRecipient(frame);
  const submitHash = sha256(submit.submitId);
  if (await stores.mailboxes.wasStored(submitHash)) throw new Error("the same submit came twice");
  const message = new SealedSenderMultiRecipientMessage(submit.message);
  const recipients = Object.entries(message.recipientsByServiceIdString());
  const ids = recipients.map(([uuid]) => bytesOfUuid(uuid));
  const [accounts, record] = await Promise.all([
    stores.accounts.loadMany(ids),
    stores.groupRecords.load(group),
  ]);
  if (record === undefined || !equalBytes(record.fence, submit.fence))
    throw new Error("the fence is outdated");
  const envelopes: NewEnvelope[] = recipients.map(([, recipient], i) => {
    const known = accounts[i]?.devices;
    const fits =
      known?.length === recipient.deviceIds.length &&
      known.every(
        (device, at) =>
          device.deviceId === recipient.deviceIds[at] &&
          device.registrationId === recipient.registrationIds[at],
      );
    if (!fits) throw new Error("the recipient has other devices");
    return {
      recipient: { accountId: ids[i]!, deviceId: DEVICE_ID },
      ciphertext: message.messageForRecipient(recipient) as NewEnvelope["ciphertext"],
      source: undefined,
    };
  });
  const now = clock.now();
  const outcome = await stores.mailboxes.append({
    submitHash,
    envelopes,
    acceptedAtMs: now - (now % MINUTE_MS),
    limits: { maxEnvelopes: limits.mailboxEnvelopes, maxBytes: limits.mailboxBytes },
  });
  if (outcome.kind !== "stored") throw new Error(`the submit was not stored but ${outcome.kind}`);
  signals.publish(envelopes.map(({ recipient }) => recipient));
  const body = { kind: "submitAccepted", serverTimeMs: clock.now(), repeatedSubmit: false } as const;
  return encodeServiceFrame({ requestId: submit.requestId, body });
}

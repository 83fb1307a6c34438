import { type Rejected, rejected } from "@murmuration/base";
import { CiphertextMessageType } from "@signalapp/libsignal-client";
import { accountKey } from "./address.ts";
import type { DecryptOutcome, DecryptRequest } from "./api.ts";
import { decryptOpened } from "./decrypting.ts";
import { LibsignalStores } from "./libsignal-stores.ts";
import { type OpenedEnvelope, openEnvelope } from "./opening.ts";
import { Overlay, OWN_QUEUE, type Rows } from "./overlay.ts";
import { requireOwnDevice } from "./own-identity.ts";
import type { TrustedCertificates } from "./trusted-certificates.ts";
import type { WorkMeter } from "./work-meter.ts";

type Operate<R> = (
  queues: ReadonlySet<string>,
  work: (overlay: Overlay) => Promise<readonly DecryptOutcome[]>,
) => Promise<R>;

/**
 * Opens every envelope first, which needs no queue and tells the senders; then takes the queues of all of them
 * at once and decrypts in order on one overlay.
 */
export async function decryptAll<R>(
  rows: Rows,
  request: DecryptRequest,
  certificates: TrustedCertificates,
  nowMs: number,
  meter: WorkMeter,
  operate: Operate<R>,
): Promise<R> {
  const opened = await openAll(rows, request, certificates, meter);
  const refreshed = new Set((request.refreshedAccounts ?? []).map(accountKey));
  return operate(queuesOf(opened), async (overlay) => {
    const receiver = { own: requireOwnDevice(overlay), nowMs, refreshed };
    const outcomes: DecryptOutcome[] = [];
    for (const envelope of opened) {
      if ("kind" in envelope) {
        outcomes.push({ ...envelope, sender: undefined });
        continue;
      }
      await meter.step();
      outcomes.push(await decryptOpened(overlay, receiver, envelope));
    }
    return outcomes;
  });
}

async function openAll(
  rows: Rows,
  request: DecryptRequest,
  certificates: TrustedCertificates,
  meter: WorkMeter,
): Promise<(OpenedEnvelope | Rejected)[]> {
  const own = requireOwnDevice(rows);
  const stores = new LibsignalStores(new Overlay(rows, () => false), own);
  const opened: (OpenedEnvelope | Rejected)[] = [];
  for (const envelope of request.envelopes) {
    await meter.step();
    try {
      opened.push(await openEnvelope(envelope, own, stores, certificates));
    } catch (error) {
      opened.push(rejected(error));
    }
  }
  return opened;
}

/** Only a first message touches prekeys, so only then the queue of the own rows is needed. */
function queuesOf(opened: readonly (OpenedEnvelope | Rejected)[]): Set<string> {
  const queues = new Set<string>();
  for (const envelope of opened) {
    if ("kind" in envelope) continue;
    queues.add(accountKey(envelope.sender.accountId));
    if (envelope.type === CiphertextMessageType.PreKey) queues.add(OWN_QUEUE);
  }
  return queues;
}

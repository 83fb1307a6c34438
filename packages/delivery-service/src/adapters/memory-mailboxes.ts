import { randomFillSync } from "node:crypto";
import {
  type Bytes,
  compareBytes,
  type DeviceAddress,
  type EnvelopeId,
  envelopeId,
  formatAddress,
  type StoreId,
  storeId,
  toHex,
} from "@murmuration/base";
import type {
  Append,
  AppendOutcome,
  MailboxDepth,
  MailboxStore,
  StoredEnvelope,
} from "../ports/mailboxes.ts";

interface Mailbox {
  readonly owner: DeviceAddress;
  readonly openedAtMs: number;
  lastId: EnvelopeId;
  envelopes: StoredEnvelope[];
}

/** {@link MailboxStore} in memory: gone with the process, and its store id with it. */
export class MemoryMailboxStore implements MailboxStore {
  private readonly id = storeId(randomFillSync(new Uint8Array(16)));
  private readonly mailboxes = new Map<string, Mailbox>();
  private readonly submits = new Map<string, number>();

  async storeId(): Promise<StoreId> {
    return this.id;
  }

  onLost(): void {}

  state(): undefined {}

  async requireState(): Promise<void> {}

  async open(address: DeviceAddress, openedAtMs: number): Promise<void> {
    const name = formatAddress(address);
    if (this.mailboxes.has(name)) return;
    this.mailboxes.set(name, { owner: address, openedAtMs, lastId: envelopeId(0), envelopes: [] });
  }

  async remove(address: DeviceAddress): Promise<void> {
    this.mailboxes.delete(formatAddress(address));
  }

  async append(append: Append): Promise<AppendOutcome> {
    if (this.submits.has(toHex(append.submitHash))) return { kind: "repeated" };
    const recipients = append.envelopes.map((envelope) => envelope.recipient);
    const missing = recipients.filter((address) => !this.mailboxes.has(formatAddress(address)));
    if (missing.length > 0) return { kind: "missing", devices: missing };
    const full = append.envelopes
      .filter(({ recipient, ciphertext }) => {
        const depth = depthOf(this.mailboxes.get(formatAddress(recipient))!);
        return (
          depth.envelopes + 1 > append.limits.maxEnvelopes ||
          depth.bytes + ciphertext.length > append.limits.maxBytes
        );
      })
      .map((envelope) => envelope.recipient);
    if (full.length > 0) return { kind: "full", devices: full };
    this.submits.set(toHex(append.submitHash), append.acceptedAtMs);
    for (const { recipient, ciphertext, source, welcome } of append.envelopes) {
      const mailbox = this.mailboxes.get(formatAddress(recipient))!;
      mailbox.lastId = envelopeId(mailbox.lastId + 1);
      const { acceptedAtMs } = append;
      mailbox.envelopes.push({ id: mailbox.lastId, ciphertext, source, welcome, acceptedAtMs });
    }
    return { kind: "stored" };
  }

  async wasStored(submitHash: Bytes): Promise<boolean> {
    return this.submits.has(toHex(submitHash));
  }

  async read(
    address: DeviceAddress,
    after: EnvelopeId,
    limits: { readonly maxEnvelopes: number; readonly maxBytes: number },
  ): Promise<readonly StoredEnvelope[]> {
    const page: StoredEnvelope[] = [];
    let bytes = 0;
    for (const envelope of this.mailboxes.get(formatAddress(address))?.envelopes ?? []) {
      if (envelope.id <= after) continue;
      bytes += envelope.ciphertext.length;
      if (page.length >= limits.maxEnvelopes || (page.length > 0 && bytes > limits.maxBytes)) break;
      page.push(envelope);
    }
    return page;
  }

  async acknowledge(address: DeviceAddress, through: EnvelopeId): Promise<number> {
    return this.keep(address, (envelope) => envelope.id > through);
  }

  async discard(address: DeviceAddress, ids: readonly EnvelopeId[]): Promise<void> {
    this.keep(address, (envelope) => !ids.includes(envelope.id));
  }

  async lastId(address: DeviceAddress): Promise<EnvelopeId | undefined> {
    return this.mailboxes.get(formatAddress(address))?.lastId;
  }

  async depth(address: DeviceAddress): Promise<MailboxDepth | undefined> {
    const mailbox = this.mailboxes.get(formatAddress(address));
    return mailbox && depthOf(mailbox);
  }

  async totals(): Promise<MailboxDepth> {
    const depths = [...this.mailboxes.values()].map(depthOf);
    return {
      envelopes: depths.reduce((sum, depth) => sum + depth.envelopes, 0),
      bytes: depths.reduce((sum, depth) => sum + depth.bytes, 0),
    };
  }

  async expireEnvelopes(beforeMs: number, limit: number): Promise<number> {
    let removed = 0;
    for (const { owner } of this.mailboxes.values()) {
      this.keep(owner, ({ acceptedAtMs }) => {
        const kept = acceptedAtMs >= beforeMs || removed >= limit;
        if (!kept) removed++;
        return kept;
      });
    }
    return removed;
  }

  async expireSubmits(beforeMs: number, limit: number): Promise<number> {
    const old = [...this.submits].filter(([, acceptedAtMs]) => acceptedAtMs < beforeMs).slice(0, limit);
    for (const [hash] of old) this.submits.delete(hash);
    return old.length;
  }

  async owners(
    after: DeviceAddress | undefined,
    limit: number,
    openedBeforeMs: number,
  ): Promise<readonly DeviceAddress[]> {
    return [...this.mailboxes.values()]
      .filter((mailbox) => mailbox.openedAtMs < openedBeforeMs)
      .map((mailbox) => mailbox.owner)
      .sort(compareOwners)
      .filter((owner) => after === undefined || compareOwners(owner, after) > 0)
      .slice(0, limit);
  }

  private keep(address: DeviceAddress, wanted: (envelope: StoredEnvelope) => boolean): number {
    const mailbox = this.mailboxes.get(formatAddress(address));
    if (mailbox === undefined) return 0;
    const before = mailbox.envelopes.length;
    mailbox.envelopes = mailbox.envelopes.filter(wanted);
    return before - mailbox.envelopes.length;
  }
}

function compareOwners(a: DeviceAddress, b: DeviceAddress): number {
  return compareBytes(a.accountId, b.accountId) || a.deviceId - b.deviceId;
}

function depthOf({ envelopes }: Mailbox): MailboxDepth {
  const bytes = envelopes.reduce((sum, envelope) => sum + envelope.ciphertext.length, 0);
  return { envelopes: envelopes.length, bytes };
}

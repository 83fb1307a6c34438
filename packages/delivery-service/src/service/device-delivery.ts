import { type EnvelopeId, UnavailableError, UsageError } from "@murmuration/base";
import { type Deliver, type Envelope, encodeServiceFrame, type ServiceBody } from "@murmuration/wire";
import {
  afterAcknowledging,
  afterDiscarding,
  afterSending,
  type DeliveryWindow,
  OPEN_WINDOW,
  roomFor,
} from "../core/delivery-window.ts";
import type { KeyPackageStock } from "../ports/key-packages.ts";
import type { KeyCounts } from "../ports/keys.ts";
import type { EphemeralEnvelope, MailboxListener } from "../ports/mailbox-signals.ts";
import type { StoredEnvelope } from "../ports/mailboxes.ts";
import type { AuthenticatedDevice } from "./authentication.ts";
import type { ServiceContext } from "./context.ts";
import { OVERLOADED_RETRY_MS } from "./refusals.ts";

/** The connection as delivery sees it. */
export interface DeliveryOutlet {
  /** False while the peer reads too slowly, and after the connection closed. */
  readonly ready: () => boolean;
  readonly push: (body: ServiceBody) => void;
  /** What a Deliver says of the store's mark. */
  readonly takeNewMark: () => Pick<Deliver, "storeMark">;
  readonly failed: (error: unknown) => void;
}

/**
 * Pushes one device's mailbox over its connection: in order, page by page, never more than the window allows,
 * and only while the peer keeps reading. What is not acknowledged stays in the mailbox.
 */
export class DeviceDelivery implements MailboxListener {
  private readonly context: ServiceContext;
  private readonly device: AuthenticatedDevice;
  private readonly outlet: DeliveryOutlet;
  /** Last id in the mailbox when the connection began: QueueEmpty follows it. */
  private readonly queueEnd: EnvelopeId;
  private window: DeliveryWindow = OPEN_WINDOW;
  private toldEmpty = false;
  private running = false;
  private wanted = false;

  constructor(
    context: ServiceContext,
    device: AuthenticatedDevice,
    queueEnd: EnvelopeId,
    outlet: DeliveryOutlet,
  ) {
    this.context = context;
    this.device = device;
    this.queueEnd = queueEnd;
    this.outlet = outlet;
  }

  /** The mailbox may have changed, or there is room again. Several calls make one run. */
  lookAgain(): void {
    this.wanted = true;
    if (!this.running) void this.run();
  }

  ephemeral(envelope: EphemeralEnvelope): void {
    if (!this.outlet.ready()) return;
    this.outlet.push({
      kind: "deliver",
      envelopes: [
        {
          envelopeId: 0 as EnvelopeId,
          serverTimeMs: envelope.acceptedAtMs,
          sealed: { ciphertext: envelope.ciphertext },
        },
      ],
    });
  }

  stockLow(left: KeyCounts): void {
    if (!this.outlet.ready()) return;
    this.outlet.push({
      kind: "preKeysLow",
      oneTimePreKeys: left.preKeys,
      oneTimeKyberPreKeys: left.kyberPreKeys,
    });
  }

  keyPackagesLow(left: KeyPackageStock): void {
    if (this.outlet.ready()) this.outlet.push({ kind: "keyPackagesLow", keyPackages: left.keyPackages });
  }

  /**
   * Deletes what the device has in its own database. Throws RejectionError `mailbox/not-delivered`.
   */
  async acknowledge(through: EnvelopeId): Promise<void> {
    this.window = afterAcknowledging(this.window, through);
    const removed = await this.context.stores.mailboxes.acknowledge(this.device.address, through);
    this.context.metrics.count("envelopes_acknowledged", "", removed);
    this.lookAgain();
  }

  private async run(): Promise<void> {
    this.running = true;
    try {
      while (this.wanted && this.outlet.ready()) {
        this.wanted = false;
        await this.pushPages();
      }
    } catch (error) {
      // Nobody says when the engine is back, and nothing else may come that has this device look.
      if (error instanceof UnavailableError)
        this.context.clock.after(OVERLOADED_RETRY_MS, () => this.lookAgain());
      else this.outlet.failed(error);
    } finally {
      this.running = false;
    }
  }

  private async pushPages(): Promise<void> {
    const { limits, metrics, stores } = this.context;
    while (this.outlet.ready()) {
      const room = roomFor(this.window, limits.unacknowledgedEnvelopes);
      if (room === 0) break;
      const page = await stores.mailboxes.read(this.device.address, this.window.sentThrough, {
        maxEnvelopes: Math.min(room, limits.envelopesPerDeliver),
        maxBytes: limits.deliverBytes,
      });
      if (page.length === 0) break;
      this.window = afterSending(
        this.window,
        page.map((envelope) => envelope.id),
      );
      metrics.count("envelopes_delivered", "", await this.pushPage(page.map(toWire)));
    }
    await this.tellEmpty();
  }

  /**
   * Returns how many were pushed. One envelope that the wire cannot carry does not stop those behind it: it is left out
   * and deleted. Only where there is one is each encoded alone.
   */
  private async pushPage(page: readonly Envelope[]): Promise<number> {
    const mark = this.outlet.takeNewMark();
    try {
      this.outlet.push({ kind: "deliver", envelopes: page, ...mark });
      return page.length;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      const good = page.filter(isDeliverable);
      if (good.length === page.length) throw error;
      const bad = page.filter((envelope) => !good.includes(envelope)).map(({ envelopeId }) => envelopeId);
      this.context.log.error("envelopes-discarded", { count: bad.length });
      this.window = afterDiscarding(this.window, bad);
      if (good.length > 0) this.outlet.push({ kind: "deliver", envelopes: good, ...mark });
      await this.context.stores.mailboxes.discard(this.device.address, bad);
      return good.length;
    }
  }

  /** After what was there at Hello: also when some of it expired or another connection acknowledged it. */
  private async tellEmpty(): Promise<void> {
    if (this.toldEmpty || !this.outlet.ready()) return;
    if (this.window.sentThrough < this.queueEnd) {
      const limits = { maxEnvelopes: 1, maxBytes: 1 };
      const rest = await this.context.stores.mailboxes.read(
        this.device.address,
        this.window.sentThrough,
        limits,
      );
      if (rest.length > 0) return;
    }
    this.toldEmpty = true;
    this.outlet.push({ kind: "queueEmpty" });
  }
}

function isDeliverable(envelope: Envelope): boolean {
  try {
    encodeServiceFrame({ requestId: 0, body: { kind: "deliver", envelopes: [envelope] } });
    return true;
  } catch {
    return false;
  }
}

function toWire(envelope: StoredEnvelope): Envelope {
  const { id: envelopeId, acceptedAtMs: serverTimeMs, ciphertext, source, welcome } = envelope;
  if (welcome !== undefined) {
    return { envelopeId, serverTimeMs, welcome: { ...welcome, welcome: ciphertext } };
  }
  if (source === undefined) return { envelopeId, serverTimeMs, sealed: { ciphertext } };
  const { accountId: senderAccountId, deviceId: senderDeviceId } = source;
  return { envelopeId, serverTimeMs, identified: { senderAccountId, senderDeviceId, ciphertext } };
}

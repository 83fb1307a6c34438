import { formatAddress } from "@murmuration/base";
import { toMinute } from "../core/days.ts";
import { sha256 } from "../core/submit.ts";
import type { OutgoingWelcome } from "../ports/mls-groups.ts";
import type { ServiceContext } from "./context.ts";
import { appendToDevices } from "./mailboxes.ts";
import { OVERLOADED_RETRY_MS, toRefusal } from "./refusals.ts";

const BATCH = 100;
/** Part of a mailbox, as a divisor, that Welcomes may fill: a stranger may send them. */
const WELCOME_SHARE = 2;

/**
 * Carries Welcomes from accepted commits into mailboxes. The outbox is written in the commit's transaction and emptied
 * after a Welcome is durable in its mailbox; a crash in between repeats the step, and the mailbox knows it by its hash.
 * A full mailbox holds nobody up: it is tried once in a pass, and a pass in each `limits.welcomeRetryMs` sees what stayed; in
 * between only what is new is read.
 */
export class WelcomeOutbox {
  private readonly context: ServiceContext;
  private running: Promise<void> | undefined;
  private again = false;
  private stopped = false;
  private stopRetry: (() => void) | undefined;
  /** The next pass begins at the oldest Welcome. */
  private startOver = true;
  /** Id of the last Welcome that this pass has seen. */
  private seenThrough = 0;
  /** Devices whose mailboxes were full in this pass. */
  private readonly full = new Set<string>();

  constructor(context: ServiceContext) {
    this.context = context;
  }

  /** There may be something in the outbox. Several calls make one run. */
  pump(): void {
    this.again = true;
    if (this.running !== undefined || this.stopped) return;
    this.running = this.run()
      .catch((error: unknown) => {
        this.context.log.warn("outbox-interrupted", { code: toRefusal(error, this.context.log).code });
        // An engine is away, mostly for seconds: that is no full mailbox, which takes its owner to come.
        this.stopRetry?.();
        this.stopRetry = undefined;
        this.retryLater(OVERLOADED_RETRY_MS);
      })
      .finally(() => {
        this.running = undefined;
        if (this.again && !this.stopped) this.pump();
      });
  }

  /** Resolves when the present run is over; there is no other after it. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.stopRetry?.();
    await this.running;
  }

  private async run(): Promise<void> {
    while (this.again && !this.stopped) {
      this.again = false;
      if (this.startOver) {
        this.startOver = false;
        this.seenThrough = 0;
        this.full.clear();
      }
      while (await this.carryBatch());
      // Some may be full, and another node may have died between a commit and its Welcomes.
      this.retryLater();
    }
  }

  /** False when there is nothing behind what was seen. O({@link BATCH}). */
  private async carryBatch(): Promise<boolean> {
    const { mlsGroups } = this.context.stores;
    const batch = await mlsGroups.outbox(this.seenThrough, BATCH);
    const last = batch.at(-1);
    if (last === undefined) return false;
    const lines = Map.groupBy(batch, ({ recipient }) => formatAddress(recipient));
    const done = await Promise.all([...lines].map(([name, line]) => this.carryLine(name, line)));
    await mlsGroups.removeFromOutbox(done.flat());
    this.seenThrough = last.id;
    return true;
  }

  /** Carries the Welcomes of one device, in order, up to the first that finds no room. Returns the ids that are done. */
  private async carryLine(name: string, line: readonly OutgoingWelcome[]): Promise<number[]> {
    const done: number[] = [];
    for (const welcome of line) {
      if (this.full.has(name)) break;
      if ((await this.deliver(welcome)) === "full") this.full.add(name);
      else done.push(welcome.id);
    }
    return done;
  }

  /** `gone` when there is no such mailbox, or it was full until the Welcome expired. */
  private async deliver(outgoing: OutgoingWelcome): Promise<"delivered" | "gone" | "full"> {
    const { clock, limits, signals } = this.context;
    const { groupId, recipient, sequence, treeHash, welcome } = outgoing;
    const outcome = await appendToDevices(this.context, {
      submitHash: hashOf(outgoing),
      envelopes: [
        { recipient, ciphertext: welcome, source: undefined, welcome: { groupId, sequence, treeHash } },
      ],
      acceptedAtMs: toMinute(outgoing.acceptedAtMs),
      limits: {
        maxEnvelopes: limits.mailboxEnvelopes / WELCOME_SHARE,
        maxBytes: limits.mailboxBytes / WELCOME_SHARE,
      },
    });
    if (outcome.kind === "stored") signals.publish([recipient]);
    if (outcome.kind === "missing") return "gone";
    if (outcome.kind !== "full") return "delivered";
    return clock.now() > outgoing.acceptedAtMs + limits.envelopeLifetimeMs ? "gone" : "full";
  }

  private retryLater(delayMs: number = this.context.limits.welcomeRetryMs): void {
    this.stopRetry ??= this.context.clock.after(delayMs, () => {
      this.stopRetry = undefined;
      this.startOver = true;
      this.pump();
    });
  }
}

/** The same for every try: a group has one commit at a sequence number, and a commit one Welcome for a device. */
function hashOf({ groupId, sequence, recipient }: OutgoingWelcome): Uint8Array<ArrayBuffer> {
  return sha256(
    Buffer.from(`welcome ${Buffer.from(groupId).toString("hex")} ${sequence} ${formatAddress(recipient)}`),
  );
}

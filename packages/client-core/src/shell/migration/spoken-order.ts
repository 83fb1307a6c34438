/** Keeps what each device says over both protocols in its order. Runs inside the transactions of the receivers. */
import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  formatId,
  RejectionError,
} from "@murmuration/base";
import { type Content, decodeContent } from "../../core/content.ts";
import { decidePairwise, HOLD_MS, mustWait } from "../../core/migration/spoken-order.ts";
import type { HeldRow } from "../../store/held.ts";
import type { Context } from "../context.ts";

/** A content of an MLS group with who said it. */
export interface SpokenMessage {
  readonly author: AccountId;
  readonly device: DeviceId;
  /** The account identity key that the sender's leaf stood for: it may be gone when this has its turn. */
  readonly identityKey: Bytes;
  readonly body: Uint8Array;
  readonly atMs: number;
}

/** What is held at the most of what one device says. */
const HELD_FROM_ONE = 500;
/** From so much on the record is read before more is taken: it may say that the conversation has switched. */
const MUCH_FROM_ONE = 400;

const keyOf = ({ accountId, deviceId }: DeviceAddress): string => `${formatId(accountId)}.${deviceId}`;

export class SpokenOrder {
  private readonly context: Context;
  /** Inside the transaction: a device speaks pairwise after the switch, and may not know better. */
  private readonly tell: (conversation: Bytes, device: DeviceAddress) => void;

  constructor(context: Context, tell: (conversation: Bytes, device: DeviceAddress) => void) {
    this.context = context;
    this.tell = tell;
  }

  /** Something said pairwise in a group has come. False: it is not to be shown. */
  takePairwise(conversation: Bytes, sender: DeviceAddress, counter = 0): boolean {
    const { migration } = this.context;
    const { switchedAtMs } = migration.own(conversation);
    const facts = { counter, switchedAtMs, nowMs: this.context.now() };
    const spoken = migration.counters(conversation, sender);
    const { take, tell } = decidePairwise({ spoken, ...facts });
    if (tell && migration.tellOnce(conversation, sender)) this.tell(conversation, sender);
    if (take && counter > 0) migration.noteSeen(conversation, sender, counter);
    return take;
  }

  /**
   * Something said over MLS has come. True: it was put down, because this conversation has not switched, or because its
   * author said something pairwise before that is not here yet. {@link release} brings it back.
   */
  holds(conversation: Bytes, message: SpokenMessage, content: Content): boolean {
    const { context } = this;
    // A group of another name whose conversation has no record was never pairwise.
    if (context.migration.record(conversation).generation === 0) return false;
    const sender = { accountId: message.author, deviceId: message.device };
    const { counter = 0, revision = 0 } = content.group ?? {};
    const { switchedAtMs } = context.migration.own(conversation);
    const hasSwitched = switchedAtMs > 0;
    if (hasSwitched && counter === 0 && !this.hasHeld(conversation)) return false;
    if (counter > 0) context.migration.noteLast(conversation, sender, counter);
    const held = context.held.countFrom("mls", sender, conversation);
    if (held >= HELD_FROM_ONE) {
      // Its author announced what never came, or speaks where nothing goes on yet: it hurts what it says itself.
      if (hasSwitched) return false;
      throw new RejectionError("content/too-much-held");
    }
    const waits = held > 0 || this.waits(conversation, sender, { counter, revision }, context.now());
    if (hasSwitched && !waits) return false;
    const { body, atMs, identityKey } = message;
    context.held.add(
      {
        reason: "mls",
        bytes: new Uint8Array(body),
        sender,
        identityKey,
        subject: conversation,
        sentAtMs: atMs,
        acceptedAtMs: context.now(),
      },
      context.now(),
    );
    return true;
  }

  private waits(
    conversation: Bytes,
    sender: DeviceAddress,
    last: { readonly counter: number; readonly revision: number },
    heldSinceMs: number,
  ): boolean {
    const { migration } = this.context;
    return mustWait({
      spoken: migration.counters(conversation, sender),
      last: last.counter === 0 ? undefined : last,
      joinedRevision: migration.joinedRevision(conversation),
      heldSinceMs,
      nowMs: this.context.now(),
    });
  }

  /** Whether so much is held of one device that more of it may be lost. */
  isAlmostFull(conversation: Bytes): boolean {
    return this.context.held.hasFromOne("mls", conversation, MUCH_FROM_ONE);
  }

  private hasHeld(conversation: Bytes): boolean {
    return this.context.held.hasOf("mls", conversation);
  }

  private heldOf(conversation: Bytes): readonly HeldRow[] {
    return this.context.held.of("mls", conversation);
  }

  /**
   * Inside a transaction: brings back what does not have to wait any more, in order. Nothing before the conversation has
   * switched. O(what is held).
   */
  release(conversation: Bytes, show: (message: SpokenMessage) => void): void {
    const { context } = this;
    const { switchedAtMs } = context.migration.own(conversation);
    if (switchedAtMs === 0) return;
    const blocked = new Set<string>();
    for (const { id, sender, identityKey, bytes, sentAtMs, acceptedAtMs } of this.heldOf(conversation)) {
      if (sender === undefined || identityKey === undefined || blocked.has(keyOf(sender))) continue;
      const { counter = 0, revision = 0 } = decodeContent(bytes).group ?? {};
      // What was held before the switch waits from the switch on.
      const since = Math.max(acceptedAtMs, switchedAtMs);
      if (this.waits(conversation, sender, { counter, revision }, since)) {
        blocked.add(keyOf(sender));
        continue;
      }
      context.held.remove(id);
      const { accountId: author, deviceId: device } = sender;
      show({ author, device, identityKey, body: bytes, atMs: sentAtMs });
    }
  }

  /** When something that is held is to be looked at again at the latest, ms; undefined while nothing is. */
  nextDue(): number | undefined {
    const oldest = this.context.held.oldest("mls");
    return oldest === undefined ? undefined : oldest + HOLD_MS;
  }
}

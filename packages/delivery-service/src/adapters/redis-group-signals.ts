import { formatId, type GroupId } from "@murmuration/base";
import type { CarriedEntry, GroupChange, GroupListener, GroupSignals } from "../ports/group-signals.ts";
import { MemoryGroupSignals } from "./memory-group-signals.ts";
import type { RedisBus } from "./redis-bus.ts";

/** First byte of a message. After the first of them comes the entry, where it is sent along. */
const ENTRIES = 0;
const MEMBERS = 1;
const TURNS = 2;
const SEQUENCE_BYTES = 8;
/** A larger entry is read from the log by each node: Redis sends a message to every node that has the group open. */
const MAX_ENTRY_BYTES = 16_384;

/**
 * {@link GroupSignals} between all nodes: this process's listeners hear at once, those of others through Redis, on a
 * channel of each group that somebody has open.
 */
export class RedisGroupSignals implements GroupSignals {
  private readonly bus: RedisBus;
  private readonly here = new MemoryGroupSignals();

  constructor(bus: RedisBus) {
    this.bus = bus;
  }

  publish(groupId: GroupId, change: GroupChange, entry?: CarriedEntry): void {
    this.here.publish(groupId, change, entry);
    const carried = entry !== undefined && entry.frame.length <= MAX_ENTRY_BYTES ? carry(entry) : [];
    const kind = Buffer.of({ entries: ENTRIES, members: MEMBERS, turns: TURNS }[change]);
    // An entry that nobody was told of is read from the log when they are.
    this.bus.publish(this.channel(groupId), Buffer.concat([kind, ...carried]), kind);
  }

  subscribe(groupId: GroupId, listener: GroupListener): () => void {
    const end = this.here.subscribe(groupId, listener);
    const leave = this.bus.subscribe(this.channel(groupId), {
      message: (bytes) => tell(listener, bytes),
      resumed: () => {
        listener.membersChanged();
        listener.lookAgain();
        listener.turnsChanged();
      },
    });
    return () => {
      end();
      leave();
    };
  }

  private channel(groupId: GroupId): string {
    return this.bus.channel("group", formatId(groupId));
  }
}

function tell(listener: GroupListener, bytes: Buffer): void {
  if (bytes[0] === MEMBERS) listener.membersChanged();
  else if (bytes[0] === TURNS) listener.turnsChanged();
  else if (bytes.length === 1) listener.lookAgain();
  else {
    const frame = new Uint8Array(bytes.subarray(1 + SEQUENCE_BYTES));
    listener.lookAgain({ sequence: Number(bytes.readBigUInt64BE(1)), frame });
  }
}

function carry({ sequence, frame }: CarriedEntry): readonly Uint8Array[] {
  const number = Buffer.alloc(SEQUENCE_BYTES);
  number.writeBigUInt64BE(BigInt(sequence));
  return [number, frame];
}

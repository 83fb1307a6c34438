/**
 * Counts what arrived. Two independent sources: the histories that the clients have at the end, and the events
 * that they reported on the way, which come at least once and are de-duplicated by client and event id.
 */
export interface Tally {
  /** Pairs of message and receiving member that are in a history. */
  readonly deliveries: number;
  /** Pairs that are missing, in histories or in events: the larger of both counts. */
  readonly lost: number;
  /** Copies beyond the first, in histories or in events: the larger of both counts. */
  readonly duplicated: number;
  /** Each of them in words, for whoever looks for the reason. */
  readonly faults: readonly string[];
}

export interface Said {
  readonly index: number;
  readonly sender: number;
  /**
   * Who has to have it, the sender included: whom the sender saw as members when it said it. Others may have it, those
   * who came at that moment. Undefined: everybody.
   */
  readonly readers?: ReadonlySet<number>;
}

/** The text of a planned message names it: `message 17`. Any other text belongs to no message. */
export const messageText = (index: number): string => `message ${index}`;
export function messageIndex(text: string): number | undefined {
  const match = /^message (0|[1-9]\d{0,8})$/.exec(text);
  return match === null ? undefined : Number(match[1]);
}

/** Events of all clients, as they come. */
export class EventLedger {
  private readonly seen = new Map<number, Map<number, number | undefined>>();
  private readonly counts = new Map<string, number>();

  /** Records one event of a member; the same event id again changes nothing. */
  record(member: number, eventId: number, message: number | undefined): void {
    const events = this.seen.get(member) ?? new Map<number, number | undefined>();
    this.seen.set(member, events);
    if (events.has(eventId)) return;
    events.set(eventId, message);
    if (message === undefined) return;
    const key = `${member}/${message}`;
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
  }

  /** How often events said that this message came to this member. */
  count(member: number, message: number): number {
    return this.counts.get(`${member}/${message}`) ?? 0;
  }

  /** How many of these members have this message. */
  membersWith(message: number, members: Iterable<number>): number {
    let having = 0;
    for (const member of members) if (this.count(member, message) > 0) having++;
    return having;
  }
}

/**
 * Compares what every member should have with what it has.
 * `histories[member]` are the message indices in that member's history, as often as they stand there.
 */
export function tally(
  messages: readonly Said[],
  histories: readonly (readonly number[])[],
  events: EventLedger,
): Tally {
  let deliveries = 0;
  const lost = { history: 0, events: 0 };
  const duplicated = { history: 0, events: 0 };
  const faults: string[] = [];
  histories.forEach((history, member) => {
    const copies = new Map<number, number>();
    for (const index of history) copies.set(index, (copies.get(index) ?? 0) + 1);
    for (const { index, sender, readers } of messages) {
      const found = { history: copies.get(index) ?? 0, events: events.count(member, index) };
      // Whoever need not have it has it in neither place, or in both.
      const mayMiss = readers !== undefined && !readers.has(member);
      if (mayMiss && found.history + found.events === 0) continue;
      if (found.history > 0 && member !== sender) deliveries++;
      for (const source of ["history", "events"] as const) {
        const count = found[source];
        if (count === 1) continue;
        if (count === 0) lost[source]++;
        else duplicated[source] += count - 1;
        faults.push(
          `${messageText(index)} of member ${sender}: ${count} times in ${source} of member ${member}`,
        );
      }
    }
  });
  return {
    deliveries,
    lost: Math.max(lost.history, lost.events),
    duplicated: Math.max(duplicated.history, duplicated.events),
    faults,
  };
}

/** Messages that stand in a history behind a later one of the same sender, one sentence each. */
export function disorder(
  messages: readonly Said[],
  histories: readonly (readonly number[])[],
): readonly string[] {
  const senders = new Map(messages.map(({ index, sender }) => [index, sender]));
  return histories.flatMap((history, member) => {
    const latest = new Map<number, number>();
    const late: string[] = [];
    for (const index of history) {
      const sender = senders.get(index);
      if (sender === undefined) continue;
      const before = latest.get(sender) ?? -1;
      if (index < before)
        late.push(
          `${messageText(index)} of member ${sender}: behind ${messageText(before)} in the history of member ${member}`,
        );
      latest.set(sender, Math.max(before, index));
    }
    return late;
  });
}

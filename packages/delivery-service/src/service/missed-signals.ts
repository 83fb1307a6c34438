import {
  type DeviceAddress,
  type EnvelopeId,
  formatAddress,
  formatId,
  type GroupId,
} from "@murmuration/base";
import type { Clock, Log, Random } from "../ports/environment.ts";
import type { CarriedEntry, GroupChange, GroupListener, GroupSignals } from "../ports/group-signals.ts";
import type { KeyPackageStock } from "../ports/key-packages.ts";
import type { KeyCounts } from "../ports/keys.ts";
import type { EphemeralEnvelope, MailboxListener, MailboxSignals } from "../ports/mailbox-signals.ts";
import type { GroupHead } from "../ports/mls-groups.ts";
import type { Stores } from "./context.ts";
import { toRefusal } from "./refusals.ts";

/** What is asked for at a time. */
const BATCH = 1_000;

export interface MissedSignalsOptions {
  readonly stores: Pick<Stores, "mailboxes" | "mlsGroups">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** At least so long between two looks, and at most twice as long: nodes do not look at the same time. */
  readonly everyMs: number;
}

/**
 * Looks now and then whether what this node's clients have open has moved on. A node stores first and tells then: when it dies
 * in between and the sender never asks again, no signal comes, and whoever is connected to another node would wait until
 * something else happens. Costs one query for {@link BATCH} groups and one field of each mailbox that is open here; who
 * has moved on is told as if by a signal, also where a signal had come.
 *
 * Only where nodes share their engines: a process that stores for itself alone takes its clients' connections with it.
 */
export class MissedSignals {
  private readonly options: MissedSignalsOptions;
  private readonly mailboxes: Watched<DeviceAddress, MailboxListener, EnvelopeId>;
  private readonly groups: Watched<GroupId, GroupListener, GroupHead>;
  private cancel: (() => void) | undefined;
  private stopped = false;

  constructor(options: MissedSignalsOptions) {
    const { mailboxes, mlsGroups } = options.stores;
    this.options = options;
    this.mailboxes = new Watched(
      (addresses) => Promise.all(addresses.map((address) => mailboxes.lastId(address))),
      (listener, before, now) => {
        if (before !== now) listener.lookAgain();
      },
    );
    this.groups = new Watched(
      (ids) => mlsGroups.heads(ids),
      (listener, before, now) => {
        if (before?.bans !== now.bans) listener.membersChanged();
        else if (before.lastSequence !== now.lastSequence) listener.lookAgain();
      },
    );
    this.lookLater();
  }

  /** The same signals, which hear of what was missed as well. */
  ofMailboxes(signals: MailboxSignals): MailboxSignals {
    return new WatchedMailboxSignals(signals, this.mailboxes);
  }

  ofGroups(signals: GroupSignals): GroupSignals {
    return new WatchedGroupSignals(signals, this.groups);
  }

  stop(): void {
    this.stopped = true;
    this.cancel?.();
  }

  private lookLater(): void {
    if (this.stopped) return;
    const { clock, everyMs, random } = this.options;
    const [share = 0] = random.bytes(1);
    this.cancel = clock.after(everyMs * (1 + share / 256), () => {
      void Promise.all([this.look(this.groups), this.look(this.mailboxes)]).then(() => this.lookLater());
    });
  }

  /** What cannot be read now is looked at the next time. */
  private async look(watched: { look(): Promise<void> }): Promise<void> {
    const { log } = this.options;
    await watched.look().catch((error: unknown) => {
      log.warn("missed-signals-unread", { code: toRefusal(error, log).code });
    });
  }
}

/** Listeners by what they listen to, with what was last seen of it. */
class Watched<Key, Listener, Head> {
  private readonly entries = new Map<
    string,
    { readonly key: Key; readonly listeners: Set<Listener>; head: Head | undefined }
  >();
  private readonly read: (keys: readonly Key[]) => Promise<readonly (Head | undefined)[]>;
  private readonly compare: (listener: Listener, before: Head | undefined, now: Head) => void;

  constructor(
    read: (keys: readonly Key[]) => Promise<readonly (Head | undefined)[]>,
    compare: (listener: Listener, before: Head | undefined, now: Head) => void,
  ) {
    this.read = read;
    this.compare = compare;
  }

  /** A listener reads by itself what was there before. The returned function ends it; it may be called again. */
  add(name: string, key: Key, listener: Listener): () => void {
    const entry = this.entries.get(name) ?? { key, listeners: new Set(), head: undefined };
    entry.listeners.add(listener);
    this.entries.set(name, entry);
    return () => {
      entry.listeners.delete(listener);
      if (entry.listeners.size === 0 && this.entries.get(name) === entry) this.entries.delete(name);
    };
  }

  /** O(keys), {@link BATCH} of them at a time. */
  async look(): Promise<void> {
    const entries = [...this.entries.values()];
    for (let next = 0; next < entries.length; next += BATCH) {
      const batch = entries.slice(next, next + BATCH);
      const heads = await this.read(batch.map(({ key }) => key));
      for (const [index, entry] of batch.entries()) {
        const [before, now] = [entry.head, heads[index]];
        if (now === undefined) continue;
        entry.head = now;
        for (const listener of entry.listeners) this.compare(listener, before, now);
      }
    }
  }
}

class WatchedMailboxSignals implements MailboxSignals {
  private readonly signals: MailboxSignals;
  private readonly watched: Watched<DeviceAddress, MailboxListener, EnvelopeId>;

  constructor(signals: MailboxSignals, watched: Watched<DeviceAddress, MailboxListener, EnvelopeId>) {
    this.signals = signals;
    this.watched = watched;
  }

  publish(addresses: readonly DeviceAddress[]): void {
    this.signals.publish(addresses);
  }

  subscribe(address: DeviceAddress, listener: MailboxListener): () => void {
    const unsubscribe = this.signals.subscribe(address, listener);
    const forget = this.watched.add(formatAddress(address), address, listener);
    return () => {
      forget();
      unsubscribe();
    };
  }

  stockLow(address: DeviceAddress, left: KeyCounts): void {
    this.signals.stockLow(address, left);
  }

  keyPackagesLow(address: DeviceAddress, left: KeyPackageStock): void {
    this.signals.keyPackagesLow(address, left);
  }

  forward(address: DeviceAddress, envelope: EphemeralEnvelope): void {
    this.signals.forward(address, envelope);
  }
}

class WatchedGroupSignals implements GroupSignals {
  private readonly signals: GroupSignals;
  private readonly watched: Watched<GroupId, GroupListener, GroupHead>;

  constructor(signals: GroupSignals, watched: Watched<GroupId, GroupListener, GroupHead>) {
    this.signals = signals;
    this.watched = watched;
  }

  publish(groupId: GroupId, change: GroupChange, entry?: CarriedEntry): void {
    this.signals.publish(groupId, change, entry);
  }

  subscribe(groupId: GroupId, listener: GroupListener): () => void {
    const unsubscribe = this.signals.subscribe(groupId, listener);
    const forget = this.watched.add(formatId(groupId), groupId, listener);
    return () => {
      forget();
      unsubscribe();
    };
  }
}

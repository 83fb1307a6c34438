import { formatId, type GroupId } from "@murmuration/base";
import type { ServiceContext } from "./context.ts";
import { GroupPages } from "./group-pages.ts";
import { GroupTurns } from "./group-turns.ts";
import { GroupWakes } from "./group-wakes.ts";
import { LeafCursors } from "./leaf-cursors.ts";
import { LiveGroup } from "./live-group.ts";
import { LostCommits } from "./lost-commits.ts";
import type { PushQueue } from "./push-queue.ts";
import { WelcomeOutbox } from "./welcome-outbox.ts";

/** A group in use, with its line of turns. */
export interface GroupInUse {
  readonly live: LiveGroup;
  readonly turns: GroupTurns;
}

interface Entry {
  /** Counted before the group is loaded, so that nobody forgets a group that somebody waits for. */
  users: number;
  readonly opening: Promise<GroupInUse & { readonly close: () => void }>;
}

/**
 * The groups that this node works with now. A group is loaded when somebody comes and forgotten when the last one
 * left, and when no turn runs whose end it has to see.
 */
export class GroupHub {
  readonly context: ServiceContext;
  readonly cursors: LeafCursors;
  readonly lostCommits: LostCommits;
  readonly outbox: WelcomeOutbox;
  /** Undefined where nobody is woken. */
  readonly wakes: GroupWakes | undefined;
  /** Bytes of re-feedings that wait for their last frame, on all connections. */
  waitingRefeedBytes = 0;
  private readonly pages: GroupPages;
  private readonly groups = new Map<string, Entry>();

  constructor(context: ServiceContext, push?: PushQueue) {
    this.context = context;
    this.pages = new GroupPages(context);
    this.cursors = new LeafCursors(context);
    this.lostCommits = new LostCommits(context);
    this.outbox = new WelcomeOutbox(context);
    this.wakes = push && new GroupWakes(context, push, (groupId, work) => this.use(groupId, work));
  }

  /** Works with a group. Throws RejectionError `group/unknown`, and what the work throws. */
  async use<T>(groupId: GroupId, work: (group: GroupInUse) => Promise<T>): Promise<T> {
    const held = await this.hold(groupId);
    try {
      return await work(held);
    } finally {
      held.release();
    }
  }

  /** Keeps a group in use until `release`. Throws RejectionError `group/unknown`. */
  async hold(groupId: GroupId): Promise<GroupInUse & { readonly release: () => void }> {
    const key = formatId(groupId);
    const entry = this.groups.get(key) ?? {
      users: 0,
      opening: this.open(groupId, key),
    };
    this.groups.set(key, entry);
    this.report();
    entry.users++;
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      entry.users--;
      void this.forgetIfIdle(key);
    };
    try {
      const { live, turns } = await entry.opening;
      return { live, turns, release };
    } catch (error) {
      if (this.groups.get(key) === entry) this.groups.delete(key);
      this.report();
      throw error;
    }
  }

  /** Writes what was held back. */
  async flush(): Promise<void> {
    await Promise.all([this.cursors.flush(), this.lostCommits.flush()]);
  }

  /** After the last connection: what was held back is written, and nothing is done by itself any more. */
  async close(): Promise<void> {
    this.pages.stop();
    await this.wakes?.stop();
    await this.outbox.stop();
    await this.flush();
    for (const { opening } of this.groups.values()) {
      await opening.then(
        ({ close }) => close(),
        () => {},
      );
    }
  }

  private async forgetIfIdle(key: string): Promise<void> {
    const entry = this.groups.get(key);
    if (entry === undefined || entry.users > 0) return;
    // Nobody who could not load it holds it.
    const opened = await entry.opening.catch(() => undefined);
    if (opened === undefined) return;
    const { turns, close } = opened;
    if (entry.users > 0 || turns.isRunning) return;
    if (this.groups.get(key) === entry) this.groups.delete(key);
    this.report();
    close();
  }

  private report(): void {
    this.context.metrics.gauge("groups_in_use", this.groups.size);
  }

  private async open(groupId: GroupId, key: string): Promise<GroupInUse & { readonly close: () => void }> {
    const live = new LiveGroup(this.context, groupId, this.pages);
    // Before the first look: what changes after it is heard.
    const unsubscribe = this.context.groupSignals.subscribe(groupId, live);
    try {
      await live.load();
    } catch (error) {
      unsubscribe();
      throw error;
    }
    const turns = new GroupTurns(this.context, live, () => void this.forgetIfIdle(key));
    live.onTurn = () => turns.look();
    const close = () => {
      unsubscribe();
      turns.stop();
      live.stop();
    };
    return { live, turns, close };
  }
}

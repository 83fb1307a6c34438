import { formatId, type GroupId, RejectionError } from "@murmuration/base";
import type { GroupMentions } from "@murmuration/wire";
import { Paced } from "../core/paced.ts";
import type { LeafHandle } from "../ports/push-handles.ts";
import type { ServiceContext } from "./context.ts";
import { leafName } from "./group-delivery.ts";
import type { GroupInUse } from "./group-hub.ts";
import type { LiveGroup } from "./live-group.ts";
import type { PushQueue } from "./push-queue.ts";
import { toRefusal } from "./refusals.ts";

/** A leaf that does not come is woken for a group at most this often; by what mentions it once more. */
const WINDOW_MS = 60_000;
const MAX_PACED = 500_000;
const TICK_MS = 1_000;
/** What comes to a group within it wakes together. */
const GATHER_MS = 500;
/** Handles that are read at a time, and leaves that are looked at between two pauses. */
const PAGE = 256;
/** Groups that wait to be gone through. */
const MAX_GROUPS = 10_000;

/** What there is to do in a group. */
interface Errand {
  readonly groupId: GroupId;
  /** True after a message: every leaf is looked at. */
  all: boolean;
  /** Names of leaves that closed the group before they had put down all that came. */
  readonly left: Set<string>;
  /** Of leaves whose window is over, by the key of that window: they alone are looked at. */
  readonly late: Map<string, { readonly leaf: LeafHandle; readonly mentioned: boolean }>;
  /** Leaf indexes that messages mentioned. */
  readonly mentioned: Set<number>;
  everybody: boolean;
}

/**
 * Wakes the leaves of a group that do not have it open on this node. Whether a leaf is a member still is looked up before it
 * is woken, so that a removed one does not hear, by being woken, that the group lives on; then its handle is deleted.
 *
 * Going through a group reads every handle that its members left, O(members), whatever the number of messages, at most
 * twice a second and group; one group at a time.
 */
export class GroupWakes {
  private readonly context: ServiceContext;
  private readonly use: (groupId: GroupId, work: (group: GroupInUse) => Promise<void>) => Promise<void>;
  private readonly queue: PushQueue;
  private readonly paced = new Paced(WINDOW_MS, MAX_PACED);
  private readonly waiting = new Map<string, Errand>();
  private running: Promise<void> | undefined;
  private cancelTick: (() => void) | undefined;
  private endPause: () => void = () => {};
  private stopped = false;

  constructor(
    context: ServiceContext,
    queue: PushQueue,
    use: (groupId: GroupId, work: (group: GroupInUse) => Promise<void>) => Promise<void>,
  ) {
    this.context = context;
    this.queue = queue;
    this.use = use;
  }

  /** A message was stored in the group. Costs its submit one entry in a list. */
  message(groupId: GroupId, mentions: GroupMentions | undefined): void {
    const errand = this.errandIn(groupId);
    if (errand === undefined) return;
    errand.all = true;
    errand.everybody ||= mentions?.everybody === true;
    for (const leaf of mentions?.leaves ?? []) errand.mentioned.add(leaf);
  }

  /**
   * The leaf closed the group, or its connection ended. `isBehind`: before it acknowledged everything, so that perhaps it was
   * long gone.
   */
  left(groupId: GroupId, name: string, isBehind: boolean): void {
    this.context.presence.went(presenceOf(groupId, name));
    if (isBehind) this.errandIn(groupId)?.left.add(name);
  }

  /** The leaf opened the group: what it was woken for it sees now. */
  came(groupId: GroupId, name: string): void {
    this.context.presence.came(presenceOf(groupId, name));
    for (const mentioned of [true, false]) this.paced.forget(keyOf(groupId, name, mentioned));
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.cancelTick?.();
    this.endPause();
    await this.running;
  }

  private errandIn(groupId: GroupId): Errand | undefined {
    if (this.stopped) return undefined;
    const key = formatId(groupId);
    let errand = this.waiting.get(key);
    if (errand === undefined) {
      if (this.waiting.size >= MAX_GROUPS) {
        this.context.metrics.count("push_wakes", "dropped");
        return undefined;
      }
      errand = {
        groupId,
        all: false,
        left: new Set(),
        late: new Map(),
        mentioned: new Set(),
        everybody: false,
      };
      this.waiting.set(key, errand);
    }
    this.running ??= this.run();
    return errand;
  }

  private async run(): Promise<void> {
    await this.pause(GATHER_MS);
    while (this.waiting.size > 0 && !this.stopped) {
      const errands = [...this.waiting.values()];
      this.waiting.clear();
      for (const errand of errands) if (!this.stopped) await this.goTo(errand);
      await this.pause(GATHER_MS);
    }
    // In the same turn as the look above: what is added next starts anew.
    this.running = undefined;
  }

  private async goTo(errand: Errand): Promise<void> {
    try {
      await this.use(errand.groupId, async ({ live }) => {
        if (errand.all || errand.left.size > 0) await this.stored(live, errand);
        // Who was just looked at would have a second wake-up at the end of its window, for nothing.
        if (!errand.all) await this.late(live, errand);
      });
    } catch (error) {
      // The group is gone, and its handles go with time.
      if (error instanceof RejectionError) return;
      const { code } = toRefusal(error, this.context.log);
      this.context.metrics.count("push_wakes", "unread");
      this.context.log.warn("push-handles-unread", { code });
    }
  }

  private async stored(live: LiveGroup, errand: Errand): Promise<void> {
    const names = await namesOf(this.context, live, errand.mentioned);
    for (const { leaf, mentioned } of errand.late.values())
      if (mentioned) names.add(leafName(leaf.signatureKey));
    let last: LeafHandle | undefined;
    do {
      const page = await this.context.stores.pushHandles.leaves(live.groupId, last?.signatureKey, PAGE);
      for (const leaf of page) {
        const name = leafName(leaf.signatureKey);
        if (!errand.all && !errand.left.has(name)) continue;
        await this.offer(live, leaf, errand.everybody || names.has(name));
      }
      last = page.length < PAGE ? undefined : page.at(-1);
      await this.pause(0);
    } while (last !== undefined && !this.stopped);
  }

  private async late(live: LiveGroup, { late }: Errand): Promise<void> {
    for (const { leaf, mentioned } of late.values()) await this.offer(live, leaf, mentioned);
  }

  private async offer(live: LiveGroup, leaf: LeafHandle, mentioned: boolean): Promise<void> {
    const { clock, metrics, stores } = this.context;
    const { groupId } = live;
    const name = leafName(leaf.signatureKey);
    if (live.readersOf(name).length > 0) return;
    const key = keyOf(groupId, name, mentioned);
    const again = () => void this.errandIn(groupId)?.late.set(key, { leaf, mentioned });
    const entered = this.paced.enter(key, clock.now(), again);
    this.tickLater();
    if (entered === false) return;
    if (entered === "full") {
      metrics.count("push_wakes", "dropped");
      return;
    }
    const known = await live.lookUp(leaf.signatureKey);
    if (known?.leaf === undefined) await stores.pushHandles.removeLeaf(groupId, leaf.signatureKey);
    else this.queue.add({ handle: leaf.handle, mentioned }, presenceOf(groupId, name));
  }

  private tickLater(): void {
    if (this.stopped) return;
    this.cancelTick ??= this.context.clock.after(TICK_MS, () => {
      this.cancelTick = undefined;
      this.paced.tick(this.context.clock.now());
      if (!this.paced.isEmpty) this.tickLater();
    });
  }

  /** Ends early when nobody is woken any more. */
  private pause(ms: number): Promise<void> {
    if (this.stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.context.clock.after(ms, resolve);
      this.endPause = () => {
        cancel();
        resolve();
      };
    });
  }
}

/** A leaf, as nodes tell each other that it is there. */
function presenceOf(groupId: GroupId, name: string): string {
  return `${formatId(groupId)} ${name}`;
}

function keyOf(groupId: GroupId, name: string, mentioned: boolean): string {
  return `${formatId(groupId)} ${name} ${mentioned ? "mentioned" : ""}`;
}

/** The leaves at these places of the present epoch, by name. */
async function namesOf(
  { validator }: ServiceContext,
  live: LiveGroup,
  leaves: ReadonlySet<number>,
): Promise<Set<string>> {
  const names = new Set<string>();
  for (const leafIndex of leaves) {
    const { value: leaf } = await live.ask((base) => validator.leaf(base, leafIndex));
    if (leaf !== undefined) names.add(leafName(leaf.signatureKey));
  }
  return names;
}

import { type Bytes, type GroupId, InvariantError, UnavailableError } from "@murmuration/base";
import { decodeServiceFrame, encodeServiceFrame } from "@murmuration/wire";
import { toWireEntry } from "../core/group-entries.ts";
import type { LogEntry } from "../ports/mls-groups.ts";
import type { ServiceContext } from "./context.ts";

/** Entries of a group's log, encoded once for all connections that stand before the first of them. */
export interface GroupPage {
  readonly frame: Bytes;
  readonly through: number;
  readonly entries: number;
}

/** Where a reader stands, and how far it may read. */
export interface PageRequest {
  readonly groupId: GroupId;
  readonly after: number;
  readonly through: number;
  /** Of the group; the frame says it. */
  readonly lastSequence: number;
}

/** Frames kept for readers that come to the same place a little later, over all groups. */
const CACHE_BYTES = 32 * 1024 * 1024;
/** After this time a page is read anew: what was deleted from the store is then nowhere else either. */
const CACHE_MS = 60_000;
/** Joined pages that are kept: readers of a group stand at few places at a time. Up to 8 MiB. */
const MAX_JOINED = 32;

/**
 * Pages of group logs. A message to N connected members costs one read and one encoding, whatever N is: who asks
 * while a page is read waits for the same one. A log only grows, so a page never becomes wrong, only short.
 */
export class GroupPages {
  private readonly context: ServiceContext;
  private readonly pages = new Map<string, Promise<GroupPage | undefined>>();
  /** By the time at which they were read. */
  private readonly kept = new Map<string, { readonly page: GroupPage; readonly atMs: number }>();
  /** Pages out of several that are kept, for those who stand before the first of them; the oldest goes first. */
  private readonly joined = new Map<string, GroupPage>();
  private bytes = 0;
  private stopTimer: (() => void) | undefined;

  constructor(context: ServiceContext) {
    this.context = context;
  }

  /**
   * The page behind `after`; undefined when there is none up to `through`. Throws UnavailableError `group/gap` when
   * the next entry is gone: a reader is never led over a gap.
   */
  async page(request: PageRequest): Promise<GroupPage | undefined> {
    // A leaf that was removed reads up to its removal, which may lie in the middle of a page: it has its own.
    if (request.through < request.lastSequence) return this.read(request);
    const page = await this.pageBehind(request);
    return page === undefined || page.through >= request.through ? page : this.join(request, page);
  }

  private pageBehind(request: PageRequest): Promise<GroupPage | undefined> {
    const key = keyOf(request.groupId, request.after);
    const known = this.pages.get(key);
    if (known !== undefined) return known;
    const reading = this.read(request);
    this.pages.set(key, reading);
    reading.then(
      (page) => (page === undefined ? this.pages.delete(key) : this.keep(key, page)),
      () => this.pages.delete(key),
    );
    return reading;
  }

  /**
   * The page of an entry that was just appended, here or on another node: whoever stands before it needs not read it. One
   * that is there already stays. O(entry).
   */
  put(groupId: GroupId, after: number, page: GroupPage): void {
    const key = keyOf(groupId, after);
    if (this.pages.has(key)) return;
    this.pages.set(key, Promise.resolve(page));
    this.keep(key, page);
  }

  /**
   * A page and those that follow it, as one frame: messages that were stored together go out together, and a socket is
   * written to once for all of them. Made once for all who stand at the same place. O(entries).
   */
  private join({ groupId, after, through, lastSequence }: PageRequest, first: GroupPage): GroupPage {
    const { limits } = this.context;
    const maxEntries = Math.min(limits.entriesPerDeliver, limits.unacknowledgedEntries);
    const parts = [first];
    let { entries, through: at } = first;
    let bytes = first.frame.length;
    while (at < through) {
      const next = this.kept.get(keyOf(groupId, at))?.page;
      if (next === undefined || next.through > through) break;
      entries += next.entries;
      bytes += next.frame.length;
      if (entries > maxEntries || bytes > limits.deliverBytes) break;
      parts.push(next);
      at = next.through;
    }
    if (parts.length === 1) return first;
    const key = `${keyOf(groupId, after)} ${at}`;
    const known = this.joined.get(key);
    if (known !== undefined) return known;
    const page = joinedPage(groupId, parts, lastSequence);
    this.joined.set(key, page);
    const [oldest] = this.joined.keys();
    if (this.joined.size > MAX_JOINED) this.joined.delete(oldest!);
    return page;
  }

  stop(): void {
    this.stopTimer?.();
    this.stopTimer = undefined;
  }

  private keep(key: string, page: GroupPage): void {
    this.kept.set(key, { page, atMs: this.context.clock.now() });
    this.bytes += page.frame.length;
    this.dropOld();
  }

  private dropOld(): void {
    const readBefore = this.context.clock.now() - CACHE_MS;
    for (const [key, { page, atMs }] of this.kept) {
      if (this.bytes <= CACHE_BYTES && atMs > readBefore) break;
      this.kept.delete(key);
      this.pages.delete(key);
      this.bytes -= page.frame.length;
      this.joined.clear();
    }
    if (this.kept.size === 0) return;
    this.stopTimer ??= this.context.clock.after(CACHE_MS, () => {
      this.stopTimer = undefined;
      this.dropOld();
    });
  }

  private async read({ groupId, after, through, lastSequence }: PageRequest): Promise<GroupPage | undefined> {
    const { limits, stores } = this.context;
    const entries = await stores.mlsGroups.read(groupId, after, through, {
      maxEntries: Math.min(limits.entriesPerDeliver, limits.unacknowledgedEntries),
      maxBytes: limits.deliverBytes,
    });
    const first = entries[0];
    const last = entries.at(-1);
    if (first === undefined || last === undefined) return undefined;
    if (first.sequence !== after + 1) throw new UnavailableError("group/gap");
    return {
      frame: frameOf(groupId, entries, lastSequence),
      through: last.sequence,
      entries: entries.length,
    };
  }
}

/** The frame that carries entries to a reader. */
export function frameOf(groupId: GroupId, entries: readonly LogEntry[], lastSequence: number): Bytes {
  const body = { kind: "groupEntries" as const, groupId, entries: entries.map(toWireEntry), lastSequence };
  return encodeServiceFrame({ requestId: 0, body });
}

function joinedPage(groupId: GroupId, parts: readonly GroupPage[], lastSequence: number): GroupPage {
  const entries = parts.flatMap(({ frame }) => {
    const { body } = decodeServiceFrame(frame);
    if (body.kind !== "groupEntries") throw new InvariantError("group/page-without-entries");
    return body.entries;
  });
  const body = { kind: "groupEntries" as const, groupId, entries, lastSequence };
  return {
    frame: encodeServiceFrame({ requestId: 0, body }),
    through: parts.at(-1)!.through,
    entries: entries.length,
  };
}

const keyOf = (groupId: GroupId, after: number): string =>
  `${Buffer.from(groupId).toString("latin1")} ${after}`;

/**
 * A service that was set back to an older copy of its database. Whoever opens a group finds out whether the service's
 * log is the one that it knows:
 *
 *   it is                                   go on
 *   the service has not reached our epoch   take nothing, feed it the commits that it lacks, open again
 *   it has, with another log                PERSIST: back to where the logs part; read from there
 *   it has none                             whoever made the group tells it of its beginning, and feeds it from there
 *   neither can be                          wait, look again, and tell a person after a while
 */
import { type GroupId, toBase64Url, UnavailableError } from "@murmuration/base";
import { type GroupAccessGranted, type GroupPastCommit, limits } from "@murmuration/wire";
import { isTemporary, ServiceRefusal } from "../../core/refusal.ts";
import type { Context } from "../context.ts";
import type { Access } from "./access.ts";
import type { GroupNames } from "./group-names.ts";
import type { GroupPast } from "./past.ts";
import type { Registry } from "./registry.ts";

export interface RefeedEffects {
  /** Opens the group, whatever stands in the way. */
  open(id: GroupId): Promise<void>;
  /** The group is open at last: what waited for it. */
  opened(id: GroupId): void;
  /** The service has lost something; what it hands out of ours may be used up. */
  serviceLost(): void;
  behind(work: () => Promise<void>): void;
}

interface Waiting {
  readonly sinceMs: number;
  told: boolean;
  /** Ends with the connection. */
  asking: AbortController | undefined;
}

/** Content of one frame, bytes, unless a single commit is larger. */
const FRAME_BYTES = 1024 * 1024;
/** How often one opening of a group may feed, or go back: each leads on to the next. */
const MAX_STEPS = 5;
const SECOND_LOOK_MS = 500;
/** Pause before the service is asked again, at first and at most. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
/** Others may bring the service forward in this time; then a person has to know. */
const PATIENCE_MS = 5_000;

export class Refeeder {
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly access: Access;
  private readonly past: GroupPast;
  private readonly effects: RefeedEffects;
  private readonly waiting = new Map<string, Waiting>();
  /** On this connection. */
  private lossNoted = false;

  constructor(
    context: Context,
    names: GroupNames,
    registry: Registry,
    access: Access,
    past: GroupPast,
    effects: RefeedEffects,
  ) {
    this.context = context;
    this.names = names;
    this.registry = registry;
    this.access = access;
    this.past = past;
    this.effects = effects;
  }

  /** The connection is gone: the next one asks. */
  disconnected(): void {
    this.lossNoted = false;
    for (const waiting of this.waiting.values()) waiting.asking?.abort();
  }

  /**
   * Opens a group. Where this resolves and the group is not open, the service is behind, and is asked again by itself.
   * Throws like {@link Access.openGroup}.
   */
  async open(id: GroupId): Promise<void> {
    let believed = false;
    for (let step = 0; step < MAX_STEPS; step++) {
      const answered = await this.ask(id);
      if (answered === undefined) break;
      const { decision, granted } = answered;
      if (decision.kind === "in-step") {
        this.access.granted(id, granted.lastSequence);
        this.waiting.delete(toBase64Url(id));
        return;
      }
      this.access.hold(id);
      if (!believed) {
        // Asked twice: another node of the service may be a moment behind.
        believed = true;
        await this.context.environment.sleep(SECOND_LOOK_MS, this.context.closing.signal);
        continue;
      }
      if (decision.kind === "another-past") break;
      if (decision.kind === "another-log") this.goBack(id, granted);
      else if (!(await this.feed(id, granted))) break;
    }
    this.wait(id);
  }

  /** Undefined where the service does not know our leaf yet, or the group. */
  private async ask(id: GroupId) {
    try {
      return await this.access.openGroup(id);
    } catch (error) {
      if (!(error instanceof ServiceRefusal)) throw error;
      if (error.code === "group/epoch-unknown") return undefined;
      if (error.code !== "group/unknown") throw error;
      return (await this.createAgain(id)) ? this.access.openGroup(id) : undefined;
    }
  }

  /** A community younger than the copy begins anew with its first epoch, and is fed from there. False where others made it. */
  private async createAgain(id: GroupId): Promise<boolean> {
    const creation = this.context.mls.past.creation(id);
    if (creation === undefined) return false;
    await this.names.ask({ kind: "groupCreate", groupId: id, ...creation });
    return true;
  }

  /** PERSIST where the logs part, before anything behind that is asked for. */
  private goBack(id: GroupId, { agreedSequence, firstSequence, lastSequence }: GroupAccessGranted): void {
    this.registry.update(id, () =>
      this.past.goBack(id, Math.max(agreedSequence, firstSequence - 1), lastSequence),
    );
    if (this.lossNoted) return;
    this.lossNoted = true;
    this.effects.serviceLost();
  }

  /** Gives the service what it lacks. False where that cannot be done by this device. */
  private async feed(id: GroupId, granted: GroupAccessGranted): Promise<boolean> {
    const { group } = this.registry.load(id);
    const commits = this.context.mls.past.commits(id, granted.epoch, Number(group.epoch));
    if (commits === undefined || granted.removed) return false;
    const groupInfo = group.groupInfo();
    const frames = inFrames(commits);
    const { agreedSequence } = granted;
    try {
      for (const [index, some] of frames.entries()) {
        const last = index === frames.length - 1 ? { groupInfo } : {};
        const frame = { kind: "groupRefeed", groupId: id, commits: some, agreedSequence, ...last } as const;
        const answer = await this.names.ask(frame);
        if (answer.kind !== "groupDone") throw new UnavailableError("connection/unexpected-answer");
      }
      return true;
    } catch (error) {
      // The service has gone on with others, or does not take us for a member: whoever comes next may do better.
      if (error instanceof ServiceRefusal) return false;
      throw error;
    }
  }

  // ---------------------------------------------------------------------------------------------- waiting

  /** Nothing is taken and nothing said in this group until the service is where we are. */
  wait(id: GroupId): void {
    this.access.hold(id);
    const key = toBase64Url(id);
    const waiting = this.waiting.get(key) ?? { sinceMs: this.context.now(), told: false, asking: undefined };
    this.waiting.set(key, waiting);
    if (waiting.asking !== undefined && !waiting.asking.signal.aborted) return;
    const asking = new AbortController();
    waiting.asking = asking;
    this.effects.behind(() => this.keepAsking(id, waiting, asking).finally(() => asking.abort()));
  }

  private async keepAsking(id: GroupId, waiting: Waiting, { signal }: AbortController): Promise<void> {
    const { closing, environment } = this.context;
    const end = AbortSignal.any([signal, closing.signal]);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * pauseMs)) {
      await environment.sleep(pauseMs, end);
      if (end.aborted) return;
      this.tellIfLong(id, waiting);
      await this.askAgain(id);
      if (end.aborted) return;
      if (this.waiting.get(toBase64Url(id)) !== waiting) {
        this.effects.opened(id);
        return;
      }
    }
  }

  private async askAgain(id: GroupId): Promise<void> {
    try {
      await this.effects.open(id);
    } catch (error) {
      // A connection that broke ends the asking by itself.
      if (!isTemporary(error)) throw error;
    }
    // Removed meanwhile, as far as the service knows by now.
    if (this.context.mls.group(id)?.state === "over") this.waiting.delete(toBase64Url(id));
  }

  private tellIfLong(id: GroupId, waiting: Waiting): void {
    const { context } = this;
    if (waiting.told || context.now() < waiting.sinceMs + PATIENCE_MS) return;
    waiting.told = true;
    const [kind, detail, atMs] = ["decision-needed", "group/service-behind", context.now()] as const;
    context.transaction(() => context.events.append({ kind, conversation: id, detail, atMs }));
    context.notifier.flush();
  }
}

/** In order; each frame as large as it may be. */
function inFrames(commits: readonly GroupPastCommit[]): readonly (readonly GroupPastCommit[])[] {
  const frames: GroupPastCommit[][] = [[]];
  let [bytes, items] = [0, 0];
  for (const commit of commits) {
    const weight = weightOf(commit);
    const many = 1 + commit.proposals.length;
    if (items > 0 && (bytes + weight > FRAME_BYTES || items + many > limits.commitsPerRefeed)) {
      frames.push([]);
      [bytes, items] = [0, 0];
    }
    frames.at(-1)!.push(commit);
    bytes += weight;
    items += many;
  }
  return frames;
}

function weightOf({ commit, proposals, banList }: GroupPastCommit): number {
  const withProposals = proposals.reduce((bytes, proposal) => bytes + proposal.length, commit.length);
  return withProposals + (banList?.length ?? 0);
}

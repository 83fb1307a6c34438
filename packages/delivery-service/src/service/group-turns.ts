import type { Bytes } from "@murmuration/base";
import type { GroupCommitLost, GroupTurn, ServiceBody } from "@murmuration/wire";
import { bytesThatFit } from "../core/group-entries.ts";
import { readMlsHeader } from "../core/mls-header.ts";
import {
  type Idleness,
  idlenessAfter,
  isForgotten,
  isJoiner,
  isOthersTurn,
  isTrying,
  NO_LINE,
  placeOf,
  type Turn,
  type TurnEvent,
  type TurnLine,
} from "../core/turn-line.ts";
import { mostTook, type Pace, warmUpDueAt } from "../core/warm-up-pace.ts";
import type { FollowedLeaf } from "../ports/commit-validator.ts";
import type { ServiceContext } from "./context.ts";
import type { LiveGroup } from "./live-group.ts";
import { toRefusal } from "./refusals.ts";

/** Who may have a turn: a leaf by its name, whatever its connections, or a connection that has no leaf yet. */
export interface Voice {
  readonly name: string;
  /** With whom it is counted: for a connection without a leaf the key of its address, for a leaf its account. */
  readonly origin: string | undefined;
  readonly push: (body: ServiceBody) => void;
}

/** A place in the line, as the answer to a lost race says it. */
export type PlaceInLine = Pick<GroupCommitLost, "proposals" | "place" | "turn" | "turnExpiresInMs">;

/** Time for which a leaf that did not use a turn is not asked again. */
const COOL_DOWN_MS = 60_000;
/** Places in the line for who has no leaf yet: together, and from one address. The others try again. */
const MAX_JOINERS = 512;
const MAX_JOINERS_PER_ADDRESS = 256;
/** Leaves of one account that wait: a member may have 127, and would hold everybody else up for ten minutes. */
const MAX_PLACES_PER_ACCOUNT = 4;
/** Pending proposals in one frame, bytes. */
const PROPOSALS_BYTES = 1024 * 1024;

/**
 * The line of turns of one group as this node sees it: its clock, its voice, and what the service asks of members itself.
 * The line itself is one for all nodes ({@link GroupMemory}): each node tells a turn to whoever is connected to it.
 */
export class GroupTurns {
  private readonly context: ServiceContext;
  private readonly live: LiveGroup;
  private readonly idle: () => void;
  /** As it was after the last step that this node knows of. */
  private line: TurnLine = NO_LINE;
  /** Steps go one after the other. */
  private steps: Promise<unknown> = Promise.resolve();
  /** The newest turn whose holder was told, or is told by the answer to its own frame. */
  private toldTurn = 0;
  private pacedSequence: number;
  /** Connections without a leaf that wait: a leaf's are found by its name. */
  private readonly voices = new Map<string, Voice>();
  /** When each leaf that let a turn pass may be asked again. */
  private readonly coolDown = new Map<string, number>();
  /** With whom those are counted who wait or have the turn. */
  private readonly origins = new Map<string, string>();
  /** Leaves, their accounts, and addresses of joiners, that let turns of the line pass. */
  private readonly idlers = new Map<string, Idleness>();
  private pace: Omit<Pace, "saidAtMs">;
  private stopTimer: () => void = () => {};
  private stopRetry: (() => void) | undefined;
  private offering: Promise<void> | undefined;
  private offerAgain = false;
  private stopped = false;

  constructor(context: ServiceContext, live: LiveGroup, idle: () => void) {
    this.context = context;
    this.live = live;
    this.idle = idle;
    const now = context.clock.now();
    this.pace = { committedAtMs: now, takenAtMs: now, cameAtMs: 0, releasedAtMs: 0 };
    this.pacedSequence = live.lastCommitSequence;
  }

  /** True while somebody has a turn or waits for one. */
  get isRunning(): boolean {
    return this.line.current !== undefined;
  }

  stop(): void {
    this.stopped = true;
    this.stopTimer();
    this.stopRetry?.();
  }

  /** True while somebody else may commit and this one may not. */
  async isOthers(name: string): Promise<boolean> {
    await this.see();
    return isOthersTurn(this.line, name, this.context.clock.now());
  }

  /** Another node gave somebody a turn. */
  look(): void {
    void this.see();
  }

  /** Reads the line anew, and tells its turn to who has it and is connected here. */
  private see(): Promise<void> {
    return this.chain(async () => {
      this.line = await this.context.groupMemory.line(this.live.groupId);
      this.tellCurrent();
    });
  }

  private chain(work: () => Promise<void>): Promise<void> {
    const run = this.steps.then(work);
    this.steps = run.catch((error: unknown) => {
      this.context.log.warn("turns-not-stepped", { code: toRefusal(error, this.context.log).code });
    });
    return run;
  }

  private tellCurrent(): void {
    const { current } = this.line;
    if (this.stopped || current === undefined || current.turn <= this.toldTurn) return;
    this.toldTurn = current.turn;
    this.watch(current);
    this.tell(current);
  }

  /** Looks at the line again when the turn is over. */
  private watch(turn: Turn): void {
    this.stopTimer();
    this.stopTimer = this.context.clock.after(this.timeLeft(turn), () => void this.step({ kind: "looked" }));
  }

  /**
   * Puts who lost a race into the line, once, and says where it stands. Who gets no place is told how many turns there
   * are before it could have one: it tries again by then. O(waiting).
   */
  async lost(voice: Voice): Promise<PlaceInLine> {
    await this.see();
    if (this.mayWait(voice)) {
      if (isJoiner(voice.name)) this.voices.set(voice.name, voice);
      if (voice.origin !== undefined) this.origins.set(voice.name, voice.origin);
      await this.step({ kind: "lost", who: voice.name }, voice.name);
    }
    const { current } = this.line;
    const place = placeOf(this.line, voice.name) ?? this.line.waiting.length + 1;
    if (current?.holder !== voice.name) return { proposals: [], place };
    return {
      proposals: await this.pendingProposals(),
      place: 0,
      turn: current.turn,
      turnExpiresInMs: this.timeLeft(current),
    };
  }

  private mayWait({ name, origin }: Voice): boolean {
    if (placeOf(this.line, name) !== undefined) return true;
    const now = this.context.clock.now();
    const idle = this.idlers.get(name);
    if (idle !== undefined && now < idle.untilMs) return false;
    if (origin === undefined) return true;
    const all = this.idlers.get(origin);
    if (all !== undefined && now < all.untilMs && isTrying(all, this.context.limits.turnMs)) return false;
    const together = this.waitingFrom(origin).length;
    if (!isJoiner(name)) return together < MAX_PLACES_PER_ACCOUNT;
    return this.line.waiting.filter(isJoiner).length < MAX_JOINERS && together < MAX_JOINERS_PER_ADDRESS;
  }

  private waitingFrom(origin: string): readonly string[] {
    return this.line.waiting.filter((name) => this.origins.get(name) === origin);
  }

  committed(name: string): void {
    this.coolDown.delete(name);
    this.pace = { ...this.pace, committedAtMs: this.context.clock.now(), takenAtMs: undefined };
    this.pacedSequence = this.live.lastCommitSequence;
    void this.step({ kind: "committed", who: name });
    this.offer();
  }

  /** False when this turn is not (any more) the leaf's. */
  async released(name: string, turn: number): Promise<boolean> {
    await this.see();
    const { current } = this.line;
    if (current?.holder !== name || current.turn !== turn) return false;
    await this.step({ kind: "released", who: name, turn });
    return true;
  }

  left(name: string): void {
    void this.step({ kind: "left", who: name });
  }

  gone(name: string): void {
    void this.step({ kind: "gone", who: name });
    this.voices.delete(name);
  }

  /** A leaf came (back): its turn is said to it again, and it may be the one that the service waits for. */
  came(name: string): void {
    this.pace = { ...this.pace, cameAtMs: this.context.clock.now() };
    if (this.line.current?.holder === name) this.tell(this.line.current);
    else this.offer();
  }

  /**
   * Asks a member to commit what should be committed, unless somebody is about to commit anyway; but an admin to remove
   * who is banned as soon as the present turn is over, whoever waits.
   */
  offer(): void {
    // What came before has to be in the line first.
    void this.steps.then(() => this.offerNow());
  }

  private offerNow(): void {
    const { current, remover } = this.line;
    const isRemoving = remover !== undefined || current?.reason === "ban";
    const mayOffer = current === undefined || (this.live.bannedLeaves.length > 0 && !isRemoving);
    if (this.stopped || !mayOffer) return;
    if (this.offering !== undefined) {
      this.offerAgain = true;
      return;
    }
    this.offering = this.makeOffer()
      .catch((error: unknown) => {
        // It is tried again with the next commit, proposal or member that comes.
        this.context.log.warn("no-turn-offered", { code: toRefusal(error, this.context.log).code });
      })
      .finally(() => {
        this.offering = undefined;
        const again = this.offerAgain;
        this.offerAgain = false;
        if (again) this.offer();
      });
  }

  private async makeOffer(): Promise<void> {
    const { live } = this;
    const { validator, stores } = this.context;
    const proposals = await stores.mlsGroups.pendingProposals(live.groupId);
    const leaving = proposals.map(proposerOf).filter((leaf) => leaf !== undefined);
    const able = await this.ableLeaves(leaving);
    if (able.size === 0) return;
    const isWarmUp = proposals.length === 0 && live.bannedLeaves.length === 0;
    if (isWarmUp && !this.mayWarmUp()) return;
    const { value: next } = await live.ask(async (base) =>
      validator.nextTurn(base, {
        online: [...able.keys()],
        leaving,
        bannedLeaves: (await this.bannedLeaves()).map((leaf) => leaf.leafIndex),
      }),
    );
    const who = next && able.get(next.leafIndex);
    if (next === undefined || who === undefined || this.stopped) return;
    if (this.line.current !== undefined && next.reason !== "ban") return;
    if (next.reason === "warm-up" && !this.mayWarmUp()) return;
    await this.step({ kind: "offered", who, reason: next.reason });
  }

  /** Whether it is time for it; if not, it is looked at again when it is. O(readers). */
  private mayWarmUp(): boolean {
    const { clock, limits } = this.context;
    const now = clock.now();
    if (this.live.lastCommitSequence !== this.pacedSequence) {
      // Another node took the newest commit.
      this.pacedSequence = this.live.lastCommitSequence;
      this.pace = { ...this.pace, committedAtMs: now, takenAtMs: undefined };
    }
    if (this.pace.takenAtMs === undefined) {
      const readers = this.live.allReaders().map((reader) => reader.acknowledged);
      if (mostTook(readers, this.live.lastCommitSequence)) this.pace = { ...this.pace, takenAtMs: now };
    }
    const pace = { ...this.pace, saidAtMs: this.live.saidAtMs };
    const dueAt = warmUpDueAt(pace, now, limits.warmUpQuietMs);
    if (dueAt > now) this.retryAt(dueAt);
    return dueAt <= now;
  }

  /** Leaves that are here and may be asked: by index, without those that propose to leave. O(readers). */
  private async ableLeaves(leaving: readonly number[]): Promise<Map<number, string>> {
    const suspended = await this.context.groupMemory.suspended(this.live.groupId);
    const now = this.context.clock.now();
    const able = new Map<number, string>();
    let earliest = Number.POSITIVE_INFINITY;
    for (const { leafIndex, name } of this.live.allReaders()) {
      if (leafIndex === undefined || suspended.has(name)) continue;
      const until = this.coolDown.get(name) ?? 0;
      if (until > now) earliest = Math.min(earliest, until);
      else able.set(leafIndex, name);
    }
    for (const leaf of leaving) able.delete(leaf);
    if (earliest < Number.POSITIVE_INFINITY) this.retryAt(earliest);
    return able;
  }

  private retryAt(timeMs: number): void {
    this.stopRetry?.();
    this.stopRetry = this.context.clock.after(timeMs - this.context.clock.now() + 1, () => this.offer());
  }

  /** One step of the line. `answered` learns of its turn by the answer to its own frame. */
  private step(event: TurnEvent, answered?: string): Promise<void> {
    return this.chain(() => this.stepNow(event, answered));
  }

  private async stepNow(event: TurnEvent, answered: string | undefined): Promise<void> {
    const { clock, groupMemory, limits, metrics } = this.context;
    const { groupId } = this.live;
    const { line, granted, ended } = await groupMemory.step(groupId, event, clock.now(), limits.turnMs);
    this.line = line;
    if (ended !== undefined) {
      metrics.count("group_turns", ended.how);
      if (ended.how !== "used") this.passedUp(ended.turn);
      if (ended.how === "released" && ended.turn.reason === "warm-up")
        this.pace = { ...this.pace, releasedAtMs: clock.now() };
      this.forget(ended.turn.holder);
    }
    if ("who" in event) this.forget(event.who);
    if (granted !== undefined) {
      metrics.count("group_turns", `granted-${granted.reason}`);
      if (granted.holder === answered) {
        this.toldTurn = granted.turn;
        this.watch(granted);
      }
      this.tellCurrent();
      this.live.announce("turns");
      if (ended !== undefined && ended.how !== "used") this.offer();
    } else if (line.current !== undefined) {
      // One that another node gave, or that a clock which is ahead of ours has ended too early.
      if (event.kind === "looked") this.watch(line.current);
      this.tellCurrent();
    } else if (ended !== undefined || event.kind === "looked") {
      this.stopTimer();
      if (ended !== undefined && ended.how !== "used") this.offer();
      this.idle();
    }
  }

  /** Whoever is not in the line any more is counted with nobody. */
  private forget(name: string): void {
    if (placeOf(this.line, name) === undefined) this.origins.delete(name);
  }

  private passedUp(turn: Turn): void {
    const now = this.context.clock.now();
    for (const [name, until] of this.coolDown) if (until <= now) this.coolDown.delete(name);
    for (const [key, idle] of this.idlers) if (isForgotten(idle, now)) this.idlers.delete(key);
    if (turn.reason === "line") {
      this.idled(turn.holder, turn);
      const origin = this.origins.get(turn.holder);
      const all = origin && this.idled(origin, turn);
      // Whoever else came from there would let its turn pass as well.
      if (all && isTrying(all, this.context.limits.turnMs))
        for (const name of this.waitingFrom(origin)) void this.step({ kind: "gone", who: name });
    } else this.coolDown.set(turn.holder, now + COOL_DOWN_MS);
  }

  private idled(key: string, turn: Turn): Idleness {
    const { clock, limits } = this.context;
    const heldMs = limits.turnMs - this.timeLeft(turn);
    const idle = idlenessAfter(this.idlers.get(key), heldMs, clock.now(), limits.turnMs);
    this.idlers.set(key, idle);
    return idle;
  }

  /** Says a turn to the newest connection of its holder. */
  private tell(turn: Turn): void {
    void this.frameOf(turn)
      .then((body) => {
        if (this.line.current?.turn !== turn.turn) return;
        const reader = this.live.readersOf(turn.holder).at(-1);
        if (reader !== undefined) reader.push({ kind: "groupTurn", ...body });
        // Who is no member yet commits nothing of others'.
        else
          this.voices.get(turn.holder)?.push({ kind: "groupTurn", ...body, proposals: [], bannedLeaves: [] });
      })
      .catch((error: unknown) => {
        this.context.log.warn("turn-not-told", { code: toRefusal(error, this.context.log).code });
      });
  }

  private async frameOf(turn: Turn): Promise<GroupTurn> {
    const [proposals, banned] = await Promise.all([this.pendingProposals(), this.bannedLeaves()]);
    return {
      groupId: this.live.groupId,
      turn: turn.turn,
      reason: turn.reason,
      expiresInMs: this.timeLeft(turn),
      proposals,
      bannedLeaves: banned.slice(0, this.context.limits.bannedLeavesPerTurn).map((leaf) => leaf.leafIndex),
    };
  }

  private async pendingProposals(): Promise<readonly Bytes[]> {
    const proposals = await this.context.stores.mlsGroups.pendingProposals(this.live.groupId);
    return bytesThatFit(proposals.slice(0, this.context.limits.pendingProposals), PROPOSALS_BYTES);
  }

  /** Banned leaves that are still in the tree. */
  private async bannedLeaves(): Promise<readonly FollowedLeaf[]> {
    const keys = this.live.bannedLeaves.slice(0, this.context.limits.bannedLeavesPerTurn);
    if (keys.length === 0) return [];
    const { value: leaves } = await this.live.ask((base) =>
      Promise.all(keys.map((key) => this.context.validator.leafOfKey(base, key))),
    );
    return leaves.filter((leaf) => leaf !== undefined);
  }

  private timeLeft(turn: Turn): number {
    return Math.max(0, turn.expiresAtMs - this.context.clock.now());
  }
}

/** Who proposes to leave: nothing else may wait. */
function proposerOf(proposal: Bytes): number | undefined {
  const { sender } = readMlsHeader(proposal);
  return sender?.kind === "member" ? sender.leafIndex : undefined;
}

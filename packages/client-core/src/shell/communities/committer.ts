/**
 * Own commits, one at a time for each group:
 *
 *   decide what to commit in the present epoch
 *   PERSIST the pending commit and the bytes that go to the service
 *   submit, always the same bytes, until the service has answered
 *   the log shows it: merged there, or another one won and ours is dropped there
 *
 * A lost race is answered with what won; it is taken in, and the commit is decided and made anew on top of it.
 */
import { type Bytes, type GroupId, RejectionError, toBase64Url, UnavailableError } from "@murmuration/base";
import { type CommitOptions, communityContextOf, type Group } from "@murmuration/mls-groups";
import {
  decodeMessage,
  encodeMessage,
  type GroupCommit,
  type GroupCommitLost,
  groupCommit,
  limits,
  type ServiceBody,
  type WelcomeRecipient,
} from "@murmuration/wire";
import { ServiceRefusal } from "../../core/refusal.ts";
import { sha256 } from "../../core/sha256.ts";
import type { Context } from "../context.ts";
import { withTimeout } from "../with-timeout.ts";
import type { Access } from "./access.ts";
import type { GroupNames } from "./group-names.ts";
import type { LogReader } from "./log-reader.ts";
import { knownProfile, welcomeExtensions } from "./profile.ts";
import type { Loaded, Registry } from "./registry.ts";
import type { Turns } from "./turns.ts";

export interface CommitPlan {
  readonly options: CommitOptions;
  /** In the order of the Adds. */
  readonly recipients?: readonly WelcomeRecipient[];
  /** Where the commit changes the ban list. */
  readonly banList?: Bytes;
}

/** Sees the group in its present epoch; undefined: nothing is left to do. May be asked again after a lost race. */
export type DecideCommit = (group: Group) => CommitPlan | undefined;

/** How often a commit is made anew after a lost race. */
const MAX_RACES = 32;
const LOG_TIMEOUT_MS = 30_000;

export class Committer {
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly access: Access;
  private readonly reader: LogReader;
  private readonly turns: Turns;

  constructor(
    context: Context,
    names: GroupNames,
    registry: Registry,
    access: Access,
    reader: LogReader,
    turns: Turns,
  ) {
    this.context = context;
    this.names = names;
    this.registry = registry;
    this.access = access;
    this.reader = reader;
    this.turns = turns;
  }

  /**
   * Commits what `decide` says, on top of whatever wins before. Resolves when the log shows it, or nothing was left to
   * do. RejectionError when the group's rules or the service refuse it; UnavailableError when the service cannot be
   * reached: the commit is then sent again with the next connection.
   */
  commit(id: GroupId, decide: DecideCommit): Promise<void> {
    return this.context.queue.run(`mls-commit:${toBase64Url(id)}`, async () => {
      for (let race = 0; race < MAX_RACES; race++) {
        await this.access.ready(id);
        await this.push(id);
        const prepared = this.prepare(id, decide);
        if (prepared === undefined) {
          this.giveTurnBack(id);
          return;
        }
        if ((await this.push(id)) === "merged") return;
      }
      throw new UnavailableError("group/too-much-contention");
    });
  }

  /** A commit that a crash or a broken connection left behind. */
  resume(id: GroupId): Promise<void> {
    return this.context.queue.run(`mls-commit:${toBase64Url(id)}`, async () => {
      await this.push(id);
    });
  }

  /** PERSIST: the pending commit and what goes to the service. */
  private prepare(id: GroupId, decide: DecideCommit): "prepared" | undefined {
    const plan = decide(this.registry.load(id).group);
    if (plan === undefined) return undefined;
    const { meter } = this.context;
    const persist = ({ group, store }: Loaded): void => {
      const nowSeconds = BigInt(Math.floor(this.context.now() / 1000));
      // The commit is judged by the list that it brings, here as everywhere.
      if (plan.banList !== undefined) this.context.mls.putBanList(sha256(plan.banList), plan.banList);
      const profile = knownProfile(this.context, id, communityContextOf(group.context.extensions));
      // One that had lost, and came back with its epoch when what won was taken back: nobody asks for it any more.
      if (group.hasPendingCommit) store.apply(group.discardPending());
      const bundle = group.createCommit({
        nowSeconds,
        ...plan.options,
        welcomeExtensions: welcomeExtensions(profile),
      });
      if (bundle.welcome !== undefined && profile === undefined) this.context.mls.setProfileOwed(id);
      store.apply(bundle.writes);
      meter.commitsCreated++;
      meter.commitBytes += bundle.message.length;
      const body: GroupCommit = {
        groupId: id,
        commit: bundle.message,
        groupInfo: bundle.groupInfo,
        ...(bundle.welcome === undefined ? {} : { welcome: bundle.welcome }),
        recipients: [...(plan.recipients ?? [])],
        ...(plan.banList === undefined ? {} : { banList: plan.banList }),
      };
      this.context.mls.putPendingCommit(id, encodeMessage(groupCommit, body));
    };
    meter.time("commitCreateCpuUs", () => this.registry.update(id, persist));
    return "prepared";
  }

  /** Brings a pending commit to its end. */
  private async push(id: GroupId): Promise<"merged" | "dropped"> {
    for (;;) {
      const pending = this.context.mls.pendingCommit(id);
      if (pending === undefined) return "dropped";
      const body = decodeMessage(groupCommit, pending, limits.frameBytes);
      const turn = this.turns.current(id);
      const answer = await this.submit(id, turn === undefined ? body : { ...body, turn });
      if (answer.kind === "groupCommitAccepted") {
        this.turns.used(id);
        await this.untilLogHas(id, answer.sequence);
        return "merged";
      }
      if (answer.kind !== "groupCommitLost") throw new UnavailableError("connection/unexpected-answer");
      this.context.meter.refusedSubmits++;
      await this.takeLoss(id, answer);
      if (this.context.mls.pendingCommit(id) === undefined) return "dropped";
    }
  }

  private async submit(id: GroupId, body: GroupCommit): Promise<ServiceBody> {
    try {
      return await this.names.ask({ kind: "groupCommit", ...body });
    } catch (error) {
      if (!(error instanceof ServiceRefusal)) throw error;
      if (error.action === "retry" || error.action === "retry-later") {
        const pause = error.retryAfterMs ?? 500;
        await this.context.environment.sleep(pause, this.context.closing.signal);
        throw new UnavailableError("group/busy");
      }
      if (error.code === "group/not-open") throw new UnavailableError("group/not-open");
      this.drop(id);
      throw error;
    }
  }

  /** The service will never take it. */
  private drop(id: GroupId): void {
    this.discard(id);
    this.giveTurnBack(id);
  }

  private discard(id: GroupId): void {
    this.registry.update(id, ({ group, store }) => {
      if (group.hasPendingCommit) store.apply(group.discardPending());
      this.context.mls.deletePendingCommit(id);
    });
  }

  /** What won is in the answer; whatever did not fit comes with the log. Then the own turn is waited for. */
  private async takeLoss(id: GroupId, lost: GroupCommitLost): Promise<void> {
    if (lost.turn !== undefined) this.turns.granted(id, lost.turn, lost.turnExpiresInMs ?? 0);
    this.reader.take(id, lost.entries);
    const through = lost.entries.at(-1)?.sequence ?? 0;
    // What won may be taken back: then the log is behind it, and the epoch is open again.
    const isBehind = () => (this.context.mls.group(id)?.cursor ?? 0) > through && this.access.isReady(id);
    const hasWon = () => Number(this.registry.load(id).group.epoch) >= lost.epoch;
    await this.until(id, () => hasWon() || isBehind());
    // Made before, it may cover proposals that went with what was taken back: it is made anew.
    if (!hasWon()) this.discard(id);
    if (lost.place > 0) await this.turns.wait(id, lost.place);
  }

  private untilLogHas(id: GroupId, sequence: number): Promise<void> {
    return this.until(id, () => (this.context.mls.group(id)?.cursor ?? 0) >= sequence);
  }

  private async until(id: GroupId, done: () => boolean): Promise<void> {
    await withTimeout(this.context, LOG_TIMEOUT_MS, "group/log-behind", {
      done: () => {
        this.requireAlive(id);
        return done();
      },
      change: (abort) => this.registry.changed.wait(abort),
    });
  }

  /** The log may have brought our removal, or a commit that nobody here can follow. */
  private requireAlive(id: GroupId): void {
    const state = this.context.mls.group(id)?.state;
    if (state === "over") throw new RejectionError("group/not-a-member");
    // Also where the conversation has left the group for another one.
    if (state !== "active" && state !== "creating") throw new UnavailableError("group/stuck");
  }

  private giveTurnBack(id: GroupId): void {
    const turn = this.turns.used(id);
    if (turn !== undefined) this.names.tell({ kind: "groupTurnRelease", groupId: id, turn });
  }
}

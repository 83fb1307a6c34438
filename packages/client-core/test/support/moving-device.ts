/**
 * A device of the world in which a group moves to MLS. Keeps what a client keeps, persists and sends in the client's
 * order, and decides by the client's own functions alone ({@link Decisions}), so that a fault in one of them is a fault
 * here. One call of a method is one transaction, with at most one request before it.
 */
import { equalBytes, formatId, RejectionError } from "@murmuration/base";
import { hasLease, hasSwitched } from "@murmuration/wire";
import type { Role } from "../../src/api.ts";
import type { GroupAction, VerifiedChange } from "../../src/core/group-change.ts";
import { migrationChangeOf } from "../../src/core/group-change.ts";
import { applyChange, checkContinues, emptyGroup, type GroupState } from "../../src/core/group-record.ts";
import * as moves from "../../src/core/migration/decisions.ts";
import { migrationGroupId, migrationPsk, rosterHash } from "../../src/core/migration/keys.ts";
import { planSaidAnew } from "../../src/core/migration/said-anew.ts";
import { decidePairwise, HOLD_MS, mustWait, type Spoken } from "../../src/core/migration/spoken-order.ts";
import { placeWelcome } from "../../src/core/migration/welcomes.ts";
import { strangersAmong } from "../../src/shell/migration/roster.ts";
import type { OwnMigration, Reached } from "../../src/store/migration.ts";
import {
  CONVERSATION,
  type Commit,
  type Epoch,
  formatWho,
  GHOST,
  hex,
  idOf,
  keyOf,
  type Letter,
  type MlsBody,
  type ModelService,
  makeChange,
  newest,
  numberOf,
  rosterOf,
  sha256,
  type Text,
  type Welcome,
} from "./move-service.ts";

const PREPARE_MS = { migrationDeadlineMs: 600_000, migrationUrgentDeadlineMs: 60_000 };
const ADD_AGAIN_MS = 15_000;
const RENEW_EVERY_MS = 20_000;
/** From this number of members on a group moves by itself. */
export const THRESHOLD = { mlsThreshold: 5, migrationMargin: 0 };

/** Every decision of the client that the model is about; a planted fault replaces one or two. */
export const soundDecisions = {
  ...moves,
  applyChange,
  checkContinues,
  decidePairwise,
  mustWait,
  planSaidAnew,
  placeWelcome,
  strangersAmong,
  /** A refusal of the service alone says nothing. */
  switchesByRefusal: false,
  /** What is said in MLS waits for the switch. */
  showsBeforeSwitch: false,
  /** A secret that was drawn makes what was committed before worthless. */
  keepsReachedAtNewSecret: false,
  /** What a commit led to that was taken back is nothing. */
  keepsReachedTakenBack: false,
  /** What a creator has made of members and roles in MLS is nothing to the group that takes the place of its own. */
  goesByRecordAgain: true,
};
export type Decisions = typeof soundDecisions;

/** What a crash ends a step with: the service has done its part, and the answer was not taken in. */
export class Crash extends Error {}

/** What the world hears of, and holds to its invariants. */
export interface Witness {
  said(who: number, text: Text): void;
  /** By one who learns that it is no member any more. */
  dropped(text: Text): void;
  acceptedPairwise(who: number, text: Text & { readonly counter: number }, to: readonly number[]): void;
  acceptedMls(who: number, text: Text, at: Epoch, generation: number): void;
  /** Said pairwise, and taken; `last` is what its author has announced as its end. */
  took(who: number, text: Text, counter: number, last: number | undefined): void;
  shown(
    who: number,
    author: number,
    text: Text,
    how: { readonly overMls: boolean; readonly late: boolean },
  ): void;
  adopted(who: number, before: GroupState, after: GroupState, change: VerifiedChange): void;
  secretSent(generation: number, round: number, to: readonly number[]): void;
  switched(device: MovingDevice): void;
  refused(who: number, generation: number, code: string): void;
  refusedByService(who: number, code: string, action: GroupAction): void;
  entered(device: MovingDevice, hadLeaf: boolean): void;
  count(name: string): void;
  refusesChange(who: number, code: string): void;
}

type Evil = "ghost" | "promote" | "ordinary" | "misnamed" | "void";

interface MlsPlace {
  readonly wire: string;
  readonly wireId: Uint8Array;
  readonly generation: number;
  readonly state: "waiting" | "active" | "over";
  readonly cursor: number;
  readonly at: Epoch | undefined;
  /** Where a void entry leads back to. */
  readonly before?: Epoch | undefined;
  /** It did not go back with the others. */
  readonly forked?: boolean;
}

type Row =
  | {
      readonly lane: "group";
      readonly id: string;
      readonly letter: Exclude<Letter, { kind: "text" }> | (Text & { readonly counter: number | undefined });
      /** Made for these, under this fence; undefined: not encrypted. */
      readonly ready:
        | { readonly to: readonly number[]; readonly fence: number; readonly submit: string }
        | undefined;
      readonly exclude: readonly number[];
    }
  | { readonly lane: "account"; readonly id: string; readonly to: number; readonly letter: Letter };

interface Held {
  readonly from: number;
  readonly body: Text & {
    readonly last: { readonly counter: number; readonly revision: number } | undefined;
  };
  readonly sinceMs: number;
}

interface Peer {
  readonly spoken: Spoken;
  readonly told: boolean;
}

/** What the model does not look at: rows of the outbox have names, and the context of a group is its roles. */
type ModelOwn = Omit<OwnMigration, "lease" | "secretMessage" | "reached"> & {
  readonly lease: number | undefined;
  readonly secretRow: string;
  readonly reached: Omit<Reached, "context"> | undefined;
};

const freshOwn: ModelOwn = {
  lease: undefined,
  startedAtMs: 0,
  deadlineAtMs: 0,
  finishNow: false,
  round: 0,
  secretDue: false,
  secretRow: "",
  reached: undefined,
  enteredEpoch: 0,
  refusal: "",
  switchedAtMs: 0,
};

/** What is in the database of a device. */
interface Kept {
  record: GroupState;
  changes: readonly VerifiedChange[];
  fence: number;
  protocol: "pairwise" | "mls";
  joinedRevision: number;
  removed: boolean;
  own: ModelOwn;
  wantedLease: number | undefined;
  pending: { readonly change: VerifiedChange; readonly leaseToken: number | undefined } | undefined;
  secrets: ReadonlyMap<string, Uint8Array>;
  ready: ReadonlySet<number>;
  mls: MlsPlace | undefined;
  welcomes: readonly Welcome[];
  outbox: readonly Row[];
  sent: number;
  sentRevision: number;
  peers: ReadonlyMap<number, Peer>;
  seen: ReadonlySet<string>;
  heldMls: readonly Held[];
  heldLetters: readonly { readonly from: number; readonly letter: Letter }[];
}

export class MovingDevice {
  readonly who: number;
  private readonly service: ModelService;
  private readonly decide: Decisions;
  private readonly witness: Witness;
  readonly kept: Kept = {
    record: emptyGroup(CONVERSATION),
    changes: [],
    fence: 0,
    protocol: "pairwise",
    joinedRevision: 0,
    removed: false,
    own: freshOwn,
    wantedLease: undefined,
    pending: undefined,
    secrets: new Map(),
    ready: new Set(),
    mls: undefined,
    welcomes: [],
    outbox: [],
    sent: 0,
    sentRevision: 0,
    peers: new Map(),
    seen: new Set(),
    heldMls: [],
    heldLetters: [],
  };
  // Of the world around it.
  isOnline = true;
  hasKeyPackages = true;
  /** The service shows it no record behind this revision. */
  pastRevision: number | undefined;
  /** Ever, in this run. */
  wasEvil = false;
  private turned: Evil | undefined;
  /** The next answer of the service is lost, with the program that waited for it. */
  crashes = false;
  leafVersion = 0;
  /** It hears of a change of the record between its decision to switch and the commit. */
  readsBeforeCommit = false;
  private spokenCount = 0;
  private counter = 0;
  // In memory only.
  private triedAtMs = Number.NEGATIVE_INFINITY;
  private renewedAtMs = Number.NEGATIVE_INFINITY;
  private looksAtThreshold = false;
  private behindSinceMs = Number.POSITIVE_INFINITY;
  /** What an evil creator remembers of a commit for these very members, also when that was taken back. */
  private everReached: ModelOwn["reached"];

  constructor(who: number, service: ModelService, decisions: Decisions, witness: Witness) {
    this.who = who;
    this.service = service;
    this.decide = decisions;
    this.witness = witness;
  }

  /** Of the last thing that it said. */
  get lastNth(): number {
    return this.spokenCount;
  }

  // ------------------------------------------------------------------------------------------------ a person

  say(): void {
    const { kept } = this;
    if (this.role === undefined || kept.removed) return;
    const text: Text = { kind: "text", id: `${this.who}-${++this.spokenCount}`, nth: this.spokenCount };
    const isPairwise = kept.protocol === "pairwise";
    if (isPairwise) {
      kept.sent++;
      kept.sentRevision = kept.record.revision;
    }
    this.queueGroup({ ...text, counter: isPairwise ? kept.sent : undefined });
    this.witness.said(this.who, text);
  }

  change(action: (state: GroupState) => GroupAction | undefined): void {
    const { kept } = this;
    if (this.role === undefined || kept.removed) return;
    if (kept.pending !== undefined) {
      this.push();
      return;
    }
    const wanted = action(kept.record);
    if (wanted === undefined) return;
    const change = makeChange(this.who, kept.record.revision + 1, kept.record.hash, wanted);
    // Whatever the others would refuse is refused here first.
    if (refusalOf(() => this.decide.applyChange(kept.record, change)) !== undefined) return;
    const step = migrationChangeOf(wanted);
    if (step === "prepare" || step === "recover") kept.wantedLease = this.draw();
    kept.pending = { change, leaseToken: kept.own.lease };
    this.push();
  }

  start(): void {
    this.change((state) => {
      if (state.migration.state !== "pairwise") return undefined;
      this.decide.requireFewRoleHolders(state);
      return { kind: "migrate-prepare", generation: state.migration.generation + 1 };
    });
  }

  abort(): void {
    this.change(({ migration: { state, generation } }) =>
      state === "preparing" || state === "ready" ? { kind: "migrate-abort", generation } : undefined,
    );
  }

  finishNow(): void {
    if (this.isCreator) this.kept.own = { ...this.kept.own, finishNow: true };
  }

  // ---------------------------------------------------------------------------------------------- the record

  get role(): Role | undefined {
    const member = this.kept.record.members.get(formatWho(this.who));
    return member?.invited === false ? member.role : undefined;
  }

  /** Somebody whom the MLS group has taken the role from has begun anew: people have to decide. */
  refusesRecord = false;

  get evil(): Evil | undefined {
    return this.turned;
  }

  set evil(evil: Evil | undefined) {
    this.turned = evil;
    this.wasEvil ||= evil !== undefined;
  }

  get isCreator(): boolean {
    const { creator } = this.kept.record.migration;
    return creator !== undefined && numberOf(creator.accountId) === this.who;
  }

  private push(): void {
    const { kept, service } = this;
    const { change, leaseToken } = kept.pending!;
    const newLeaseToken = kept.wantedLease;
    const code = this.call(() => service.write(this.who, { change, leaseToken, newLeaseToken }));
    if (code === "group/revision-conflict" || code === "group/access-denied") {
      const { migration } = service;
      if (change.action.kind === "migrate-prepare" && migration.generation >= change.action.generation)
        this.witness.count("two creators");
      this.readRecord();
      return;
    }
    if (code !== "") {
      this.witness.refusedByService(this.who, code, change.action);
      kept.pending = undefined;
      kept.wantedLease = undefined;
      return;
    }
    this.adopt([change]);
  }

  /** Reads and adopts what is new. False where this device may not. */
  readRecord(shown?: readonly VerifiedChange[]): boolean {
    const { kept, service } = this;
    if (!service.members.has(this.who)) return false;
    const changes = shown ?? service.changes.slice(0, this.pastRevision ?? service.changes.length);
    const code = refusalOf(() =>
      this.decide.checkContinues(
        changes.map(({ encoded }) => encoded),
        changes.map(({ hash }) => hash),
        { revision: kept.record.revision, hash: kept.record.hash },
      ),
    );
    if (code !== undefined) {
      this.witness.count(code);
      return false;
    }
    if (changes.length < kept.record.revision) this.goBack(changes);
    this.adopt(changes.slice(kept.record.revision));
    return true;
  }

  /** What a client does that takes an older record for the present one. */
  private goBack(changes: readonly VerifiedChange[]): void {
    this.kept.record = changes.reduce(applyChange, emptyGroup(CONVERSATION));
    this.kept.changes = changes;
  }

  adopt(changes: readonly VerifiedChange[]): void {
    const { kept } = this;
    for (const change of changes) {
      if (change.action.kind === "migrate-recover" && !this.goByRecord(change)) return;
      const before = kept.record;
      const after = this.taken(before, change);
      kept.record = after;
      kept.changes = [...kept.changes, change];
      if (change.action.kind === "remove" || change.action.kind === "create") kept.fence = change.revision;
      const self = formatWho(this.who);
      if (!before.members.has(self) && after.members.has(self)) {
        kept.joinedRevision = change.revision;
        kept.removed = false;
      }
      if (before.members.has(self) && !after.members.has(self) && kept.protocol === "pairwise")
        kept.removed = true;
      this.witness.adopted(this.who, before, after, change);
      this.adopted(before, after, change);
      if (kept.pending?.change.revision === change.revision) this.settle(before, change);
    }
    const held = kept.heldLetters;
    kept.heldLetters = [];
    for (const { from, letter } of held) this.receive(from, letter);
  }

  /** All judge what stands in the record alike, or they are parted for good. */
  private taken(before: GroupState, change: VerifiedChange): GroupState {
    try {
      return this.decide.applyChange(before, change);
    } catch (error) {
      if (error instanceof RejectionError) this.witness.refusesChange(this.who, error.code);
      throw error;
    }
  }

  /**
   * Where the group recovers, whoever has gone over goes by the record again. False where whoever says so has no role in the MLS
   * group any more: then the record is refused.
   */
  private goByRecord({ author }: VerifiedChange): boolean {
    const { kept } = this;
    if (kept.own.switchedAtMs === 0) return true;
    const role = kept.record.members.get(formatId(author.accountId))?.role ?? "member";
    this.refusesRecord = role === "member";
    if (this.refusesRecord || !this.decide.goesByRecordAgain) return !this.refusesRecord;
    const expected = kept.mls?.at?.expected.map(formatWho) ?? [];
    const { members } = kept.changes.reduce(applyChange, emptyGroup(CONVERSATION));
    const stays = (account: string) => kept.record.members.has(account) || expected.includes(account);
    kept.record = { ...kept.record, members: new Map([...members].filter(([account]) => stays(account))) };
    return true;
  }

  private adopted(before: GroupState, after: GroupState, change: VerifiedChange): void {
    const { kept } = this;
    switch (migrationChangeOf(change.action)) {
      case undefined:
        this.rosterChanged(before, after);
        break;
      case "prepare":
      case "recover":
        this.begun(after);
        break;
      case "abort":
        this.beginGeneration();
        kept.mls = undefined;
        break;
      case "switch":
        this.switchIfReached();
        break;
      default:
    }
  }

  private beginGeneration(): void {
    const { kept } = this;
    this.everReached = undefined;
    this.behindSinceMs = Number.POSITIVE_INFINITY;
    kept.own = freshOwn;
    kept.ready = new Set();
    kept.secrets = new Map();
    this.triedAtMs = Number.NEGATIVE_INFINITY;
    this.renewedAtMs = Number.NEGATIVE_INFINITY;
  }

  private begun({ migration: { generation, state } }: GroupState): void {
    const { kept, service } = this;
    this.beginGeneration();
    const wireId = migrationGroupId(CONVERSATION, generation);
    kept.mls = { wire: hex(wireId), wireId, generation, state: "waiting", cursor: 0, at: undefined };
    if (!this.isCreator) return;
    const deadlineAtMs = service.nowMs + this.decide.patienceMs({ state, membersWait: false, ...PREPARE_MS });
    kept.own = { ...kept.own, lease: kept.wantedLease, startedAtMs: service.nowMs, deadlineAtMs };
    kept.wantedLease = undefined;
  }

  private rosterChanged(before: GroupState, after: GroupState): void {
    const { kept } = this;
    const { state, generation } = after.migration;
    if (!hasLease(state) || !this.isCreator) return;
    this.everReached = undefined;
    if ([...before.members.keys()].some((key) => !after.members.has(key))) {
      kept.own = { ...kept.own, secretDue: true };
      return;
    }
    const { round } = kept.own;
    const secret = kept.secrets.get(`${generation}.${round}`);
    if (secret === undefined) return;
    for (const [key, { account }] of after.members)
      if (!before.members.has(key))
        this.queueAccount(numberOf(account), {
          kind: "secret",
          generation,
          round,
          secret: secret as never,
          revision: after.revision,
        });
  }

  private settle(before: GroupState, change: VerifiedChange): void {
    const { kept } = this;
    const own = kept.pending!.change;
    kept.pending = undefined;
    if (!equalBytes(own.hash, change.hash)) {
      kept.wantedLease = undefined;
      return;
    }
    const { action } = change;
    const others = [...before.members.values()]
      .map(({ account }) => numberOf(account))
      .filter((who) => who !== this.who);
    if (hasSwitched(kept.record.migration.state)) {
      if (kept.protocol === "mls" && action.kind !== "migrate-recover")
        this.queueGroup({ kind: "change", change });
      if (action.kind === "migrate-switch" || action.kind === "migrate-recover")
        for (const who of others) this.queueAccount(who, { kind: "change", change });
      return;
    }
    const added = action.kind === "add" ? action.members.map(({ account }) => numberOf(account)) : [];
    this.queueGroup({ kind: "change", change }, added);
    for (const who of added) this.queueAccount(who, { kind: "invite" });
    if (action.kind === "remove") this.queueAccount(numberOf(action.account), { kind: "change", change });
    if (action.kind === "add") this.looksAtThreshold = true;
  }

  // ----------------------------------------------------------------------------------------------- the outbox

  private draw(): number {
    return this.who * 100_000 + ++this.counter;
  }

  private queueGroup(
    letter: Extract<Row, { lane: "group" }>["letter"],
    exclude: readonly number[] = [],
  ): string {
    const id = String(this.draw());
    this.kept.outbox = [...this.kept.outbox, { lane: "group", id, letter, ready: undefined, exclude }];
    return id;
  }

  private queueAccount(to: number, letter: Letter): void {
    this.kept.outbox = [...this.kept.outbox, { lane: "account", id: String(this.draw()), to, letter }];
  }

  private done(row: Row): void {
    this.kept.outbox = this.kept.outbox.filter(({ id }) => id !== row.id);
  }

  /** One step of one lane. False: there is nothing to send. */
  send(lane: "group" | "account"): boolean {
    const { kept, service } = this;
    const row = kept.outbox.find((one) => one.lane === lane);
    if (row === undefined) return false;
    if (row.lane === "account") {
      const { to, letter } = row;
      if (letter.kind === "secret") this.witness.secretSent(letter.generation, letter.round, [to]);
      this.call(() => service.post(this.who, "account", `${this.who} ${row.id}`, [to], letter));
      this.done(row);
      return true;
    }
    if (kept.protocol === "mls") return this.sendMls(row);
    if (kept.removed) {
      if (row.letter.kind === "text") this.witness.dropped(row.letter);
      this.done(row);
      return true;
    }
    if (row.ready === undefined) {
      this.encrypt(row);
      return true;
    }
    return this.submit(row, row.ready);
  }

  private encrypt(row: Extract<Row, { lane: "group" }>): void {
    const to = this.others().filter((who) => !row.exclude.includes(who));
    const ready = { to, fence: this.kept.fence, submit: `${this.who} ${row.id} ${this.draw()}` };
    this.kept.outbox = this.kept.outbox.map((one) => (one.id === row.id ? { ...row, ready } : one));
  }

  private others(): readonly number[] {
    return [...this.kept.record.members.values()]
      .map(({ account }) => numberOf(account))
      .filter((who) => who !== this.who);
  }

  private submit(
    row: Extract<Row, { lane: "group" }>,
    { to, fence, submit }: NonNullable<Extract<Row, { lane: "group" }>["ready"]>,
  ): boolean {
    const { service } = this;
    const { letter } = row;
    const isOpen = fence === service.fence && !hasSwitched(service.migration.state);
    const isTaken = this.pastRevision === undefined ? isOpen : fence === this.kept.fence;
    if (!isTaken) {
      this.refusedFence(row);
      return true;
    }
    this.call(() => {
      if (letter.kind === "text")
        this.witness.acceptedPairwise(this.who, { ...letter, counter: letter.counter! }, to);
      if (letter.kind === "secret") this.witness.secretSent(letter.generation, letter.round, to);
      service.post(this.who, "group", submit, to, letter as Letter);
    });
    this.done(row);
    return true;
  }

  /** The service says that the roster or the protocol is over. Only the record says what is. */
  refusedFence(row?: Row): void {
    this.readRecord();
    if (this.decide.switchesByRefusal && this.kept.mls?.at !== undefined && this.kept.protocol === "pairwise")
      this.go();
    const again = this.kept.outbox.find((one) => one.id === row?.id);
    if (again?.lane === "group" && again.ready !== undefined) this.encrypt(again);
  }

  private sendMls(row: Extract<Row, { lane: "group" }>): boolean {
    const { kept, service } = this;
    const { mls } = kept;
    if (mls?.state !== "active" || kept.own.switchedAtMs === 0 || this.standsStill) return false;
    const log = service.logs.get(mls.wire)!;
    if (mls.at !== newest(log)) return this.readLog();
    const { letter } = row;
    let body: MlsBody;
    if (letter.kind === "text") {
      const last = kept.sent === 0 ? undefined : { counter: kept.sent, revision: kept.sentRevision };
      body = { kind: "text", id: letter.id, nth: letter.nth, last };
    } else if (letter.kind === "change") body = letter;
    else {
      this.done(row);
      return true;
    }
    this.call(() => {
      if (body.kind === "text") this.witness.acceptedMls(this.who, body, newest(log), mls.generation);
      log.entries.push({ kind: "said", author: this.who, epoch: mls.at!.epoch, body });
    });
    this.done(row);
    return true;
  }

  // ------------------------------------------------------------------------------------------------ the mailbox

  receive(from: number, letter: Letter): void {
    const { kept } = this;
    const hold = (): void => {
      kept.heldLetters = [...kept.heldLetters, { from, letter }];
    };
    if (letter.kind === "invite") {
      if (!this.readRecord()) this.witness.count("invite refused");
      return;
    }
    if (kept.record.revision === 0) {
      hold();
      return;
    }
    switch (letter.kind) {
      case "change":
        if (this.receiveChange(letter.change) === "behind") {
          const { revision } = kept.record;
          if (!this.readRecord() || kept.record.revision === revision) hold();
        }
        return;
      case "secret":
      case "ready": {
        if (letter.revision > kept.record.revision) {
          hold();
          return;
        }
        const { generation, creator } = kept.record.migration;
        if (letter.kind === "secret") {
          const isCreator = creator !== undefined && numberOf(creator.accountId) === from;
          if (isCreator && generation === letter.generation)
            kept.secrets = new Map([[`${generation}.${letter.round}`, letter.secret], ...kept.secrets]);
          return;
        }
        const ours =
          this.isCreator && generation === letter.generation ? this.authenticatorAt(letter.epoch) : undefined;
        if (ours !== undefined && equalBytes(ours, letter.authenticator))
          kept.ready = new Set([...kept.ready, from]);
        return;
      }
      case "text":
        this.receiveText(from, letter);
    }
  }

  private authenticatorAt(epoch: number): Uint8Array | undefined {
    const log = this.service.logs.get(this.kept.mls?.wire ?? "");
    if (log === undefined || this.kept.mls?.state !== "active") return undefined;
    if (epoch === 0) return log.first.authenticator;
    return log.entries
      .flatMap((entry) => (entry.kind === "commit" ? [entry.after] : []))
      .findLast((one) => one.epoch === epoch)?.authenticator;
  }

  receiveChange(change: VerifiedChange): "applied" | "known" | "behind" {
    const { record } = this.kept;
    if (change.revision > record.revision + 1) return "behind";
    if (change.revision <= record.revision) return "known";
    this.adopt([change]);
    return "applied";
  }

  private receiveText(from: number, text: Text & { readonly counter: number }): void {
    const { kept, service } = this;
    const { counter } = text;
    const peer = this.peer(from);
    const facts = { spoken: peer.spoken, counter, switchedAtMs: kept.own.switchedAtMs, nowMs: service.nowMs };
    const { take, tell } = this.decide.decidePairwise(facts);
    if (tell && !peer.told) {
      this.setPeer(from, { told: true });
      const change = kept.changes.findLast(({ action }) => action.kind === "migrate-switch");
      if (change !== undefined) this.queueAccount(from, { kind: "change", change });
    }
    if (!take) return;
    const { spoken } = this.peer(from);
    this.witness.took(this.who, text, counter, spoken.last);
    this.setPeer(from, { spoken: { ...spoken, seen: Math.max(spoken.seen, counter) } });
    this.show(from, text, { overMls: false, late: false });
    this.release();
  }

  private peer(who: number): Peer {
    return this.kept.peers.get(who) ?? { spoken: { seen: 0, last: undefined }, told: false };
  }

  private setPeer(who: number, change: Partial<Peer>): void {
    this.kept.peers = new Map(this.kept.peers).set(who, { ...this.peer(who), ...change });
  }

  private show(from: number, text: Text, how: Parameters<Witness["shown"]>[3]): void {
    const { kept } = this;
    if (kept.seen.has(text.id)) return;
    kept.seen = new Set([...kept.seen, text.id]);
    this.witness.shown(this.who, from, text, how);
  }

  // --------------------------------------------------------------------------------------------------- the log

  /** The next entry is a commit whose secret is not here. */
  get standsStill(): boolean {
    const next = this.nextEntry();
    return next?.kind === "commit" && next.psk !== undefined && this.derives(next) === "unknown";
  }

  private nextEntry() {
    const { mls } = this.kept;
    if (mls?.state !== "active" || mls.forked === true) return undefined;
    return this.service.logs.get(mls.wire)?.entries[mls.cursor];
  }

  private derives({ psk }: Commit): "same" | "other" | "unknown" {
    if (psk === undefined) return "same";
    const secret = this.kept.secrets.get(`${psk.generation}.${psk.round}`);
    if (secret === undefined) return this.kept.protocol === "pairwise" ? "unknown" : "other";
    return hex(migrationPsk(psk.rosterHash, secret)) === psk.value ? "same" : "other";
  }

  /** Takes one entry. False: there is none that can be taken. */
  readLog(): boolean {
    const { kept } = this;
    this.takeUpWelcomes();
    const next = this.nextEntry();
    if (next === undefined || this.standsStill) return false;
    const mls = kept.mls!;
    if (next.kind === "said") {
      kept.mls = { ...mls, cursor: mls.cursor + 1 };
      if (next.body.kind === "change") {
        if (this.receiveChange(next.body.change) === "behind") this.readRecord();
      } else if (next.author !== this.who && next.epoch === mls.at!.epoch) this.hear(next.author, next.body);
      return true;
    }
    if (next.kind === "void") {
      this.goBackBehind(mls);
      return true;
    }
    if (!next.after.leaves.has(this.who)) {
      kept.mls = { ...mls, state: "over", cursor: mls.cursor + 1 };
      return true;
    }
    kept.mls = { ...mls, cursor: mls.cursor + 1, at: next.after, before: mls.at };
    this.carry();
    if (next.psk !== undefined) this.committed(next);
    return true;
  }

  /** Back to the epoch before, but not behind its own switch, nor to somebody whom the commit shut out. */
  private goBackBehind(mls: MlsPlace): void {
    const { kept } = this;
    const { before, at } = mls;
    const { reached, switchedAtMs } = kept.own;
    if (before === undefined || at === undefined)
      throw new Error("a commit is taken back that was not taken");
    const isSwitch =
      switchedAtMs > 0 &&
      kept.record.migration.switchPoint?.epoch === at.epoch &&
      !this.decide.keepsReachedTakenBack;
    const letsIn = [...before.leaves.keys()].some((who) => !at.leaves.has(who));
    if (isSwitch) kept.own = { ...kept.own, refusal: "migration/other-epoch" };
    else if (reached !== undefined && reached.epoch > before.epoch && !this.decide.keepsReachedTakenBack)
      kept.own = { ...kept.own, reached: undefined, refusal: "" };
    const place = isSwitch || letsIn ? { at, forked: true } : { at: before, before: undefined };
    kept.mls = { ...mls, cursor: mls.cursor + 1, ...place };
  }

  /** Whoever has gone over goes by the MLS group, also where it judges what the record says next. */
  private carry(): void {
    const { kept } = this;
    const { at } = kept.mls!;
    if (kept.own.switchedAtMs === 0 || at === undefined) return;
    const members = [...at.leaves.keys()].map((who) => {
      const role: Role = at.roles.get(who) ?? "member";
      const identity = { account: idOf(who), identityKey: keyOf(who), profileKey: keyOf(who), name: "" };
      return [formatWho(who), { ...identity, role, invited: false }] as const;
    });
    kept.record = { ...kept.record, members: new Map(members) };
  }

  private committed({ psk, after }: Commit): void {
    if (this.kept.own.switchedAtMs > 0) return;
    const hash = rosterHash(rosterOf(after));
    const fits = equalBytes(psk!.rosterHash, hash);
    this.kept.own = {
      ...this.kept.own,
      refusal: fits ? "" : "migration/roster-mismatch",
      reached: {
        epoch: after.epoch,
        authenticator: after.authenticator,
        rosterHash: hash,
        roster: [...after.leaves.keys()].map((who) => ({
          account: idOf(who),
          identityKey: keyOf(who),
          role: after.roles.get(who) ?? "member",
        })),
      },
    };
    this.everReached = this.kept.own.reached;
    this.switchIfReached();
  }

  private hear(from: number, body: Held["body"]): void {
    const { kept, service } = this;
    const isOver = kept.own.switchedAtMs > 0;
    const { last } = body;
    if (last !== undefined) {
      const { spoken } = this.peer(from);
      this.setPeer(from, { spoken: { ...spoken, last: spoken.last ?? last.counter } });
    }
    const behind = kept.heldMls.some((one) => one.from === from);
    const waits = behind || this.waits(from, body, service.nowMs);
    if ((isOver || this.decide.showsBeforeSwitch) && !waits) {
      this.show(from, body, { overMls: true, late: false });
      return;
    }
    kept.heldMls = [...kept.heldMls, { from, body, sinceMs: service.nowMs }];
  }

  private waits(from: number, body: Held["body"], heldSinceMs: number): boolean {
    return this.decide.mustWait({
      spoken: this.peer(from).spoken,
      last: body.last,
      joinedRevision: this.kept.joinedRevision,
      heldSinceMs,
      nowMs: this.service.nowMs,
    });
  }

  release(): void {
    const { kept, service } = this;
    if (kept.own.switchedAtMs === 0) return;
    const blocked = new Set<number>();
    for (const held of kept.heldMls) {
      if (blocked.has(held.from)) continue;
      const since = Math.max(held.sinceMs, kept.own.switchedAtMs);
      if (this.waits(held.from, held.body, since)) {
        blocked.add(held.from);
        continue;
      }
      kept.heldMls = kept.heldMls.filter((one) => one !== held);
      const late = service.nowMs >= since + HOLD_MS;
      this.show(held.from, held.body, { overMls: true, late });
    }
  }

  takeWelcome(welcome: Welcome): void {
    this.kept.welcomes = [...this.kept.welcomes, welcome];
  }

  takeUpWelcomes(): void {
    const { kept } = this;
    for (const welcome of kept.welcomes) {
      const { mls } = kept;
      const drop = (): void => {
        kept.welcomes = kept.welcomes.filter((one) => one !== welcome);
      };
      if (mls?.wire !== welcome.wire) {
        const place = this.decide.placeWelcome(
          CONVERSATION,
          kept.record.migration.generation,
          welcome.wireId,
        );
        if (place === "early") this.readRecord();
        if (place === "over") {
          this.witness.count("stale welcome");
          drop();
        }
        if (place === undefined) {
          // A group of its own, as far as this device knows: it goes in.
          const generation = this.service.logs.get(welcome.wire)!.generation;
          kept.mls = {
            wire: welcome.wire,
            wireId: welcome.wireId,
            generation,
            state: "active",
            cursor: welcome.cursor,
            at: welcome.at,
          };
          drop();
        }
        continue;
      }
      // It leads into a group that this device is in: only once the log has shown that it is in there no more.
      if (mls.state === "active" && mls.cursor < welcome.cursor) continue;
      drop();
      if (mls.state === "active") continue;
      kept.mls = { ...mls, state: "active", cursor: welcome.cursor, at: welcome.at };
      this.entered(welcome.at);
    }
  }

  private entered(at: Epoch): void {
    const { kept } = this;
    kept.own = { ...kept.own, enteredEpoch: at.epoch };
    this.switchIfReached();
    const { creator, generation } = kept.record.migration;
    if (creator === undefined || this.isCreator || !at.preparing) return;
    this.queueAccount(numberOf(creator.accountId), {
      kind: "ready",
      generation,
      epoch: at.epoch,
      authenticator: at.authenticator as never,
      revision: kept.record.revision,
    });
  }

  // ------------------------------------------------------------------------------------------------- the switch

  switchIfReached(): boolean {
    const { kept } = this;
    const decision = this.decideNow();
    if (decision.kind === "refuse") {
      kept.own = { ...kept.own, refusal: decision.code };
      this.witness.refused(this.who, kept.record.migration.generation, decision.code);
    }
    if (decision.kind !== "switch") return false;
    this.go();
    return true;
  }

  private decideNow(): moves.SwitchDecision {
    const { kept } = this;
    const { state, switchPoint } = kept.record.migration;
    const { reached, refusal, switchedAtMs, enteredEpoch } = kept.own;
    const at = kept.mls?.state === "active" ? kept.mls.at : undefined;
    const members = [...kept.record.members.values()] as never;
    const strangers = this.decide.strangersAmong(reached?.roster ?? [], members);
    return this.decide.decideSwitch({
      state,
      switchPoint,
      reached,
      isMisnamed: refusal !== "",
      hasStrangers: strangers.length > 0,
      epoch: at?.epoch,
      enteredEpoch,
      hasSwitched: switchedAtMs > 0,
    });
  }

  private go(): void {
    const { kept, service } = this;
    this.witness.switched(this);
    kept.protocol = "mls";
    const waiting = kept.outbox.flatMap((row) =>
      row.lane === "group"
        ? [
            {
              row,
              isPairwiseOnly: row.letter.kind !== "text",
              counter: row.letter.kind === "text" ? row.letter.counter : undefined,
            },
          ]
        : [],
    );
    const { sayAnew, takeBackFrom } = this.decide.planSaidAnew(waiting, {
      last: kept.sent,
      unsaid: new Set(),
    });
    kept.outbox = [
      ...kept.outbox.filter(({ lane }) => lane === "account"),
      ...sayAnew.map(({ row }) => ({ ...row, ready: undefined, exclude: [] })),
    ];
    if (takeBackFrom !== undefined) kept.sent = Math.min(kept.sent, takeBackFrom - 1);
    kept.own = { ...kept.own, switchedAtMs: service.nowMs, refusal: "", lease: undefined };
    this.carry();
    kept.secrets = new Map();
    this.release();
  }

  // --------------------------------------------------------------------------------------------------- the work

  /** What the client's loop does for this conversation. False: nothing. */
  work(isMailboxEmpty: boolean): boolean {
    const { kept } = this;
    this.release();
    if (kept.pending !== undefined) {
      this.push();
      return true;
    }
    const { state } = kept.record.migration;
    if (this.looksAtThreshold) {
      this.looksAtThreshold = false;
      const members = kept.record.members.size;
      if (state === "pairwise" && this.decide.reachesThreshold({ members, ...THRESHOLD })) this.start();
      return true;
    }
    if (state === "pairwise" || (kept.removed && kept.protocol === "pairwise")) return false;
    if (hasSwitched(state) && state !== "recovering") {
      if (kept.own.switchedAtMs === 0) return this.follow(isMailboxEmpty);
      if (kept.own.refusal !== "") return this.beginAnew();
    }
    return this.isCreator ? this.prepare() : this.takeOver();
  }

  private follow(isMailboxEmpty: boolean): boolean {
    const { kept } = this;
    if (this.decideNow().kind === "switch" && this.switchIfReached()) return true;
    if (isMailboxEmpty) this.takeUpWelcomes();
    const { state, switchPoint } = kept.record.migration;
    const placed = kept.mls?.state;
    const step = this.decide.decideFollow({
      state,
      hasSwitched: kept.own.switchedAtMs > 0,
      isRefused:
        (kept.own.reached === undefined && kept.own.refusal !== "") || this.decideNow().kind === "refuse",
      isRoleHolder: (this.role ?? "member") !== "member",
      place: placed === "active" ? "in" : placed === undefined ? "out" : "outside",
      isStandingStill: this.standsStill,
      isMailboxEmpty,
    });
    if (step === "recover") return this.beginAnew();
    const isBehind = step === "wait" && placed === "active" && this.nextEntry() === undefined;
    if (isBehind && kept.mls!.at!.epoch < (switchPoint?.epoch ?? 0)) {
      // In a minute a person is told, and begins anew.
      this.behindSinceMs = Math.min(this.behindSinceMs, this.service.nowMs);
      if (this.service.nowMs >= this.behindSinceMs + 60_000) return this.beginAnew();
    } else this.behindSinceMs = Number.POSITIVE_INFINITY;
    return step === "enter" && this.enter();
  }

  private beginAnew(): boolean {
    if ((this.role ?? "member") === "member") return false;
    const { generation } = this.kept.record.migration;
    this.change(({ migration }) =>
      migration.generation === generation && (migration.state === "switching" || migration.state === "mls")
        ? { kind: "migrate-recover", generation: generation + 1 }
        : undefined,
    );
    return true;
  }

  /** An external commit; members and service ask that the group expects the account, or that it has a leaf. */
  private enter(): boolean {
    const { kept, service } = this;
    const mls = kept.mls!;
    const log = service.logs.get(mls.wire);
    if (log === undefined) return false;
    const before = newest(log);
    const hadLeaf = before.leaves.has(this.who);
    if (!hadLeaf && !before.expected.includes(this.who)) return false;
    // Behind the switch no group is prepared, unless that was taken back.
    if (before.preparing) {
      kept.own = { ...kept.own, refusal: "migration/roster-mismatch" };
      this.witness.refused(this.who, kept.record.migration.generation, "migration/roster-mismatch");
      return true;
    }
    const leaves = new Map(before.leaves).set(this.who, ++this.leafVersion);
    const after = this.next(before, { leaves, expected: before.expected.filter((who) => who !== this.who) });
    const commit: Commit = { kind: "commit", author: this.who, psk: undefined, after };
    this.witness.entered(this, hadLeaf);
    service.commit(mls.wire, mls.wireId as never, commit, []);
    kept.mls = { ...mls, state: "active", cursor: log.entries.length, at: after };
    this.entered(after);
    return true;
  }

  private next(before: Epoch, change: Partial<Epoch>, salt = ""): Epoch {
    const epoch = before.epoch + 1;
    const path = `${hex(before.authenticator)} ${this.who} ${this.draw()} ${salt}`;
    return { ...before, ...change, epoch, authenticator: sha256(path) };
  }

  private takeOver(): boolean {
    const { kept, service } = this;
    const { creator, generation, state } = kept.record.migration;
    const isRoleHolder = (this.role ?? "member") !== "member";
    const isCreatorIn =
      creator !== undefined && kept.mls?.at?.leaves.has(numberOf(creator.accountId)) === true;
    const { switchedAtMs } = kept.own;
    const finishing = { state, isRoleHolder, isCreatorIn, switchedAtMs, nowMs: service.nowMs };
    if (this.decide.mayFinish(finishing)) {
      this.witness.count("done in the creator's place");
      this.change(({ migration }) =>
        migration.state === "switching" ? { kind: "migrate-done", generation } : undefined,
      );
      return true;
    }
    const facts = { state, isCreator: false, isRoleHolder, leaseLeftMs: service.leaseLeftMs };
    if (!this.decide.mayTakeOver(facts)) return false;
    this.witness.count("take-over tried");
    this.change(({ migration }) => {
      const next = migration.generation + 1;
      if (migration.state === "preparing" || migration.state === "ready")
        return { kind: "migrate-prepare", generation: next };
      return migration.state === "recovering" ? { kind: "migrate-recover", generation: next } : undefined;
    });
    return true;
  }

  // ---------------------------------------------------------------------------------------------- the creator

  private prepare(): boolean {
    const { kept, service } = this;
    const { state, generation } = kept.record.migration;
    const mayStep = (this.role ?? "member") !== "member";
    if (kept.mls?.forked === true && mayStep && hasLease(state)) return this.beginNext(generation);
    const facts = this.facts(mayStep);
    const step = this.decide.decidePreparation(facts);
    const isIdle = this.decide.decidePreparation({ ...facts, nowMs: Number.NEGATIVE_INFINITY }) === "nothing";
    if (!isIdle && state !== "switching" && service.nowMs >= this.renewedAtMs + RENEW_EVERY_MS) {
      this.renewedAtMs = service.nowMs;
      if (kept.own.lease !== undefined && service.renew(this.who, generation, kept.own.lease) !== "")
        return false;
    }
    if (step !== "nothing" && step !== "finish" && this.lacksGhost) return this.addLeaves([GHOST]);
    switch (step) {
      case "create":
        this.create();
        return true;
      case "draw-secret":
        this.drawSecret();
        return true;
      case "remove":
        return this.commit((at) => ({ leaves: without(at.leaves, this.foreign(at)) }));
      case "add":
        return this.add();
      case "mark-ready":
        this.change(({ migration }) =>
          migration.generation === generation && migration.state === "preparing"
            ? { kind: "migrate-ready", generation }
            : undefined,
        );
        return true;
      case "switch":
        return this.makeSwitch();
      case "finish":
        if (kept.own.switchedAtMs === 0) return false;
        this.change(({ migration }) =>
          migration.state === "switching" ? { kind: "migrate-done", generation } : undefined,
        );
        return true;
      default:
        return false;
    }
  }

  /** It can do nothing more in this group. */
  private beginNext(generation: number): boolean {
    this.change(({ migration }) => {
      if (migration.generation !== generation || !hasLease(migration.state)) return undefined;
      const kind = migration.state === "recovering" ? "migrate-recover" : "migrate-prepare";
      return { kind, generation: generation + 1 };
    });
    return true;
  }

  get isAboutToSwitch(): boolean {
    const { state } = this.kept.record.migration;
    return state === "ready" && this.decide.decidePreparation(this.facts(true)) === "switch";
  }

  private facts(mayStep: boolean): moves.PreparationFacts {
    const { kept, service } = this;
    const { own, mls, outbox } = kept;
    const stands = mls?.state === "active";
    const missing = stands ? this.missing(mls.at!) : [];
    const present = new Set(mls?.at?.leaves.keys() ?? []);
    const members = [...this.others(), this.who];
    return {
      state: kept.record.migration.state,
      mayStep,
      fitsContext: this.decide.fitsContext(kept.record),
      stands,
      secretDue: own.round === 0 || own.secretDue,
      // Whoever has a row of its own holds nobody up.
      secretSent:
        own.round > 0 && !outbox.some(({ lane, letter }) => lane === "group" && letter.kind === "secret"),
      toRemove: stands ? this.foreign(mls.at!).length : 0,
      toAdd: service.nowMs < this.triedAtMs + ADD_AGAIN_MS ? 0 : missing.length,
      everybodyReady: members.every((who) => who === this.who || (present.has(who) && kept.ready.has(who))),
      deadlineAtMs: own.deadlineAtMs,
      finishNow: own.finishNow,
      nowMs: service.nowMs,
    };
  }

  private foreign(at: Epoch): readonly number[] {
    const { members } = this.kept.record;
    const keeps = this.evil === "ghost" || this.evil === "misnamed" || this.evil === "ordinary";
    return [...at.leaves.keys()].filter((who) => !members.has(formatWho(who)) && !(keeps && who === GHOST));
  }

  private missing(at: Epoch): readonly number[] {
    return this.others().filter((who) => !at.leaves.has(who));
  }

  private create(): void {
    const { kept, service } = this;
    const mls = kept.mls!;
    const first: Epoch = {
      epoch: 0,
      authenticator: sha256(`${mls.wire} ${this.who}`),
      leaves: new Map([[this.who, this.leafVersion]]),
      preparing: true,
      roles: new Map([[this.who, "owner"]]),
      expected: [],
    };
    this.call(() =>
      service.create(mls.wire, { generation: mls.generation, creator: this.who, first, entries: [] }),
    );
    // It may have been made before a crash.
    kept.mls = { ...mls, state: "active", cursor: 0, at: service.logs.get(mls.wire)!.first };
  }

  private drawSecret(): void {
    const { kept } = this;
    const { generation, state } = kept.record.migration;
    const { revision } = kept.record;
    const round = kept.own.round + 1;
    const secret = sha256(`secret ${this.who} ${this.draw()}`);
    kept.secrets = new Map(kept.secrets).set(`${generation}.${round}`, secret);
    const letter = { kind: "secret", generation, round, secret, revision } as const;
    const secretRow = state === "recovering" ? "" : this.queueGroup(letter);
    if (state === "recovering") for (const who of this.others()) this.queueAccount(who, letter);
    this.everReached = undefined;
    const reached = this.decide.keepsReachedAtNewSecret ? kept.own.reached : undefined;
    kept.own = { ...kept.own, round, secretDue: false, secretRow, reached };
  }

  private add(): boolean {
    const { service } = this;
    this.triedAtMs = service.nowMs;
    const reachable = this.missing(this.kept.mls!.at!).filter((who) => this.hasPackages(who));
    return reachable.length > 0 && this.addLeaves(reachable);
  }

  private addLeaves(added: readonly number[]): boolean {
    return this.commit(
      ({ leaves }) => ({ leaves: new Map([...leaves, ...added.map((who): [number, number] => [who, 0])]) }),
      added,
    );
  }

  private get lacksGhost(): boolean {
    const wants = this.evil !== undefined && this.evil !== "promote" && this.evil !== "void";
    return wants && this.kept.mls?.state === "active" && !this.kept.mls.at!.leaves.has(GHOST);
  }

  /** Set by the world. */
  hasPackages: (who: number) => boolean = () => true;

  /** Any commit. False: the log has to be read first. */
  commit(
    plan: (at: Epoch) => Partial<Epoch>,
    added: readonly number[] = [],
    psk?: (after: Partial<Epoch>) => Commit["psk"],
  ): boolean {
    const { kept, service } = this;
    const mls = kept.mls;
    if (mls?.state !== "active") return false;
    const log = service.logs.get(mls.wire)!;
    if (mls.forked === true) return false;
    if (newest(log) !== mls.at) return this.readLog();
    const change = plan(mls.at!);
    const named = psk?.({ ...mls.at!, ...change });
    const after = this.next(mls.at!, change, named?.value);
    this.call(() =>
      service.commit(
        mls.wire,
        mls.wireId as never,
        { kind: "commit", author: this.who, psk: named, after },
        added,
      ),
    );
    while (this.kept.mls?.at !== after) if (!this.readLog()) break;
    return true;
  }

  private makeSwitch(): boolean {
    const { kept, evil } = this;
    const { generation } = kept.record.migration;
    if (evil === "ordinary") {
      this.commit((at) => this.contextFor(at, this.foreign(at)));
      // Another generation may have begun while the log was read.
      const at = this.kept.mls?.at;
      if (at === undefined) return false;
      this.writeSwitch({
        epoch: at.epoch,
        authenticator: at.authenticator as never,
        rosterHash: rosterHash(rosterOf(at)),
      });
      return true;
    }
    if (evil === "void" && this.everReached !== undefined && kept.own.reached === undefined) {
      this.writeSwitch(this.everReached);
      return true;
    }
    if (this.readsBeforeCommit) {
      this.readsBeforeCommit = false;
      this.readRecord();
      // It may have been given up.
      if (kept.record.migration.generation !== generation || kept.mls?.state !== "active") return true;
    }
    if (this.mustCommit()) return this.commitSwitch();
    const reached = kept.own.reached!;
    const decision = this.decide.decideSwitchWrite({
      state: kept.record.migration.state,
      isSameGeneration: kept.record.migration.generation === generation,
      secretDue: kept.own.secretDue,
      mustCommit: () => this.mustCommit(),
    });
    if (decision === "write") this.writeSwitch(reached);
    return decision !== "nothing";
  }

  private writeSwitch({
    epoch,
    authenticator,
    rosterHash: roster,
  }: Omit<Extract<GroupAction, { kind: "migrate-switch" }>, "kind" | "generation">): void {
    const { generation } = this.kept.record.migration;
    this.change(({ migration }) =>
      migration.generation === generation && (migration.state === "ready" || migration.state === "recovering")
        ? { kind: "migrate-switch", generation, epoch, authenticator, rosterHash: roster }
        : undefined,
    );
    if (this.kept.record.migration.switchPoint !== undefined) this.evil = undefined;
  }

  private mustCommit(): boolean {
    const at = this.kept.mls!.at!;
    const wanted = this.contextFor(at, this.foreign(at));
    return this.decide.mustCommitSwitch({
      reached: this.kept.own.reached,
      rosterHash: rosterHash(rosterOf(at)),
      hasForeignLeaves: this.foreign(at).length > 0,
      isContextInForce:
        !at.preparing &&
        JSON.stringify([[...at.roles], at.expected]) === JSON.stringify([[...wanted.roles], wanted.expected]),
    });
  }

  private commitSwitch(): boolean {
    const { generation } = this.kept.record.migration;
    const { round } = this.kept.own;
    const secret = this.kept.secrets.get(`${generation}.${round}`);
    if (secret === undefined) return false;
    if (this.foreign(this.kept.mls!.at!).length > 0) this.witness.count("remove in the switching commit");
    return this.commit(
      (at) => ({ leaves: without(at.leaves, this.foreign(at)), ...this.contextFor(at, this.foreign(at)) }),
      [],
      (after) => {
        const leaves = this.evil === "misnamed" ? without(after.leaves!, [GHOST]) : after.leaves!;
        const hash = rosterHash(rosterOf({ ...(after as Epoch), leaves }));
        return { generation, round, rosterHash: hash, value: hex(migrationPsk(hash, secret)) };
      },
    );
  }

  private contextFor(at: Epoch, foreign: readonly number[]): Pick<Epoch, "preparing" | "roles" | "expected"> {
    const members = [...this.kept.record.members.values()].sort(
      (a, b) => numberOf(a.account) - numberOf(b.account),
    );
    const roles = new Map(
      members.filter(({ role }) => role !== "member").map(({ account, role }) => [numberOf(account), role]),
    );
    if (this.evil === "promote") roles.set(this.who, "owner");
    const inside = new Set([...at.leaves.keys()].filter((who) => !foreign.includes(who)));
    const expected = members.map(({ account }) => numberOf(account)).filter((who) => !inside.has(who));
    return { preparing: false, roles, expected };
  }

  // ---------------------------------------------------------------------------------------------------- crashes

  private call<T>(request: () => T): T {
    const answer = request();
    if (!this.crashes) return answer;
    this.crashes = false;
    throw new Crash();
  }

  /** What is in memory is gone. */
  restart(): void {
    this.crashes = false;
    this.triedAtMs = Number.NEGATIVE_INFINITY;
    this.renewedAtMs = Number.NEGATIVE_INFINITY;
  }

  get formatted(): string {
    const { kept } = this;
    const { state, generation } = kept.record.migration;
    return `${this.who}: ${kept.protocol} r${kept.record.revision} ${state} ${generation} mls ${kept.mls?.state} ${kept.mls?.at?.epoch}${kept.removed ? " removed" : ""}${kept.own.refusal} outbox ${kept.outbox.length}`;
  }
}

const without = (leaves: ReadonlyMap<number, number>, gone: readonly number[]): ReadonlyMap<number, number> =>
  new Map([...leaves].filter(([who]) => !gone.includes(who)));

function refusalOf(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof RejectionError) return error.code;
    throw error;
  }
}

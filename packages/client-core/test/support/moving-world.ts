/** A few devices, one service and a clock, and what must hold whatever they do. */
import { hasSwitched } from "@murmuration/wire";
import type { Role } from "../../src/api.ts";
import { type GroupAction, migrationChangeOf, type VerifiedChange } from "../../src/core/group-change.ts";
import type { GroupState } from "../../src/core/group-record.ts";
import { rosterHash } from "../../src/core/migration/keys.ts";
import {
  type Epoch,
  formatWho,
  hex,
  idOf,
  keyOf,
  ModelService,
  makeChange,
  newest,
  newestCommit,
  numberOf,
  rosterOf,
  type Text,
} from "./move-service.ts";
import { Crash, type Decisions, MovingDevice, THRESHOLD, type Witness } from "./moving-device.ts";

/** The first is the owner for good, and honest; the next two are admins; two more are members, the last comes later. */
export const DEVICES = 6;
const FIRST_MEMBERS = 4;
/** Longer than any deadline and a few leases, with 5 s a round. */
const HEAL_ROUNDS = 400;

export class Violation extends Error {}

const hold = (fact: boolean, what: string): void => {
  if (!fact) throw new Violation(what);
};

/** mulberry32: which of the things that can happen does, inside one command. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

export class MovingWorld implements Witness {
  readonly service = new ModelService();
  readonly devices: readonly MovingDevice[];
  private readonly seen: (name: string) => void;
  /** Texts that the service has not taken, with their authors. */
  private readonly waiting = new Map<string, number>();
  private readonly owed = new Map<string, Set<number>>();
  /** Generation that a text was said in over MLS. */
  private readonly saidIn = new Map<string, number>();
  private readonly firstOverMls = new Map<number, Text>();
  private readonly shownIds = new Set<string>();
  private readonly shownNth = new Map<string, number>();
  /** A minute was over before something came: from there on its author's order is not kept for this reader. */
  private readonly outOfOrder = new Set<string>();
  private readonly revisions = new Map<number, number>();
  private readonly generations = new Map<number, string>();
  private readonly secrets = new Map<string, Set<number>>();
  private readonly switchedIn = new Set<number>();
  private readonly removedOverMls = new Set<number>();
  private changesSeen = 0;
  /** The group has had as many members as MLS is for, and fewer again. */
  private wasLarge = false;
  private hasShrunk = false;

  constructor(decisions: Decisions, seen: (name: string) => void) {
    this.seen = seen;
    this.devices = Array.from(
      { length: DEVICES },
      (_, who) => new MovingDevice(who, this.service, decisions, this),
    );
    const reaches = (who: number): boolean => this.devices[who]?.hasKeyPackages ?? false;
    for (const device of this.devices) device.hasPackages = reaches;
    const member = (who: number) => ({
      account: idOf(who),
      identityKey: keyOf(who),
      profileKey: keyOf(who),
      name: "",
    });
    const founders = Array.from({ length: FIRST_MEMBERS }, (_, who) => member(who));
    const actions: readonly GroupAction[] = [
      { kind: "create", title: "", expireAfterSeconds: 0, members: founders },
      { kind: "role", account: idOf(1), role: "admin" },
      { kind: "role", account: idOf(2), role: "admin" },
    ];
    for (const action of actions) {
      const before = this.service.changes.at(-1);
      const change = makeChange(
        0,
        this.service.changes.length + 1,
        before?.hash ?? (new Uint8Array(32) as VerifiedChange["hash"]),
        action,
      );
      this.service.members.add(0);
      this.service.write(0, { change, leaseToken: undefined, newLeaseToken: undefined });
    }
    this.service.fence = 1;
    for (const device of this.devices.slice(0, FIRST_MEMBERS)) device.readRecord();
  }

  // -------------------------------------------------------------------------------------------- what happens

  /** Lets a device do something that may end in a crash. */
  let(who: number, work: (device: MovingDevice) => unknown): boolean {
    const device = this.devices[who]!;
    if (!device.isOnline) return false;
    try {
      return work(device) === true;
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.count("crash");
      if (device.isCreator) this.count(`creator crashes while ${device.kept.record.migration.state}`);
      device.restart();
      return true;
    } finally {
      this.look();
    }
  }

  isMailboxEmpty(who: number): boolean {
    return this.lettersFor(who).length === 0 && (this.service.welcomes.get(who)?.length ?? 0) === 0;
  }

  private lettersFor(who: number): readonly string[] {
    return [...(this.service.mail.get(who) ?? [])].filter(([, box]) => box.length > 0).map(([key]) => key);
  }

  /** Brings what one sender said in one lane, or a Welcome. */
  deliver(who: number, pick: (below: number) => number): boolean {
    const keys = this.lettersFor(who);
    const welcomes = this.service.welcomes.get(who) ?? [];
    if (keys.length + welcomes.length === 0) return false;
    const at = pick(keys.length + (welcomes.length > 0 ? 1 : 0));
    return this.let(who, (device) => {
      if (at === keys.length) device.takeWelcome(welcomes.shift()!);
      else {
        const { from, letter } = this.service.mail.get(who)!.get(keys[at]!)!.shift()!;
        if (letter.kind === "change") {
          const ahead = letter.change.revision - device.kept.record.revision;
          if (ahead > 1) this.count("notice comes before one that was written earlier");
          if (ahead < 0) this.count("notice comes behind one that was written later");
        }
        device.receive(from, letter);
      }
      return true;
    });
  }

  /** One thing that a device does by itself. */
  act(who: number, what: number, pick: (below: number) => number): boolean {
    switch (what) {
      case 0:
      case 1:
        return this.deliver(who, pick);
      case 2:
        return this.let(who, (device) => device.readLog());
      case 3:
        return this.let(who, (device) => device.send("group"));
      case 4:
        return this.let(who, (device) => device.send("account"));
      default:
        return this.let(who, (device) => device.work(this.isMailboxEmpty(who)));
    }
  }

  /** Many things that devices do by themselves, in any order. */
  bustle(seed: number, steps: number): void {
    const random = randomOf(seed);
    for (let step = 0; step < steps; step++) {
      if (random(60) === 0) this.devices[random(DEVICES)]!.crashes = true;
      this.act(random(DEVICES), random(7), random);
      if (random(8) === 0) this.service.nowMs += 1_000;
    }
  }

  /** A letter that says of a change comes once more. */
  duplicate(seed: number): void {
    const random = randomOf(seed);
    const boxes = [...this.service.mail.values()].flatMap((boxesOf) => [...boxesOf.values()]);
    const notices = boxes.filter((box) => box.some(({ letter }) => letter.kind === "change"));
    const box = notices[random(Math.max(1, notices.length))];
    const notice = box?.find(({ letter }) => letter.kind === "change");
    if (notice === undefined) return;
    this.count("duplicate");
    box!.push(notice);
  }

  /** The service shows an older record to a device. */
  rollBack(who: number, by: number): void {
    const revision = this.devices[who]!.kept.record.revision - by;
    if (revision < 1) return;
    this.let(who, (device) => device.readRecord(this.service.changes.slice(0, revision)));
  }

  /** The service keeps a device in the past: it shows no switch, and takes what is said pairwise. */
  keepInPast(who: number): void {
    const device = this.devices[who]!;
    const { kept } = device;
    if (kept.removed || !this.service.members.has(who)) return;
    const later = this.service.changes.slice(kept.record.revision);
    if (later.some(({ action }) => action.kind === "remove") || kept.protocol === "mls") return;
    device.pastRevision = kept.record.revision;
    this.count("kept in the past");
  }

  add(by: number, who: number): void {
    this.let(by, (device) =>
      device.change((state) => {
        if (state.members.has(formatWho(who))) return undefined;
        const key = keyOf(who);
        return {
          kind: "add",
          members: [{ account: idOf(who), identityKey: key, profileKey: key, name: "" }],
        };
      }),
    );
  }

  remove(by: number, who: number): void {
    // One whom the service keeps in the past would go on telling somebody who is removed.
    if (this.devices.some(({ pastRevision }) => pastRevision !== undefined)) return;
    this.let(by, (device) =>
      device.change((state) =>
        state.members.has(formatWho(who)) ? { kind: "remove", account: idOf(who) } : undefined,
      ),
    );
  }

  /** A member comes and goes, and comes again, and each time the group is as large as MLS is for, or is not. */
  roundThreshold(who: number, seed: number): void {
    for (const [at, change] of (["add", "remove", "add"] as const).entries()) {
      this.let(0, (device) => device.readRecord());
      this[change](0, who);
      this.bustle(seed + at, 10);
    }
  }

  /**
   * The first thing that a device says over MLS was taken pairwise before, and the answer was lost: it is in the
   * mailboxes too, behind the announced end.
   */
  bringUnanswered(who: number): void {
    const text = this.firstOverMls.get(who);
    const { kept, lastNth } = this.devices[who]!;
    const log = this.service.logs.get(kept.mls?.wire ?? "");
    // It would have come before anything that was said after it.
    if (text === undefined || log === undefined || text.nth !== lastNth) return;
    const { id, nth } = text;
    const { sent } = kept;
    const to = [...newest(log).leaves.keys()].filter(
      (reader) => reader !== who && this.service.members.has(reader),
    );
    this.count("unanswered");
    this.service.post(who, "group", `${id} unanswered`, to, { kind: "text", id, nth, counter: sent + 1 });
  }

  /** Somebody is removed between the switching commit and the record's word of it. */
  removeBehindCommit(who: number, seed: number): void {
    const random = randomOf(seed);
    for (let step = 0; step < 200 && this.service.migration.state === "ready"; step++) {
      const creator = this.devices.find(({ isCreator, isOnline }) => isCreator && isOnline);
      if (creator === undefined) return;
      if (creator.kept.own.reached === undefined) {
        this.act(creator.who, random(7), random);
        continue;
      }
      this.let(0, (device) => device.readRecord());
      this.remove(0, who);
      return;
    }
  }

  /**
   * Somebody is removed when the creator has decided to make the switching commit, and the record comes before it is made:
   * that commit is the one that removes.
   */
  removeInCommit(who: number, seed: number): void {
    const random = randomOf(seed);
    for (let step = 0; step < 200 && !hasSwitched(this.service.migration.state); step++) {
      const creator = this.devices.find(({ isCreator, isOnline }) => isCreator && isOnline);
      if (creator === undefined) return;
      if (creator.kept.own.reached !== undefined) return;
      if (!creator.isAboutToSwitch || !creator.kept.mls!.at!.leaves.has(who)) {
        this.act(creator.who, random(7), random);
        continue;
      }
      // The creator itself has not heard of it yet.
      const remover = creator.who === 0 ? 1 : 0;
      this.let(remover, (device) => device.readRecord());
      this.remove(remover, who);
      creator.readsBeforeCommit = true;
      this.act(creator.who, 6, random);
      return;
    }
  }

  /**
   * Two members say of the switching commit that they cannot follow it, before anybody has vouched for it. Only of the first
   * one: behind one that was made anew is a group that is not prepared any more, and whoever enters that from outside cannot tell.
   */
  takeBackSwitch(seed: number): void {
    const random = randomOf(seed);
    const { migration, logs } = this.service;
    const log = [...logs.values()].find(({ generation }) => generation === migration.generation);
    const creator = this.devices.find(({ isCreator }) => isCreator);
    for (let step = 0; step < 200 && log !== undefined && creator !== undefined; step++) {
      const switches = log.entries.filter((entry) => entry.kind === "commit" && entry.psk !== undefined);
      if (switches.length > 1) return;
      if (newestCommit(log)?.psk !== undefined) {
        this.count("switching commit taken back");
        log.entries.push({ kind: "void" });
        return;
      }
      if (hasSwitched(migration.state)) return;
      this.act(creator.who, random(7), random);
    }
  }

  setRole(who: number, role: Role): void {
    this.let(0, (device) =>
      device.change((state) =>
        state.members.has(formatWho(who)) && state.members.get(formatWho(who))?.role !== role
          ? { kind: "role", account: idOf(who), role }
          : undefined,
      ),
    );
  }

  /** The owner takes somebody out of the group that has moved. */
  removeFromMls(who: number): void {
    const owner = this.devices[0]!;
    if (owner.kept.own.switchedAtMs === 0 || !owner.kept.mls?.at?.leaves.has(who)) return;
    this.count("remove over MLS");
    if (this.service.migration.state === "switching") this.count("remove while switching");
    this.removedOverMls.add(who);
    this.forget(who);
    this.let(0, (device) =>
      device.commit(({ leaves }) => ({ leaves: new Map([...leaves].filter(([leaf]) => leaf !== who)) })),
    );
  }

  /** The owner gives or takes a role in the group that has moved: its record does not know of it. */
  setRoleOverMls(who: number, role: Role): void {
    const owner = this.devices[0]!;
    const at = owner.kept.mls?.at;
    if (owner.kept.own.switchedAtMs === 0 || !at?.leaves.has(who)) return;
    this.count("role over MLS");
    if (this.service.migration.state === "switching") this.count("role while switching");
    this.let(0, (device) =>
      device.commit(({ roles }) => ({
        roles: new Map([...roles, [who, role] as const].filter(([, held]) => held !== "member")),
      })),
    );
  }

  /**
   * Whoever has prepared the move is away when the group has switched, and is taken out of it before it says that all is done;
   * where it can be, before it has heard that the service took the switch.
   */
  loseCreator(seed: number): void {
    const random = randomOf(seed);
    const creator = this.devices.find(({ isCreator, isOnline }) => isCreator && isOnline);
    if (creator === undefined || creator.who === 0) return;
    const isOnItsWay = () => ["preparing", "ready"].includes(this.service.migration.state);
    for (let step = 0; step < 400 && isOnItsWay(); step++) {
      creator.crashes = creator.kept.own.reached !== undefined;
      this.act(step % 2 === 0 ? creator.who : random(DEVICES), random(7), random);
    }
    if (this.service.migration.state !== "switching") return;
    creator.isOnline = false;
    // Nobody may have told it.
    this.let(0, (device) => device.readRecord());
    for (let step = 0; step < 200 && this.devices[0]!.kept.own.switchedAtMs === 0; step++)
      this.act(0, random(7), random);
    this.removeFromMls(creator.who);
  }

  ordinaryCommit(who: number): void {
    this.let(who, (device) => device.commit(() => ({})));
  }

  // ---------------------------------------------------------------------------------------------- the end

  /** Everybody is online, the service is honest, everything is delivered, and time passes. */
  heal(): void {
    for (const device of this.devices) {
      device.isOnline = true;
      device.hasKeyPackages = true;
      device.pastRevision = undefined;
      device.evil = undefined;
      device.crashes = false;
      this.let(device.who, () => device.refusedFence());
    }
    let quiet = 0;
    for (let round = 0; round < HEAL_ROUNDS && quiet < 14; round++) {
      let busy = false;
      for (const { who } of this.devices) {
        for (let step = 0; step < 200; step++) if (!this.deliver(who, () => 0)) break;
        for (let step = 0; step < 200; step++) if (!this.act(who, 2, () => 0)) break;
        for (const lane of [3, 4])
          for (let step = 0; step < 50; step++) {
            if (!this.act(who, lane, () => 0)) break;
            busy = true;
          }
        if (this.act(who, 6, () => 0)) busy = true;
      }
      const { state } = this.service.migration;
      const isOpen = state !== "pairwise" && state !== "mls";
      quiet = busy || isOpen ? 0 : quiet + 1;
      this.service.nowMs += 5_000;
    }
    this.checkEnd();
  }

  private checkEnd(): void {
    const { service } = this;
    if (this.devices.some(({ refusesRecord }) => refusesRecord)) {
      this.count("parted over a role");
      return;
    }
    const { state, generation } = service.migration;
    hold(state === "pairwise" || state === "mls", `the move never ends: ${state}\n${this.formatted}`);
    const isOver = hasSwitched(state);
    const log = isOver ? [...service.logs.values()].find((one) => one.generation === generation) : undefined;
    const head = log && newest(log);
    const present = this.devices.filter(
      ({ who }) =>
        service.members.has(who) &&
        (head === undefined || head.leaves.has(who) || head.expected.includes(who)),
    );
    // The last step is only for order: whoever wrote it may be gone before it told anybody.
    const last = service.changes.findLast(({ action }) => action.kind !== "migrate-done")!;
    for (const device of present) {
      const { who, kept } = device;
      if (isOver && this.refusesAlone(device, present)) {
        this.count("refuses alone");
        continue;
      }
      const where = `${who} ends elsewhere\n${this.formatted}`;
      hold(hex(kept.changes[last.revision - 1]?.hash ?? new Uint8Array()) === hex(last.hash), where);
      hold(kept.protocol === (isOver ? "mls" : "pairwise"), where);
      if (head !== undefined)
        hold(
          kept.mls?.state === "active" && hex(kept.mls.at!.authenticator) === hex(head.authenticator),
          where,
        );
      hold(kept.outbox.length === 0, `${who} still has something to say\n${this.formatted}`);
      hold(kept.heldMls.length === 0, `${who} holds something for ever\n${this.formatted}`);
    }
    const here = new Set(
      present.filter((device) => !isOver || !this.refusesAlone(device, present)).map(({ who }) => who),
    );
    for (const [id, readers] of this.owed)
      for (const who of readers)
        if (here.has(who))
          hold(this.shownIds.has(`${who} ${id}`), `${id} is lost for ${who}\n${this.formatted}`);
    for (const [id, author] of this.waiting)
      hold(!here.has(author), `${id} was never said\n${this.formatted}`);
    this.count(`ends in ${state}`);
  }

  /**
   * An evil creator has shown it that the switch leads to somebody who is no member, or to another group, and it has told its
   * person. No owner or admin has seen that who could begin anew: those who are in came in from outside, behind it, and people have to decide.
   */
  private refusesAlone({ kept }: MovingDevice, present: readonly MovingDevice[]): boolean {
    const { refusal } = kept.own;
    const switchedAt = kept.record.migration.switchPoint?.epoch ?? 0;
    return (
      refusal !== "" &&
      this.devices.some(({ wasEvil }) => wasEvil) &&
      present.every((one) => (one.role ?? "member") === "member" || one.kept.own.enteredEpoch > switchedAt)
    );
  }

  private get formatted(): string {
    return this.devices.map((device) => device.formatted).join("\n");
  }

  /** What the service has taken since the last look. */
  private look(): void {
    const { changes } = this.service;
    for (const change of changes.slice(this.changesSeen)) {
      const step = migrationChangeOf(change.action);
      if (step !== undefined) this.count(step);
      if (change.action.kind === "add" && this.service.members.size >= THRESHOLD.mlsThreshold) {
        if (this.hasShrunk) this.count("round the threshold");
        this.wasLarge = true;
      }
      if (change.action.kind === "remove") {
        this.hasShrunk ||= this.wasLarge && this.service.members.size < THRESHOLD.mlsThreshold;
        this.count(`remove while ${this.service.migration.state}`);
        const isCommitted = this.devices.some(({ isCreator, kept }) => isCreator && kept.own.reached);
        if (this.service.migration.state === "ready" && isCommitted) this.count("remove behind the commit");
        this.forget(numberOf(change.action.account));
      }
      if (change.action.kind !== "migrate-recover") continue;
      // What was said in a group that is given up can only be read by who was in it.
      for (const [id, generation] of this.saidIn)
        if (generation < change.action.generation) this.owed.delete(id);
    }
    this.changesSeen = changes.length;
  }

  private forget(who: number): void {
    for (const [id, author] of this.waiting) if (author === who) this.waiting.delete(id);
    for (const readers of this.owed.values()) readers.delete(who);
  }

  // ------------------------------------------------------------------------------------------- the invariants

  count(name: string): void {
    this.seen(name);
  }

  said(who: number, { id }: Text): void {
    this.count("said");
    this.waiting.set(id, who);
  }

  dropped({ id }: Text): void {
    this.waiting.delete(id);
  }

  acceptedPairwise(who: number, text: Text, to: readonly number[]): void {
    const isShown = to.every((reader) => this.service.members.has(reader));
    hold(isShown, `${text.id} goes to somebody who was removed`);
    this.owe(text, who, to);
  }

  acceptedMls(who: number, text: Text, at: Epoch, generation: number): void {
    this.count("said over MLS");
    const readers = [...at.leaves.keys()];
    const isAmongUs = readers.every((reader) => this.service.members.has(reader));
    hold(isAmongUs || this.isBad(generation), `${text.id} is said before a stranger`);
    // A group that was given up is left by those who know it, and what is said in it has no other readers.
    this.waiting.delete(text.id);
    if (generation !== this.service.migration.generation) return;
    this.saidIn.set(text.id, generation);
    if (!this.firstOverMls.has(who)) this.firstOverMls.set(who, text);
    this.owe(text, who, readers);
  }

  private owe({ id }: Text, author: number, readers: readonly number[]): void {
    this.waiting.delete(id);
    const owed = this.owed.get(id) ?? new Set<number>();
    for (const reader of readers) if (reader !== author && reader < DEVICES) owed.add(reader);
    this.owed.set(id, owed);
  }

  took(who: number, text: Text, counter: number, last: number | undefined): void {
    // Before its own switch, or while the group recovers, a device takes what comes: it may be all that ever does.
    if (this.devices[who]!.kept.own.switchedAtMs === 0) return;
    this.count("pairwise after the switch");
    hold(last === undefined || counter <= last, `${who} takes ${text.id} pairwise behind its author's end`);
  }

  shown(who: number, author: number, text: Text, how: Parameters<Witness["shown"]>[3]): void {
    const { own } = this.devices[who]!.kept;
    const line = `${who} ${text.id}`;
    hold(!this.shownIds.has(line), `${text.id} is shown twice to ${who}`);
    this.shownIds.add(line);
    if (how.overMls) hold(own.switchedAtMs > 0, `${who} shows ${text.id} before its switch`);
    const pair = `${who} ${author}`;
    if (how.late) this.outOfOrder.add(pair);
    const before = this.shownNth.get(pair) ?? 0;
    hold(text.nth > before || this.outOfOrder.has(pair), `${text.id} is shown to ${who} after ${before}`);
    this.shownNth.set(pair, Math.max(before, text.nth));
  }

  adopted(who: number, before: GroupState, after: GroupState, change: VerifiedChange): void {
    hold(after.revision > (this.revisions.get(who) ?? 0), `the record of ${who} goes back`);
    this.revisions.set(who, after.revision);
    const { generation } = after.migration;
    hold(generation >= before.migration.generation, `the generation of ${who} goes back`);
    if (hasSwitched(before.migration.state))
      hold(hasSwitched(after.migration.state), `${who} goes back to pairwise`);
    if (generation === before.migration.generation) return;
    const by = hex(change.hash);
    hold((this.generations.get(generation) ?? by) === by, `generation ${generation} is used twice`);
    this.generations.set(generation, by);
  }

  secretSent(generation: number, round: number, to: readonly number[]): void {
    const key = `${generation}.${round}`;
    this.secrets.set(key, new Set([...(this.secrets.get(key) ?? []), ...to]));
  }

  /** Where the record says that the conversation goes on, as the log has it, and whether it is what it has to be. */
  private isBad(generation: number): boolean {
    const log = [...this.service.logs.values()].find((one) => one.generation === generation);
    const change = this.service.changes.findLast(
      ({ action }) => action.kind === "migrate-switch" && action.generation === generation,
    );
    if (log === undefined || change?.action.kind !== "migrate-switch") return true;
    const { authenticator, rosterHash: named } = change.action;
    const commit = log.entries.find(
      (entry) => entry.kind === "commit" && hex(entry.after.authenticator) === hex(authenticator),
    );
    if (commit?.kind !== "commit" || commit.psk === undefined) return true;
    const { leaves, roles } = commit.after;
    const { members, roles: holders } = this.membersAt(change);
    const isOfUs = [...leaves.keys()].every((who) => members.has(who));
    const hasRoles = [...leaves.keys()].every(
      (who) => (roles.get(who) ?? "member") === (holders.get(who) ?? "member"),
    );
    const hash = hex(rosterHash(rosterOf(commit.after)));
    const isNamed = hash === hex(named) && hash === hex(commit.psk.rosterHash);
    const knows = this.secrets.get(`${generation}.${commit.psk.round}`) ?? new Set();
    const isSecret = [...knows].every((who) => members.has(who));
    if (!isSecret) throw new Violation("somebody who was removed knows the secret of the switch");
    return !isOfUs || !hasRoles || !isNamed;
  }

  /** The commit that the record names was taken back, if a switching commit of this generation was. */
  private isTakenBack(generation: number): boolean {
    const log = [...this.service.logs.values()].find((one) => one.generation === generation);
    return log?.entries.some(({ kind }) => kind === "void") === true;
  }

  /** The record names somebody whom an MLS group has removed that was given up since: who has seen it takes nobody like that in. */
  private bringsBack(generation: number): boolean {
    const log = [...this.service.logs.values()].find((one) => one.generation === generation);
    const commit = log?.entries.find((entry) => entry.kind === "commit" && entry.psk !== undefined);
    return commit?.kind === "commit" && [...this.removedOverMls].some((who) => commit.after.leaves.has(who));
  }

  /** Who was a member, and with which role, when the record took this change: while a group recovers some are removed since. */
  private membersAt(change: VerifiedChange): {
    readonly members: ReadonlySet<number>;
    readonly roles: ReadonlyMap<number, Role>;
  } {
    const members = new Set<number>();
    const roles = new Map<number, Role>([[0, "owner"]]);
    for (const one of this.service.changes) {
      if (one === change) break;
      const { action } = one;
      if (action.kind === "create" || action.kind === "add")
        for (const { account } of action.members) members.add(numberOf(account));
      if (action.kind === "role") roles.set(numberOf(action.account), action.role);
      if (action.kind === "remove") {
        members.delete(numberOf(action.account));
        roles.delete(numberOf(action.account));
      }
    }
    return { members, roles };
  }

  switched({ who, kept }: MovingDevice): void {
    const { record, mls, own } = kept;
    const { state, generation, switchPoint } = record.migration;
    hold(hasSwitched(state) && switchPoint !== undefined, `${who} switches without the record`);
    hold(
      mls?.generation === generation,
      `${who} switches into generation ${mls?.generation}, not ${generation}`,
    );
    // Whoever enters from outside cannot see what the switch was; it may do so when others are in the next one already.
    for (const other of this.switchedIn) {
      const first = Math.min(other, generation);
      const isGivenUp =
        other === generation || this.isBad(first) || this.bringsBack(first) || this.isTakenBack(first);
      hold(isGivenUp, `generations ${other} and ${generation} both switch`);
    }
    this.switchedIn.add(generation);
    hold(!mls!.at!.preparing, `${who} switches into a group that is only prepared`);
    hold(mls!.at!.epoch >= switchPoint!.epoch, `${who} switches into an epoch before the one that is named`);
    this.count("switched");
    if (own.enteredEpoch > switchPoint!.epoch) {
      this.count("switched from outside");
      return;
    }
    hold(!this.isBad(generation), `${who} switches into a group with a stranger`);
  }

  refused(who: number, generation: number, code: string): void {
    this.count(code);
    const isOver = this.isBad(generation) || this.bringsBack(generation) || this.isTakenBack(generation);
    hold(isOver, `${who} refuses a sound switch: ${code}`);
  }

  refusesChange(who: number, code: string): void {
    throw new Violation(`${who} refuses what stands in the record: ${code}`);
  }

  refusedByService(who: number, code: string, action: GroupAction): void {
    throw new Violation(`${who} asks for what it may not: ${action.kind} ${code}`);
  }

  entered({ who, kept }: MovingDevice, hadLeaf: boolean): void {
    this.count("entered from outside");
    if (!hadLeaf) return;
    const { generation } = kept.record.migration;
    const commit = this.service.logs
      .get(kept.mls!.wire)!
      .entries.findLast((entry) => entry.kind === "commit" && entry.psk !== undefined);
    const round = commit?.kind === "commit" ? commit.psk?.round : undefined;
    const wasTold = this.secrets.get(`${generation}.${round}`)?.has(who) === true;
    hold(!wasTold, `${who} enters anew where it is a member and was told the secret`);
    this.count("entered anew");
    // Where the creator of a recovery has not waited for it.
    for (const [id, said] of this.saidIn) if (said === generation) this.owed.get(id)?.delete(who);
  }
}

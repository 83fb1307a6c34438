/** The service of the world in which devices move to MLS: it does what it may, and no more than a service can. */
import { createHash } from "node:crypto";
import { type AccountId, accountId, type Bytes, deviceId, formatId, groupId, utf8 } from "@murmuration/base";
import {
  beginsLease,
  generationAfter,
  hasLease,
  type MigrationPosition,
  migrationTransition,
  takesOtherChanges,
  unmigrated,
} from "@murmuration/wire";
import type { Role } from "../../src/api.ts";
import { type GroupAction, migrationChangeOf, type VerifiedChange } from "../../src/core/group-change.ts";
import type { RosterLeaf } from "../../src/core/migration/keys.ts";

export const CONVERSATION = groupId(new Uint8Array(16).fill(200));
const LEASE_MS = 60_000;
/** Listens, and is in no record. */
export const GHOST = 99;

export const sha256 = (text: string): Bytes =>
  new Uint8Array(createHash("sha256").update(text).digest()) as Bytes;
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
export const idOf = (who: number): AccountId => accountId(new Uint8Array(16).fill(who + 1));
export const numberOf = (account: Uint8Array): number => account[0]! - 1;
export const keyOf = (who: number): Bytes => new Uint8Array(33).fill(who + 1) as Bytes;
const addressOf = (who: number) => ({ accountId: idOf(who), deviceId: deviceId(1) });

export function makeChange(
  who: number,
  revision: number,
  previousHash: Bytes,
  action: GroupAction,
): VerifiedChange {
  const text = JSON.stringify([revision, hex(previousHash), who, action], (_, value: unknown) =>
    value instanceof Uint8Array ? hex(value) : value,
  );
  return {
    groupId: CONVERSATION,
    revision,
    previousHash,
    author: addressOf(who),
    authorDeviceList: new Uint8Array(0) as Bytes,
    atMs: 0,
    action,
    encoded: utf8(text) as Bytes,
    hash: sha256(text),
    authorAccountKey: keyOf(who),
  };
}

/** An epoch of an abstract MLS group. Its authenticator is a hash of everything that led to it. */
export interface Epoch {
  readonly epoch: number;
  readonly authenticator: Bytes;
  /** Account, and the version of its leaf. */
  readonly leaves: ReadonlyMap<number, number>;
  readonly preparing: boolean;
  readonly roles: ReadonlyMap<number, Role>;
  readonly expected: readonly number[];
}

export interface Psk {
  readonly generation: number;
  readonly round: number;
  readonly rosterHash: Bytes;
  /** Stands for the key: who derives another cannot follow. */
  readonly value: string;
}

export interface Commit {
  readonly kind: "commit";
  readonly author: number;
  readonly psk: Psk | undefined;
  readonly after: Epoch;
}
export interface Said {
  readonly kind: "said";
  readonly author: number;
  readonly epoch: number;
  readonly body: MlsBody;
}
/** The newest commit counts no longer. */
export interface Void {
  readonly kind: "void";
}
export type MlsBody =
  | { readonly kind: "change"; readonly change: VerifiedChange }
  | (Text & { readonly last: { readonly counter: number; readonly revision: number } | undefined });

export interface Text {
  readonly kind: "text";
  readonly id: string;
  /** The how-manieth thing that its author says. */
  readonly nth: number;
}
export type Letter =
  | (Text & { readonly counter: number })
  | { readonly kind: "change"; readonly change: VerifiedChange }
  | { readonly kind: "invite" }
  | {
      readonly kind: "secret";
      readonly generation: number;
      readonly round: number;
      readonly secret: Bytes;
      readonly revision: number;
    }
  | {
      readonly kind: "ready";
      readonly generation: number;
      readonly epoch: number;
      readonly authenticator: Bytes;
      readonly revision: number;
    };

export interface Welcome {
  readonly wire: string;
  readonly wireId: Bytes;
  readonly cursor: number;
  readonly at: Epoch;
}

export interface MlsLog {
  readonly generation: number;
  readonly creator: number;
  readonly first: Epoch;
  readonly entries: (Commit | Said | Void)[];
}

/** The commit that led to the present epoch; undefined before the first. */
export function newestCommit({ entries }: MlsLog): Commit | undefined {
  let takenBack = 0;
  return entries.findLast((entry): entry is Commit => {
    if (entry.kind === "void") takenBack++;
    return entry.kind === "commit" && takenBack-- === 0;
  });
}

export const newest = (log: MlsLog): Epoch => newestCommit(log)?.after ?? log.first;

export function rosterOf({ leaves }: Epoch): readonly RosterLeaf[] {
  return [...leaves].map(([who, version]) => ({
    ...addressOf(who),
    deviceIdentityKey: keyOf(who),
    signatureKey: new Uint8Array(32).fill(version * 16 + who),
  }));
}

export interface RecordWrite {
  readonly change: VerifiedChange;
  readonly leaseToken: number | undefined;
  readonly newLeaseToken: number | undefined;
}

export class ModelService {
  nowMs = 1_000_000;
  readonly changes: VerifiedChange[] = [];
  /** Who has the key of the record. */
  readonly members = new Set<number>();
  fence = 0;
  migration: MigrationPosition = unmigrated;
  lease: { readonly token: number; readonly untilMs: number } | undefined;
  readonly logs = new Map<string, MlsLog>();
  readonly welcomes = new Map<number, Welcome[]>();
  /** By recipient, then by sender and lane: what one says in one lane stays in its order. */
  readonly mail = new Map<number, Map<string, { readonly from: number; readonly letter: Letter }[]>>();
  private readonly submits = new Set<string>();

  write(who: number, { change, leaseToken, newLeaseToken }: RecordWrite): string {
    if (!this.members.has(who)) return "group/access-denied";
    if (change.revision !== this.changes.length + 1) return "group/revision-conflict";
    const step = migrationChangeOf(change.action);
    if (step === undefined) {
      if (!takesOtherChanges(this.migration.state)) return "migration/not-possible";
    } else {
      const row = migrationTransition(this.migration.state, step);
      if (row === undefined) return "migration/not-possible";
      const holds = this.lease !== undefined && leaseToken === this.lease.token;
      if (row.who !== "any" && !holds && this.leaseLeftMs > 0) return "migration/lease-held";
      this.migration = { state: row.to, generation: generationAfter(this.migration.generation, row) };
      const token = beginsLease(step) ? newLeaseToken : holds ? leaseToken : undefined;
      if (!hasLease(row.to)) this.lease = undefined;
      else if (token !== undefined) this.lease = { token, untilMs: this.nowMs + LEASE_MS };
      if (row.fence === "new") this.fence = -1;
    }
    this.changes.push(change);
    const { action } = change;
    if (action.kind === "create" || action.kind === "add")
      for (const { account } of action.members) this.members.add(numberOf(account));
    if (action.kind === "remove") {
      this.members.delete(numberOf(action.account));
      this.fence = change.revision;
    }
    return "";
  }

  get leaseLeftMs(): number {
    return Math.max(0, (this.lease?.untilMs ?? 0) - this.nowMs);
  }

  renew(who: number, generation: number, token: number): string {
    if (!this.members.has(who)) return "group/access-denied";
    if (this.lease?.token !== token || generation !== this.migration.generation)
      return "migration/lease-lost";
    this.lease = { token, untilMs: this.nowMs + LEASE_MS };
    return "";
  }

  /** Puts letters into mailboxes, once for each submit. */
  post(from: number, lane: string, submit: string, to: readonly number[], letter: Letter): void {
    if (this.submits.has(submit)) return;
    this.submits.add(submit);
    for (const who of to) {
      const box = this.mail.get(who) ?? new Map<string, { from: number; letter: Letter }[]>();
      this.mail.set(who, box);
      const key = `${from} ${lane}`;
      box.set(key, [...(box.get(key) ?? []), { from, letter }]);
    }
  }

  create(wire: string, log: MlsLog): void {
    if (!this.logs.has(wire)) this.logs.set(wire, log);
  }

  /** False: the group is in another epoch by now. */
  commit(wire: string, wireId: Bytes, commit: Commit, added: readonly number[]): boolean {
    const log = this.logs.get(wire)!;
    if (newest(log).epoch + 1 !== commit.after.epoch) return false;
    log.entries.push(commit);
    for (const who of added)
      this.welcomes.set(who, [
        ...(this.welcomes.get(who) ?? []),
        { wire, wireId, cursor: log.entries.length, at: commit.after },
      ]);
    return true;
  }
}

export const formatWho = (who: number): string => formatId(idOf(who));

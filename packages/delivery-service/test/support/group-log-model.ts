import { type AccountId, accountId, type Bytes, type GroupId, groupId, utf8 } from "@murmuration/base";
import type {
  AppendCommit,
  AppendCommitOutcome,
  AppendMessage,
  AppendMessageOutcome,
  LogEntry,
} from "../../src/ports/mls-groups.ts";
import { commitFrom, DAY, messageTo, NOW, newDevice } from "./mls-groups.ts";

/** An epoch that was entered. Two that have one number are different: one of them was voided. */
export interface ModelEpoch {
  readonly number: number;
  /** Sequence number of the commit that led here. */
  readonly commit: number;
  readonly lastRemoval: number;
  readonly banList: Bytes | undefined;
  readonly groupInfo: Bytes;
  readonly treeHash: Bytes;
  /** What the tree is made of: the first one's content, then each delta. */
  readonly tree: readonly string[];
}

interface ModelEntry {
  readonly entry: LogEntry;
  /** The epoch that was present before it. */
  readonly writtenIn: ModelEpoch;
  /** Of a commit: where its proposals begin. */
  readonly from?: number;
}

/** What a number stands for: the same number is the same message, commit or key. */
export const bytesOf = (what: string, n: number): Bytes => utf8(`${what} ${n}`);

/** Of two accounts one. */
export const accountOf = (n: number): AccountId => accountId(new Uint8Array(16).fill(n + 1));

/**
 * A group's log as the port describes it, without a store: a list that only grows, a stack of epochs that count, and
 * a number below which everything is forgotten.
 */
export class GroupLogModel {
  readonly groupId: GroupId = groupId(new Uint8Array(16).fill(7));
  created = false;
  now = NOW;
  first = 1;
  readonly log: ModelEntry[] = [];
  readonly epochs: ModelEpoch[] = [
    {
      number: 0,
      commit: 0,
      lastRemoval: 0,
      banList: undefined,
      groupInfo: bytesOf("GroupInfo", -1),
      treeHash: bytesOf("tree hash", -1),
      tree: ["first"],
    },
  ];
  /** By number: what was made once is sent again as it was. */
  private readonly madeCommits = new Map<number, AppendCommit>();
  private readonly messages = new Map<string, number>();
  private readonly commits = new Map<string, { readonly sequence: number; readonly epoch: ModelEpoch }>();
  pending: Bytes[] = [];
  outbox: { readonly welcome: Bytes; readonly sequence: number }[] = [];
  former: { readonly key: Bytes; readonly removedAt: number }[] = [];
  readonly orders = new Set<number>();
  readonly bans = new Map<
    string,
    {
      readonly key: Bytes;
      readonly account: AccountId;
      removedAt: number | undefined;
      listedAt: number | undefined;
    }
  >();

  get present(): ModelEpoch {
    return this.epochs.at(-1)!;
  }

  get last(): number {
    return this.log.length;
  }

  kept(): readonly LogEntry[] {
    return this.log.slice(this.first - 1).map(({ entry }) => entry);
  }

  /** Epochs that count and in which a kept entry was written, and the present one. */
  keptEpochs(): readonly ModelEpoch[] {
    const written = new Set(this.log.slice(this.first - 1).map(({ writtenIn }) => writtenIn));
    return this.epochs.filter((epoch) => epoch === this.present || written.has(epoch));
  }

  makeMessage(submit: number, epoch: number, epochsBehind: number): AppendMessage {
    const submitHash = bytesOf("submit", submit);
    const message = bytesOf("message", submit);
    return messageTo(this.groupId, epoch, { submitHash, message, epochsBehind, acceptedAtMs: this.now });
  }

  message(append: AppendMessage): AppendMessageOutcome {
    if (!this.created) return { kind: "unknown-group" };
    const known = this.messages.get(String(append.submitHash));
    if (known !== undefined) return { kind: "repeated", sequence: known };
    if (append.epoch > this.present.number) return { kind: "unknown-epoch" };
    const oldest = Math.max(this.present.lastRemoval, this.present.number - append.epochsBehind);
    if (append.epoch < oldest) return { kind: "outdated" };
    const sequence = this.push({ kind: "application", message: append.message });
    this.messages.set(String(append.submitHash), sequence);
    return { kind: "appended", sequence };
  }

  makeCommit(
    n: number,
    shape: { offset: number; proposals: number; welcomes: number; removes: number; bans: boolean },
  ): AppendCommit {
    const known = this.madeCommits.get(n);
    if (known !== undefined) return known;
    const made = commitFrom(this.groupId, this.present.number + shape.offset, {
      commitHash: bytesOf("hash", n),
      commit: bytesOf("commit", n),
      proposals: Array.from({ length: shape.proposals }, (_, i) => bytesOf(`proposal ${i} of`, n)),
      groupInfo: bytesOf("GroupInfo", n),
      treeHash: bytesOf("tree hash", n),
      treeDelta: bytesOf("delta", n),
      banList: shape.bans ? bytesOf("ban list", n) : undefined,
      listed: shape.bans ? [accountOf(n % 2)] : [],
      removed: Array.from({ length: shape.removes }, (_, i) => bytesOf("leaf", (n + i) % 4)),
      welcomes: Array.from({ length: shape.welcomes }, (_, i) => ({
        recipient: newDevice(),
        welcome: bytesOf(`welcome ${i} of`, n),
      })),
      acceptedAtMs: this.now,
    });
    this.madeCommits.set(n, made);
    return made;
  }

  commit(append: AppendCommit): AppendCommitOutcome {
    if (!this.created) return { kind: "unknown-group" };
    const known = this.commits.get(String(append.commitHash));
    const { present } = this;
    if (known !== undefined && this.epochs.includes(known.epoch)) {
      return { kind: "repeated", sequence: known.sequence, epoch: known.epoch.number };
    }
    if (known !== undefined || append.fromEpoch !== present.number) {
      return { kind: "lost", epoch: present.number };
    }
    const { acceptedAtMs, banList } = append;
    const from = this.last + 1;
    for (const message of append.proposals) this.push({ kind: "proposal", message, acceptedAtMs });
    const sequence = this.push({ kind: "commit", message: append.commit, banList, acceptedAtMs }, from);
    const number = present.number + 1;
    const epoch: ModelEpoch = {
      number,
      commit: sequence,
      lastRemoval: append.removed.length > 0 ? number : present.lastRemoval,
      banList: banList ?? present.banList,
      groupInfo: append.groupInfo,
      treeHash: append.treeHash,
      tree: [...present.tree, String(append.treeDelta)],
    };
    this.epochs.push(epoch);
    this.commits.set(String(append.commitHash), { sequence, epoch });
    for (const key of append.removed) {
      this.former.push({ key, removedAt: sequence });
      const ban = this.bans.get(String(key));
      if (ban !== undefined) ban.removedAt ??= sequence;
    }
    for (const account of append.listed) {
      for (const ban of this.bans.values())
        if (String(ban.account) === String(account)) ban.listedAt ??= sequence;
    }
    this.outbox.push(...append.welcomes.map(({ welcome }) => ({ welcome, sequence })));
    this.pending = [];
    return { kind: "appended", sequence, epoch: number };
  }

  void(sequence: number, proof: Bytes): { readonly sequence: number } | undefined {
    if (!this.created || sequence === 0 || sequence < this.first || sequence !== this.present.commit) {
      return undefined;
    }
    const entry = this.push({ kind: "void", message: proof, voids: sequence });
    this.epochs.pop();
    this.outbox = this.outbox.filter((welcome) => welcome.sequence !== sequence);
    this.former = this.former.filter((leaf) => leaf.removedAt !== sequence);
    for (const ban of this.bans.values()) {
      if (ban.removedAt === sequence) ban.removedAt = undefined;
      if (ban.listedAt === sequence) ban.listedAt = undefined;
    }
    this.pending = [];
    return { sequence: entry };
  }

  propose(epoch: number, proposal: Bytes, max: number): "stored" | "full" | "outdated" {
    if (!this.created || epoch !== this.present.number) return "outdated";
    if (this.pending.some((known) => String(known) === String(proposal))) return "stored";
    if (this.pending.length >= max) return "full";
    this.pending.push(proposal);
    return "stored";
  }

  ban(order: number, account: AccountId, key: Bytes): void {
    if (!this.created || this.orders.has(order)) return;
    this.orders.add(order);
    this.bans.set(String(key), { key, account, removedAt: undefined, listedAt: undefined });
  }

  expire(beforeMs: number, limit: number): number {
    const kept = this.kept();
    const young = kept.findIndex((entry) => entry.acceptedAtMs >= beforeMs);
    const removed = Math.min(young === -1 ? kept.length : young, limit);
    this.first += removed;
    for (const [hash, sequence] of this.messages) if (sequence < this.first) this.messages.delete(hash);
    for (const [hash, { sequence }] of this.commits) if (sequence < this.first) this.commits.delete(hash);
    this.outbox = this.outbox.filter((welcome) => welcome.sequence >= this.first);
    this.former = this.former.filter((leaf) => leaf.removedAt >= this.first);
    for (const [name, { removedAt }] of this.bans) {
      if (removedAt !== undefined && removedAt < this.first) this.bans.delete(name);
    }
    return removed;
  }

  /** What `commitOf` answers. */
  commitOf(epoch: number): readonly LogEntry[] | undefined {
    const next = this.epochs.find((stored) => stored.number === epoch + 1);
    const from = next && this.log[next.commit - 1]?.from;
    if (next === undefined || from === undefined || from < this.first) return undefined;
    return this.log.slice(from - 1, next.commit).map(({ entry }) => entry);
  }

  lastUsedDay = DAY;

  private push(
    entry: Pick<LogEntry, "kind" | "message"> & Partial<Omit<LogEntry, "sequence">>,
    from?: number,
  ): number {
    const sequence = this.last + 1;
    const blank = { banList: undefined, voids: undefined, partedSequence: undefined };
    const whole = { ...blank, acceptedAtMs: this.now, ...entry, sequence };
    this.log.push({ entry: whole, writtenIn: this.present, ...(from !== undefined && { from }) });
    this.lastUsedDay = Math.max(this.lastUsedDay, Math.floor(whole.acceptedAtMs / 86_400_000));
    return sequence;
  }
}

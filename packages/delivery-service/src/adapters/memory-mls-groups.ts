import {
  type AccountId,
  type Bytes,
  compareBytes,
  equalBytes,
  formatId,
  type GroupId,
  toHex,
} from "@murmuration/base";
import { dayOf } from "../core/days.ts";
import type {
  AppendCommit,
  AppendCommitOutcome,
  AppendMessage,
  AppendMessageOutcome,
  AppendRefeed,
  AppendRefeedOutcome,
  FormerLeaf,
  GroupHead,
  LeafCursor,
  LogEntry,
  MlsGroupRow,
  MlsGroupStore,
  NewMlsGroup,
  OutgoingWelcome,
  StoredTree,
  VoidCommit,
} from "../ports/mls-groups.ts";
import { MemoryWelcomeOutbox } from "./memory-welcome-outbox.ts";

interface Entry extends LogEntry {
  /** SHA-256 of the submit id or of the commit. */
  readonly hash: Bytes | undefined;
  /** Of a commit, as long as it counts. */
  leadsFrom: number | undefined;
  /** Of a commit: entries before it that belong to it. */
  readonly proposals: number;
}

interface Epoch {
  readonly epoch: number;
  readonly commitSequence: number;
  readonly lastRemovalEpoch: number;
  readonly banList: Bytes | undefined;
  readonly treeHash: Bytes;
  /** Undefined in an epoch that nobody can go back to. */
  readonly groupInfo: Bytes | undefined;
  readonly treeDelta: Bytes | undefined;
  snapshot: Bytes | undefined;
}

interface Ban {
  readonly signatureKey: Bytes;
  readonly account: AccountId;
  /** Of the commit that removed the leaf. */
  removedAt: number | undefined;
  /** Of the commit with which a ban list named the account. */
  listedAt: number | undefined;
}

interface Group {
  readonly groupId: GroupId;
  lastUsedDay: number;
  firstSequence: number;
  entries: Entry[];
  /** Messages and commits by kind and hash. */
  readonly byHash: Map<string, Entry>;
  /** From the oldest one whose tree can be loaded to the present one. */
  epochs: Epoch[];
  formerLeaves: { readonly name: string; readonly removedAt: number }[];
  readonly banOrders: Set<string>;
  /** By signature key. */
  readonly bans: Map<string, Ban>;
  readonly cursors: Map<string, number>;
  pending: Bytes[];
}

/** {@link MlsGroupStore} in memory: gone with the process. */
export class MemoryMlsGroupStore implements MlsGroupStore {
  private readonly groups = new Map<string, Group>();
  private readonly welcomes = new MemoryWelcomeOutbox();

  async create(group: NewMlsGroup): Promise<"created" | "exists"> {
    const { groupId, epoch, treeHash, groupInfo, tree, day } = group;
    if (this.groups.has(formatId(groupId))) return "exists";
    this.groups.set(formatId(groupId), {
      groupId,
      lastUsedDay: day,
      firstSequence: 1,
      entries: [],
      byHash: new Map(),
      epochs: [
        {
          epoch,
          commitSequence: 0,
          lastRemovalEpoch: epoch,
          banList: undefined,
          treeHash,
          groupInfo,
          treeDelta: undefined,
          snapshot: tree,
        },
      ],
      formerLeaves: [],
      banOrders: new Set(),
      bans: new Map(),
      cursors: new Map(),
      pending: [],
    });
    return "created";
  }

  async load(groupId: GroupId): Promise<MlsGroupRow | undefined> {
    const group = this.find(groupId);
    if (group === undefined) return undefined;
    const { epoch, groupInfo, treeHash, banList, lastRemovalEpoch, commitSequence } = presentOf(group);
    return {
      groupId,
      epoch,
      lastSequence: lastSequenceOf(group),
      firstSequence: group.firstSequence,
      groupInfo: groupInfo!,
      treeHash,
      banList,
      lastRemovalEpoch,
      lastCommitSequence: commitSequence,
      lastUsedDay: group.lastUsedDay,
    };
  }

  async heads(groupIds: readonly GroupId[]): Promise<readonly (GroupHead | undefined)[]> {
    return groupIds.map((groupId) => {
      const group = this.find(groupId);
      return group && { lastSequence: lastSequenceOf(group), bans: group.bans.size };
    });
  }

  async appendMessage(append: AppendMessage): Promise<AppendMessageOutcome> {
    const group = this.find(append.groupId);
    if (group === undefined) return { kind: "unknown-group" };
    const known = group.byHash.get(hashName("application", append.submitHash));
    if (known !== undefined) return { kind: "repeated", sequence: known.sequence };
    const { epoch, lastRemovalEpoch } = presentOf(group);
    if (append.epoch > epoch) return { kind: "unknown-epoch" };
    if (append.epoch < Math.max(lastRemovalEpoch, epoch - append.epochsBehind)) return { kind: "outdated" };
    const { message, submitHash, acceptedAtMs } = append;
    return {
      kind: "appended",
      sequence: push(group, { kind: "application", message, hash: submitHash, acceptedAtMs }),
    };
  }

  async appendCommit(append: AppendCommit): Promise<AppendCommitOutcome> {
    const group = this.find(append.groupId);
    if (group === undefined) return { kind: "unknown-group" };
    const known = group.byHash.get(hashName("commit", append.commitHash));
    if (known?.leadsFrom !== undefined) {
      return { kind: "repeated", sequence: known.sequence, epoch: known.leadsFrom + 1 };
    }
    const present = presentOf(group);
    // One that was voided does not come back: members could not follow it.
    const { fromCommitSequence = present.commitSequence } = append;
    const isOther = append.fromEpoch !== present.epoch || fromCommitSequence !== present.commitSequence;
    if (known !== undefined || isOther) {
      return { kind: "lost", epoch: present.epoch };
    }
    return { kind: "appended", sequence: this.pushCommit(group, append), epoch: present.epoch + 1 };
  }

  /** Returns the sequence number of the commit. */
  private pushCommit(
    group: Group,
    append: Omit<AppendCommit, "groupInfo"> & {
      readonly groupInfo: Bytes | undefined;
      readonly partedSequence?: number | undefined;
    },
  ): number {
    const present = presentOf(group);
    const { acceptedAtMs, treeHash, groupInfo, treeDelta } = append;
    const epoch = present.epoch + 1;
    for (const message of append.proposals) push(group, { kind: "proposal", message, acceptedAtMs });
    const sequence = push(group, {
      kind: "commit",
      message: append.commit,
      banList: append.banList,
      hash: append.commitHash,
      leadsFrom: present.epoch,
      proposals: append.proposals.length,
      partedSequence: append.partedSequence,
      acceptedAtMs,
    });
    group.epochs.push({
      epoch,
      commitSequence: sequence,
      lastRemovalEpoch: append.removed.length > 0 || append.leafReplaced ? epoch : present.lastRemovalEpoch,
      banList: append.banList ?? present.banList,
      treeHash,
      groupInfo,
      treeDelta,
      snapshot: undefined,
    });
    for (const signatureKey of append.removed) {
      group.formerLeaves.push({ name: toHex(signatureKey), removedAt: sequence });
      const ban = group.bans.get(toHex(signatureKey));
      if (ban !== undefined) ban.removedAt ??= sequence;
    }
    for (const account of append.listed) {
      for (const ban of group.bans.values()) if (equalBytes(ban.account, account)) ban.listedAt ??= sequence;
    }
    group.pending = [];
    const { groupId } = append;
    for (const { recipient, welcome } of append.welcomes)
      this.welcomes.add({ groupId, recipient, welcome, treeHash, sequence, acceptedAtMs });
    return sequence;
  }

  async refeed(append: AppendRefeed): Promise<AppendRefeedOutcome> {
    const { groupId, fromEpoch, groupInfo, acceptedAtMs } = append;
    const group = this.find(groupId);
    if (group === undefined) return { kind: "unknown-group" };
    const { epoch } = presentOf(group);
    const known = append.commits.some(({ commitHash }) => group.byHash.has(hashName("commit", commitHash)));
    if (known || epoch !== fromEpoch) return { kind: "lost", epoch };
    const sequences: number[] = [];
    for (const commit of append.commits) {
      const partedSequence = sequences.at(-1) ?? append.partedSequence;
      const last = sequences.length === append.commits.length - 1;
      const fed = { ...commit, groupId, fromEpoch: fromEpoch + sequences.length, acceptedAtMs, welcomes: [] };
      sequences.push(
        this.pushCommit(group, { ...fed, groupInfo: last ? groupInfo : undefined, partedSequence }),
      );
    }
    return { kind: "appended", sequences, epoch: fromEpoch + sequences.length };
  }

  async voidCommit(request: VoidCommit): Promise<{ readonly sequence: number } | undefined> {
    const group = this.find(request.groupId);
    const voids = request.sequence;
    if (group === undefined || presentOf(group).commitSequence !== voids || voids < group.firstSequence) {
      return undefined;
    }
    if (group.epochs.at(-2)?.groupInfo === undefined) return undefined;
    group.entries[voids - group.firstSequence]!.leadsFrom = undefined;
    group.epochs.pop();
    group.formerLeaves = group.formerLeaves.filter((leaf) => leaf.removedAt !== voids);
    for (const ban of group.bans.values()) {
      if (ban.removedAt === voids) ban.removedAt = undefined;
      if (ban.listedAt === voids) ban.listedAt = undefined;
    }
    group.pending = [];
    this.dropWelcomes(group, (sequence) => sequence === voids);
    const { acceptedAtMs, proof: message } = request;
    return { sequence: push(group, { kind: "void", message, voids, acceptedAtMs }) };
  }

  async read(
    groupId: GroupId,
    after: number,
    through: number,
    limits: { readonly maxEntries: number; readonly maxBytes: number },
  ): Promise<readonly LogEntry[]> {
    const page: LogEntry[] = [];
    let bytes = 0;
    const group = this.find(groupId);
    for (const entry of group?.entries.slice(Math.max(0, after + 1 - group.firstSequence)) ?? []) {
      bytes += entry.message.length + (entry.banList?.length ?? 0);
      if (entry.sequence > through || page.length >= limits.maxEntries) break;
      if (page.length > 0 && bytes > limits.maxBytes) break;
      page.push(toLogEntry(entry));
    }
    return page;
  }

  async commitOf(groupId: GroupId, epoch: number): Promise<readonly LogEntry[] | undefined> {
    const entries = this.find(groupId)?.entries ?? [];
    const index = entries.findIndex((entry) => entry.leadsFrom === epoch);
    if (index === -1 || index < entries[index]!.proposals) return undefined;
    return entries.slice(index - entries[index]!.proposals, index + 1).map(toLogEntry);
  }

  async loadTree(groupId: GroupId, epoch: number): Promise<StoredTree | undefined> {
    const epochs = this.find(groupId)?.epochs.filter((stored) => stored.epoch <= epoch) ?? [];
    const last = epochs.at(-1);
    if (last === undefined || last.epoch !== epoch) return undefined;
    const base = epochs.findLastIndex((stored) => stored.snapshot !== undefined);
    return {
      epoch,
      treeHash: last.treeHash,
      snapshotEpoch: epochs[base]!.epoch,
      snapshot: epochs[base]!.snapshot!,
      deltas: epochs.slice(base + 1).map((stored) => stored.treeDelta!),
    };
  }

  async treeBytes(groupId: GroupId, epoch: number): Promise<number> {
    const tree = await this.loadTree(groupId, epoch);
    if (tree === undefined) return 0;
    return tree.deltas.reduce((sum, { length }) => sum + length, tree.snapshot.length);
  }

  async treeDeltas(
    groupId: GroupId,
    from: number,
    to: number,
    maxBytes: number,
  ): Promise<readonly Bytes[] | undefined> {
    const between = this.find(groupId)?.epochs.filter(({ epoch }) => epoch > from && epoch <= to) ?? [];
    const deltas = between.flatMap(({ treeDelta }) => (treeDelta === undefined ? [] : [treeDelta]));
    const bytes = deltas.reduce((sum, { length }) => sum + length, 0);
    return from < to && deltas.length === to - from && bytes <= maxBytes ? deltas : undefined;
  }

  async findTree(
    treeHash: Bytes,
  ): Promise<{ readonly groupId: GroupId; readonly epoch: number } | undefined> {
    return [...this.groups.values()]
      .flatMap(({ groupId, epochs }) =>
        epochs
          .filter((stored) => equalBytes(stored.treeHash, treeHash))
          .map((stored) => ({ groupId, epoch: stored.epoch })),
      )
      .sort((a, b) => b.epoch - a.epoch)[0];
  }

  async saveSnapshot(groupId: GroupId, epoch: number, treeHash: Bytes, snapshot: Bytes): Promise<void> {
    const group = this.find(groupId);
    const stored = group?.epochs.find((candidate) => candidate.epoch === epoch);
    if (group === undefined || stored === undefined || !equalBytes(stored.treeHash, treeHash)) return;
    stored.snapshot ??= snapshot;
    this.prune(group);
  }

  async formerLeaf(groupId: GroupId, signatureKey: Bytes): Promise<FormerLeaf | undefined> {
    const name = toHex(signatureKey);
    const removals = this.find(groupId)?.formerLeaves.filter((leaf) => leaf.name === name) ?? [];
    const removedAt = removals.at(-1)?.removedAt;
    if (removedAt === undefined) return undefined;
    return this.find(groupId)?.bans.get(name)?.removedAt === removedAt
      ? { removedAt, banned: true }
      : { removedAt };
  }

  async ban(
    groupId: GroupId,
    orderId: Bytes,
    account: AccountId,
    signatureKeys: readonly Bytes[],
  ): Promise<void> {
    const group = this.find(groupId);
    if (group === undefined || group.banOrders.has(toHex(orderId))) return;
    group.banOrders.add(toHex(orderId));
    for (const signatureKey of signatureKeys) {
      const ban = { signatureKey, account, removedAt: undefined, listedAt: undefined };
      group.bans.set(toHex(signatureKey), ban);
    }
  }

  async bannedKeys(groupId: GroupId): Promise<readonly Bytes[]> {
    return [...(this.find(groupId)?.bans.values() ?? [])]
      .filter((ban) => ban.removedAt === undefined)
      .map((ban) => ban.signatureKey)
      .sort(compareBytes);
  }

  async bannedAccounts(groupId: GroupId): Promise<readonly AccountId[]> {
    const open = [...(this.find(groupId)?.bans.values() ?? [])].filter((ban) => ban.listedAt === undefined);
    return [...new Map(open.map(({ account }) => [toHex(account), account])).values()].sort(compareBytes);
  }

  async saveCursors(cursors: readonly LeafCursor[]): Promise<void> {
    for (const { groupId, signatureKey, throughSequence } of cursors) {
      const known = this.find(groupId)?.cursors;
      const name = toHex(signatureKey);
      known?.set(name, Math.max(throughSequence, known.get(name) ?? 0));
    }
  }

  async cursor(groupId: GroupId, signatureKey: Bytes): Promise<number | undefined> {
    return this.find(groupId)?.cursors.get(toHex(signatureKey));
  }

  async pendingProposals(groupId: GroupId): Promise<readonly Bytes[]> {
    return [...(this.find(groupId)?.pending ?? [])];
  }

  async addProposal(
    groupId: GroupId,
    epoch: number,
    proposal: Bytes,
    max: number,
  ): Promise<"stored" | "full" | "outdated"> {
    const group = this.find(groupId);
    if (group === undefined || presentOf(group).epoch !== epoch) return "outdated";
    if (group.pending.some((known) => equalBytes(known, proposal))) return "stored";
    if (group.pending.length >= max) return "full";
    group.pending.push(proposal);
    return "stored";
  }

  async outbox(after: number, limit: number): Promise<readonly OutgoingWelcome[]> {
    return this.welcomes.after(after, limit);
  }

  async removeFromOutbox(ids: readonly number[]): Promise<void> {
    for (const id of ids) this.welcomes.remove(id);
  }

  async expire(beforeMs: number, limit: number): Promise<number> {
    let removed = 0;
    for (const group of this.groups.values()) {
      const kept = group.entries.findIndex((entry) => entry.acceptedAtMs >= beforeMs);
      const overdue = Math.min(kept === -1 ? group.entries.length : kept, limit - removed);
      if (overdue === 0) continue;
      for (const { kind, hash } of group.entries.splice(0, overdue))
        group.byHash.delete(hashName(kind, hash));
      group.firstSequence += overdue;
      removed += overdue;
      this.prune(group);
    }
    return removed;
  }

  async expireGroups(day: number, limit: number): Promise<number> {
    const idle = [...this.groups].filter(([, group]) => group.lastUsedDay < day).slice(0, limit);
    for (const [name, group] of idle) {
      this.dropWelcomes(group, () => true);
      this.groups.delete(name);
    }
    return idle.length;
  }

  async touch(groupId: GroupId, day: number): Promise<void> {
    const group = this.find(groupId);
    if (group !== undefined) group.lastUsedDay = Math.max(group.lastUsedDay, day);
  }

  private find(groupId: GroupId): Group | undefined {
    return this.groups.get(formatId(groupId));
  }

  /** Forgets what only expired entries needed. */
  private prune(group: Group): void {
    const expired = (sequence: number | undefined) =>
      sequence !== undefined && sequence < group.firstSequence;
    const oldest = group.epochs.findLastIndex(({ commitSequence }) => expired(commitSequence));
    const base = group.epochs.findLastIndex((stored, at) => at <= oldest && stored.snapshot !== undefined);
    group.epochs = group.epochs.slice(base);
    for (const { name, removedAt } of group.formerLeaves) {
      if (expired(removedAt) && (group.cursors.get(name) ?? 0) <= removedAt) group.cursors.delete(name);
    }
    group.formerLeaves = group.formerLeaves.filter((leaf) => !expired(leaf.removedAt));
    for (const [name, ban] of group.bans) if (expired(ban.removedAt)) group.bans.delete(name);
    this.dropWelcomes(group, expired);
  }

  private dropWelcomes(group: Group, wanted: (sequence: number) => boolean): void {
    this.welcomes.removeWhere(
      ({ groupId, sequence }) => equalBytes(groupId, group.groupId) && wanted(sequence),
    );
  }
}

function presentOf(group: Group): Epoch {
  return group.epochs.at(-1)!;
}

function lastSequenceOf(group: Group): number {
  return group.firstSequence + group.entries.length - 1;
}

/** Returns the sequence number that the entry got. */
function push(
  group: Group,
  entry: Pick<Entry, "kind" | "message" | "acceptedAtMs"> & Partial<Omit<Entry, "sequence">>,
): number {
  const sequence = lastSequenceOf(group) + 1;
  const numbered: Entry = {
    banList: undefined,
    voids: undefined,
    partedSequence: undefined,
    hash: undefined,
    leadsFrom: undefined,
    proposals: 0,
    ...entry,
    sequence,
  };
  group.entries.push(numbered);
  if (numbered.hash !== undefined) group.byHash.set(hashName(numbered.kind, numbered.hash), numbered);
  group.lastUsedDay = Math.max(group.lastUsedDay, dayOf(entry.acceptedAtMs));
  return sequence;
}

function hashName(kind: Entry["kind"], hash: Bytes | undefined): string {
  return `${kind} ${toHex(hash ?? new Uint8Array(0))}`;
}

function toLogEntry(entry: Entry): LogEntry {
  const { sequence, kind, message, banList, voids, partedSequence, acceptedAtMs } = entry;
  return { sequence, kind, message, banList, voids, partedSequence, acceptedAtMs };
}

/**
 * Writes the record of a pairwise group forward at a service that has gone back behind it: it was restored from a backup, and
 * whatever it has lost every member still has, signed. Nothing of it is new to a service that only claims to be set back.
 */
import { type Bytes, equalBytes, type GroupId } from "@murmuration/base";
import { beginsLease, type GroupMigrationStep, limits } from "@murmuration/wire";
import { FENCE_BYTES } from "../core/content.ts";
import { migrationChangeOf, type VerifiedChange, verifyChange } from "../core/group-change.ts";
import { deriveAccessPublicKey, sealRecord } from "../core/group-keys.ts";
import { encodeRecord } from "../core/group-record.ts";
import { planRefeed, type RefeedWrite } from "../core/record-refeed.ts";
import { isTemporary, ServiceRefusal } from "../core/refusal.ts";
import type { Context } from "./context.ts";
import { ServiceApi } from "./service-api.ts";

/** The record that the service has. */
export interface ServedRecord {
  /** 0: it has none. */
  readonly revision: number;
  /** The group key that it lies under. */
  readonly groupKey: Bytes;
  /** That key was over at this revision: whoever wrote it had no right to. */
  readonly isStale: boolean;
}

/** How long others leave a lease to the device that holds it, ms; twice as long at the most. */
const LEAVE_TO_HOLDER_MS = 2_000;

const OVERTAKEN: ReadonlySet<string> = new Set(["group/revision-conflict", "group/access-denied"]);

export class RecordRefeeder {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** Only members know what is newest; whoever left or was removed has no say in it. */
  mayFeed(group: GroupId): boolean {
    const { conversations, own } = this.context;
    return conversations.member(group, own.accountId)?.invited === false;
  }

  /**
   * Writes forward from what the service has, as far as it takes it. `overtaken`: another member does the same, and the record
   * has to be read again. `refused`: the service takes it from nobody. ServiceRefusal
   * `migration/lease-held`: a lease is in force that another device holds. UnavailableError. A write for each change that is
   * missing, with the whole record up to it.
   */
  async feed(group: GroupId, served: ServedRecord): Promise<"fed" | "overtaken" | "refused"> {
    const { api, conversations } = this.context;
    const ours = conversations.group(group);
    if (ours === undefined) return "refused";
    const changes = conversations.changes(group).map(verifyChange);
    let { groupKey } = served;
    let { lease } = this.context.migration.own(group);
    for (const write of planRefeed(
      changes.map(({ action }) => action),
      served.revision,
      served.isStale,
    )) {
      const sealedWith = write.key === "ours" ? ours.groupKey : groupKey;
      const newLease = write.beginsLease ? this.leaseFor(changes, write, lease) : undefined;
      const body = this.encode(group, changes, write, { sealedWith, fence: ours.fence, lease, newLease });
      try {
        await api.writeGroup(group, write.revision === 1 ? sealedWith : groupKey, body);
      } catch (error) {
        if (!(error instanceof ServiceRefusal) || isTemporary(error)) throw error;
        return OVERTAKEN.has(error.code) ? "overtaken" : "refused";
      }
      groupKey = sealedWith;
      lease = newLease ?? lease;
    }
    return "fed";
  }

  /** Where a step of a migration is missing that another device holds the lease of, it goes first. */
  async giveWay(group: GroupId, served: number): Promise<void> {
    const { closing, conversations, environment } = this.context;
    const missing = conversations.changes(group).slice(served).map(verifyChange);
    const last = missing.findLast(isLease);
    if (last === undefined || this.isOurs(last)) return;
    const spread = new DataView(environment.random(4).buffer).getUint32(0) / 2 ** 32;
    await environment.sleep(LEAVE_TO_HOLDER_MS * (1 + spread), closing.signal);
  }

  /** Our own token for the lease that this device holds, if it is the last that was begun; one of nobody for any other. */
  private leaseFor(
    changes: readonly VerifiedChange[],
    { revision }: RefeedWrite,
    lease: Bytes | undefined,
  ): Bytes {
    const isLast = !changes.slice(revision).some(isLease);
    const isHeld = isLast && lease !== undefined && this.isOurs(changes[revision - 1]!);
    return isHeld ? lease : this.context.environment.random(limits.leaseTokenBytes);
  }

  private isOurs({ author }: VerifiedChange): boolean {
    const { own } = this.context;
    return equalBytes(author.accountId, own.accountId) && author.deviceId === own.deviceId;
  }

  private encode(
    group: GroupId,
    changes: readonly VerifiedChange[],
    { revision, brings, step }: RefeedWrite,
    keys: {
      readonly sealedWith: Bytes;
      readonly fence: Bytes;
      readonly lease: Bytes | undefined;
      readonly newLease: Bytes | undefined;
    },
  ): Bytes {
    const { environment } = this.context;
    const { sealedWith, lease, newLease } = keys;
    const record = encodeRecord(changes.slice(0, revision).map(({ encoded }) => encoded));
    const fence = brings === "generation" ? keys.fence : environment.random(FENCE_BYTES);
    const accessPublicKey = deriveAccessPublicKey(group, sealedWith);
    const migration: GroupMigrationStep | undefined = step && {
      ...step,
      ...(lease === undefined ? {} : { leaseToken: lease }),
      ...(newLease === undefined ? {} : { newLeaseToken: newLease }),
    };
    return ServiceApi.encodeGroupWrite({
      expectedRevision: revision - 1,
      blob: sealRecord(group, sealedWith, revision, record, environment.random(12)),
      ...(brings === "nothing" ? {} : { generation: { accessPublicKey, fence } }),
      ...(migration === undefined ? {} : { migration }),
    });
  }
}

function isLease({ action }: VerifiedChange): boolean {
  const change = migrationChangeOf(action);
  return change !== undefined && beginsLease(change);
}

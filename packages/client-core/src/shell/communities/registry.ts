/**
 * MLS groups in memory and in the database. The engine changes memory and says what to write; here both are kept
 * equal: one synchronous operation is one transaction, and where that fails the memory is thrown away.
 */
import { type Bytes, type GroupId, toBase64Url, UsageError, zeroize } from "@murmuration/base";
import {
  BanList,
  type CommunityContext,
  communityContextOf,
  communityPolicy,
  Group,
  type GroupConfig,
  type GroupStore,
  type PreSharedKeyId,
} from "@murmuration/mls-groups";
import { padCommunityMessage } from "../../core/content-padding.ts";
import type { MlsGroupRow } from "../../store/mls.ts";
import type { Context } from "../context.ts";
import { migrationPskFor } from "../migration/psk-source.ts";
import { Signal } from "../signal.ts";
import { communityCrypto, identityVerifier } from "./identity.ts";

/** What a message in a group carries besides the engine's rows. */
export interface Loaded {
  readonly group: Group;
  readonly store: GroupStore;
  readonly row: MlsGroupRow;
}

export class Registry {
  /** Notified whenever a group's epoch, cursor or state changed. */
  readonly changed = new Signal();
  private readonly defaults: Partial<GroupConfig>;
  /** Copies of pre-shared keys that the engine was given. */
  private readonly lent: Bytes[] = [];
  private readonly context: Context;
  private readonly groups = new Map<string, Group>();

  constructor(context: Context) {
    this.context = context;
    const banList = (hash: Uint8Array) => {
      const list = context.mls.banList(hash);
      return list === undefined ? undefined : BanList.decode(list);
    };
    this.defaults = {
      policy: communityPolicy({ identity: identityVerifier, banList }),
      padding: padCommunityMessage,
    };
  }

  /**
   * What a group is made with. Its external pre-shared keys are those of migrations; what the engine was given is wiped by
   * the next {@link update} or {@link adopt}, which end every use of it.
   */
  config(): Partial<GroupConfig> {
    const psks = (psk: PreSharedKeyId): Bytes | undefined => {
      const value = migrationPskFor(this.context, psk);
      if (value !== undefined) this.lent.push(value);
      return value;
    };
    return { ...this.defaults, psks };
  }

  /** The group as it stands. UsageError `group/not-ready` while there is none. */
  load(id: GroupId): Loaded {
    const row = this.context.mls.group(id);
    if (row === undefined || row.state === "over" || row.state === "joining" || row.state === "waiting")
      throw new UsageError("group/not-ready");
    const store = this.context.mls.rows(id, row.slot);
    const key = toBase64Url(id);
    const known = this.groups.get(key);
    const group = known ?? Group.load(communityCrypto, store, this.config());
    if (known === undefined) this.groups.set(key, group);
    return { group, store, row };
  }

  /** Whether there is a group to be loaded: not where this device is still to come into it for the first time. */
  isStored(id: GroupId): boolean {
    const row = this.context.mls.group(id);
    if (row === undefined) return false;
    const [first] = this.context.mls.rows(id, row.slot).keys("");
    return first !== undefined;
  }

  /** Roles, settings and links, as the present epoch has them. */
  communityOf(id: GroupId): CommunityContext {
    return communityContextOf(this.load(id).group.context.extensions);
  }

  /**
   * One operation on a group in one transaction. Whatever it throws, the database is as it was, and memory is loaded
   * from there again.
   */
  update<T>(id: GroupId, operation: (loaded: Loaded) => T): T {
    try {
      return this.context.transaction(() => operation(this.load(id)));
    } catch (error) {
      this.unload(id);
      throw error;
    } finally {
      this.wipeLent();
    }
  }

  /**
   * Deletes the keys of past epochs whose time is over (the receive window: RFC 9420 9.2), also where nobody commits any more.
   * A group that is not in memory is left alone. O(past epochs).
   */
  forgetExpired(id: GroupId): void {
    if (!this.groups.has(toBase64Url(id))) return;
    this.update(id, ({ group, store }) => store.apply(group.forgetExpired(this.context.now())));
  }

  private wipeLent(): void {
    zeroize(...this.lent.splice(0));
  }

  /** Inside a transaction: the rows are not those that memory was made of any more. */
  reload(id: GroupId): Loaded {
    this.unload(id);
    return this.load(id);
  }

  /** A group that was just created or joined, after its rows were written. */
  adopt(id: GroupId, group: Group): void {
    this.wipeLent();
    this.groups.set(toBase64Url(id), group);
    this.changed.notify();
  }

  unload(id: Bytes): void {
    this.groups.delete(toBase64Url(id));
  }
}

import { toHex } from "@murmuration/base";
import {
  BanList,
  type CommitOptions,
  type CommunityContext,
  type CryptoProvider,
  communityContextOf,
  communityExtensions,
  communityLeaf,
  communityPolicy,
  type Extension,
  type GroupConfig,
  type GroupPolicy,
  type JoinExternally,
  joinGroupExternally,
  nativeCrypto,
  type Proposal,
} from "../src/index.ts";
import { PublicGroup } from "../src/public-group/index.ts";
import { addAll } from "./clients.ts";
import { accountOf, contextWith, Device, type DeviceOf, idOf, StandInIdentities } from "./community-kit.ts";

/** Devices of the community in a {@link World}, in leaf order. Wanda only watches. */
const inside = [
  ["olga", 1],
  ["olga", 2],
  ["otto", 1],
  ["adam", 1],
  ["adam", 2],
  ["anna", 1],
  ["mia", 1],
  ["mia", 2],
  ["max", 1],
  ["wanda", 1],
] as const;

export type Insider = (typeof inside)[number][0];

export interface WorldOptions {
  /** Of the context, beside the defaults. */
  readonly fields?: Partial<CommunityContext>;
  /** Accounts on the ban list, inside or outside. */
  readonly banned?: readonly string[];
  readonly crypto?: CryptoProvider;
}

/**
 * A community with owners olga and otto, admins adam and anna, members mia, max and wanda, and a follower. Each has a
 * policy of its own; they share nothing but the ban lists.
 */
export class World {
  readonly follower: PublicGroup;
  readonly #banLists = new Map<string, BanList>();
  readonly #devices = new Map<string, Device>();
  readonly #crypto: CryptoProvider;

  constructor({ fields = {}, banned = [], crypto = nativeCrypto(1) }: WorldOptions = {}) {
    this.#crypto = crypto;
    for (const [account, device] of inside) {
      this.#devices.set(`${account}.${device}`, new Device(crypto, { account, device }, this.config()));
    }
    const [olga, ...others] = this.#devices.values();
    const roles = { owners: ["olga", "otto"], admins: ["adam", "anna"] };
    // What is prepared is so from the beginning, and of its generation.
    const { preparing = false, generation = 0 } = fields;
    olga!.found("a community", contextWith(roles, { preparing, generation }));
    addAll(olga!, others);
    // The case's own rules apply from here on.
    const banListHash = this.ban(...banned).hash();
    const base = communityContextOf(olga!.group.context.extensions);
    const extensions = communityExtensions({ ...base, banListHash, ...fields });
    const { message } = olga!.commit({ proposals: [{ kind: "group_context_extensions", extensions }] });
    for (const device of others) device.receive(message);
    const request = { groupInfo: olga!.group.groupInfo(), ratchetTree: olga!.group.ratchetTree() };
    this.follower = PublicGroup.follow(crypto, request, this.#policy());
  }

  #policy(): GroupPolicy {
    return communityPolicy({
      identity: new StandInIdentities(),
      banList: (hash) => this.#banLists.get(toHex(hash)),
    });
  }

  /** Everybody has the PSK that somebody may name. */
  config(): Partial<GroupConfig> {
    return { policy: this.#policy(), psks: () => new Uint8Array(32) };
  }

  get context(): CommunityContext {
    return communityContextOf(this.follower.context.extensions);
  }

  device(account: Insider, device = 1): Device {
    return this.#devices.get(`${account}.${device}`)!;
  }

  leaf(account: Insider, device = 1): number {
    return this.device(account, device).group.ownLeaf;
  }

  outsider(of: DeviceOf): Device {
    return new Device(this.#crypto, of, this.config());
  }

  /** The list with these accounts, which everybody has from now on. */
  ban(...accounts: readonly string[]): BanList {
    const list = bans(...accounts);
    this.#banLists.set(toHex(list.hash()), list);
    return list;
  }

  /** GroupContextExtensions with these fields changed. */
  change(fields: Partial<CommunityContext>): Proposal {
    return {
      kind: "group_context_extensions",
      extensions: communityExtensions({ ...this.context, ...fields }),
    };
  }

  /** Somebody proposes; who commits and all who judge hear of it. */
  propose(from: Device, proposal: Proposal, committer: Device): Uint8Array {
    const { message, writes } = from.group.propose(proposal);
    from.save(writes);
    return this.hear(message, committer === from ? [] : [committer]);
  }

  /** The committer and all who judge receive a proposal. Returns its reference. */
  hear(message: Uint8Array, committers: readonly Device[]): Uint8Array {
    for (const hearer of [...committers, this.device("wanda")]) hearer.receive(message);
    const followed = this.follower.receive(message);
    if (followed.kind !== "proposal") throw new Error(followed.kind);
    return followed.proposal.reference;
  }

  /** A commit that its maker gives up, so that it can make another one. */
  commit(from: Device, options: CommitOptions): Uint8Array {
    const { message } = from.group.createCommit({ cached: "none", ...options });
    from.group.discardPending();
    return message;
  }

  /** An external commit with these extensions in its leaf; a resync keeps those of the leaf that it removes. */
  join(joiner: Device, extensions?: readonly Extension[], request: Partial<JoinExternally> = {}): Uint8Array {
    const groupInfo = this.device("olga").group.groupInfo({ ratchetTree: true });
    const leaf = extensions === undefined ? communityLeaf : { ...communityLeaf, extensions };
    const whole = { groupInfo, identity: joiner.identity, leaf, ...request };
    const { group, message, writes } = joinGroupExternally(this.#crypto, whole, joiner.config);
    joiner.save(writes);
    joiner.group = group;
    return message;
  }

  /** Everybody enters the epoch of a commit. */
  all(message: Uint8Array, committer?: Device): void {
    for (const device of this.#devices.values()) if (device !== committer) device.receive(message);
    const followed = this.follower.receive(message);
    if (followed.kind !== "commit") throw new Error(followed.kind);
    this.follower.merge(followed.commit);
  }
}

/** The list with these accounts. */
export function bans(...accounts: readonly string[]): BanList {
  const group = idOf("a community");
  return accounts.reduce((list, account) => list.with(group, accountOf(account)), BanList.empty);
}

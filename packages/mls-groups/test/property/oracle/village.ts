import { toHex } from "@murmuration/base";
import type { CommitBundle, CommitOptions, CryptoProvider, KeyPackageBundle } from "../../../src/index.ts";
import { joinGroupExternally } from "../../../src/index.ts";
import type { Proposal } from "../../../src/structs/proposal.ts";
import { Client } from "../../clients.ts";
import { attack, type Booty, type PublicTraffic } from "./attacker.ts";
import { HoardingStore, type Loot, lootOf } from "./loot.ts";

/** A client whose store forgets nothing, and the private keys of the KeyPackage it joined with. */
export interface Villager {
  readonly client: Client;
  readonly store: HoardingStore;
  keyPackage: KeyPackageBundle | undefined;
}

/** A proposal that somebody else sends before the commit. */
interface Proposed {
  readonly by: Villager;
  readonly proposal: Proposal | "update";
}

export interface Happening {
  readonly committer: Villager;
  /** By reference, sent by members before. */
  readonly proposed?: readonly Proposed[];
  /** By value. */
  readonly removes?: readonly Villager[];
  readonly adds?: number;
  readonly path?: CommitOptions["path"];
}

/** What an attack on the epoch after a removal came to. */
export interface Verdict {
  /** By those who were removed, all of them together with some who were removed before. */
  readonly removed: Booty;
  /** By somebody who stayed, with the same routine: shows that the attacker is able. */
  readonly stayed: Booty | undefined;
  readonly authenticator: string;
}

/**
 * A group of hoarders and the delivery service's record of everything that went by. Every change goes to every
 * member, all of them must agree on each epoch, and from the first removal on the attacker has a try at each.
 */
export class Village {
  readonly #crypto: CryptoProvider;
  readonly #pick: (below: number) => number;
  readonly #traffic: PublicTraffic[] = [];
  /** Loot of those who left, newest last, and the first epoch without them. */
  readonly #left: { readonly loot: Loot; readonly epoch: number }[] = [];
  members: Villager[] = [];
  #names = 0;

  constructor(crypto: CryptoProvider, pick: (below: number) => number) {
    this.#crypto = crypto;
    this.#pick = pick;
    const founder = this.newcomer();
    founder.client.create("village");
    this.members.push(founder);
    this.#record({ groupInfo: founder.client.group.groupInfo() });
  }

  newcomer(name = `villager ${this.#names++}`): Villager {
    const client = new Client(name, this.#crypto);
    const store = new HoardingStore();
    client.store = store;
    return { client, store, keyPackage: undefined };
  }

  /** Proposals, commit, delivery, joins. Returns a verdict once somebody was removed, in this epoch or before. */
  commit(happening: Happening): Verdict | undefined {
    const { committer, proposed = [], removes = [], adds = 0 } = happening;
    for (const { by, proposal } of proposed) this.#propose(by, proposal);
    const newcomers = Array.from({ length: adds }, () => this.newcomer());
    const proposals: Proposal[] = removes.map(({ client }) => ({
      kind: "remove",
      removed: client.group.ownLeaf,
    }));
    for (const newcomer of newcomers) {
      newcomer.keyPackage = newcomer.client.keyPackage();
      proposals.push({ kind: "add", keyPackage: newcomer.keyPackage.keyPackage });
    }
    const stayed = this.#witness(committer, removes, proposed);
    const before = stayed === undefined ? undefined : this.#lootOf(stayed);
    const bundle = committer.client.commit({ proposals, path: happening.path ?? "always" });
    this.#deliver(bundle, committer);
    for (const newcomer of newcomers) {
      newcomer.client.join(bundle.welcome!, newcomer.keyPackage!, committer.client.group.ratchetTree());
      this.members.push(newcomer);
    }
    return this.#settle(bundle, committer, before);
  }

  /** Somebody joins from outside; with `replaces`, as a new device of that member, which the commit removes. */
  joinFromOutside(replaces?: Villager): Verdict | undefined {
    const sponsor = this.members.find((member) => member !== replaces)!;
    const newcomer = this.newcomer(replaces?.client.name);
    const witness = this.#witness(replaces ?? sponsor, replaces === undefined ? [] : [replaces], []);
    const before = witness === undefined ? undefined : this.#lootOf(witness);
    const joined = joinGroupExternally(this.#crypto, {
      groupInfo: sponsor.client.group.groupInfo(),
      ratchetTree: sponsor.client.group.ratchetTree(),
      identity: newcomer.client.identity,
      removes: replaces?.client.group.ownLeaf,
    });
    newcomer.client.save(joined.writes);
    newcomer.client.group = joined.group;
    this.#deliver(joined, undefined);
    newcomer.client.save(joined.group.confirmJoin());
    this.members.push(newcomer);
    return this.#settle({ ...joined, welcome: undefined }, newcomer, before);
  }

  /** Somebody who neither commits, proposes nor leaves: what it knows now must be enough for the next epoch. */
  #witness(
    committer: Villager,
    removes: readonly Villager[],
    proposed: readonly Proposed[],
  ): Villager | undefined {
    const gone = new Set<Villager>([committer, ...removes, ...proposed.map(({ by }) => by)]);
    for (const { proposal } of proposed) {
      if (proposal === "update" || proposal.kind !== "remove") continue;
      gone.add(this.members.find(({ client }) => client.group.ownLeaf === proposal.removed)!);
    }
    const able = this.members.filter((member) => !gone.has(member));
    return able[this.#pick(Math.max(able.length, 1))];
  }

  #lootOf({ store, keyPackage }: Villager): Loot {
    const loot = lootOf(this.#crypto, store);
    if (keyPackage !== undefined) {
      loot.privateKeys.add(keyPackage.initPrivateKey);
      loot.privateKeys.add(keyPackage.leafPrivateKey);
    }
    return loot;
  }

  #propose(by: Villager, proposal: Proposal | "update"): void {
    const { group } = by.client;
    const { message, writes } = proposal === "update" ? group.proposeUpdate() : group.propose(proposal);
    by.client.save(writes);
    for (const member of this.members) if (member !== by) member.client.receive(message);
  }

  #deliver({ message }: Pick<CommitBundle, "message">, committer: Villager | undefined): void {
    for (const member of this.members) if (member !== committer) member.client.receive(message);
  }

  #settle(
    bundle: Pick<CommitBundle, "message" | "welcome" | "groupInfo">,
    committer: Villager,
    before: Loot | undefined,
  ): Verdict | undefined {
    const gone = this.members.filter(({ client }) => client.group.status === "removed");
    this.members = this.members.filter((member) => !gone.includes(member));
    const authenticator = this.#agree();
    const applicationMessages = [committer.client.say("for those who stay")];
    const { message: commit, welcome, groupInfo } = bundle;
    this.#record({ commit, welcome, groupInfo, applicationMessages });
    for (const member of this.members) {
      if (member !== committer) member.client.receive(applicationMessages[0]!);
    }
    if (gone.length === 0) return this.#attackLater(authenticator);
    const coalition = this.#lootOf(gone[0]!);
    for (const other of gone.slice(1)) coalition.merge(this.#lootOf(other));
    for (const { loot } of this.#left.slice(-2)) coalition.merge(loot);
    this.#left.push({ loot: this.#lootOf(gone[0]!), epoch: this.#traffic.length - 1 });
    return {
      removed: attack(this.#crypto, coalition, this.#traffic),
      stayed: before === undefined ? undefined : attack(this.#crypto, before, this.#traffic.slice(-2)),
      authenticator,
    };
  }

  /** Who left last tries again on an epoch that somebody else's commit began, with the traffic since. */
  #attackLater(authenticator: string): Verdict | undefined {
    const last = this.#left.at(-1);
    if (last === undefined) return undefined;
    const traffic = this.#traffic.slice(last.epoch - 1);
    return { removed: attack(this.#crypto, last.loot, traffic), stayed: undefined, authenticator };
  }

  #agree(): string {
    const seen = new Set(
      this.members.map(({ client }) => `${client.group.epoch} ${toHex(client.group.epochAuthenticator())}`),
    );
    if (seen.size !== 1) throw new Error(`members disagree on the epoch: ${[...seen].join(", ")}`);
    return toHex(this.members[0]!.client.group.epochAuthenticator());
  }

  #record(epoch: Partial<PublicTraffic> & Pick<PublicTraffic, "groupInfo">): void {
    this.#traffic.push({
      commit: epoch.commit,
      welcome: epoch.welcome,
      groupInfo: epoch.groupInfo,
      leafSlots: this.members[0]!.client.group.tree.leafSlots,
      applicationMessages: epoch.applicationMessages ?? [],
    });
  }
}

import { decodeWhole, toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { internalsOf } from "../../src/group/group.ts";
import { type CipherSuiteId, joinGroupExternally, nativeCrypto } from "../../src/index.ts";
import { deriveExternalKeyPair } from "../../src/schedule/key-schedule.ts";
import { extensionTypes } from "../../src/structs/code-points.ts";
import { type KeyPackage, keyPackageBytes, readKeyPackage } from "../../src/structs/key-package.ts";
import { Client, textOf } from "../clients.ts";
import { tsMlsCipherSuite } from "./ts-mls/cipher-suite.ts";
import { TsMlsMember } from "./ts-mls/member.ts";

/*
 * Live groups of this engine and ts-mls 2.0.0-rc.10. Left out is what ts-mls sends against RFC 9420: a commit that
 * covers exactly one Remove or Update has no path there (12.4); path secrets are sealed to the tree before the
 * proposals, so to removed leaves and to the old keys of updated ones (7.5); and its external_pub extension is a bare
 * key without the length of the struct (12.4.3.2). So its commits here cover Adds or nothing, and for its own external
 * join it gets a GroupInfo with the extension as it reads it.
 */

type Anybody = Client | TsMlsMember;

class Mixed {
  readonly #crypto;
  readonly #suite: CipherSuiteId;
  readonly #publicHandshakes: boolean;
  members: Anybody[] = [];

  constructor(suite: CipherSuiteId, publicHandshakes: boolean) {
    this.#suite = suite;
    this.#crypto = nativeCrypto(suite);
    this.#publicHandshakes = publicHandshakes;
  }

  ours(name: string): Client {
    const handshakeFormat = this.#publicHandshakes ? "mls_public_message" : "mls_private_message";
    return new Client(name, this.#crypto, { handshakeFormat });
  }

  async theirs(name: string): Promise<TsMlsMember> {
    return new TsMlsMember(name, await tsMlsCipherSuite(this.#suite), this.#publicHandshakes);
  }

  async deliver(message: Uint8Array, from: Anybody): Promise<void> {
    for (const member of this.members) {
      if (member !== from) await member.receive(message);
    }
  }

  /** Everybody is in the same epoch with the same secrets, and everybody reads everybody. */
  async expectOneGroup(): Promise<void> {
    const context = utf8("context");
    const states = await Promise.all(
      this.members.map(async (member) => {
        if (member instanceof TsMlsMember) {
          const exported = await member.exportSecret("label", context, 48);
          return `${member.epoch} ${toHex(member.epochAuthenticator)} ${toHex(exported)}`;
        }
        const { group } = member;
        const exported = group.exportSecret("label", context, 48);
        return `${group.epoch} ${toHex(group.epochAuthenticator())} ${toHex(exported)}`;
      }),
    );
    expect(new Set(states).size).toBe(1);
    for (const sender of this.members) {
      const text = `from ${sender.name} in ${states[0]!.split(" ")[0]}`;
      const message = await sender.say(text);
      for (const reader of this.members) {
        if (reader === sender) continue;
        const read =
          reader instanceof TsMlsMember ? await reader.receive(message) : textOf(reader.receive(message));
        expect(read).toBe(text);
      }
    }
  }

  /** An empty commit with a path by each member in turn. */
  async everybodyUpdates(): Promise<void> {
    for (const member of this.members) {
      const message =
        member instanceof TsMlsMember ? (await member.commit()).commit : member.commit().message;
      await this.deliver(message, member);
      await this.expectOneGroup();
    }
  }

  /** Ours adds one of theirs. */
  async weAdd(committer: Client, newcomer: TsMlsMember): Promise<void> {
    const keyPackage = keyPackageOf(await newcomer.keyPackage());
    const { message, welcome } = committer.commit({
      proposals: [{ kind: "add", keyPackage }],
      groupInfo: { ratchetTree: true },
    });
    await this.deliver(message, committer);
    await newcomer.join(welcome!);
    this.members.push(newcomer);
    await this.expectOneGroup();
  }

  /** Theirs adds one of ours. */
  async theyAdd(committer: TsMlsMember, newcomer: Client): Promise<void> {
    const bundle = newcomer.keyPackage();
    const { commit, welcome } = await committer.commit([keyPackageBytes(bundle.keyPackage)]);
    await this.deliver(commit, committer);
    newcomer.join(welcome!, bundle);
    this.members.push(newcomer);
    await this.expectOneGroup();
  }
}

function keyPackageOf(bytes: Uint8Array): KeyPackage {
  return decodeWhole(bytes, readKeyPackage);
}

const handshakes = [
  { suite: 1, publicHandshakes: true, as: "PublicMessage" },
  { suite: 1, publicHandshakes: false, as: "PrivateMessage" },
  ...([2, 3, 4, 5, 6, 7] as const).map((suite) => ({ suite, publicHandshakes: true, as: "PublicMessage" })),
] as const;

describe("live with ts-mls", () => {
  test.each(handshakes)(
    "in suite $suite each side adds the other, everybody updates and talks, we remove one (handshakes as $as)",
    async ({ suite, publicHandshakes }) => {
      const mixed = new Mixed(suite, publicHandshakes);
      const alice = mixed.ours("alice");
      alice.create("mixed");
      mixed.members.push(alice);
      const bob = await mixed.theirs("bob");
      await mixed.weAdd(alice, bob);
      const carol = mixed.ours("carol");
      await mixed.theyAdd(bob, carol);
      await mixed.everybodyUpdates();
      await mixed.weAdd(carol, await mixed.theirs("dave"));
      mixed.members = mixed.members.filter((member) => member !== carol);
      const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
      await mixed.deliver(message, alice);
      await mixed.everybodyUpdates();
    },
  );

  test("they create the group and add us; somebody of ours, then of theirs, joins from outside", async () => {
    const mixed = new Mixed(1, true);
    const bob = await mixed.theirs("bob");
    await bob.create("theirs");
    mixed.members.push(bob);
    const alice = mixed.ours("alice");
    await mixed.theyAdd(bob, alice);
    const carol = mixed.ours("carol");
    const join = async (removes?: number) => {
      const groupInfo = alice.group.groupInfo({ ratchetTree: true });
      const joined = joinGroupExternally(carol.crypto, { groupInfo, identity: carol.identity, removes });
      await mixed.deliver(joined.message, carol);
      carol.save(joined.writes);
      carol.group = joined.group;
      carol.save(joined.group.confirmJoin());
    };
    await join();
    mixed.members.push(carol);
    await mixed.everybodyUpdates();
    // And once more, in place of the leaf she has.
    await join(carol.group.ownLeaf);
    await mixed.everybodyUpdates();

    const dave = await mixed.theirs("dave");
    const { crypto, state } = { crypto: alice.crypto, state: internalsOf(alice.group).state };
    const { publicKey } = deriveExternalKeyPair(crypto, state.secrets.externalSecret);
    const bareKey = { type: extensionTypes.external_pub, data: publicKey };
    const readable = { ratchetTree: true, externalPub: false, extensions: [bareKey] };
    const commit = await dave.joinFromOutside(alice.group.groupInfo(readable));
    await mixed.deliver(commit, dave);
    mixed.members.push(dave);
    await mixed.everybodyUpdates();
  });

  test("proposals: their commit covers an Add of ours, ours covers an Add of theirs and an Update of ours", async () => {
    const mixed = new Mixed(1, true);
    const alice = mixed.ours("alice");
    alice.create("proposals");
    mixed.members.push(alice);
    const bob = await mixed.theirs("bob");
    await mixed.weAdd(alice, bob);
    const carol = mixed.ours("carol");
    const carols = carol.keyPackage();
    const add = alice.group.propose({ kind: "add", keyPackage: carols.keyPackage });
    alice.save(add.writes);
    await mixed.deliver(add.message, alice);
    const theirs = await bob.commit();
    await mixed.deliver(theirs.commit, bob);
    carol.join(theirs.welcome!, carols);
    mixed.members.push(carol);
    await mixed.expectOneGroup();

    const dave = mixed.ours("dave");
    const daves = dave.keyPackage();
    await mixed.deliver(await bob.proposeAdd(keyPackageBytes(daves.keyPackage)), bob);
    const update = carol.group.proposeUpdate();
    carol.save(update.writes);
    await mixed.deliver(update.message, carol);
    const { message, welcome } = alice.commit({ groupInfo: { ratchetTree: true } });
    await mixed.deliver(message, alice);
    dave.join(welcome!, daves);
    mixed.members.push(dave);
    await mixed.everybodyUpdates();
  });
});

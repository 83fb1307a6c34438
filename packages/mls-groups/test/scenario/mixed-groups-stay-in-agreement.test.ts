import { decodeWhole, toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { type CipherSuiteId, capabilitiesFor, joinGroupExternally, nativeCrypto } from "../../src/index.ts";
import { type KeyPackage, keyPackageBytes, readKeyPackage } from "../../src/structs/key-package.ts";
import { Client, textOf } from "../clients.ts";
import { tsMlsCipherSuite } from "./ts-mls/cipher-suite.ts";
import { TsMlsMember } from "./ts-mls/member.ts";

/*
 * Live groups of this engine and ts-mls 2.0.0-rc.10. Left out is what ts-mls is known to send wrongly: a commit with
 * exactly one Remove has no path there, and with Removes and an Add path secrets go to the removed leaf.
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
    const bundle = newcomer.keyPackage(ourOptions(newcomer));
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

/** ts-mls does not know SelfRemove; a leaf may say that it does all the same. */
function ourOptions({ crypto, identity }: Client) {
  return { capabilities: capabilitiesFor(crypto.suite.id, identity.credential) };
}

describe.each([1, 2, 3, 4, 5, 6, 7] as const)("with ts-mls in suite %i", (suite) => {
  test.each([
    { publicHandshakes: true, as: "PublicMessage" },
    { publicHandshakes: false, as: "PrivateMessage" },
  ])(
    "we add them, both add others, everybody updates and talks (handshakes as $as)",
    async ({ publicHandshakes }) => {
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
      await mixed.everybodyUpdates();
      // We remove one of ours: the path goes around it, and theirs follow.
      mixed.members = mixed.members.filter((member) => member !== carol);
      const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
      await mixed.deliver(message, alice);
      await mixed.expectOneGroup();
      await mixed.everybodyUpdates();
    },
  );

  test("they create the group, add us, and we join from outside; they join ours from outside", async () => {
    const mixed = new Mixed(suite, true);
    const bob = await mixed.theirs("bob");
    await bob.create("theirs");
    mixed.members.push(bob);
    await mixed.theyAdd(bob, mixed.ours("alice"));
    const carol = mixed.ours("carol");
    const joined = joinGroupExternally(carol.crypto, {
      groupInfo: await bob.groupInfo(),
      identity: carol.identity,
    });
    await mixed.deliver(joined.message, carol);
    carol.save(joined.writes);
    carol.group = joined.group;
    carol.save(joined.group.confirmJoin());
    mixed.members.push(carol);
    await mixed.expectOneGroup();
    await mixed.everybodyUpdates();
    const dave = await mixed.theirs("dave");
    const commit = await dave.joinFromOutside(carol.group.groupInfo({ ratchetTree: true }));
    await mixed.deliver(commit, dave);
    mixed.members.push(dave);
    await mixed.expectOneGroup();
    await mixed.everybodyUpdates();
  });

  test("an Update of ours is covered by their commit, an Add that they proposed by ours", async () => {
    const mixed = new Mixed(suite, true);
    const alice = mixed.ours("alice");
    alice.create("proposals");
    mixed.members.push(alice);
    const bob = await mixed.theirs("bob");
    await mixed.weAdd(alice, bob);
    const update = alice.group.proposeUpdate();
    alice.save(update.writes);
    await mixed.deliver(update.message, alice);
    await mixed.deliver((await bob.commit()).commit, bob);
    await mixed.expectOneGroup();
    const carol = mixed.ours("carol");
    const bundle = carol.keyPackage();
    await mixed.deliver(await bob.proposeAdd(keyPackageBytes(bundle.keyPackage)), bob);
    const { message, welcome } = alice.commit({ groupInfo: { ratchetTree: true } });
    await mixed.deliver(message, alice);
    carol.join(welcome!, bundle);
    mixed.members.push(carol);
    await mixed.expectOneGroup();
    await mixed.everybodyUpdates();
  });
});

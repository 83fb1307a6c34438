import { equalBytes, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  type CryptoProvider,
  Group,
  type GroupConfig,
  joinGroupExternally,
  nativeCrypto,
} from "../../src/index.ts";
import { addAll, Client, textOf } from "../clients.ts";
import { codeOf, expectCode } from "../expect-error.ts";
import { seededRandom } from "../seeded.ts";
import { seededNumbers } from "../tree-kit.ts";
import { CrashStore, type Dump, dumpMemory, dumpRows, dumpSecretTrees } from "./dump.ts";

const slow = process.env["SLOW"] === "1";
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000_007);
const STEPS = slow ? 1000 : 120;

/** What a client does that ends in one write set, and what comes of doing it again after it was saved. */
interface Effect<T> {
  readonly act: (client: Client) => T;
  /** False where the operation draws new keys, so that doing it again gives other rows. */
  readonly repeatable?: boolean;
  /** On a client that was loaded after the write. */
  readonly again?: (client: Client, result: T) => void;
}

/** A client that crashes around each of its writes and goes on from what its store holds. */
class Unlucky {
  client: Client;
  crashPoints = 0;
  readonly #pick: (below: number) => number;

  constructor(client: Client, pick: (below: number) => number) {
    this.client = client;
    this.client.store = new CrashStore();
    this.#pick = pick;
  }

  get #store(): CrashStore {
    return this.client.store as CrashStore;
  }

  #loaded(store: CrashStore): Client {
    const { name, crypto, config, nowMs } = this.client;
    const twin = new Client(name, crypto, config);
    twin.store = store;
    twin.nowMs = nowMs;
    if (store.rows.size > 0) twin.reload();
    return twin;
  }

  /** Acts, crashes before the write and after it, compares both with what was, and goes on with one of the three. */
  do<T>({ act, repeatable = true, again }: Effect<T>): T {
    const before = this.#store.copy();
    const memoryBefore = before.rows.size === 0 ? undefined : dumpMemory(this.client.group);
    const writeSets = this.#store.writeSets;
    const result = act(this.client);
    expect(this.#store.writeSets - writeSets).toBe(1);
    this.crashPoints += 2;

    const lost = this.#loaded(before);
    if (memoryBefore !== undefined) expect(dumpMemory(lost.group)).toEqual(memoryBefore);
    const resultAfterLoss = act(lost);
    if (repeatable) expect(dumpRows(lost.store as CrashStore)).toEqual(dumpRows(this.#store));

    const saved = this.#loaded(this.#store.copy());
    if (this.#store.rows.size > 0) this.#expectSame(saved);
    again?.(saved, result);
    if (this.#store.rows.size > 0 && repeatable) this.#expectSame(saved);

    const goesOn = this.#pick(3);
    if (goesOn === 0) return result;
    this.client = goesOn === 1 ? lost : saved;
    return goesOn === 1 ? resultAfterLoss : result;
  }

  #expectSame(saved: Client): void {
    expect(dumpMemory(saved.group)).toEqual(dumpMemory(this.client.group));
    const rows = dumpRows(this.#store);
    expect(rows).toMatchObject(dumpSecretTrees(this.client.group));
    expect(dumpRows(saved.store as CrashStore)).toEqual(rows);
  }
}

/** A group of one unlucky client among peers whose machines never fail. */
class Journey {
  readonly pick: (below: number) => number;
  readonly bob: Unlucky;
  readonly alice: Client;
  readonly #config: Partial<GroupConfig>;
  readonly #crypto;
  peers: Client[] = [];
  /** Messages that are still on their way to Bob, with the epoch they were sent in. */
  late: { readonly message: Uint8Array; readonly text: string }[] = [];
  #names = 0;

  constructor(seedText: string, config: Partial<GroupConfig>) {
    this.pick = seededNumbers(seed);
    this.#config = config;
    this.#crypto = nativeCrypto(1, { random: seededRandom(seedText) });
    this.alice = this.#peer();
    this.peers.push(this.alice);
    this.bob = new Unlucky(new Client("bob", this.#crypto, config), this.pick);
    this.#gather();
  }

  #peer(): Client {
    return new Client(`peer ${this.#names++}`, this.#crypto, this.#config);
  }

  #gather(): void {
    this.alice.create("journey");
    const carol = this.#peer();
    addAll(this.alice, [carol]);
    this.peers.push(carol);
    const bundle = this.bob.client.keyPackage();
    const add = { kind: "add", keyPackage: bundle.keyPackage } as const;
    const { message, welcome } = this.alice.commit({ proposals: [add], groupInfo: { ratchetTree: true } });
    carol.receive(message);
    this.bob.do({ act: (client) => client.join(welcome!, bundle) });
    this.expectSameEpoch();
  }

  expectSameEpoch(): void {
    const states = [...this.peers, this.bob.client].map(
      ({ group }) => `${group.epoch} ${toHex(group.epochAuthenticator())}`,
    );
    expect(new Set(states).size).toBe(1);
  }

  #anyPeer(): Client {
    return this.peers[this.pick(this.peers.length)]!;
  }

  #toPeers(message: Uint8Array, except?: Client): void {
    for (const peer of this.peers) if (peer !== except) peer.receive(message);
  }

  #proposalsWait(): boolean {
    return [...this.peers, this.bob.client].some(({ group }) => group.cachedProposals.length > 0);
  }

  bobSays(): void {
    if (this.#proposalsWait()) return;
    const message = this.bob.do({ act: (client) => client.say("from bob") });
    for (const peer of this.peers) expect(textOf(peer.receive(message))).toBe("from bob");
  }

  bobReads(message: Uint8Array, text: string): void {
    this.bob.do({
      act: (client) => expect(textOf(client.receive(message))).toBe(text),
      again: (client) => expectCode(() => client.receive(message), "mls/generation-spent"),
    });
  }

  peerSays(): void {
    if (this.#proposalsWait()) return;
    const peer = this.#anyPeer();
    const text = `number ${this.pick(1000)}`;
    const message = peer.say(text);
    this.#toPeers(message, peer);
    if (this.pick(3) === 0) this.late.push({ message, text });
    else this.bobReads(message, text);
  }

  lateMessageArrives(): void {
    const [next] = this.late.splice(this.pick(this.late.length), 1);
    if (next !== undefined) this.bobReads(next.message, next.text);
  }

  bobProposes(): void {
    if (this.bob.client.group.hasPendingCommit) return;
    const propose = (client: Client) => {
      const { message, writes } = client.group.proposeUpdate();
      client.save(writes);
      return message;
    };
    this.#toPeers(this.bob.do({ act: propose, repeatable: false }));
  }

  peerProposes(): void {
    const peer = this.#anyPeer();
    const { message, writes } = peer.group.proposeUpdate();
    peer.save(writes);
    this.#toPeers(message, peer);
    const again =
      this.#config.handshakeFormat === "mls_private_message"
        ? (client: Client) => expectCode(() => client.receive(message), "mls/generation-spent")
        : (client: Client) => expect(client.receive(message).kind).toBe("proposal");
    this.bob.do({ act: (client) => void client.receive(message), again });
  }

  bobCommits(): void {
    if (this.bob.client.group.hasPendingCommit) return;
    const commit = (client: Client) => {
      const bundle = client.group.createCommit();
      client.save(bundle.writes);
      return bundle.message;
    };
    const again = (client: Client, message: Uint8Array) => {
      expect(equalBytes(client.group.pendingCommitMessage!, message)).toBe(true);
      expect(client.group.receive(message).kind).toBe("own-commit");
      expectCode(() => client.group.createCommit(), "mls/commit-pending");
    };
    this.bob.do({ act: commit, repeatable: false, again });
  }

  /** The delivery service accepts Bob's commit, or refuses it and Bob gives it up. */
  bobsCommitIsDecided(): void {
    const message = this.bob.client.group.pendingCommitMessage;
    if (message === undefined) return;
    if (this.pick(3) === 0) {
      this.bob.do({ act: (client) => client.save(client.group.discardPending()) });
      return;
    }
    this.#toPeers(message);
    this.bob.do({
      act: (client) => client.save(client.group.mergePending({ nowMs: client.nowMs })),
      again: (client) => expectCode(() => client.group.mergePending({ nowMs: 0 }), "mls/no-commit-pending"),
    });
    this.expectSameEpoch();
  }

  /** A peer commits, alone or with an Add or a Remove; a commit of Bob's that was pending has lost. */
  peerCommits(): void {
    const peer = this.#anyPeer();
    const { peers } = this;
    const leaver = peers.at(-1)!;
    if (peers.length > 3 && peer !== leaver && this.pick(2) === 0) {
      this.peers = peers.slice(0, -1);
      const removed = leaver.group.ownLeaf;
      this.#bobReceivesCommit(peer, peer.commit({ proposals: [{ kind: "remove", removed }] }).message);
    } else if (peers.length < 6 && this.pick(3) === 0) {
      const newcomer = this.#peer();
      const bundle = newcomer.keyPackage();
      const add = { kind: "add", keyPackage: bundle.keyPackage } as const;
      const { message, welcome } = peer.commit({ proposals: [add], groupInfo: { ratchetTree: true } });
      this.#bobReceivesCommit(peer, message);
      newcomer.join(welcome!, bundle);
      this.peers.push(newcomer);
    } else this.#bobReceivesCommit(peer, peer.commit().message);
    this.expectSameEpoch();
  }

  #bobReceivesCommit(peer: Client, message: Uint8Array): void {
    this.#toPeers(message, peer);
    this.bob.do({
      act: (client) => void client.receive(message),
      again: (client) => expectCode(() => client.receive(message), "mls/message/epoch"),
    });
  }

  step(): void {
    const steps = [
      () => this.bobSays(),
      () => this.peerSays(),
      () => this.peerSays(),
      () => this.lateMessageArrives(),
      () => this.bobProposes(),
      () => this.peerProposes(),
      () => this.bobCommits(),
      () => this.bobsCommitIsDecided(),
      () => this.peerCommits(),
    ];
    steps[this.pick(steps.length)]!();
    // A whole journey fits into the ten minutes of the receive window, so that late messages are still read.
    for (const client of [...this.peers, this.bob.client]) client.nowMs += 500;
  }
}

function whatIsLoaded(store: CrashStore, crypto: CryptoProvider): Dump {
  let group: Group | undefined;
  const code = codeOf(() => {
    group = Group.load(crypto, store);
  });
  return group === undefined ? { error: `${code}` } : dumpMemory(group);
}

describe(`a crash before or after any write, seed ${seed} (replay with SEED=${seed})`, () => {
  test.each(["mls_public_message", "mls_private_message"] as const)(
    "with handshakes as %s, what is loaded is the group before the write or after it, and it goes on",
    (handshakeFormat) => {
      const journey = new Journey(`journey ${seed}`, { handshakeFormat });
      for (let i = 0; i < STEPS; i++) journey.step();
      const { bob, alice } = journey;
      journey.expectSameEpoch();
      const removed = bob.client.group.ownLeaf;
      const { message } = alice.commit({ proposals: [{ kind: "remove", removed }] });
      bob.do({
        act: (client) => void client.receive(message),
        again: (client) => expectCode(() => client.reload(), "mls/stored-row-missing"),
      });
      expect(dumpRows(bob.client.store as CrashStore)).toEqual({});
      console.log(`${bob.crashPoints} crash points`);
      expect(bob.crashPoints).toBeGreaterThan(100);
    },
  );

  test("a write set of which one row is lost is noticed by the comparison, whichever row it is", () => {
    const crypto = nativeCrypto(1, { random: seededRandom(`torn ${seed}`) });
    const [alice, bob] = [new Client("alice", crypto), new Client("bob", crypto)];
    alice.create("torn");
    const before = new CrashStore();
    bob.store = before;
    addAll(alice, [bob]);
    const update = bob.group.proposeUpdate();
    bob.save(update.writes);
    alice.receive(update.message);
    const received = bob.group.receive(alice.commit().message);
    if (received.kind !== "commit") throw new TypeError(received.kind);
    const memoryBefore = dumpMemory(bob.group);
    const writes = bob.group.merge(received.commit, { nowMs: 0 });
    const memoryAfter = dumpMemory(bob.group);
    expect(writes.puts.size).toBeGreaterThan(4);
    // The secret tree is the one part that is not read when a group is loaded.
    for (const key of [...writes.puts.keys()].filter((name) => !name.startsWith("s"))) {
      const torn = before.copy();
      torn.apply({ ...writes, puts: new Map([...writes.puts].filter(([name]) => name !== key)) });
      const loaded = whatIsLoaded(torn, crypto);
      expect(loaded).not.toEqual(memoryBefore);
      expect(loaded).not.toEqual(memoryAfter);
    }
  });

  test("an external join that was not stored is done again; one that was stored waits for its acceptance", () => {
    const crypto = nativeCrypto(1, { random: seededRandom(`outside ${seed}`) });
    const alice = new Client("alice", crypto);
    alice.create("outside");
    const bob = new Unlucky(new Client("bob", crypto), seededNumbers(seed));
    const { identity } = bob.client;
    const message = bob.do({
      repeatable: false,
      act: (client) => {
        const groupInfo = alice.group.groupInfo({ ratchetTree: true });
        const joined = joinGroupExternally(crypto, { groupInfo, identity });
        client.save(joined.writes);
        client.group = joined.group;
        return joined.message;
      },
      again: (client) => {
        expect(client.group.status).toBe("joining");
        expectCode(() => client.say("too early"), "mls/group-joining");
      },
    });
    alice.receive(message);
    bob.do({
      act: (client) => client.save(client.group.confirmJoin()),
      again: (client) => expectCode(() => client.group.confirmJoin(), "mls/group-not-joining"),
    });
    expect(textOf(alice.receive(bob.client.say("inside")))).toBe("inside");
  });

  test("a new group that was not stored is not there, and one that was is whole", () => {
    const bob = new Unlucky(
      new Client("bob", nativeCrypto(1, { random: seededRandom(`new ${seed}`) })),
      seededNumbers(seed),
    );
    expect(codeOf(() => bob.client.reload())).toBe("mls/stored-row-missing");
    bob.do({ act: (client) => client.create("new"), repeatable: false });
    bob.client.reload();
    expect(bob.client.group.epoch).toBe(0n);
  });

  test("the log of the tree folds many deltas into a snapshot, and the tree loads byte for byte", () => {
    const crypto = nativeCrypto(1, { random: seededRandom(`fold ${seed}`) });
    const [alice, bob] = [new Client("alice", crypto), new Client("bob", crypto)];
    alice.create("fold");
    const store = new CrashStore();
    bob.store = store;
    addAll(alice, [bob, ...Array.from({ length: 30 }, (_, i) => new Client(`member ${i}`, crypto))]);
    const snapshot = toHex(store.get("t")!);
    const expectLoadsAlike = () => {
      const expected = dumpMemory(bob.group);
      bob.reload();
      expect(dumpMemory(bob.group)).toEqual(expected);
      expect(toHex(bob.group.tree.treeHash())).toBe(toHex(alice.group.tree.treeHash()));
      expect(toHex(bob.group.ratchetTree())).toBe(toHex(alice.group.ratchetTree()));
    };
    const deltas = () => [...store.keys("d")].length;
    while (toHex(store.get("t")!) === snapshot) {
      const before = deltas();
      bob.receive(alice.commit().message);
      expect(deltas()).toBe(toHex(store.get("t")!) === snapshot ? before + 1 : 0);
      if (before % 16 === 0) expectLoadsAlike();
    }
    expectLoadsAlike();
    for (let turn = 1; turn <= 3; turn++) {
      bob.receive(alice.commit().message);
      expect(deltas()).toBe(turn);
      expectLoadsAlike();
    }
  });
});

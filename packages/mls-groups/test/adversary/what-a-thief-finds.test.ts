import { toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { internalsOf } from "../../src/group/group.ts";
import { encodeHead, rowKeys } from "../../src/group/group-rows.ts";
import { Group, type GroupConfig, type MemoryGroupStore, nativeCrypto } from "../../src/index.ts";
import { addAll, Client } from "../clients.ts";
import { outcome } from "./careless.ts";

/*
 * Somebody copies a device's storage, or reads its memory, after the fact: what was spent must not be there any more.
 * And somebody, or a failing disk, changes the storage.
 */

const crypto = nativeCrypto(1);
const forgetful: Partial<GroupConfig> = {
  receiveWindow: { epochs: 0, durationMs: -1, maxEpochs: 0 },
  resumptionPsks: 0,
};

function group(config: Partial<GroupConfig> = forgetful) {
  const [alice, bob, carol] = ["alice", "bob", "carol"].map((name) => new Client(name, crypto, config));
  alice!.create("friends");
  addAll(alice!, [bob!, carol!]);
  for (const committer of [alice!, bob!, carol!]) {
    const { message } = committer.commit();
    for (const other of [alice!, bob!, carol!]) if (other !== committer) other.receive(message);
  }
  return { alice: alice!, bob: bob!, carol: carol! };
}

type Secrets = { readonly array: Uint8Array; readonly name: string; readonly hex: string }[];

/** Every secret that the group of this client holds now. */
function secretsOf(client: Client): Secrets {
  const { state, retained, ownUpdates, resumptionPsks, pending } = internalsOf(client.group);
  const named: [string, Uint8Array][] = [
    ...Object.entries(state.secrets),
    ...[...state.privateKeys].map(([node, key]): [string, Uint8Array] => [`private key ${node}`, key]),
    ...[...retained.values()].map((r): [string, Uint8Array] => [
      `sender data ${r.epoch}`,
      r.senderDataSecret,
    ]),
    ...[...ownUpdates.values()].map((keys): [string, Uint8Array] => ["own update", keys.leafPrivateKey]),
    ...[...resumptionPsks].map(([epoch, psk]): [string, Uint8Array] => [`resumption ${epoch}`, psk]),
  ];
  if (pending !== undefined) {
    named.push(["joiner secret", pending.joinerSecret]);
    for (const [node, key] of pending.privateKeys) named.push([`pending private key ${node}`, key]);
    for (const [name, secret] of Object.entries(pending.staged.next!.secrets))
      named.push([`pending ${name}`, secret]);
  }
  return named.map(([name, array]) => ({ name, array, hex: toHex(array) }));
}

/** Of these secrets the ones that are still in memory or in a row, but for those that are still in use. */
function leftOver(client: Client, before: Secrets): string[] {
  const used = new Set(client.group.status === "removed" ? [] : secretsOf(client).map(({ hex }) => hex));
  const rows = [...client.store.keys("")].map((key) => toHex(client.store.get(key)!)).join("|");
  const spent = before.filter(({ hex }) => !used.has(hex));
  expect(spent.length).toBeGreaterThan(5);
  return spent.filter(({ array, hex }) => toHex(array) === hex || rows.includes(hex)).map(({ name }) => name);
}

describe("what was spent is gone from memory and from the rows", () => {
  for (const reloads of [false, true]) {
    const when = reloads ? ", also after a restart in between" : "";
    const restart = (client: Client) => {
      if (reloads) client.reload();
    };

    test(`of an epoch that a commit of another ended${when}`, () => {
      const { alice, bob } = group();
      restart(bob);
      const before = secretsOf(bob);
      bob.receive(alice.commit().message);
      expect(leftOver(bob, before)).toEqual([]);
    });

    test(`of our own Update and our own pending commit, when another commit wins${when}`, () => {
      const { alice, bob } = group();
      bob.save(bob.group.proposeUpdate().writes);
      bob.save(bob.group.createCommit().writes);
      restart(bob);
      const before = secretsOf(bob);
      bob.receive(alice.commit().message);
      expect(leftOver(bob, before)).toEqual([]);
    });

    test(`of our own commit when it was accepted, and when it was given up${when}`, () => {
      for (const accepted of [true, false]) {
        const { bob } = group();
        bob.save(bob.group.createCommit().writes);
        restart(bob);
        const before = secretsOf(bob);
        bob.save(accepted ? bob.group.mergePending({ nowMs: 0 }) : bob.group.discardPending());
        expect(leftOver(bob, before)).toEqual([]);
      }
    });

    test(`of our Update when a commit covered it, but for its new keys${when}`, () => {
      const { alice, bob } = group();
      const { message, writes } = bob.group.proposeUpdate();
      bob.save(writes);
      alice.receive(message);
      restart(bob);
      const before = secretsOf(bob);
      bob.receive(alice.commit().message);
      expect(leftOver(bob, before)).toEqual([]);
      alice.receive(bob.commit().message);
      expect(toHex(alice.group.epochAuthenticator())).toBe(toHex(bob.group.epochAuthenticator()));
    });

    test(`of a group that removed us: all of it${when}`, () => {
      const { alice, bob } = group({});
      bob.save(bob.group.proposeUpdate().writes);
      bob.save(bob.group.createCommit().writes);
      restart(bob);
      const before = secretsOf(bob);
      bob.receive(alice.commit({ proposals: [{ kind: "remove", removed: bob.group.ownLeaf }] }).message);
      expect(leftOver(bob, before)).toEqual([]);
      expect([...bob.store.keys("")]).toEqual([]);
    });
  }

  test("of past epochs when their time is over, although nobody commits any more", () => {
    const { alice, bob } = group({ receiveWindow: { epochs: 1, durationMs: 1000, maxEpochs: 64 } });
    const late = alice.say("late");
    bob.receive(alice.commit().message);
    bob.receive(alice.commit().message);
    expect(internalsOf(bob.group).retained.size).toBeGreaterThan(1);
    const before = secretsOf(bob).filter(({ name }) => name.startsWith("sender data"));
    bob.save(bob.group.forgetExpired(2000));
    // The newest one stays whatever its age.
    expect(internalsOf(bob.group).retained.size).toBe(1);
    const rows = [...bob.store.keys("e")];
    expect(rows).toEqual([rowKeys.retained(bob.group.epoch - 1n)]);
    expect(before.slice(0, -1).every(({ array, hex }) => toHex(array) !== hex)).toBe(true);
    expect(outcome(() => bob.group.receive(late))).toBe("mls/message/epoch");
  });
});

describe("rows that are damaged are not loaded", () => {
  const damages: Record<string, (client: Client, store: MemoryGroupStore) => void> = {
    "a head that is cut off": (_, { rows }) => rows.set("g", rows.get("g")!.slice(0, 40)),
    "a secret of no length": (client, { rows }) => {
      const { state, status, treeLog } = internalsOf(client.group);
      const secrets = { ...state.secrets, initSecret: new Uint8Array(0) };
      rows.set("g", encodeHead({ ...state, secrets }, status, treeLog, undefined));
    },
    "a leaf of ours that is blank": (client, { rows }) => {
      const { state, status, treeLog } = internalsOf(client.group);
      rows.set("g", encodeHead({ ...state, ownLeaf: 3 }, status, treeLog, undefined));
    },
    "a leaf of ours outside of the tree": (client, { rows }) => {
      const { state, status, treeLog } = internalsOf(client.group);
      rows.set("g", encodeHead({ ...state, ownLeaf: 2 ** 32 - 1 }, status, treeLog, undefined));
    },
    "private keys that are missing": (client, { rows }) => {
      const { state, status, treeLog } = internalsOf(client.group);
      rows.set("g", encodeHead({ ...state, privateKeys: new Map() }, status, treeLog, undefined));
    },
    "a tree of another epoch": (_, { rows }) => {
      const last = [...rows.keys()]
        .filter((key) => key.startsWith("d"))
        .sort()
        .at(-1)!;
      rows.set(last, Uint8Array.of(1, 0, 0, 0, 4));
    },
    "a resumption PSK of no epoch": (_, { rows }) => rows.set("rx", new Uint8Array(32)),
    "an Update of ours without a reference": (_, { rows }) => rows.set("ux", utf8("?")),
    "a pending commit that is none": (_, { rows }) => rows.set("c", utf8("?")),
  };

  for (const [name, damage] of Object.entries(damages)) {
    test(name, () => {
      const { bob } = group({});
      const store = bob.store as MemoryGroupStore;
      damage(bob, store);
      let error: unknown;
      try {
        Group.load(crypto, store);
      } catch (thrown) {
        error = thrown;
      }
      expect((error as Error | undefined)?.name).toBe("InvariantError");
    });
  }
});

test("a group that was loaded keeps no bytes of its row, in which all secrets of the epoch lie", () => {
  const alice = new Client("alice", crypto);
  alice.create("friends");
  alice.reload();
  const { context } = alice.group;
  for (const bytes of [context.groupId, context.treeHash, context.confirmedTranscriptHash])
    expect(bytes.buffer.byteLength).toBe(bytes.length);
});

import { toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { type GroupConfig, nativeCrypto } from "../../src/index.ts";
import { addAll, Client, textOf } from "../clients.ts";
import { expectCode } from "../expect-error.ts";

const crypto = nativeCrypto(1);
const MINUTE = 60_000;

function group(config: Partial<GroupConfig> = {}, count = 3): Client[] {
  const clients = Array.from({ length: count }, (_, i) => new Client(`member ${i}`, crypto, config));
  const [alice, ...others] = clients as [Client, ...Client[]];
  alice.create("late");
  addAll(alice, others);
  return clients;
}

/** A commit by the first of them that all others merge, at a time and a place in the log. */
function commit(
  members: readonly Client[],
  at: { nowMs?: number; sequence?: bigint } = {},
  options: Parameters<Client["commit"]>[0] = {},
): ReturnType<Client["commit"]> {
  const { nowMs = 0, sequence } = at;
  const [committer, ...others] = members as [Client, ...Client[]];
  const bundle = committer.group.createCommit(options);
  committer.save(bundle.writes);
  committer.save(committer.group.mergePending({ nowMs, sequence }));
  for (const other of others) {
    const received = other.group.receive(bundle.message);
    if (received.kind !== "commit") throw new TypeError(received.kind);
    other.save(other.group.merge(received.commit, { nowMs, sequence }));
  }
  return bundle;
}

/** Rows that belong to an epoch's secret tree, or to what else it takes to receive in it. */
function receiveRows(client: Client, epoch: bigint): string[] {
  return [...client.store.keys("")].filter((key) => key === `e${epoch}` || key.startsWith(`s${epoch}/`));
}

describe("late messages (RFC 9420 section 15.3 and the receive window)", () => {
  test("of the last four epochs are read however long they took; the one before is gone after ten minutes", () => {
    const [alice, bob, carol] = group() as [Client, Client, Client];
    const late: { epoch: bigint; message: Uint8Array }[] = [];
    for (let i = 0; i < 6; i++) {
      late.push({ epoch: bob.group.epoch, message: bob.say(`epoch ${bob.group.epoch}`) });
      commit([carol, alice, bob], { nowMs: i * 60 * MINUTE });
    }
    const [gone, kept] = [late.slice(0, 2), late.slice(2)];
    for (const { epoch, message } of gone) {
      expectCode(() => alice.group.receive(message), "mls/message/epoch");
      expect(receiveRows(alice, epoch)).toEqual([]);
      expect(alice.group.leafNodeIn(epoch, 1)).toBeUndefined();
    }
    for (const { epoch, message } of kept) {
      expect(receiveRows(alice, epoch)).not.toEqual([]);
      if (epoch % 2n === 0n) alice.reload();
      expect(textOf(alice.receive(message))).toBe(`epoch ${epoch}`);
      expectCode(() => alice.group.receive(message), "mls/generation-spent");
      alice.reload();
      expectCode(() => alice.group.receive(message), "mls/generation-spent");
    }
  });

  test("of any number of epochs up to 64 are read within ten minutes", () => {
    const [alice, bob, carol] = group() as [Client, Client, Client];
    const late: Uint8Array[] = [];
    for (let i = 0; i < 70; i++) {
      late.push(bob.say(`turn ${i}`));
      commit([carol, alice, bob], { nowMs: i * 1000 });
    }
    for (const [i, message] of late.entries()) {
      if (i < 6) expectCode(() => alice.group.receive(message), "mls/message/epoch");
      else expect(textOf(alice.receive(message))).toBe(`turn ${i}`);
    }
    commit([carol, alice, bob], { nowMs: 70_000 + 10 * MINUTE });
    expect([...alice.store.keys("e")].length).toBe(4);
  });

  test("only application data: a commit or a proposal of a past epoch is refused", () => {
    for (const handshakeFormat of ["mls_public_message", "mls_private_message"] as const) {
      const [alice, bob, carol] = group({ handshakeFormat }) as [Client, Client, Client];
      const proposal = bob.group.proposeUpdate().message;
      const late = bob.group.createCommit().message;
      bob.save(bob.group.discardPending());
      commit([carol, alice, bob]);
      for (const message of [proposal, late])
        expectCode(() => alice.group.receive(message), "mls/message/epoch");
    }
  });

  test("mls/message/sender-not-removed-before: of a removed member what stands before its removal in the log is read", () => {
    const [alice, bob, carol] = group() as [Client, Client, Client];
    const [before, behind, unknown] = [bob.say("before"), bob.say("behind"), bob.say("no sequence known")];
    const removed = bob.group.ownLeaf;
    commit([carol, alice], { sequence: 50n }, { proposals: [{ kind: "remove", removed }] });
    commit([carol, alice], { sequence: 60n });
    alice.reload();
    expectCode(() => alice.group.receive(behind, { sequence: 51n }), "mls/message/sender-not-removed-before");
    expect(textOf(alice.group.receive(before, { sequence: 49n }))).toBe("before");
    expect(textOf(alice.group.receive(unknown))).toBe("no sequence known");
    // Carol stayed: hers of the same epoch may come whenever they come.
    expect(textOf(alice.group.receive(carol.say("later"), { sequence: 70n }))).toBe("later");
  });

  test("of one epoch are read in any order, each once, as far as skipped keys are kept", () => {
    const [alice, bob] = group({ ratchetLimits: { maxForward: 40, maxSkipped: 8 } }) as [Client, Client];
    const messages = Array.from({ length: 60 }, (_, i) => bob.say(`number ${i}`));
    expectCode(() => alice.group.receive(messages[41]!), "mls/generation-too-far");
    expect(textOf(alice.receive(messages[20]!))).toBe("number 20");
    for (let i = 19; i >= 12; i--) {
      alice.reload();
      expect(textOf(alice.receive(messages[i]!))).toBe(`number ${i}`);
    }
    for (const i of [11, 0, 12, 19, 20])
      expectCode(() => alice.group.receive(messages[i]!), "mls/generation-spent");
    expect(textOf(alice.receive(messages[59]!))).toBe("number 59");
  });

  test("are verified with the key that their sender had then, though somebody else has the leaf now", () => {
    const [alice, bob, carol] = group() as [Client, Client, Client];
    const late = bob.say("I was leaf 1");
    const epoch = bob.group.epoch;
    const leafThen = toHex(alice.group.leafNodeIn(epoch, 1)!);
    const dave = new Client("dave", crypto);
    const bundle = dave.keyPackage();
    const { welcome } = commit(
      [carol, alice],
      {},
      {
        proposals: [
          { kind: "remove", removed: 1 },
          { kind: "add", keyPackage: bundle.keyPackage },
        ],
        groupInfo: { ratchetTree: true },
      },
    );
    dave.join(welcome!, bundle);
    expect(dave.group.ownLeaf).toBe(1);
    commit([dave, alice, carol]);
    alice.reload();
    expect(toHex(alice.group.leafNodeIn(epoch, 1)!)).toBe(leafThen);
    const received = alice.receive(late);
    expect(textOf(received)).toBe("I was leaf 1");
    expect(received).toMatchObject({ epoch, sender: 1 });
    expectCode(() => dave.group.receive(late), "mls/message/epoch");
  });

  test("a leaf that was blank in a past epoch stays blank there, though the tree shrank and grew over it since", () => {
    // Five members: leaf 4 in the right half of eight slots, leaf 5 blank.
    const [alice, bob, , , eve] = group({}, 5) as [Client, Client, Client, Client, Client];
    const epoch = alice.group.epoch;
    expect(alice.group.leafNodeIn(epoch, 5)).toBeUndefined();
    commit([alice, bob], {}, { proposals: [{ kind: "remove", removed: eve.group.ownLeaf }] });
    expect(alice.group.tree.leafSlots).toBe(4);
    const newcomers = [new Client("frank", crypto), new Client("grace", crypto)];
    const proposals = newcomers.map(
      (client) => ({ kind: "add", keyPackage: client.keyPackage().keyPackage }) as const,
    );
    commit([alice, bob], {}, { proposals });
    expect(alice.group.leafNodeIn(alice.group.epoch, 5)).toBeDefined();
    for (const client of [alice, bob]) {
      expect(client.group.leafNodeIn(epoch, 5)).toBeUndefined();
      expect(client.group.leafNodeIn(epoch, 4)).toBeDefined();
      expect(client.group.leafNodeIn(epoch + 1n, 4)).toBeUndefined();
    }
  });

  test.each(["mls_public_message", "mls_private_message"] as const)(
    "with a window of no epochs nothing of a past epoch stays in the store (handshakes as %s)",
    (handshakeFormat) => {
      const receiveWindow = { epochs: 0, durationMs: 0, maxEpochs: 0 };
      const [alice, bob, carol] = group({ handshakeFormat, receiveWindow }) as [Client, Client, Client];
      const late = bob.say("too late");
      carol.say("a row of the secret tree");
      const past = alice.group.epoch;
      commit([carol, alice, bob]);
      for (const client of [alice, bob, carol]) expect(receiveRows(client, past)).toEqual([]);
      expectCode(() => alice.group.receive(late), "mls/message/epoch");
    },
  );
});

describe("secrets that members share (RFC 9420 sections 8.5 and 8.7)", () => {
  test("epoch authenticator and exported secrets are equal for all members, differ by epoch, label, context, and stay after a crash", () => {
    const members = group() as [Client, Client, Client];
    const context = new Uint8Array([1]);
    const seen = new Set<string>();
    for (let turn = 0; turn < 3; turn++) {
      const exports = [
        ({ group: g }: Client) => g.epochAuthenticator(),
        ({ group: g }: Client) => g.exportSecret("label", context, 32),
        ({ group: g }: Client) => g.exportSecret("other", context, 32),
        ({ group: g }: Client) => g.exportSecret("label", new Uint8Array(0), 32),
        ({ group: g }: Client) => g.exportSecret("label", context, 64),
      ];
      for (const secretOf of exports) {
        const values = new Set(members.map((member) => toHex(secretOf(member))));
        expect(values.size).toBe(1);
        const [value] = values;
        expect(seen.has(value!)).toBe(false);
        seen.add(value!);
        members[0].reload();
        expect(toHex(secretOf(members[0]))).toBe(value);
      }
      commit(members);
    }
  });
});

describe("keys that the caller brings (RFC 9420 section 7.5)", () => {
  test("new signature keys stay the caller's when the commit with them is discarded, and are used when it is made again", () => {
    const [alice, bob, carol] = group() as [Client, Client, Client];
    const signatureKeys = crypto.generateSignatureKeyPair();
    const before = toHex(signatureKeys.privateKey);
    const lost = alice.group.createCommit({ leafChange: { signatureKeys } });
    alice.save(lost.writes);
    commit([bob, alice, carol]);
    expect(toHex(signatureKeys.privateKey)).toBe(before);
    commit([alice, bob, carol], {}, { leafChange: { signatureKeys } });
    commit([alice, bob, carol], {}, { leafChange: { signatureKeys: crypto.generateSignatureKeyPair() } });
    expect(toHex(signatureKeys.privateKey)).toBe(before);
    expect(textOf(bob.receive(alice.say("signed with the newest key")))).toBe("signed with the newest key");
  });
});

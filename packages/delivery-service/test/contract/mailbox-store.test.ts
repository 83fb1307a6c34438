import {
  accountId,
  type DeviceAddress,
  type DeviceId,
  envelopeId,
  groupId,
  type StoreId,
} from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Append, MailboxStore, StoreState } from "../../src/ports/mailboxes.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { random } from "../support/random.ts";

const NOW = 1_800_000_000_000;
const ROOMY = { maxEnvelopes: 1_000, maxBytes: 1_000_000 };
const ALL = { maxEnvelopes: 1_000, maxBytes: 1_000_000 };

const address = (deviceId = 1): DeviceAddress => ({
  accountId: accountId(random(16)),
  deviceId: deviceId as DeviceId,
});

function to(recipients: readonly DeviceAddress[], given: Partial<Append> = {}): Append {
  return {
    submitHash: random(32),
    envelopes: recipients.map((recipient) => ({ recipient, ciphertext: random(50), source: undefined })),
    acceptedAtMs: NOW,
    limits: ROOMY,
    ...given,
  };
}

describe.each(engines)("mailbox store on $name", (engine) => {
  let opened: OpenedEngine;
  let mailboxes: MailboxStore;
  beforeEach(async () => {
    opened = await engine.open();
    mailboxes = opened.stores.mailboxes;
  });
  afterEach(() => opened.dispose());

  const everything = (owner: DeviceAddress) => mailboxes.read(owner, envelopeId(0), ALL);

  it("keeps the order of each mailbox and numbers it from 1 without gaps", async () => {
    const [a, b] = [address(), address()];
    await mailboxes.open(a, NOW);
    await mailboxes.open(b, NOW);
    const appends = Array.from({ length: 20 }, (_, i) => to(i % 3 === 0 ? [a, b] : [a]));
    for (const append of appends) expect(await mailboxes.append(append)).toEqual({ kind: "stored" });
    const read = await everything(a);
    expect(read.map((envelope) => envelope.id)).toEqual(appends.map((_, i) => i + 1));
    expect(read.map((envelope) => envelope.ciphertext)).toEqual(
      appends.map((append) => append.envelopes[0]!.ciphertext),
    );
    expect((await everything(b)).map((envelope) => envelope.id)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it("concurrent appends lose nothing and number each envelope once", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    await Promise.all(Array.from({ length: 50 }, () => mailboxes.append(to([owner]))));
    expect((await everything(owner)).map((envelope) => envelope.id)).toEqual(
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
  });

  it("a missing mailbox among the recipients stores nothing, not even the submit hash", async () => {
    const [there, gone] = [address(), address()];
    await mailboxes.open(there, NOW);
    const append = to([there, gone]);
    expect(await mailboxes.append(append)).toEqual({ kind: "missing", devices: [gone] });
    expect(await everything(there)).toEqual([]);
    expect(await mailboxes.wasStored(append.submitHash)).toBe(false);
    await mailboxes.open(gone, NOW);
    expect(await mailboxes.append(append)).toEqual({ kind: "stored" });
  });

  it("a full mailbox among the recipients stores nothing: by count and by bytes", async () => {
    const [full, other] = [address(), address()];
    await mailboxes.open(full, NOW);
    await mailboxes.open(other, NOW);
    await mailboxes.append(to([full]));
    const byCount = to([full, other], { limits: { maxEnvelopes: 1, maxBytes: 1_000 } });
    expect(await mailboxes.append(byCount)).toEqual({ kind: "full", devices: [full] });
    const byBytes = to([full, other], { limits: { maxEnvelopes: 9, maxBytes: 99 } });
    expect(await mailboxes.append(byBytes)).toEqual({ kind: "full", devices: [full] });
    expect(await everything(other)).toEqual([]);
    const exactly = to([full, other], { limits: { maxEnvelopes: 2, maxBytes: 100 } });
    expect(await mailboxes.append(exactly)).toEqual({ kind: "stored" });
  });

  it("every full mailbox is named, and the same submit is stored once they have room", async () => {
    const [first, other, second] = [address(), address(), address()];
    for (const owner of [first, other, second]) await mailboxes.open(owner, NOW);
    await mailboxes.append(to([first, second]));
    const append = to([first, other, second], { limits: { maxEnvelopes: 1, maxBytes: 1_000 } });
    expect(await mailboxes.append(append)).toEqual({ kind: "full", devices: [first, second] });
    expect(await mailboxes.wasStored(append.submitHash)).toBe(false);
    for (const owner of [first, second]) await mailboxes.acknowledge(owner, envelopeId(1));
    expect(await mailboxes.append(append)).toEqual({ kind: "stored" });
  });

  it("the same submit hash is stored once, also when both come at the same time", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    const append = to([owner]);
    const kinds = await Promise.all([mailboxes.append(append), mailboxes.append(append)]);
    expect(kinds.map((outcome) => outcome.kind).sort()).toEqual(["repeated", "stored"]);
    expect(await mailboxes.wasStored(append.submitHash)).toBe(true);
    expect(await everything(owner)).toHaveLength(1);
  });

  it("acknowledging deletes up to and including the id, and ids go on rising", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    for (let i = 0; i < 5; i++) await mailboxes.append(to([owner]));
    expect(await mailboxes.acknowledge(owner, envelopeId(3))).toBe(3);
    expect(await mailboxes.acknowledge(owner, envelopeId(3))).toBe(0);
    expect(await mailboxes.depth(owner)).toEqual({ envelopes: 2, bytes: 100 });
    await mailboxes.acknowledge(owner, envelopeId(5));
    expect(await mailboxes.depth(owner)).toEqual({ envelopes: 0, bytes: 0 });
    await mailboxes.append(to([owner]));
    expect((await everything(owner)).map((envelope) => envelope.id)).toEqual([6]);
    expect(await mailboxes.lastId(owner)).toBe(6);
  });

  it("discarding deletes these envelopes alone, once, and gives their room back", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    for (let i = 0; i < 4; i++) await mailboxes.append(to([owner]));
    const bad = [envelopeId(2), envelopeId(4), envelopeId(9)];
    for (let i = 0; i < 2; i++) await mailboxes.discard(owner, bad);
    await mailboxes.discard(address(), bad);
    expect((await everything(owner)).map((envelope) => envelope.id)).toEqual([1, 3]);
    expect(await mailboxes.depth(owner)).toEqual({ envelopes: 2, bytes: 100 });
    await mailboxes.append(to([owner]));
    expect(await mailboxes.lastId(owner)).toBe(5);
  });

  it("an envelope without a byte in it goes like any other: acknowledged, discarded, with its mailbox, by age", async () => {
    const owner = address();
    const nothing = () => {
      const envelopes = [{ recipient: owner, ciphertext: new Uint8Array(0), source: undefined }];
      return mailboxes.append(to([owner], { envelopes }));
    };
    await mailboxes.open(owner, NOW);
    for (let i = 0; i < 3; i++) expect(await nothing()).toEqual({ kind: "stored" });
    expect(await mailboxes.acknowledge(owner, envelopeId(1))).toBe(1);
    await mailboxes.discard(owner, [envelopeId(2)]);
    expect(await mailboxes.depth(owner)).toEqual({ envelopes: 1, bytes: 0 });
    expect(await mailboxes.expireEnvelopes(NOW + 1, 10)).toBe(1);
    await nothing();
    await mailboxes.remove(owner);
    expect(await mailboxes.depth(owner)).toBeUndefined();
  });

  it("a page keeps both limits and holds at least one envelope", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    for (let i = 0; i < 5; i++) await mailboxes.append(to([owner]));
    const page = (after: number, maxEnvelopes: number, maxBytes: number) =>
      mailboxes
        .read(owner, envelopeId(after), { maxEnvelopes, maxBytes })
        .then((envelopes) => envelopes.map((envelope) => envelope.id));
    expect(await page(0, 2, 1_000)).toEqual([1, 2]);
    expect(await page(2, 10, 100)).toEqual([3, 4]);
    expect(await page(0, 10, 1)).toEqual([1]);
    expect(await page(5, 10, 1_000)).toEqual([]);
  });

  it("a message request keeps its source, a sealed envelope has none", async () => {
    const [owner, sender] = [address(), address(3)];
    await mailboxes.open(owner, NOW);
    const identified = { recipient: owner, ciphertext: random(10), source: sender };
    await mailboxes.append(to([owner], { envelopes: [identified] }));
    await mailboxes.append(to([owner]));
    expect((await everything(owner)).map((envelope) => envelope.source)).toEqual([sender, undefined]);
  });

  it("a Welcome lies in the same mailbox and order, with its group and without a source", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    const welcome = { groupId: groupId(random(16)), treeHash: random(32), sequence: 7 };
    const invitation = { recipient: owner, ciphertext: random(70), source: undefined, welcome };
    await mailboxes.append(to([owner]));
    await mailboxes.append(to([owner], { envelopes: [invitation] }));
    await mailboxes.append(to([owner]));
    const read = await everything(owner);
    expect(read.map((envelope) => [envelope.id, envelope.welcome])).toEqual([
      [1, undefined],
      [2, welcome],
      [3, undefined],
    ]);
    expect(read[1]).toEqual({
      id: 2,
      ciphertext: invitation.ciphertext,
      source: undefined,
      welcome,
      acceptedAtMs: NOW,
    });
    // It takes room like any other, and goes when it is acknowledged.
    expect(await mailboxes.depth(owner)).toEqual({ envelopes: 3, bytes: 170 });
    await mailboxes.acknowledge(owner, envelopeId(2));
    expect(await mailboxes.depth(owner)).toEqual({ envelopes: 1, bytes: 50 });
  });

  it("envelopes expire by their age, at most as many as asked", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    for (let i = 0; i < 6; i++) await mailboxes.append(to([owner], { acceptedAtMs: NOW + i }));
    expect(await mailboxes.expireEnvelopes(NOW + 4, 3)).toBe(3);
    expect(await mailboxes.expireEnvelopes(NOW + 4, 3)).toBe(1);
    expect(await mailboxes.expireEnvelopes(NOW + 4, 3)).toBe(0);
    expect((await everything(owner)).map((envelope) => envelope.id)).toEqual([5, 6]);
    expect(await mailboxes.depth(owner)).toEqual({ envelopes: 2, bytes: 100 });
    expect(await mailboxes.totals()).toEqual({ envelopes: 2, bytes: 100 });
  });

  it("submit hashes are forgotten by their age", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    const append = to([owner]);
    await mailboxes.append(append);
    expect(await mailboxes.expireSubmits(NOW, 10)).toBe(0);
    expect(await mailboxes.expireSubmits(NOW + 1, 10)).toBe(1);
    expect(await mailboxes.wasStored(append.submitHash)).toBe(false);
  });

  it("removing a mailbox removes what is in it; opening one again keeps it", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    await mailboxes.append(to([owner]));
    await mailboxes.open(owner, NOW + 5);
    expect(await everything(owner)).toHaveLength(1);
    await mailboxes.remove(owner);
    expect(await mailboxes.depth(owner)).toBeUndefined();
    expect(await mailboxes.lastId(owner)).toBeUndefined();
    await mailboxes.open(owner, NOW);
    expect(await everything(owner)).toEqual([]);
  });

  it("lists owners in pages, each once, only of mailboxes that are old enough", async () => {
    const account = accountId(random(16));
    const old = [address(), address(), address(2), { accountId: account, deviceId: 7 as DeviceId }];
    for (const owner of old) await mailboxes.open(owner, NOW);
    await mailboxes.open(address(), NOW + 10);
    const seen: DeviceAddress[] = [];
    for (;;) {
      const page = await mailboxes.owners(seen.at(-1), 3, NOW + 1);
      if (page.length === 0) break;
      seen.push(...page);
    }
    expect(seen).toHaveLength(4);
    expect(seen).toEqual(expect.arrayContaining(old));
  });

  it("keeps one store id", async () => {
    expect(await mailboxes.storeId()).toEqual(await mailboxes.storeId());
    expect(await mailboxes.storeId()).toHaveLength(16);
  });

  it("stays the store that it is for whoever knows a state that it was in", async () => {
    const owner = address();
    await mailboxes.open(owner, NOW);
    const before = await mailboxes.storeId();
    const lost: StoreId[] = [];
    mailboxes.onLost((id) => lost.push(id));
    for (let n = 0; n < 3; n++) {
      const state = mailboxes.state();
      await mailboxes.append(to([owner]));
      if (state !== undefined) await mailboxes.requireState(before, state);
    }
    expect(await mailboxes.storeId()).toEqual(before);
    expect(lost).toEqual([]);
  });
});

describe.each(engines.filter(({ name }) => name !== "memory"))(
  "mailbox store on $name that was set back",
  (engine) => {
    let opened: OpenedEngine;
    beforeEach(async () => {
      opened = await engine.open();
    });
    afterEach(() => opened.dispose());

    it.each([
      ["has gone further than it", (state: StoreState) => ({ ...state, count: state.count + 100 })],
      [
        "was written in a run of which it knows nothing",
        (state: StoreState) => ({ ...state, run: random(8) }),
      ],
    ])("becomes another store, once, for whoever knows a state that %s", async (_, lostState) => {
      const { mailboxes } = opened.stores;
      await mailboxes.open(address(), NOW);
      const before = await mailboxes.storeId();
      const lost: StoreId[] = [];
      mailboxes.onLost((id) => lost.push(id));
      await expect.poll(() => mailboxes.state(), { timeout: 10_000 }).toBeDefined();
      const state = lostState(mailboxes.state()!);
      await Promise.all([1, 2, 3].map(() => mailboxes.requireState(before, state)));
      const after = await mailboxes.storeId();
      expect(after).not.toEqual(before);
      expect(lost).toEqual([after]);
      // Of a store that is no more.
      await mailboxes.requireState(before, state);
      expect(await mailboxes.storeId()).toEqual(after);
    });
  },
);

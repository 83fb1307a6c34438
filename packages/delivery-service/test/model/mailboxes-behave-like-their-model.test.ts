import {
  accountId,
  type DeviceAddress,
  type DeviceId,
  type EnvelopeId,
  envelopeId,
  groupId,
} from "@murmuration/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openMemoryStores } from "../../src/adapters/memory-stores.ts";
import type { MailboxStore } from "../../src/ports/mailboxes.ts";
import { engines } from "../support/engines.ts";

const NOW = 1_800_000_000_000;
const bytes = (length: number, fill: number) => new Uint8Array(length).fill(fill);
const owner = (n: number): DeviceAddress => ({
  accountId: accountId(bytes(16, n)),
  deviceId: ((n % 5) + 1) as DeviceId,
});

const ownerArbitrary = fc.nat(3).map(owner);
const limitsArbitrary = fc.record({ maxEnvelopes: fc.integer({ min: 1, max: 6 }), maxBytes: fc.nat(400) });

/** One operation on a mailbox store; its answer is what two stores are compared by. */
type Operation = (mailboxes: MailboxStore) => Promise<unknown>;

const operations: readonly fc.Arbitrary<readonly [string, Operation]>[] = [
  ownerArbitrary.map((address) => ["open", (m: MailboxStore) => m.open(address, NOW)] as const),
  ownerArbitrary.map((address) => ["remove", (m: MailboxStore) => m.remove(address)] as const),
  fc
    .tuple(
      fc.uniqueArray(fc.nat(3), { minLength: 1, maxLength: 4 }),
      fc.nat(12),
      fc.nat(120),
      fc.nat(50),
      limitsArbitrary,
    )
    .map(([recipients, submit, length, age, limits]) => {
      const append = {
        submitHash: bytes(32, submit),
        envelopes: recipients.map((n) => ({
          recipient: owner(n),
          ciphertext: bytes(length, n),
          source: n === 2 ? owner(1) : undefined,
          welcome:
            n === 3
              ? { groupId: groupId(bytes(16, n)), treeHash: bytes(32, n), sequence: submit }
              : undefined,
        })),
        acceptedAtMs: NOW - age,
        limits,
      };
      return ["append", (m: MailboxStore) => m.append(append)] as const;
    }),
  fc
    .tuple(ownerArbitrary, fc.nat(8))
    .map(([address, id]) => ["acknowledge", (m) => m.acknowledge(address, envelopeId(id))] as const),
  fc.tuple(ownerArbitrary, fc.nat(8), limitsArbitrary).map(([address, after, limits]) => {
    return ["read", (m: MailboxStore) => m.read(address, after as EnvelopeId, limits)] as const;
  }),
  fc.nat(50).map((age) => ["expire envelopes", (m) => m.expireEnvelopes(NOW - age, 1_000)] as const),
  fc.nat(50).map((age) => ["expire submits", (m) => m.expireSubmits(NOW - age, 1_000)] as const),
  fc.constant(["totals", (m: MailboxStore) => m.totals()] as const),
];

const durable = engines.filter(({ name }) => name !== "memory");

describe.each(durable)("mailboxes behave like their model on $name", (engine) => {
  it("after any operations they give the same answers and hold the same envelopes", async () => {
    const everything = { maxEnvelopes: 1_000, maxBytes: 1_000_000 };
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(...operations), { minLength: 5, maxLength: 60 }), async (run) => {
        const opened = await engine.open();
        const { mailboxes } = opened.stores;
        const model = openMemoryStores().mailboxes;
        try {
          for (const [name, operation] of run) {
            const answers = [await operation(mailboxes), await operation(model)];
            expect(answers[0], name).toEqual(answers[1]);
          }
          for (const address of [0, 1, 2, 3].map(owner)) {
            const read = (m: MailboxStore) => m.read(address, envelopeId(0), everything);
            expect(await read(mailboxes)).toEqual(await read(model));
            expect(await mailboxes.depth(address)).toEqual(await model.depth(address));
            expect(await mailboxes.lastId(address)).toEqual(await model.lastId(address));
          }
        } finally {
          await opened.dispose();
        }
      }),
      { numRuns: 60 },
    );
  }, 120_000);
});

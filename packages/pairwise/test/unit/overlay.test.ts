import { accountId, deviceId, formatAddress, InvariantError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { Overlay, OWN_QUEUE, rowsOf } from "../../src/overlay.ts";
import { countFailure, countResend, digestOf, noteAccepted, wasAccepted } from "../../src/received.ts";
import { MemoryStore } from "../support/memory-store.ts";

const sender = { accountId: accountId(new Uint8Array(16).fill(3)), deviceId: deviceId(4) };
const account = formatAddress(sender).split(".")[0]!;
const byte = (value: number) => new Uint8Array([value]);

describe("overlay", () => {
  test("writes are seen above and not below, until their write set is applied", () => {
    const store = new MemoryStore();
    store.applyWriteSet({ changes: [{ table: "pre-key", key: "1", value: byte(1) }] });
    const overlay = new Overlay(rowsOf(store), () => true);
    overlay.write("pre-key", "1", undefined);
    overlay.write("pre-key", "2", byte(2));
    expect([overlay.read("pre-key", "1"), overlay.keys("pre-key")]).toEqual([undefined, ["2"]]);
    expect([store.read("pre-key", "1"), store.keys("pre-key")]).toEqual([byte(1), ["1"]]);
    store.applyWriteSet(overlay.writeSet());
    expect(store.keys("pre-key")).toEqual(["2"]);
  });

  test("a child is dropped or absorbed as a whole", () => {
    const overlay = new Overlay(rowsOf(new MemoryStore()), () => true);
    overlay.child().write("own", "dropped", byte(1));
    const kept = overlay.child();
    kept.write("own", "kept", byte(2));
    overlay.absorb(kept);
    expect(overlay.writeSet().changes).toEqual([{ table: "own", key: "kept", value: byte(2) }]);
  });

  test("a write outside the queues that the operation holds is our bug", () => {
    const address = formatAddress(sender);
    const holdsAccount = new Overlay(rowsOf(new MemoryStore()), (queue) => queue === account);
    for (const table of ["session", "received", "resent"] as const)
      holdsAccount.write(table, address, byte(1));
    for (const table of ["account", "device-list"] as const) holdsAccount.write(table, account, byte(1));
    for (const table of ["own", "pre-key", "signed-pre-key", "kyber-pre-key", "base-key"] as const) {
      expect(() => holdsAccount.write(table, "1", byte(1)), table).toThrow(InvariantError);
      expect(() => holdsAccount.child().write(table, "1", byte(1)), table).toThrow(InvariantError);
    }
    const holdsOwn = new Overlay(rowsOf(new MemoryStore()), (queue) => queue === OWN_QUEUE);
    holdsOwn.write("pre-key", "1", byte(1));
    expect(() => holdsOwn.write("session", address, byte(1))).toThrow("pairwise/write-outside-queue");
  });
});

describe("what is remembered of a sender device", () => {
  const fresh = () => new Overlay(rowsOf(new MemoryStore()), () => true);

  test("the last 64 accepted messages are known, older ones are not", () => {
    const overlay = fresh();
    const digests = Array.from({ length: 65 }, (_, i) => digestOf(byte(i)));
    for (const [i, digest] of digests.entries()) noteAccepted(overlay, sender, digest, i);
    expect(digests.map((digest) => wasAccepted(overlay, sender, digest))).toEqual([
      false,
      ...Array(64).fill(true),
    ]);
  });

  test("failures are counted for each reference, and a message that arrives after all starts anew", () => {
    const overlay = fresh();
    expect([1, 1, 2, 1].map((reference) => countFailure(overlay, sender, reference))).toEqual([1, 2, 1, 3]);
    noteAccepted(overlay, sender, digestOf(byte(9)), 1);
    expect(countFailure(overlay, sender, 1)).toBe(1);
    expect(countFailure(overlay, sender, 2)).toBe(2);
  });

  test("a peer that names ever new references fills no more than 32 places, and counts stop at 255", () => {
    const overlay = fresh();
    for (let reference = 0; reference < 1_000; reference++) countResend(overlay, sender, reference);
    expect(overlay.read("resent", formatAddress(sender))!.length).toBeLessThan(32 * 9 + 8);
    let count = 0;
    for (let i = 0; i < 300; i++) count = countResend(overlay, sender, 5);
    expect(count).toBe(255);
  });
});

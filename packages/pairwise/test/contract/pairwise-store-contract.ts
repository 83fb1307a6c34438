import { describe, expect, test } from "vitest";
import type { PairwiseStore, RowChange } from "../../src/index.ts";

/** How a test opens an adapter of the port, and runs a transaction of its caller on it. */
export interface StoreUnderTest {
  readonly store: PairwiseStore;
  transaction<T>(body: () => T): T;
}

const bytes = (...values: number[]) => new Uint8Array(values);

/** What every adapter of PairwiseStore must do; each adapter's tests call it with a way to open a fresh store. */
export function describePairwiseStore(name: string, open: () => StoreUnderTest): void {
  const apply = ({ store, transaction }: StoreUnderTest, ...changes: RowChange[]): void =>
    transaction(() => store.applyWriteSet({ changes }));

  describe(`PairwiseStore contract: ${name}`, () => {
    test("a row that was never written is undefined, and its table has no keys", () => {
      const { store } = open();
      expect(store.read("session", "a.1")).toBeUndefined();
      expect(store.keys("session")).toEqual([]);
    });

    test("a write set puts, replaces and deletes rows; tables do not mix", () => {
      const opened = open();
      const { store } = opened;
      apply(
        opened,
        { table: "session", key: "a.1", value: bytes(1) },
        { table: "session", key: "b.2", value: bytes(2) },
        { table: "resent", key: "a.1", value: bytes(3) },
      );
      apply(
        opened,
        { table: "session", key: "a.1", value: bytes(4, 5) },
        { table: "session", key: "b.2", value: undefined },
        { table: "pre-key", key: "77", value: undefined },
      );
      expect(store.read("session", "a.1")).toEqual(bytes(4, 5));
      expect(store.read("session", "b.2")).toBeUndefined();
      expect(store.read("resent", "a.1")).toEqual(bytes(3));
      expect(store.keys("session")).toEqual(["a.1"]);
      expect(store.keys("pre-key")).toEqual([]);
    });

    test("keys differ by case, and values may be empty or large", () => {
      const opened = open();
      const large = new Uint8Array(300_000).fill(9);
      apply(
        opened,
        { table: "base-key", key: "aB", value: bytes() },
        { table: "base-key", key: "Ab", value: large },
      );
      expect(opened.store.read("base-key", "aB")).toEqual(bytes());
      expect(opened.store.read("base-key", "Ab")).toEqual(large);
      expect([...opened.store.keys("base-key")].sort()).toEqual(["Ab", "aB"]);
    });

    test("many rows are read at once in the order asked for, also twice and where there is none", () => {
      const opened = open();
      const { store } = opened;
      apply(
        opened,
        { table: "session", key: "b.2", value: bytes(2) },
        { table: "session", key: "a.1", value: bytes(1) },
        { table: "resent", key: "c.3", value: bytes(3) },
      );
      expect(store.readEach("session", ["c.3", "a.1", "b.2", "a.1"])).toEqual([
        undefined,
        bytes(1),
        bytes(2),
        bytes(1),
      ]);
      expect(store.readEach("session", [])).toEqual([]);
    });

    test("what was written is a copy: changing the caller's bytes later changes no row", () => {
      const opened = open();
      const value = bytes(1, 2, 3);
      apply(opened, { table: "own", key: "identity", value });
      value.fill(0);
      expect(opened.store.read("own", "identity")).toEqual(bytes(1, 2, 3));
    });

    test("an open transaction shows, also after one that failed", () => {
      const { store, transaction } = open();
      expect(store.transactionOpen()).toBe(false);
      transaction(() => expect(store.transactionOpen()).toBe(true));
      expect(() =>
        transaction(() => {
          throw new RangeError("rolled back");
        }),
      ).toThrow(RangeError);
      expect(store.transactionOpen()).toBe(false);
    });
  });
}

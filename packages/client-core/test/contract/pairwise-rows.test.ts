import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { describePairwiseStore } from "../../../pairwise/test/contract/pairwise-store-contract.ts";
import { openSqlcipher } from "../../src/index.ts";
import { PairwiseRows } from "../../src/store/pairwise-rows.ts";
import { prepareSchema } from "../../src/store/schema.ts";

function open() {
  const storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(randomBytes(32)) });
  prepareSchema(storage);
  const store = new PairwiseRows(storage);
  return { store, transaction: <T>(body: () => T): T => storage.transaction(body) };
}

describePairwiseStore("the client's database", open);

test("what has no row is named by its place, also where another table has that key", () => {
  const { store } = open();
  store.applyWriteSet({ changes: [{ table: "device-list", key: "b", value: new Uint8Array([1]) }] });
  store.applyWriteSet({ changes: [{ table: "account", key: "c", value: new Uint8Array([1]) }] });
  expect(store.missing("device-list", ["a", "b", "c"])).toEqual([0, 2]);
  expect(store.missing("device-list", ["b"])).toEqual([]);
});

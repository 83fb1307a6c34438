import { MemoryStore } from "../support/memory-store.ts";
import { describePairwiseStore } from "./pairwise-store-contract.ts";

describePairwiseStore("the store of these tests, in memory", () => {
  const store = new MemoryStore();
  return { store, transaction: (body) => store.transaction(body) };
});

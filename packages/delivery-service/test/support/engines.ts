import { openMemoryStores } from "../../src/adapters/memory-stores.ts";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import type { Stores } from "../../src/service/context.ts";
import { temporaryDirectory } from "./service.ts";

/** One engine under the contract suites. */
export interface Engine {
  readonly name: string;
  open(): { readonly stores: Stores; dispose(): Promise<void> };
}

/** Every engine that the contract suites run on. A new one is added here and nowhere else. */
export const engines: readonly Engine[] = [
  {
    name: "memory",
    open: () => ({ stores: openMemoryStores(), dispose: async () => {} }),
  },
  {
    name: "SQLite",
    open: () => {
      const directory = temporaryDirectory();
      const stores = openSqliteStores(directory.path);
      return {
        stores,
        dispose: async () => {
          await stores.close();
          directory.remove();
        },
      };
    },
  },
];

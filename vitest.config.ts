import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";
import { folderInMemory } from "./tools/folder-in-memory.ts";

// Hundreds of processes are started from the same sources: each reads them compiled instead of stripping and compiling.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL(".cache/node", import.meta.url));
// Where another place is named it is that: TMPDIR=/var/tmp runs the tests on a disk.
const folder = tmpdir() === "/tmp" ? folderInMemory() : undefined;
if (folder !== undefined) process.env.TMPDIR = folder;

const conditions = ["@murmuration/source", "node", "module", "default"];
const shared = {
  resolve: { conditions },
  ssr: { resolve: { conditions } },
};
const roots = "{packages/*,apps/*,bench,spec-vectors,tools}";
const slow = {
  globalSetup: "./packages/delivery-service/test/support/cluster-setup.ts",
  testTimeout: 120_000,
  hookTimeout: 120_000,
  env: { NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
};
const alone = `${roots}/test/**/*.alone.test.ts`;

/**
 * Three projects. `npm run check` runs `fast` in less than two minutes: unit tests and vectors, which read the product's
 * sources once for many files. `slow` is everything that starts processes, sockets, or long searches. `alone` are those of
 * them that replace a part of the product, and would spoil others in one process. `npm test` runs all.
 */
export default defineConfig({
  ...shared,
  test: {
    pool: "forks",
    // On two cores: stories wait as much as they compute.
    maxWorkers: 5,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default", "./tools/closing-line-reporter.ts"],
    projects: [
      {
        ...shared,
        test: {
          name: "fast",
          include: [`${roots}/test/{unit,vectors}/**/*.test.ts`, "tools/test/*.test.ts"],
          globalSetup: "./spec-vectors/src/vitest-setup.ts",
          isolate: false,
          testTimeout: 60_000,
          env: { NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
        },
      },
      {
        ...shared,
        test: {
          ...slow,
          name: "slow",
          // Some 270 files read the product's sources once for each worker. What would spoil others is in `alone`.
          isolate: false,
          include: [`${roots}/test/{scenario,property,model,adversary,contract,bench}/**/*.test.ts`],
          exclude: [...configDefaults.exclude, alone],
        },
      },
      { ...shared, test: { ...slow, name: "alone", include: [alone] } },
    ],
  },
});

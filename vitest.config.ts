import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// Hundreds of processes are started from the same sources: each reads them compiled instead of stripping and compiling.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL(".cache/node", import.meta.url));

const conditions = ["@murmuration/source", "node", "module", "default"];
const shared = {
  resolve: { conditions },
  ssr: { resolve: { conditions } },
};
const roots = "{packages/*,apps/*,bench,spec-vectors,tools}";

/**
 * Two projects so that `npm run check` stays under two minutes: `fast` holds unit tests and vectors,
 * `slow` everything that starts processes, sockets, or long searches. `npm test` runs both.
 */
export default defineConfig({
  ...shared,
  test: {
    pool: "forks",
    maxWorkers: 3,
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
          testTimeout: 60_000,
          env: { NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
        },
      },
      {
        ...shared,
        test: {
          name: "slow",
          globalSetup: "./packages/delivery-service/test/support/cluster-setup.ts",
          include: [`${roots}/test/{scenario,property,model,adversary,contract,bench}/**/*.test.ts`],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          env: { NODE_OPTIONS: "--disable-warning=ExperimentalWarning" },
        },
      },
    ],
  },
});

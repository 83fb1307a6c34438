import { resolve } from "node:path";
import { defineConfig } from "vitest/config";
import { inWrongVersion } from "./wrong-version.ts";

const root = resolve(import.meta.dirname, "../..");
const conditions = ["@murmuration/source", "node", "module", "default"];

/** One story at a time, in the version that MURMURATION_CANARY names. */
export default defineConfig({
  root,
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  plugins: [
    {
      name: "canary",
      enforce: "pre",
      transform: (code, id) => inWrongVersion(id.split("?", 1)[0]!, code),
    },
  ],
  test: {
    pool: "forks",
    // Nobody else is to find the wrong version there.
    fsModuleCache: false,
    maxWorkers: 1,
    include: ["packages/*/test/**/*.test.ts"],
    globalSetup: "./packages/delivery-service/test/support/cluster-setup.ts",
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // What is broken may break anywhere.
    dangerouslyIgnoreUnhandledErrors: true,
  },
});

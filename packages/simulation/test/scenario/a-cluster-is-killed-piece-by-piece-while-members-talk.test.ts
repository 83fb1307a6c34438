import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { enginesAreInstalled } from "@murmuration/delivery-service/local-engines";
import { expect, test } from "vitest";

const ENTRY = fileURLToPath(new URL("../../src/chaos/main.ts", import.meta.url));
const FLAGS = ["--conditions=@murmuration/source", "--experimental-strip-types"];
const SLOW = process.env["SLOW"] === "1";
/** Short, and each of the four is killed; SLOW=1 takes the default of three minutes. */
const SLICE = SLOW ? [] : ["--minutes", "0.7", "--every", "9"];
const SEED = process.env["SEED"] ?? "6";
const TIMEOUT_MS = SLOW ? 500_000 : 330_000;

const isLeftOut = !enginesAreInstalled() && process.env["CI"] !== "true";
if (isLeftOut)
  console.log(
    "The chaos run is left out, PostgreSQL or Redis is not installed: npm run services -- --install",
  );

test.skipIf(isLeftOut)(
  "nodes, Redis and PostgreSQL are killed while members talk and commit: nothing is lost, doubled or forked",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "murmuration-"));
    const json = join(directory, "chaos.json");
    const child = spawn(process.execPath, [...FLAGS, ENTRY, "--seed", SEED, "--json", json, ...SLICE], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    try {
      await once(child, "close", { signal: AbortSignal.timeout(TIMEOUT_MS - 10_000) });
      console.log(output.split("\n", 1)[0]);
      expect(child.exitCode, output).toBe(0);
      const report = JSON.parse(readFileSync(json, "utf8"));
      expect(report).toMatchObject({ failed: 0, void: false });
      expect(Object.values(report.kills).every((kills) => Number(kills) > 0)).toBe(true);
      expect(output).toMatch(new RegExp(`^${report.passed} passed, 0 failed$`, "m"));
    } finally {
      child.kill("SIGTERM");
      rmSync(directory, { recursive: true, force: true });
    }
  },
  TIMEOUT_MS,
);

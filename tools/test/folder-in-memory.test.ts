import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { folderInMemory } from "../folder-in-memory.ts";

let memory: string;
beforeEach(() => {
  memory = mkdtempSync(join(tmpdir(), "memory-"));
});
afterEach(() => rmSync(memory, { recursive: true, force: true }));

test("a run has a folder of its own, and those of runs that have ended go: nobody else's", () => {
  const { pid } = spawnSync(process.execPath, ["--version"]);
  for (const name of [`murmuration-tests-${pid}`, `murmuration-tests-${process.ppid}`, "somebody's"])
    mkdirSync(join(memory, name));
  expect(folderInMemory(memory)).toBe(join(memory, `murmuration-tests-${process.pid}`));
  expect(readdirSync(memory).sort()).toEqual(
    [`murmuration-tests-${process.pid}`, `murmuration-tests-${process.ppid}`, "somebody's"].sort(),
  );
});

test("a folder goes when its process ends", () => {
  const program = `
    import { folderInMemory } from ${JSON.stringify(join(import.meta.dirname, "../folder-in-memory.ts"))};
    process.stdout.write(folderInMemory(${JSON.stringify(memory)}));`;
  const flags = ["--experimental-strip-types", "--input-type=module", "--eval", program];
  const { stdout } = spawnSync(process.execPath, flags, { encoding: "utf8" });
  expect(stdout).toContain(join(memory, "murmuration-tests-"));
  expect(existsSync(stdout)).toBe(false);
});

test("where the machine has no such place tests write where they would otherwise", () => {
  expect(folderInMemory(join(memory, "not there"))).toBeUndefined();
});

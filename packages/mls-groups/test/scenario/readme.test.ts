import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { rules } from "../../src/rules.ts";

const folder = resolve(import.meta.dirname, "../..");
const readme = readFileSync(join(folder, "README.md"), "utf8");

describe("the README of this package", () => {
  const code = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? "";

  test("its example is thirty lines of code at most, and runs as it stands", () => {
    const lines = code.split("\n").filter((line) => line !== "" && !line.startsWith("//"));
    expect(lines.length).toBeGreaterThan(10);
    expect(lines.length).toBeLessThanOrEqual(30);
    // Inside the repository, so that the packages it imports are found.
    const place = resolve(folder, "../../.cache/readme");
    mkdirSync(place, { recursive: true });
    const file = join(place, `example-${process.pid}.ts`);
    writeFileSync(file, code);
    try {
      const options = ["--conditions=@murmuration/source", "--experimental-strip-types"];
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [...options, "--disable-warning=ExperimentalWarning", file],
        { encoding: "utf8", timeout: 30_000 },
      );
      expect([status, stdout, stderr]).toEqual([0, "hello\n", ""]);
    } finally {
      rmSync(file);
    }
  });

  test("every file and folder it names is there", () => {
    const named = [...readme.matchAll(/`((?:src|test|packages)\/[\w./-]+)`/g)].map((match) => match[1]!);
    expect(named.length).toBeGreaterThan(40);
    const missing = named.filter((name) => {
      const from = name.startsWith("packages/") ? resolve(folder, "../..") : folder;
      return !existsSync(join(from, name));
    });
    expect(missing).toEqual([]);
  });

  test("every section that a validation rule names has its place in the table", () => {
    const rows = [...readme.matchAll(/^\| ([^|]+) \|/gm)].map((match) => match[1]!);
    const listed = rows.flatMap((cell) => sectionsOf(cell));
    const covered = (section: string) =>
      listed.some((one) => section === one || section.startsWith(`${one}.`));
    const sections = Object.values(rules).filter((section) => /^\d/.test(section));
    expect([...new Set(sections)].filter((section) => !covered(section))).toEqual([]);
  });
});

/** The sections of a table cell; "7.4 to 7.6" stands for three. */
function sectionsOf(cell: string): string[] {
  return cell.split(", ").flatMap((part) => {
    const range = /^(\d+)\.(\d+) to \1\.(\d+)$/.exec(part);
    if (range === null) return [part];
    const [, chapter, from, to] = range;
    return Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => `${chapter}.${Number(from) + i}`);
  });
}

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { knownAnswers } from "@murmuration/spec-vectors";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../../../..");
const knownAnswersFolder = join(root, "spec-vectors/known-answers");

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      "--conditions=@murmuration/source",
      "--experimental-strip-types",
      "--disable-warning=ExperimentalWarning",
      join(root, "tools/vectors.ts"),
      ...args,
    ],
    { encoding: "utf8", timeout: 60_000 },
  );
  const lines = (text: string) => text.split("\n").filter((line) => line !== "");
  return { status, out: lines(stdout), err: lines(stderr) };
}

describe("npm run vectors", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "vectors-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const [suite1, suite2] = knownAnswers("psk_secret");
  const [passive] = knownAnswers("passive-client-handling-commit");

  /** A folder of its own with these files. */
  function folderWith(files: Record<string, unknown>): string {
    const made = mkdtempSync(join(folder, "case-"));
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(made, name), typeof content === "string" ? content : JSON.stringify(content));
    }
    return made;
  }

  it("runs files recognised by their name, and closes with the counts", () => {
    const made = folderWith({});
    for (const name of ["crypto-basics", "tree-math", "welcome"]) {
      copyFileSync(join(knownAnswersFolder, `${name}.json`), join(made, `${name}.json`));
    }
    const { status, out, err } = run("--dir", made);
    expect([status, err]).toEqual([0, []]);
    expect(out).toEqual([
      "crypto-basics.json: 7 passed, 0 failed",
      "tree-math.json: 6 passed, 0 failed",
      "welcome.json: 7 passed, 0 failed",
      "20 passed, 0 failed",
    ]);
  });

  it("runs files of any name recognised by their fields, on both providers", () => {
    const made = folderWith({ "some-thing.json": [suite1, suite2], "large-group.json": [passive] });
    const { status, out } = run("--dir", made, "--provider", "both");
    expect([status, out.at(-1)]).toEqual([0, "6 passed, 0 failed"]);
  });

  it("a damaged copy fails, with the file, the case and the difference in a line, and the rest still runs", () => {
    const damaged = { ...suite2, psk_secret: `00${suite2!.psk_secret.slice(2)}` };
    const made = folderWith({ "psk_secret.json": [suite1, damaged, suite1] });
    const { status, out } = run("--dir", made);
    expect(status).toBe(1);
    expect(out[0]).toMatch(/^FAILED psk_secret.json case 1: psk_secret: got [0-9a-f]+, expected 00/);
    expect(out.at(-1)).toBe("2 passed, 1 failed");
  });

  it("a commit or an epoch authenticator that was changed fails", () => {
    const [epoch, ...rest] = passive!.epochs;
    const wrong = { ...epoch, epoch_authenticator: "00".repeat(32) };
    const cut = { ...epoch, commit: epoch!.commit.slice(0, -2) };
    const made = folderWith({
      "passive-client-handling-commit.json": [wrong, cut].map((first) => ({
        ...passive,
        epochs: [first, ...rest],
      })),
    });
    const { status, out } = run("--dir", made);
    expect([status, out.at(-1)]).toEqual([1, "0 passed, 2 failed"]);
  });

  it("files that are not JSON, no array, empty, or of no known format each are a failure", () => {
    const made = folderWith({
      "a.json": "{",
      "b.json": { cipher_suite: 1 },
      "c.json": [{ cipher_suite: 1 }],
      "welcome.json": [],
    });
    const { status, out } = run("--dir", made);
    expect(status).toBe(1);
    expect(out).toEqual([
      "FAILED a.json: not JSON",
      "FAILED b.json: not a JSON array",
      "FAILED c.json: not one of the official formats",
      "FAILED welcome.json: holds no case",
      "0 passed, 4 failed",
    ]);
  });

  it("cases of cipher suites outside RFC 9420 are named and not counted", () => {
    const made = folderWith({ "psk_secret.json": [{ ...suite1, cipher_suite: 0xf001 }, suite2] });
    const { status, out } = run("--dir", made);
    expect(status).toBe(0);
    expect(out).toContain("psk_secret.json: 1 skipped, cipher suite 61441 is none of RFC 9420");
    expect(out.at(-1)).toBe("1 passed, 0 failed");
  });

  it.each([
    [[]],
    [["--dir"]],
    [["--dir", "no such folder"]],
    [["--dir", ".", "--provider", "mine"]],
    [["--all"]],
    [["--dir", ".", "--dir", "."]],
  ])("wrong usage %j exits 2 with one sentence", (args: string[]) => {
    const { status, out, err } = run(...args);
    expect([status, out, err.length]).toEqual([2, [], 1]);
    expect(err[0]).toMatch(/\.$/);
  });
});

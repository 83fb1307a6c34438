import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ensureVectors, vectorCases } from "../../src/cases.ts";
import { defaultPlaces, fetchVectors, hasVectors, loadVectors, type VectorPlaces } from "../../src/load.ts";
import { manifest, manifestEntry } from "../../src/manifest.ts";

let folder: string;
let empty: VectorPlaces;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "spec-vectors-"));
  empty = { folders: [folder], cache: folder };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const answering =
  (body: string, status = 200) =>
  async () =>
    new Response(body, { status });

describe("the manifest", () => {
  test("names 16 files of one pinned commit, each with a whole SHA-256", () => {
    expect(manifest).toHaveLength(16);
    for (const entry of manifest) {
      expect(entry.sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(entry.size).toBeGreaterThan(900);
      expect(entry.url).toMatch(/mls-implementations\/[0-9a-f]{40}\/test-vectors\/[\w-]+\.json$/);
    }
  });
});

describe("an official file", () => {
  test("whose bytes differ from the manifest is an error, not a missing file", () => {
    writeFileSync(join(folder, "tree-math.json"), "[]");
    expect(() => loadVectors("tree-math", empty)).toThrow(/hash-mismatch/);
    expect(() => vectorCases("tree-math", { places: empty, environment: {} })).toThrow(/hash-mismatch/);
  });

  test("that no folder has is missing, with a sentence on how to get it", () => {
    expect(hasVectors("treekem", empty)).toBe(false);
    expect(loadVectors("treekem", empty)).toEqual({
      missing: true,
      howToGet: expect.stringContaining("SPEC_VECTORS_DIR"),
    });
  });

  test("is looked for in SPEC_VECTORS_DIR before any other folder", () => {
    expect(defaultPlaces({ SPEC_VECTORS_DIR: folder }).folders[0]).toBe(folder);
    expect(defaultPlaces({}).folders).toHaveLength(2);
  });
});

describe("missing official files", () => {
  test("are said in one loud line when nothing else is wrong", () => {
    const lines: string[] = [];
    vectorCases("treekem", { places: empty, environment: {}, warn: (line) => lines.push(line) });
    expect(lines).toEqual([expect.stringMatching(/^OFFICIAL MLS VECTORS LEFT OUT: treekem\. To get them, /)]);
  });

  test("are a failure under CI=true", () => {
    expect(() => vectorCases("treekem", { places: empty, environment: { CI: "true" } })).toThrow(/LEFT OUT/);
  });

  test("are reported together before a run, after one failed download", async () => {
    const lines: string[] = [];
    let attempts = 0;
    const missing = await ensureVectors({
      places: empty,
      environment: {},
      warn: (line) => lines.push(line),
      fetch: async () => {
        attempts++;
        throw new Error("no network");
      },
    });
    expect(missing).toHaveLength(16);
    expect(attempts).toBe(1);
    expect(lines).toHaveLength(1);
  });
});

describe("a download", () => {
  test("is refused and not stored when its hash differs", async () => {
    const fetch = answering("[]");
    await expect(fetchVectors("welcome", { places: empty, fetch })).rejects.toThrow(/hash-mismatch/);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("stops as soon as it is larger than the manifest states", async () => {
    const fetch = answering("x".repeat(manifestEntry("deserialization").size + 1));
    await expect(fetchVectors("deserialization", { places: empty, fetch })).rejects.toThrow(/larger/);
  });

  test("ends at its time limit", async () => {
    const fetch = (_url: string, { signal }: { signal: AbortSignal }) =>
      new Promise<Response>((_resolve, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason)),
      );
    const attempt = fetchVectors("welcome", { places: empty, fetch, timeoutMs: 20 });
    await expect(attempt).rejects.toThrow(/no answer in time/);
  });

  test("with an HTTP error says the status", async () => {
    const fetch = answering("gone", 404);
    await expect(fetchVectors("welcome", { places: empty, fetch })).rejects.toThrow(/404/);
  });

  test("that matches the manifest is stored and then loaded from the cache", async () => {
    const official = loadVectors("deserialization");
    if ("missing" in official) return expect(official.howToGet).toContain("fetch");
    const { readFileSync } = await import("node:fs");
    const body = readFileSync(official.origin, "utf8");
    expect(createHash("sha256").update(body).digest("hex")).toBe(manifestEntry("deserialization").sha256);
    await fetchVectors("deserialization", { places: empty, fetch: answering(body) });
    expect(readdirSync(folder)).toEqual(["deserialization.json"]);
    expect(loadVectors("deserialization", empty)).toEqual({
      cases: official.cases,
      origin: join(folder, "deserialization.json"),
    });
  });
});

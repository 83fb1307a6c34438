import { expect, test } from "vitest";
import { compareReports } from "../../src/compare.ts";
import type { MlsReport, Row } from "../../src/mls/rows.ts";

const row = (changes: Partial<Row> = {}): Row => ({
  operation: "commit-process-warm",
  members: 1000,
  implementation: "murmuration",
  bestMs: 0.9,
  medianMs: 1,
  worstMs: null,
  bytes: 1500,
  counts: { verify: 2, hash: 20 },
  ratioToFloor: 2,
  runs: 5,
  ...changes,
});
const report = (...rows: Row[]): MlsReport => ({
  benchmark: "mls",
  startedAt: "2026-01-01T00:00:00.000Z",
  machine: { cpu: "test", cores: 2, memoryGiB: 8, os: "linux" },
  versions: {},
  primitives: [],
  floorVoid: [],
  partial: false,
  rows,
  memory: [],
});
const bounds = { time: 1.25, exact: 1.02 };
const regressions = (after: Partial<Row>) =>
  compareReports(report(row()), report(row(after)), bounds)[0]!.regressions;

test("equal reports have no regression", () => {
  expect(regressions({})).toEqual([]);
});

test("time may grow up to its bound and no further", () => {
  expect(regressions({ medianMs: 1.24 })).toEqual([]);
  expect(regressions({ medianMs: 1.26 })).toEqual(["time x1.26"]);
});

test("one more verification is a regression whatever the time", () => {
  expect(regressions({ counts: { verify: 3, hash: 20 }, medianMs: 0.5 })).toEqual(["verify 2 to 3"]);
});

test("bytes that grow are a regression", () => {
  expect(regressions({ bytes: 1600 })).toEqual(["bytes 1500 to 1600"]);
});

test("an operation that is cut now and was not before is a regression", () => {
  expect(regressions({ medianMs: null, cut: "> 120 s" })).toEqual(["> 120 s"]);
});

test("a peer that became slower is shown and is no regression", () => {
  const peer = { implementation: "ts-mls" } as const;
  const [comparison] = compareReports(report(row(peer)), report(row({ ...peer, medianMs: 9 })), bounds);
  expect(comparison).toMatchObject({ timeRatio: 9, regressions: [] });
});

test("rows that only one report has are left out", () => {
  expect(compareReports(report(row()), report(row({ members: 64 })), bounds)).toEqual([]);
});

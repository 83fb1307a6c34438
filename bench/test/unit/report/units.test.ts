import { expect, test } from "vitest";
import { ticksThatFit } from "../../../src/report/chart.ts";
import {
  formatBytes,
  formatDate,
  formatMicroseconds,
  formatRatio,
  joinWords,
  significant,
} from "../../../src/report/units.ts";

const plain = (text: string) => text.replaceAll("\u00a0", " ");

test.each([
  [0, "0 B"],
  [7, "7 B"],
  [999, "999 B"],
  [999.6, "1 kB"],
  [1234, "1.23 kB"],
  [999_499, "999 kB"],
  [999_500, "1 MB"],
  [2_340_000_000, "2.34 GB"],
])("%d bytes are %s", (bytes, text) => expect(plain(formatBytes(bytes))).toBe(text));

test.each([
  [0.0123, "0.0123 µs"],
  [12.345, "12.3 µs"],
  [1500, "1.5 ms"],
  [2_000_000, "2 s"],
  [600_000_000, "10 min"],
])("%d microseconds are %s", (us, text) => expect(plain(formatMicroseconds(us))).toBe(text));

test("figures have three significant digits and no exponent", () => {
  expect([0.00012345, 1.2345, 12.345, 123.45, 12345].map(significant)).toEqual([
    "0.000123",
    "1.23",
    "12.3",
    "123",
    "12,345",
  ]);
});

test("a ratio to nothing is no figure", () => {
  expect([formatRatio(1.5), formatRatio(1 / 0), formatRatio(0 / 0)]).toEqual(["×1.5", "–", "–"]);
});

test("dates are in UTC, and what is no date stays as it is", () => {
  expect(formatDate("2026-01-02T03:04:05.678Z")).toBe("2026-01-02 03:04 UTC");
  expect(formatDate("yesterday")).toBe("yesterday");
});

test("words are joined as they are said", () => {
  expect([[], ["a"], ["a", "b"], ["a", "b", "c"]].map(joinWords)).toEqual(["", "a", "a and b", "a, b and c"]);
});

test("labels of an axis stay apart, and the largest size keeps its own", () => {
  expect(ticksThatFit([2, 8, 255, 256, 10_000], 500)).toEqual([2, 8, 256, 10_000]);
  expect(ticksThatFit([64], 500)).toEqual([64]);
});

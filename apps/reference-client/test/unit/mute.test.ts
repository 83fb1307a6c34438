import { expect, test } from "vitest";
import { WrongUsage } from "../../src/arguments.ts";
import { parseUntil } from "../../src/commands/mute.ts";

test("a time to mute is minutes, hours, days, for ever or not at all", () => {
  expect(parseUntil("30m", 1_000)).toBe(1_000 + 30 * 60_000);
  expect(parseUntil("8h", 0)).toBe(8 * 3_600_000);
  expect(parseUntil("7d", 0)).toBe(7 * 86_400_000);
  expect(parseUntil("forever", 5)).toBe(Number.MAX_SAFE_INTEGER);
  expect(parseUntil("off", 5)).toBeUndefined();
  for (const text of ["", "8", "h", "-8h", "8 h", "99999h", "soon"])
    expect(() => parseUntil(text, 0)).toThrow(WrongUsage);
});

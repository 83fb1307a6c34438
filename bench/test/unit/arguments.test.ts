import { describe, expect, test } from "vitest";
import { parseArguments } from "../../src/arguments.ts";
import { parseMlsOptions } from "../../src/mls/run.ts";

const specification = { values: ["sizes"], switches: ["full"], positional: [] };

describe("arguments", () => {
  test("take values after a space or an equals sign, and switches", () => {
    const parsed = parseArguments(["--sizes", "8,9", "--full"], specification);
    expect(parsed.values.get("sizes")).toBe("8,9");
    expect(parsed.switches.has("full")).toBe(true);
    expect(parseArguments(["--sizes=8"], specification).values.get("sizes")).toBe("8");
  });

  test.each([
    [["--size", "8"], "unknown option --size"],
    [["--sizes"], "--sizes needs a value"],
    [["--sizes", "--full"], "--sizes needs a value"],
    [["--full=yes"], "unknown option --full=yes"],
    [["stray"], "unexpected argument stray"],
  ])("that are wrong are refused with one sentence: %j", (argv, sentence) => {
    expect(() => parseArguments(argv, specification)).toThrow(sentence);
  });

  test.each([
    [["--sizes", "64,7"], /whole numbers from 8 to 65536, not "7"/],
    [["--sizes", "1e3"], /not "1e3"/],
    [["--sizes", ""], /not ""/],
    [["--only", "openmls"], /not "openmls"/],
  ])("of mls outside their range are refused: %j", (argv, sentence) => {
    expect(() => parseMlsOptions(argv)).toThrow(sentence);
  });
});

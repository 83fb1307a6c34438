import { RejectionError, UnavailableError, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { WrongUsage } from "../../src/arguments.ts";
import { CommandFailed, explain } from "../../src/failures.ts";
import { formatSafetyNumber, json, printable } from "../../src/output.ts";

describe("text of other people", () => {
  test.each([
    ["\u001b[2Jgone", "<U+001B>[2Jgone"],
    ["a\rb", "a<U+000D>b"],
    ["abc\u202etxt.exe", "abc<U+202E>txt.exe"],
    ["\u009b31m", "<U+009B>31m"],
    ["two\nlines", "two\n    lines"],
    ["Grüße, 世界 👋", "Grüße, 世界 👋"],
  ])("%j is shown as %j", (text, shown) => expect(printable(text)).toBe(shown));
});

test("bytes become base64url in JSON, and a line stays a line", () => {
  expect(json({ key: new Uint8Array([1, 2]), text: "a\nb" })).toBe('{"key":"AQI","text":"a\\nb"}');
});

test("a safety number is shown in groups of five", () => {
  expect(formatSafetyNumber("1234567890".repeat(6)).split(" ")).toHaveLength(12);
});

describe("exit codes", () => {
  test.each([
    [new WrongUsage("No."), 2, "No."],
    [new CommandFailed("Cannot."), 1, "Cannot."],
    [
      new UnavailableError("transport/unreachable"),
      3,
      "The delivery service cannot be reached. (transport/unreachable)",
    ],
    [
      new UnavailableError("outbox/still-waiting"),
      3,
      "The delivery service cannot be reached; the message stays in the outbox. (outbox/still-waiting)",
    ],
    [
      new RejectionError("register/not-invited"),
      1,
      "This service asks for a valid invite code: ask its operator for one. (register/not-invited)",
    ],
    [
      new UsageError("conversation/not-a-group"),
      1,
      "This conversation is not a group. (conversation/not-a-group)",
    ],
  ])("%s", (error, exitCode, sentence) => expect(explain(error)).toEqual({ exitCode, sentence }));

  test.each([
    ["redis/too-old", "version 7"],
    ["redis/append-only-off", "append-only file"],
    ["redis/append-fsync-not-always", "appendfsync always"],
    ["redis/no-fsync-on-rewrite", "no-appendfsync-on-rewrite no"],
    ["redis/eviction-on", "maxmemory-policy noeviction"],
    ["redis/append-only-failing", "its disk"],
    ["redis/settings-hidden", "CONFIG GET"],
  ])("a node that does not start because of %s says what Redis needs", (code, needed) => {
    expect(explain(new UsageError(code))).toEqual({
      exitCode: 1,
      sentence: expect.stringMatching(new RegExp(`^(Redis|This Redis) .*${needed}.*\\(${code}\\)$`)),
    });
  });

  test("a bug keeps its stack", () => {
    expect(explain(new TypeError("oops"))).toMatchObject({
      exitCode: 1,
      sentence: expect.stringContaining("output.test"),
    });
  });
});

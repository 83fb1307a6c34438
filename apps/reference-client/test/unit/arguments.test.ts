import { describe, expect, test } from "vitest";
import { type CommandSpec, help, parseCommandLine, WrongUsage } from "../../src/arguments.ts";

const specs: readonly CommandSpec[] = [
  { path: ["things", "add"], summary: "Adds.", operands: [{ name: "THING", many: true }], options: {} },
  { path: ["things"], summary: "Lists.", operands: [], options: { json: { help: "as JSON" } } },
  { path: ["box", "open"], summary: "Opens.", operands: [], options: {} },
  { path: ["box", "shut"], summary: "Shuts.", operands: [], options: {} },
  {
    path: ["count"],
    summary: "Counts.",
    operands: [{ name: "FROM" }, { name: "TO", optional: true }],
    options: {
      limit: { value: "N", help: "at most", between: [1, 100] },
      colour: { value: "C", help: "which", oneOf: ["red", "blue"] },
    },
    homeless: true,
  },
];
const parse = (...argv: string[]) => parseCommandLine(argv, specs);
const run = (...argv: string[]) => {
  const line = parse(...argv);
  if (line.kind !== "run") throw new Error("help");
  return line;
};
const sentence = (...argv: string[]): string => {
  try {
    run(...argv);
  } catch (error) {
    if (error instanceof WrongUsage) return error.message;
    throw error;
  }
  return "accepted";
};

describe("finding the command", () => {
  test("by one word or two, the longer path first", () => {
    expect(run("things").spec.summary).toBe("Lists.");
    expect(run("things", "add", "a", "b").operands).toEqual(["a", "b"]);
    expect(run("things", "--json").options.flag("json")).toBe(true);
  });

  test("options may stand anywhere behind the command, operands behind -- may look like options", () => {
    const line = run("count", "--limit", "5", "1");
    expect([line.operands, line.options.integer("limit")]).toEqual([["1"], 5]);
    expect(line.options.integer("colour")).toBeUndefined();
    expect(run("count", "--limit=5", "--", "--json").operands).toEqual(["--json"]);
  });
});

describe("what begins with a dash and is no option", () => {
  const ids = ["-2ElDoJQUO6NJOrMdQbxZA", "--ElDoJQUO6NJOrMdQbxZA", "---lDoJQUO6NJOrMdQbxZA"];

  test.each([...ids, "-5 degrees", "-"])("%s is an operand", (argument) => {
    expect(run("count", argument, "--limit", "5").operands).toEqual([argument]);
    expect(run("count", "--", argument).operands).toEqual([argument]);
  });

  test("is the value of the option that it follows", () => {
    expect(run("things", "--home", ids[0]!).options.text("home")).toBe(ids[0]);
    expect(sentence("count", "1", "--limit", "-5")).toBe(
      '--limit takes a whole number from 1 to 100, not "-5".',
    );
  });

  test("an option that nobody knows is not taken for an id, unless it is as long as one", () => {
    expect(sentence("count", "1", "--colours")).toContain("--colours");
    expect(run("count", "1", "--ElDoJQUO6NJOrMdQbxZA").operands).toHaveLength(2);
  });
});

describe("help", () => {
  test("without arguments, with --help, and with the word", () => {
    for (const argv of [[], ["--help"], ["help"]]) {
      const line = parse(...argv);
      expect(line.kind === "help" && line.text).toMatch(/things add {2}Adds\.[\s\S]*Exit: 0 done/);
    }
  });

  test("of a family of commands", () => {
    const line = parse("box", "--help");
    expect(line.kind === "help" && line.text).toMatch(/box open[\s\S]*box shut/);
  });

  test("of one command names its operands and options, and the home folder where it has one", () => {
    expect(help(specs[4]!)).toMatch(/Usage: murmuration count FROM \[TO\] \[--limit N\] \[--colour C\]/);
    expect(help(specs[4]!)).not.toContain("--home");
    expect(help(specs[0]!)).toMatch(/THING\.\.\.[\s\S]*--home DIR/);
    expect(parse("count", "--help").kind).toBe("help");
  });
});

describe("wrong usage is one clear sentence", () => {
  test.each([
    [["frobnicate"], 'There is no command "frobnicate"; see murmuration --help.'],
    [["box"], '"murmuration box" goes on with one of: open, shut.'],
    [["box", "eat"], '"murmuration box" goes on with one of: open, shut.'],
    [["--json"], 'The first argument must be a command, not "--json"; see murmuration --help.'],
    [["count"], "murmuration count needs FROM; see murmuration count --help."],
    [["things", "add"], "murmuration things add needs THING; see murmuration things add --help."],
    [
      ["count", "1", "2", "3"],
      'murmuration count does not know what to do with "3"; see murmuration count --help.',
    ],
    [["count", "1", "--limit", "many"], '--limit takes a whole number from 1 to 100, not "many".'],
    [["count", "1", "--limit", "101"], '--limit takes a whole number from 1 to 100, not "101".'],
    [["count", "1", "--colour", "green"], '--colour takes one of red, blue, not "green".'],
    [["count", "1", "--limit="], "--limit needs a value that is not empty."],
    [["count", ""], "murmuration count was given an empty argument."],
  ])("%j", (argv, message) => expect(sentence(...argv)).toBe(message));

  test.each([
    [["count", "1", "--nope"], "--nope"],
    [["count", "1", "--limit"], "--limit"],
    [["things", "--json=1"], "--json"],
    [["count", "1", "--home", "x"], "--home"],
  ])("%j names %s", (argv, option) => {
    expect(sentence(...argv)).toMatch(new RegExp(`^[^\\n]*${option}[^\\n]*--help\\.$`));
  });
});

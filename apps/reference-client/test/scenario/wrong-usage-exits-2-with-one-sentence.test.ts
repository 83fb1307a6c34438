import { afterAll, describe, expect, test } from "vitest";
import { help } from "../../src/arguments.ts";
import { commands } from "../../src/commands/index.ts";
import { Stage } from "../cli.ts";

const stage = new Stage();
afterAll(() => stage.end());

describe("wrong usage", () => {
  test.each([
    [["frobnicate"]],
    [["group"]],
    [["send", "bob"]],
    [["history", "bob", "--limit", "0"]],
    [["serve", "--port", "70000"]],
    [["serve", "--log-level", "loud"]],
    [["serve", "--invite-code", "short"]],
    [["serve", "--config", "not-there.json"]],
    [["serve", "--store", "cluster"]],
    [["demo", "--members", "1"]],
    [["demo", "--members", "many"]],
    [["demo", "--from", "6", "--to", "12"]],
    [["demo", "--from", "6", "--to", "6", "--chatter"]],
    [["demo", "--kills"]],
    [["listen", "--nope"]],
  ])("%j", async (argv) => {
    const { code, stdout, stderr } = await stage.run("nobody", ...argv);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^murmuration: [^\n]+\.\n$/);
  });
});

describe("--help", () => {
  test.each(commands.map((command) => [command.path.join(" "), command] as const))("%s", (name, command) => {
    const text = help(command);
    expect(text).toContain(`Usage: murmuration ${name}`);
    expect(text).toContain("--help");
    expect(command.summary).toMatch(/^[A-Z][^\n]*\.$/);
  });

  test("exits with 0, also where the home folder is empty", async () => {
    expect(await stage.run("nobody", "send", "--help")).toMatchObject({ code: 0, stderr: "" });
    expect((await stage.run("nobody")).stdout).toContain("safety-number");
  });

  test("without an account a command says what to do", async () => {
    expect(await stage.run("nobody", "whoami")).toMatchObject({
      code: 1,
      stderr: "murmuration: There is no account in this home folder; see murmuration register.\n",
    });
  });
});

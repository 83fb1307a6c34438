import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "../command.ts";
import { makePlan } from "../demo/plan.ts";
import { formatReport, isClean } from "../demo/report.ts";
import { runDemo } from "../demo/run.ts";
import { CommandFailed, EXIT_FAILED } from "../failures.ts";
import { createProgress } from "../progress.ts";

/** Faults that are printed; the counts are complete. */
const SHOWN_FAULTS = 20;

export const demo: Command = {
  path: ["demo"],
  summary: "Runs a delivery service and many clients, kills some on the way, and counts what arrived.",
  operands: [],
  homeless: true,
  options: {
    members: { value: "N", help: "members of the group (default: 8)", between: [2, 10_000] },
    messages: { value: "M", help: "messages to send (default: 50)", between: [1, 100_000] },
    light: { help: "plain database files instead of encrypted ones: for a thousand clients on one machine" },
    json: { value: "FILE", help: "also write the result as JSON" },
    seed: { value: "S", help: "repeat the schedule of an earlier run", between: [0, 2 ** 32 - 1] },
  },
  notes:
    "Everything is real: processes, sockets, databases, keys. From 256 members on the group is a community over\n" +
    "MLS. The first messages come from one member in a process of its own: a few that warm it up, then some that\n" +
    "are measured; then several members send while processes are killed.\n" +
    "The seed decides who sends and what is killed when. Exit code 1 when anything is lost or doubled.",
  async run({ options, print, terminal, signal }) {
    const members = options.integer("members") ?? 8;
    const messages = options.integer("messages") ?? 50;
    const seed = options.integer("seed") ?? randomInt(2 ** 32);
    const target = options.text("json");
    if (target !== undefined) writeResult(target, "");
    const folder = mkdtempSync(join(tmpdir(), "murmuration-demo-"));
    try {
      print(`${members} members, ${messages} messages, seed ${seed}\n`);
      const { report, faults, killsUnderWay } = await runDemo(
        makePlan(members, messages, seed, options.flag("light")),
        folder,
        createProgress(terminal.errors),
        signal,
      );
      if (target !== undefined) writeResult(target, `${JSON.stringify(report, null, 2)}\n`);
      for (const fault of faults.slice(0, SHOWN_FAULTS)) print(fault);
      print(formatReport(report, killsUnderWay));
      return isClean(report) ? 0 : EXIT_FAILED;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

/** Also tried before the run, so that a wrong path is said at once and not after it. */
function writeResult(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new CommandFailed(
      `The file for the result cannot be written (${(error as NodeJS.ErrnoException).code}).`,
    );
  }
}

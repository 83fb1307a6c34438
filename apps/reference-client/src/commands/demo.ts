import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Options, WrongUsage } from "../arguments.ts";
import type { Command } from "../command.ts";
import { MLS_THRESHOLD, makeMovePlan, makePlan, type Plan, pauseMsOf } from "../demo/plan.ts";
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
    from: {
      value: "N",
      help: "with --to and --chatter: members of a pairwise group that moves to MLS",
      between: [2, MLS_THRESHOLD - 1],
    },
    to: { value: "N", help: "members that it has after the move", between: [3, 10_000] },
    chatter: { help: "some talk all the time while the group moves; ends when all are in" },
    kills: { help: "with --chatter: kill the service and the creator on the way" },
    light: { help: "plain database files instead of encrypted ones: for a thousand clients on one machine" },
    json: { value: "FILE", help: "also write the result as JSON" },
    seed: { value: "S", help: "repeat the schedule of an earlier run", between: [0, 2 ** 32 - 1] },
  },
  notes:
    "Everything is real: processes, sockets, databases, keys. From 256 members on the group is a community over\n" +
    "MLS. The first messages come from one member in a process of its own: a few that warm it up, then some that\n" +
    "are measured; then several members send while processes are killed.\n" +
    "With --from, --to and --chatter a pairwise group is formed, members talk, and the rest is added: it moves to MLS\n" +
    "meanwhile. Below 256 members in the end the threshold is lowered for it.\n" +
    "The seed decides who sends and what is killed when. Exit code 1 when anything is lost or doubled, or\n" +
    "out of its sender's order after a move.",
  async run({ options, print, terminal, signal }) {
    const plan = planOf(options);
    const target = options.text("json");
    if (target !== undefined) writeResult(target, "");
    const folder = mkdtempSync(join(tmpdir(), "murmuration-demo-"));
    try {
      print(`${describePlan(plan)}, seed ${plan.seed}\n`);
      const { report, faults, killsUnderWay } = await runDemo(
        plan,
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

/** Throws WrongUsage where options do not go together. */
function planOf(options: Options): Plan {
  const seed = options.integer("seed") ?? randomInt(2 ** 32);
  const light = options.flag("light");
  const [from, to] = [options.integer("from"), options.integer("to")];
  const given = [from !== undefined, to !== undefined, options.flag("chatter")];
  if (!given.includes(true)) {
    if (options.flag("kills"))
      throw new WrongUsage("--kills goes with --chatter; other runs kill by themselves.");
    return makePlan(options.integer("members") ?? 8, options.integer("messages") ?? 50, seed, light);
  }
  if (given.includes(false)) throw new WrongUsage("--from, --to and --chatter go together.");
  for (const name of ["members", "messages"])
    if (options.text(name) !== undefined) throw new WrongUsage(`--${name} does not go with --chatter.`);
  if (to! <= from!) throw new WrongUsage("--to has to be more than --from.");
  return makeMovePlan({ from: from!, to: to!, seed, light, kills: options.flag("kills") });
}

function describePlan({ members, founders, messages, move }: Plan): string {
  if (move === undefined) return `${members} members, ${messages.length} messages`;
  return (
    `from ${founders} to ${members} members, over MLS from ${move.mlsThreshold} on, ` +
    `${move.talkers.length} talk: ${(1000 / pauseMsOf(founders)).toFixed(1)} messages a second`
  );
}

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

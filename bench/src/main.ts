/** `npm run bench -- <sub-command>`: see benchmarks in the README. */
import { UsageError } from "@murmuration/base";
import { compareHelp, runCompare } from "./compare.ts";
import { deliveryHelp, runDelivery } from "./delivery/run.ts";
import { fanoutHelp, runFanout } from "./fanout/run.ts";
import { growHelp, runGrow } from "./grow.ts";
import { mlsHelp, runMls } from "./mls/run.ts";
import { pageHelp, runPage } from "./report/page-file.ts";
import { readmeHelp, runReadme } from "./report/readme.ts";
import { reportHelp, runReport } from "./report/run.ts";

interface SubCommand {
  readonly help: string;
  readonly run: (argv: readonly string[]) => number | Promise<number>;
}

const subCommands: Readonly<Record<string, SubCommand>> = {
  all: { help: reportHelp, run: runReport },
  delivery: { help: deliveryHelp, run: runDelivery },
  fanout: { help: fanoutHelp, run: runFanout },
  mls: { help: mlsHelp, run: runMls },
  grow: { help: growHelp, run: runGrow },
  compare: { help: compareHelp, run: runCompare },
  report: { help: pageHelp, run: runPage },
  readme: { help: readmeHelp, run: runReadme },
};

async function main(argv: readonly string[]): Promise<number> {
  // Flags alone are those of the whole report.
  const [name, ...rest] = argv[0]?.startsWith("--") === false ? argv : ["all", ...argv];
  const names = Object.keys(subCommands).join(", ");
  if (name === "help" || argv[0] === "--help") {
    for (const { help } of Object.values(subCommands)) console.log(`${help}\n`);
    return 0;
  }
  const subCommand = name !== undefined && Object.hasOwn(subCommands, name) ? subCommands[name] : undefined;
  if (subCommand === undefined) throw new UsageError("bench/arguments", `"${name}" is none of: ${names}`);
  if (rest.includes("--help")) {
    console.log(subCommand.help);
    return 0;
  }
  return subCommand.run(rest);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(error.message.replace(/^[\w/-]+: /, ""));
  process.exitCode = 2;
}

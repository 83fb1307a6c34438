/** The `murmuration` command line: parses, runs one command, turns what went wrong into a sentence and a code. */
import { parseCommandLine } from "./arguments.ts";
import type { Terminal } from "./command.ts";
import { commands } from "./commands/index.ts";
import { readSurroundings } from "./config.ts";
import { explain } from "./failures.ts";

async function main(argv: readonly string[], terminal: Terminal, signal: AbortSignal): Promise<number> {
  const line = parseCommandLine(argv, commands);
  if (line.kind === "help") {
    terminal.output.write(line.text);
    return 0;
  }
  const code = await line.spec.run({
    options: line.options,
    operands: line.operands,
    surroundings: readSurroundings(),
    terminal,
    signal,
    print: (text) => void terminal.output.write(`${text}\n`),
  });
  return code ?? 0;
}

const interrupted = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(name, () => {
    interrupted.abort();
    // A second signal ends the process at once: whatever is on disk is consistent at every moment.
    process.once(name, () => process.exit(1));
  });
}
// A reader that has seen enough closes the pipe: that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  const terminal = { input: process.stdin, output: process.stdout, errors: process.stderr };
  process.exitCode = await main(process.argv.slice(2), terminal, interrupted.signal);
} catch (error) {
  const { sentence, exitCode } = explain(error);
  process.stderr.write(`murmuration: ${sentence}\n`);
  process.exitCode = exitCode;
}

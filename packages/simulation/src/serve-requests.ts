import { createInterface } from "node:readline";
import { MurmurationError } from "@murmuration/base";

// biome-ignore lint/suspicious/noExplicitAny: each handler names the shape of its own parameters.
export type Handlers = Readonly<Record<string, (parameters: any) => unknown>>;

/**
 * The worker's half of `WorkerProcess`: answers requests in the order in which they are done. When standard input
 * ends (also because whoever started us died) `end` runs and the process exits.
 */
export function serveRequests(handlers: Handlers, end: () => Promise<void>): void {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const { id, op, parameters } = JSON.parse(line) as { id: number; op: string; parameters: object };
    answer(handlers, op, parameters).then(
      (value) => process.stdout.write(`${JSON.stringify({ id, value })}\n`),
      (error: unknown) => {
        const code = error instanceof MurmurationError ? error.code : String(error);
        process.stdout.write(`${JSON.stringify({ id, error: code })}\n`);
      },
    );
  });
  lines.on("close", () => {
    end().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  });
}

async function answer(handlers: Handlers, op: string, parameters: object): Promise<unknown> {
  const handler = Object.hasOwn(handlers, op) ? handlers[op] : undefined;
  if (handler === undefined) throw new Error("unknown operation");
  return handler(parameters);
}

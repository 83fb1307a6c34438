/** What a command is, and what it may use. */
import type { Readable, Writable } from "node:stream";
import type { Client } from "@murmuration/client-core";
import type { CommandSpec, Options } from "./arguments.ts";
import type { Surroundings } from "./config.ts";
import { CommandFailed } from "./failures.ts";

export interface Terminal {
  readonly input: Readable & { readonly isTTY?: boolean };
  readonly output: Writable & { readonly isTTY?: boolean };
  readonly errors: Writable & { readonly isTTY?: boolean; readonly columns?: number };
}

export interface CommandContext {
  readonly options: Options;
  readonly operands: readonly string[];
  readonly surroundings: Surroundings;
  readonly terminal: Terminal;
  /** Aborts when the user interrupts. */
  readonly signal: AbortSignal;
  /** Prints one line to standard output. */
  print(line: string): void;
}

export interface Command extends CommandSpec {
  /** Returns the exit code; nothing means 0. */
  readonly run: (context: CommandContext) => Promise<number | undefined>;
}

/** Time a command waits for the delivery service. */
const DEFAULT_WAIT_S = 15;
export const waitOption = {
  wait: {
    value: "SECONDS",
    help: `how long to wait for the delivery service (default: ${DEFAULT_WAIT_S})`,
    between: [1, 3600],
  },
} as const;
export const jsonOption = { json: { help: "print JSON" } } as const;

/** Connects and receives everything that waits. Throws UnavailableError when that takes too long. */
export async function catchUp(client: Client, context: CommandContext): Promise<void> {
  client.connection.start();
  await unlessInterrupted(client.connection.caughtUp(waitMs(context)), context.signal);
}

/** Waits until everything that this command made is accepted. Throws UnavailableError; the outbox keeps it. */
export async function settle(client: Client, context: CommandContext, messageId?: string): Promise<void> {
  client.connection.start();
  const which = messageId === undefined ? {} : { messageId };
  await unlessInterrupted(client.outbox.settled({ ...which, timeoutMs: waitMs(context) }), context.signal);
}

export const waitMs = ({ options }: CommandContext): number =>
  (options.integer("wait") ?? DEFAULT_WAIT_S) * 1000;

async function unlessInterrupted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const interrupted = new Promise<never>((_, reject) => {
    const stop = (): void => reject(new CommandFailed("Interrupted; what was begun is in the outbox."));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
  // The loser of the race may still fail later; nobody is left to hear of it.
  work.catch(() => undefined);
  return Promise.race([work, interrupted]);
}

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./probe.ts";
import { redisProgram } from "./programs.ts";
import { ServerProcess } from "./server-process.ts";

export interface LocalRedis {
  readonly url: string;
  /** Starts it again after a kill, on the same port and data. */
  start(): Promise<void>;
  kill(): Promise<void>;
  freeze(): void;
  thaw(): void;
  /** Deletes what is on its disk; to be called between `kill` and `start`. */
  loseDisk(): void;
  /** Ends it and deletes its data. */
  dispose(): Promise<void>;
}

/**
 * Starts a Redis of its own on a free port of this machine: append-only file, on the disk before a command is answered.
 * `settings` are added to its own. Rejects with a sentence where Redis is not installed.
 */
export async function startLocalRedis(settings: Readonly<Record<string, string>> = {}): Promise<LocalRedis> {
  const program = redisProgram();
  if (program === undefined) throw new Error("Redis is not installed: npm run services -- --install");
  const directory = mkdtempSync(join(tmpdir(), "murmuration-redis-"));
  const port = await freePort();
  const server = new ServerProcess(redisCommand(program, directory, port, settings), port);
  const dispose = async () => {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await server.start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    start: () => server.start(),
    kill: () => server.kill(),
    freeze: () => server.freeze(),
    thaw: () => server.thaw(),
    loseDisk: () => {
      for (const name of ["appendonlydir", "dump.rdb"]) {
        rmSync(join(directory, name), { recursive: true, force: true });
      }
    },
    dispose,
  };
}

/** The command that runs such a Redis in the foreground. */
export function redisCommand(
  program: string,
  directory: string,
  port: number,
  more: Readonly<Record<string, string>> = {},
): readonly string[] {
  const settings = {
    bind: "127.0.0.1",
    port,
    dir: directory,
    appendonly: "yes",
    appendfsync: "always",
    save: "",
    "maxmemory-policy": "noeviction",
    ...more,
  };
  return [program, ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])];
}

/** Runs the real command line as processes, in a folder of their own. Whatever it starts, `end` ends by id. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const NODE_FLAGS = ["--conditions=@murmuration/source", "--experimental-strip-types"];

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Lines of standard output, parsed. */
  readonly json: readonly Record<string, unknown>[];
}

/** A command under way. */
export class Running {
  readonly process: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly finished: Promise<Finished>;
  stdout = "";
  stderr = "";

  constructor(args: readonly string[], environment: NodeJS.ProcessEnv) {
    this.process = spawn(process.execPath, [...NODE_FLAGS, MAIN, ...args], {
      env: environment,
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.process.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    this.process.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.finished = new Promise((resolve) => {
      this.process.on("close", (code) => {
        const { stdout, stderr } = this;
        resolve({ code, stdout, stderr, json: parseLines(stdout) });
      });
    });
  }

  /** Resolves as soon as standard output matches. Throws when the process ends before. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.stdout);
      if (match !== null) return match;
      if (this.process.exitCode !== null)
        throw new Error(`ended without ${pattern}: ${this.stdout}${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function parseLines(text: string): Record<string, unknown>[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A service and some people, each with a home folder. */
export class Stage {
  readonly folder = mkdtempSync(join(tmpdir(), "murmuration-cli-"));
  private readonly running = new Set<Running>();
  private service: Running | undefined;
  server = "";

  /** Starts a command; `home` is a name, not a path. */
  start(home: string, ...args: string[]): Running {
    const { PATH, NODE_COMPILE_CACHE, NODE_OPTIONS } = process.env;
    const environment = {
      PATH,
      NODE_COMPILE_CACHE,
      NODE_OPTIONS,
      MURMURATION_HOME: join(this.folder, home),
      MURMURATION_SERVER: this.server,
    };
    const running = new Running(args, environment);
    this.running.add(running);
    void running.finished.then(() => this.running.delete(running));
    return running;
  }

  /** Runs a command to its end. */
  run(home: string, ...args: string[]): Promise<Finished> {
    const running = this.start(home, ...args);
    running.process.stdin.end();
    return running.finished;
  }

  /** Runs a command that must succeed. Throws with what it said otherwise. */
  async ok(home: string, ...args: string[]): Promise<Finished> {
    const finished = await this.run(home, ...args);
    if (finished.code !== 0) throw new Error(`${args.join(" ")}: exit ${finished.code}: ${finished.stderr}`);
    return finished;
  }

  /** Starts the delivery service, on the port it had before if it ran before. */
  async serve(): Promise<void> {
    const port = this.server === "" ? "0" : new URL(this.server).port;
    this.service = this.start("service", "serve", "--port", port, "--data", join(this.folder, "service"));
    const [, address] = await this.service.says(/listening on (http:\/\/\S+)\n/);
    this.server = address!;
  }

  /** SIGKILL. */
  async killService(): Promise<void> {
    this.service?.process.kill("SIGKILL");
    await this.service?.finished;
  }

  /** Registers people and gives everybody everybody's contact card, under their names. */
  async introduce(...names: string[]): Promise<void> {
    const cards = new Map<string, string>();
    for (const name of names) {
      const { json } = await this.ok(name, "register", "--name", name, "--json");
      cards.set(name, json[0]!["contactCard"] as string);
    }
    for (const name of names) {
      for (const [other, card] of cards) {
        if (other !== name) await this.ok(name, "contacts", "add", card, "--name", other);
      }
    }
  }

  async end(): Promise<void> {
    for (const running of this.running) {
      running.process.kill("SIGKILL");
      await running.finished;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

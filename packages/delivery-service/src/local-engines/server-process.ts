import { type ChildProcess, spawn } from "node:child_process";
import { untilAnswers } from "./probe.ts";

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** A server of its own process, which ends with this one at the latest, that can be killed and started again on the same port and data. */
export class ServerProcess {
  readonly port: number;
  private readonly command: readonly string[];
  private child: ChildProcess | undefined;

  constructor(command: readonly string[], port: number) {
    this.command = command;
    this.port = port;
  }

  /** Resolves when it accepts connections. */
  async start(): Promise<void> {
    let printed = "";
    const child = spawn(this.command[0]!, this.command.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    living.add(child);
    child.once("exit", () => living.delete(child));
    const note = (chunk: Buffer) => {
      printed = (printed + chunk.toString()).slice(-2_000);
    };
    child.stdout.on("data", note);
    child.stderr.on("data", note);
    const ended = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(String(error)));
      child.once("close", (code) => resolve(`${this.command[0]} ended with ${code}: ${printed}`));
    });
    await untilAnswers(this.port, 20_000, ended);
  }

  /** SIGKILL to the process by its id; resolves when it is gone. */
  kill(): Promise<void> {
    return this.end("SIGKILL");
  }

  /** Asks it to end, and kills it after five seconds. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const timer = setTimeout(() => this.child?.kill("SIGKILL"), 5_000);
    await this.end(signal);
    clearTimeout(timer);
  }

  /** SIGSTOP: connections stay, nothing answers. */
  freeze(): void {
    this.child?.kill("SIGSTOP");
  }

  thaw(): void {
    this.child?.kill("SIGCONT");
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("close", resolve));
    child.kill(signal);
    child.kill("SIGCONT");
    await gone;
  }
}

/** How often a file or a pipe gets a line, ms. */
const LINE_EVERY_MS = 15_000;

/** One line that is written over on a terminal; a line now and then anywhere else. */
export class Progress {
  private readonly stream: NodeJS.WriteStream;
  private readonly total: number;
  private readonly startedMs: number;
  private done = 0;
  private linedMs: number;

  constructor(total: number, stream: NodeJS.WriteStream = process.stderr) {
    this.total = total;
    this.stream = stream;
    this.startedMs = performance.now();
    this.linedMs = this.startedMs;
  }

  show(what: string): void {
    const nowMs = performance.now();
    const seconds = Math.round((nowMs - this.startedMs) / 1000);
    if (!this.stream.isTTY) {
      if (nowMs < this.linedMs + LINE_EVERY_MS) return;
      this.linedMs = nowMs;
      this.stream.write(`${seconds} s, ${this.done} of ${this.total} parts: ${what}\n`);
      return;
    }
    const width = 20;
    const filled = Math.round((this.done / this.total) * width);
    const bar = "#".repeat(filled).padEnd(width, ".");
    this.stream.write(`\r\x1b[2K[${bar}] ${seconds} s  ${what}`);
  }

  step(): void {
    this.done++;
  }

  clear(): void {
    if (this.stream.isTTY) this.stream.write("\r\x1b[2K");
  }
}

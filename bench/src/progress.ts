/** One line that is written over, on a terminal only; a file or a pipe gets nothing of it. */
export class Progress {
  private readonly stream: NodeJS.WriteStream;
  private readonly total: number;
  private readonly startedMs: number;
  private done = 0;

  constructor(total: number, stream: NodeJS.WriteStream = process.stderr) {
    this.total = total;
    this.stream = stream;
    this.startedMs = performance.now();
  }

  show(what: string): void {
    if (!this.stream.isTTY) return;
    const width = 20;
    const filled = Math.round((this.done / this.total) * width);
    const seconds = Math.round((performance.now() - this.startedMs) / 1000);
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

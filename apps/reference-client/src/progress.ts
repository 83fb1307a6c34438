/** A progress bar on a terminal; elsewhere one line a stage, and one every ten seconds of a stage that takes longer. */
export interface Progress {
  /** Begins a stage of `total` steps. */
  stage(label: string, total: number): void;
  step(count?: number): void;
  /** Removes the bar. */
  end(): void;
}

export interface ProgressOutput {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

const BAR = 30;

/** The bar's line for a state; never wider than the terminal. */
export function progressLine(label: string, done: number, total: number, columns: number): string {
  const share = total === 0 ? 1 : Math.min(1, done / total);
  const filled = Math.round(share * BAR);
  const bar = "#".repeat(filled).padEnd(BAR, ".");
  return `[${bar}] ${done}/${total} ${label}`.slice(0, Math.max(0, columns - 1));
}

const LINE_EVERY_MS = 10_000;

export function createProgress(output: ProgressOutput, now: () => number = Date.now): Progress {
  let label = "";
  let total = 0;
  let done = 0;
  let lineAtMs = 0;
  const draw = (): void => {
    if (output.isTTY) output.write(`\r\u001b[2K${progressLine(label, done, total, output.columns || 80)}`);
    else if (now() - lineAtMs >= LINE_EVERY_MS) line(`${label}: ${done} of ${total}`);
  };
  const line = (text: string): void => {
    lineAtMs = now();
    output.write(`${text}\n`);
  };
  return {
    stage(next, steps) {
      label = next;
      total = steps;
      done = 0;
      if (output.isTTY) draw();
      else line(next);
    },
    step(count = 1) {
      done += count;
      draw();
    },
    end() {
      if (output.isTTY) output.write("\r\u001b[2K");
    },
  };
}

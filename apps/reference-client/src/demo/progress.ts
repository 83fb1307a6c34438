/** A progress bar on a terminal, one line a stage elsewhere. */
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

export function createProgress(output: ProgressOutput): Progress {
  let label = "";
  let total = 0;
  let done = 0;
  const draw = (): void => {
    if (output.isTTY) output.write(`\r\u001b[2K${progressLine(label, done, total, output.columns || 80)}`);
  };
  return {
    stage(next, steps) {
      label = next;
      total = steps;
      done = 0;
      if (output.isTTY) draw();
      else output.write(`${next}\n`);
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

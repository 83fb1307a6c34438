/** Processes of load clients, and how work is shared among them. */
import { WorkerLink } from "../worker-link.ts";

/** Everything that a run has started: ended when it is over, and at once on an interrupt. */
export class Running {
  private readonly stops = new Set<() => void>();

  /** Starts processes of load clients; `end` ends them. */
  clients(entry: "reader-worker" | "device-worker", count: number): { links: WorkerLink[]; end(): void } {
    const url = new URL(`./${entry}.ts`, import.meta.url);
    const links = Array.from({ length: count }, (_, i) => new WorkerLink(url, `${entry} ${i}`));
    const end = () => {
      for (const link of links) link.stop();
    };
    return { links, end: this.add(end) };
  }

  /** Returns the same, to be called when it is over. */
  add(stop: () => void): () => void {
    this.stops.add(stop);
    return () => {
      this.stops.delete(stop);
      stop();
    };
  }

  stopAll(): void {
    for (const stop of this.stops) stop();
    this.stops.clear();
  }
}

/** The items of each of so many parts, in order, as even as can be. */
export function shares<T>(items: readonly T[], parts: number): T[][] {
  return Array.from({ length: parts }, (_, part) =>
    items.slice(Math.floor((part * items.length) / parts), Math.floor(((part + 1) * items.length) / parts)),
  );
}

/** Processes of load clients, and how work is shared among them. */
import { WorkerLink } from "../worker-link.ts";

interface Clients {
  readonly links: readonly WorkerLink[];
  end(): void;
}

/** Everything that a run has started: ended when it is over, and at once on an interrupt. */
export class Running {
  private readonly stops = new Set<() => unknown>();
  private sharedReaders: Clients | undefined;

  /** Starts processes of load clients; `end` ends them. */
  clients(entry: "reader-worker" | "device-worker", count: number): Clients {
    const url = new URL(`./${entry}.ts`, import.meta.url);
    const links = Array.from({ length: count }, (_, i) => new WorkerLink(url, `${entry} ${i}`));
    const end = () => {
      for (const link of links) link.stop();
    };
    return { links, end: this.add(end) };
  }

  /** Processes of readers for all sections, one section at a time: each cuts its connections before its server ends. */
  readers(count: number): readonly WorkerLink[] {
    this.sharedReaders ??= this.clients("reader-worker", count);
    return this.sharedReaders.links;
  }

  /** Returns the same, to be called when it is over. */
  add<T>(stop: () => T): () => T {
    this.stops.add(stop);
    return () => {
      this.stops.delete(stop);
      return stop();
    };
  }

  /** Resolves when nothing of it is left, on this machine or in an engine. */
  async stopAll(): Promise<void> {
    const stops = [...this.stops];
    this.stops.clear();
    await Promise.all(stops.map((stop) => stop()));
  }
}

/** Cuts the connections of all clients. */
export async function cutAll(links: readonly WorkerLink[]): Promise<void> {
  await Promise.all(links.map((link) => link.request("cut")));
}

/** The items of each of so many parts, in order, as even as can be. */
export function shares<T>(items: readonly T[], parts: number): T[][] {
  return Array.from({ length: parts }, (_, part) =>
    items.slice(Math.floor((part * items.length) / parts), Math.floor(((part + 1) * items.length) / parts)),
  );
}

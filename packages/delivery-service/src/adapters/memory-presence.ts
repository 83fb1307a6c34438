import type { Presence } from "../ports/presence.ts";

/** {@link Presence} of nodes in one process; alone, nobody is connected elsewhere. */
export class MemoryPresence implements Presence {
  private readonly nodes: Map<string, MemoryPresence>;
  private readonly node: string;
  private readonly here = new Set<string>();

  constructor(nodes: Map<string, MemoryPresence> = new Map()) {
    this.nodes = nodes;
    this.node = `node ${nodes.size}`;
    nodes.set(this.node, this);
  }

  came(name: string): void {
    this.here.add(name);
  }

  went(name: string): void {
    this.here.delete(name);
  }

  async elsewhere(names: readonly string[]): Promise<readonly (string | undefined)[]> {
    const others = [...this.nodes].filter(([, other]) => other !== this);
    return names.map((name) => others.find(([, { here }]) => here.has(name))?.[0]);
  }

  isAlive(node: string): boolean {
    return this.nodes.has(node);
  }

  async close(): Promise<void> {
    this.nodes.delete(this.node);
  }
}

/**
 * A TCP proxy on loopback that stands between clients and the delivery service and does to their connections what
 * networks do: it delays, throttles, cuts, turns half-open, refuses and parts. It needs no privileges and no kernel
 * module, and works on bytes: what they mean is unknown to it.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { FaultLine } from "./fault-line.ts";
import { type LinkShape, perfectLink } from "./link-shape.ts";
import { type SeededRandom, seededRandom } from "./seeded-random.ts";

/** Which way bytes vanish on a half-open connection. */
export type Direction = "to-service" | "to-client" | "both";

export interface FaultProxyOptions {
  /** Port of the service on loopback; a function when it may change. */
  readonly target: number | (() => number);
  /** Places the jitter and picks the connections that are hit. */
  readonly random?: SeededRandom;
  /** Connections at a time; further ones are reset. Default 1,024. */
  readonly maxConnections?: number;
}

/** What has happened so far, for tests that must know that their faults hit something. */
export interface FaultCounts {
  accepted: number;
  refused: number;
  cut: number;
  halfOpened: number;
  passedBytes: number;
  swallowedBytes: number;
}

interface Pair {
  readonly client: Socket;
  readonly service: Socket;
  readonly toService: FaultLine;
  readonly toClient: FaultLine;
}

/** Starts a proxy on a free port. Dispose of it to end all of its connections. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return new FaultProxy(server, options);
}

export class FaultProxy {
  readonly port: number;
  readonly counts: FaultCounts = {
    accepted: 0,
    refused: 0,
    cut: 0,
    halfOpened: 0,
    passedBytes: 0,
    swallowedBytes: 0,
  };
  private readonly server: Server;
  private readonly target: () => number;
  private readonly random: SeededRandom;
  private readonly maxConnections: number;
  private readonly pairs = new Set<Pair>();
  private link = perfectLink;
  private refusing = false;
  private parted = false;

  constructor(server: Server, options: FaultProxyOptions) {
    const { target } = options;
    this.server = server;
    this.port = (server.address() as AddressInfo).port;
    this.target = typeof target === "number" ? () => target : target;
    this.random = options.random ?? seededRandom();
    this.maxConnections = options.maxConnections ?? 1024;
    server.on("connection", (client) => this.accept(client));
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Connections that are open now, half-open ones included. */
  get open(): number {
    return this.pairs.size;
  }

  /** Delays and throttles from now on, open connections included; what is left out is perfect. */
  shape(shape: Partial<LinkShape>): void {
    this.link = { ...perfectLink, ...shape };
  }

  /** Resets connections, all of them or each with this chance. Returns how many. */
  cut(chance = 1): number {
    return this.strike(chance, (pair) => {
      this.end(pair);
      this.counts.cut++;
    });
  }

  /**
   * Lets bytes vanish without a word on connections that are open now, all of them or each with this chance. They
   * never come back; only their ends can find out. New connections are not concerned. Returns how many.
   */
  halfOpen(direction: Direction = "both", chance = 1): number {
    return this.strike(chance, (pair) => {
      if (direction !== "to-client") pair.toService.swallow();
      if (direction !== "to-service") pair.toClient.swallow();
      this.counts.halfOpened++;
    });
  }

  private strike(chance: number, fault: (pair: Pair) => void): number {
    const hit = [...this.pairs].filter(() => this.random.next() < chance);
    for (const pair of hit) fault(pair);
    return hit.length;
  }

  /** Resets every new connection until `heal`. */
  refuse(): void {
    this.refusing = true;
  }

  /**
   * Parts the two sides until `heal`: nothing passes on any connection, old or new, and nobody is told. What was open stays
   * dead for good, as behind a firewall that forgot it.
   */
  part(): void {
    this.parted = true;
    this.halfOpen();
  }

  /** A perfect link again, and new connections are let through. Half-open connections stay what they are. */
  heal(): void {
    this.refusing = false;
    this.parted = false;
    this.link = perfectLink;
  }

  private accept(client: Socket): void {
    client.on("error", () => undefined);
    if (this.refusing || this.pairs.size >= this.maxConnections) {
      this.counts.refused++;
      client.resetAndDestroy();
      return;
    }
    this.counts.accepted++;
    const service = connect({ port: this.target(), host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    const environment = {
      shape: () => this.link,
      luck: () => this.random.next(),
      passed: (bytes: number) => {
        this.counts.passedBytes += bytes;
      },
      swallowed: (bytes: number) => {
        this.counts.swallowedBytes += bytes;
      },
    };
    const toService = new FaultLine(client, service, environment);
    const toClient = new FaultLine(service, client, environment);
    const pair = { client, service, toService, toClient };
    this.watch(pair);
    if (!this.parted) return;
    toService.swallow();
    toClient.swallow();
  }

  /** A side that ends badly takes the other with it, unless its news would vanish as well. */
  private watch(pair: Pair): void {
    const { client, service, toService, toClient } = pair;
    this.pairs.add(pair);
    service.on("error", () => undefined);
    const over = (line: FaultLine) => (broken: boolean) => {
      if (client.destroyed && service.destroyed) this.end(pair);
      else if (broken && !line.swallows) this.end(pair);
    };
    client.on("close", over(toService));
    service.on("close", over(toClient));
  }

  private end(pair: Pair): void {
    if (!this.pairs.delete(pair)) return;
    pair.toService.stop();
    pair.toClient.stop();
    pair.client.resetAndDestroy();
    pair.service.resetAndDestroy();
  }

  /** Ends everything and gives the port back. */
  async close(): Promise<void> {
    const closed = once(this.server, "close");
    this.server.close();
    for (const pair of this.pairs) this.end(pair);
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

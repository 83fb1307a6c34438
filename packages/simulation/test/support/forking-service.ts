import { cpSync } from "node:fs";
import { connectTo, type Socket, type SocketHandlers, type Transport } from "@murmuration/client-core";
import {
  createConfig,
  type RunningDeliveryService,
  startDeliveryService,
} from "@murmuration/delivery-service";
import type { ClientBody, ClientFrame } from "@murmuration/wire";
import { testLimits, type World } from "../../src/index.ts";
import { RawConnection } from "./raw-connection.ts";

type SealedSubmit = Extract<ClientBody, { readonly kind: "submitSealed" }>;

/** A sealed envelope from one half to the other, as the service has it in its hands. */
export interface HeldEnvelope {
  /** The service knows which address it came from, though not whose it is. */
  readonly from: string;
  readonly to: string;
  readonly submit: SealedSubmit;
}

/**
 * A service that shows two halves of its users different logs. There is one service for keys, mailboxes and the logs of
 * the first half, and a second one, on a copy of all it had, for the logs of the other half. Both are the product: each
 * validates, orders and answers as ever. The lie is in what lies between: whoever is of the second half reaches
 * the second one with its connection for communities, and never notices.
 */
export class ForkingService {
  private readonly world: World;
  private second: RunningDeliveryService | undefined;
  private readonly halves = new Map<string, "first" | "second">();
  private isHolding = false;
  /** Envelopes between the halves that were answered as accepted, and are in no mailbox. */
  readonly held: HeldEnvelope[] = [];
  private readonly cuts = new Set<() => void>();

  constructor(world: World) {
    this.world = world;
  }

  get secondDirectory(): string {
    return `${this.world.directory}/second`;
  }

  /** Whose way to the service this is, once it is known. */
  assign(half: "first" | "second", accounts: readonly string[]): void {
    for (const account of accounts) this.halves.set(account, half);
  }

  /** From here on each half's commits and messages go into a log of its own. */
  async fork(): Promise<void> {
    await this.world.stopService();
    cpSync(this.world.serviceDirectory, this.secondDirectory, { recursive: true });
    this.second = await startDeliveryService(
      createConfig({ dataDirectory: this.secondDirectory, logLevel: "silent", limits: testLimits, port: 0 }),
    );
    await this.world.startService();
  }

  /** One log for everybody again: the first half's. */
  async mend(): Promise<void> {
    await this.second?.close();
    this.second = undefined;
    for (const cut of this.cuts) cut();
    this.cuts.clear();
    // What hears of it does so in turns of its own.
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Says of envelopes between the halves that they were accepted, and keeps them. */
  holdMail(): void {
    this.isHolding = true;
  }

  /** Lets the mail between the halves through from here on; what is held stays held. */
  passMail(): void {
    this.isHolding = false;
  }

  /** Puts envelopes that were held into their mailboxes after all, in the order in which they are given. */
  async deliver(envelopes: readonly HeldEnvelope[]): Promise<void> {
    const connection = await RawConnection.open(this.world.origin);
    for (const envelope of envelopes) {
      this.held.splice(this.held.indexOf(envelope), 1);
      await connection.demand("submitAccepted", envelope.submit);
    }
    connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mend();
  }

  /** The way of one device to this service: pass as `wrapTransport`. */
  readonly wayOf =
    (account: () => string) =>
    (transport: Transport): Transport => {
      // A device greets, then comes its anonymous connection, then the one for communities.
      let anonymousIsNext = false;
      const isOfSecond = () => this.second !== undefined && this.halves.get(account()) === "second";
      const ways = new Map<number, Transport>();
      const second = (): Transport => {
        const { port } = this.second!;
        const way = ways.get(port) ?? connectTo(`http://127.0.0.1:${port}`);
        ways.set(port, way);
        return way;
      };
      const route = (hello: ClientBody): Transport => {
        const isDevice = hello.kind === "hello" && hello.auth !== undefined;
        const isAnonymous = !isDevice && anonymousIsNext;
        anonymousIsNext = isDevice;
        return isDevice || isAnonymous || !isOfSecond() ? transport : second();
      };
      return Object.assign(Object.create(transport) as Transport, {
        connect: async (handlers: SocketHandlers, timeoutMs: number) => {
          const socket = new RoutedSocket(handlers, timeoutMs, route, (frame) => this.keep(account, frame));
          const cut = () => socket.cut();
          this.cuts.add(cut);
          return socket;
        },
        request: (request: Parameters<Transport["request"]>[0]) =>
          (request.path.includes("tree") && isOfSecond() ? second() : transport).request(request),
        close: () => {
          for (const way of ways.values()) way.close();
          transport.close();
        },
      });
    };

  /** Whether the service keeps this frame, and answers it itself. */
  private keep(account: () => string, { body }: ClientFrame): boolean {
    if (!this.isHolding || body.kind !== "submitSealed") return false;
    const [recipient] = body.recipients;
    const to = Buffer.from(recipient!.accountId).toString("base64url");
    const from = account();
    if (this.halves.get(to) === this.halves.get(from)) return false;
    this.held.push({ from, to, submit: body });
    return true;
  }
}

/** Connects when it sees who greets, to where the service wants that connection to end. */
class RoutedSocket implements Socket {
  private readonly handlers: SocketHandlers;
  private readonly timeoutMs: number;
  private readonly route: (hello: ClientBody) => Transport;
  private readonly keep: (frame: ClientFrame) => boolean;
  private socket: Promise<Socket> | undefined;
  private open: Socket | undefined;
  private isOver = false;

  constructor(
    handlers: SocketHandlers,
    timeoutMs: number,
    route: (hello: ClientBody) => Transport,
    keep: (frame: ClientFrame) => boolean,
  ) {
    this.handlers = handlers;
    this.timeoutMs = timeoutMs;
    this.route = route;
    this.keep = keep;
  }

  send(frame: ClientFrame): void {
    if (this.isOver) return;
    this.socket ??= this.connect(frame.body);
    if (this.keep(frame)) {
      const body = { kind: "submitAccepted", serverTimeMs: Date.now(), repeatedSubmit: false } as const;
      queueMicrotask(() => this.handlers.frame({ requestId: frame.requestId, body }));
      return;
    }
    this.socket.then(
      (socket) => socket.send(frame),
      () => this.cut(),
    );
  }

  private async connect(hello: ClientBody): Promise<Socket> {
    const { handlers } = this;
    const closed = () => this.cut();
    const frame: SocketHandlers["frame"] = (received) => handlers.frame(received);
    this.open = await this.route(hello).connect({ frame, closed }, this.timeoutMs);
    if (this.isOver) this.open.close();
    return this.open;
  }

  close(): void {
    this.cut();
  }

  /** Ends both sides. */
  cut(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.open?.close();
    this.handlers.closed();
  }

  get bytesSent(): number {
    return this.open?.bytesSent ?? 0;
  }

  get bytesReceived(): number {
    return this.open?.bytesReceived ?? 0;
  }
}

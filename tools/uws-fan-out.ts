/**
 * What one implementation of sockets costs: `uws-fan-out.ts ws|uws CONNECTIONS ROUNDS`, run by `npm run uws` in its
 * root. The server is a process of its own; in each round it sends one frame to every connection, and the next round
 * begins when all have it. Prints one line of JSON, {@link FanOut}.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { openSocketServer, type SocketConnection } from "@murmuration/delivery-service/bench";

export interface FanOut {
  readonly implementation: "ws" | "uws";
  readonly connections: number;
  readonly deliveries: number;
  readonly frameBytes: number;
  /** Deliveries in a second of the server's CPU time, the kernel's part of it with it. */
  readonly deliveriesPerCoreSecond: number;
  /** Growth of the server's resident memory, without what the kernel keeps. */
  readonly bytesPerIdleConnection: number;
}

/** What the server says when it was asked. */
interface Answer {
  readonly port?: number;
  readonly residentBytes?: number;
  readonly cpuMicroseconds?: number;
}

const FRAME_BYTES = 1_000;
/** With the header of a frame of this length that a server sends (RFC 6455 section 5.2). */
const WIRE_BYTES = FRAME_BYTES + 4;
const AT_ONCE = 250;
const PATH = "/socket";
const WARM_UP_ROUNDS = 5;

async function serve(implementation: "ws" | "uws"): Promise<void> {
  const silent = () => {};
  const server = await openSocketServer(implementation, { info: silent, warn: silent, error: silent });
  const connections = new Set<SocketConnection>();
  const frame = new Uint8Array(FRAME_BYTES).fill(7);
  const port = await server.listen(
    {
      host: "127.0.0.1",
      port: 0,
      socketPath: PATH,
      maxFrameBytes: 4_194_304,
      maxFirstFrameBytes: 65_536,
      pingIntervalMs: 3_600_000,
      pingTimeoutMs: 7_200_000,
      maxConnections: 100_000,
      headersTimeoutMs: 30_000,
      bodyTimeoutMs: 30_000,
      trustedProxies: 0,
    },
    {
      admit: () => undefined,
      request: async () => ({ status: 404, headers: {}, body: new Uint8Array(0) }),
      opened: (connection) => {
        connections.add(connection);
        const closed = () => void connections.delete(connection);
        return { received: silent, receivedText: silent, drained: silent, closed };
      },
    },
  );
  const answer = (said: Answer) => process.send!(said);
  process.on("message", (asked) => {
    if (asked === "round") {
      for (const connection of connections) connection.send(frame);
    } else if (asked === "memory") {
      for (let i = 0; i < 3; i++) globalThis.gc?.();
      answer({ residentBytes: process.memoryUsage.rss() });
    } else {
      const { user, system } = process.cpuUsage();
      answer({ cpuMicroseconds: user + system });
    }
  });
  process.on("disconnect", () => process.exit());
  answer({ port });
}

/** Clients that count the bytes of frames and look at nothing else: what they cost is not the server's. */
class Crowd {
  private readonly sockets: Socket[] = [];
  private readonly port: number;
  private received = 0;
  private awaited = 0;
  private finished = () => {};

  constructor(port: number) {
    this.port = port;
  }

  async grow(count: number): Promise<void> {
    for (let from = 0; from < count; from += AT_ONCE) {
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - from) }, () => this.join()));
    }
  }

  /** Resolves when every client has one frame more. */
  everybodyHasOne(): Promise<void> {
    this.awaited += this.sockets.length * WIRE_BYTES;
    return new Promise((resolve) => {
      this.finished = resolve;
    });
  }

  leave(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  private async join(): Promise<void> {
    const socket = connect(this.port, "127.0.0.1");
    this.sockets.push(socket);
    socket.write(
      `GET ${PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    );
    await once(socket, "data");
    socket.on("data", (bytes) => {
      this.received += bytes.length;
      if (this.received === this.awaited) this.finished();
    });
  }
}

async function ask(server: ChildProcess, question: "memory" | "cpu"): Promise<number> {
  const answered = once(server, "message");
  server.send(question);
  const [{ residentBytes, cpuMicroseconds }] = (await answered) as [Answer];
  return (residentBytes ?? cpuMicroseconds)!;
}

async function measure(implementation: "ws" | "uws", connections: number, rounds: number): Promise<FanOut> {
  const server = fork(fileURLToPath(import.meta.url), [implementation], {
    execArgv: [...process.execArgv, "--expose-gc"],
  });
  const [{ port }] = (await once(server, "message")) as [Required<Answer>];
  const crowd = new Crowd(port);
  const sendAll = async (count: number) => {
    for (let round = 0; round < count; round++) {
      const done = crowd.everybodyHasOne();
      server.send("round");
      await done;
    }
  };
  // The first half pays for compiled code and filled pools, and uses up what the heap has to spare.
  const half = connections >> 1;
  await crowd.grow(half);
  await sendAll(WARM_UP_ROUNDS);
  const before = await ask(server, "memory");
  await crowd.grow(connections - half);
  const idle = (await ask(server, "memory")) - before;
  await sendAll(WARM_UP_ROUNDS);
  const cpuBefore = await ask(server, "cpu");
  await sendAll(rounds);
  const cpu = (await ask(server, "cpu")) - cpuBefore;
  server.disconnect();
  crowd.leave();
  const deliveries = connections * rounds;
  return {
    implementation,
    connections,
    deliveries,
    frameBytes: FRAME_BYTES,
    deliveriesPerCoreSecond: Math.round(deliveries / (cpu / 1e6)),
    bytesPerIdleConnection: Math.round(idle / (connections - half)),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const implementation = process.argv[2] as "ws" | "uws";
  if (process.send !== undefined) await serve(implementation);
  else {
    const [connections, rounds] = [Number(process.argv[3]), Number(process.argv[4])];
    console.log(JSON.stringify(await measure(implementation, connections, rounds)));
  }
}

import { once } from "node:events";
import { connect } from "node:net";
import type { Bytes } from "@murmuration/base";
import { afterEach, expect, it } from "vitest";
import { WebSocket } from "ws";
import type {
  CloseCause,
  Connection,
  HttpRequest,
  HttpResponse,
  SocketServer,
  SocketServerOptions,
} from "../../src/ports/socket-server.ts";
import { heldBytes } from "../support/held-bytes.ts";
import { random } from "../support/random.ts";
import { describeOnSockets } from "../support/socket-servers.ts";

interface Seen {
  readonly connection: Connection;
  readonly frames: Bytes[];
  readonly causes: CloseCause[];
  drains: number;
  texts: number;
}

describeOnSockets("a socket server", ({ create, wholeFramesOnly, headersTakeMs }) => {
  let server: SocketServer;
  const clients: WebSocket[] = [];
  afterEach(async () => {
    for (const client of clients.splice(0)) client.terminate();
    await server.close();
  });

  async function listen(
    options: Partial<SocketServerOptions> = {},
    handlers: {
      readonly request?: (request: HttpRequest) => Promise<HttpResponse>;
      readonly refuse?: boolean;
      readonly onFrame?: (seen: Seen, frame: Bytes) => void;
    } = {},
  ) {
    server = create();
    const connections: Seen[] = [];
    const port = await server.listen(
      {
        host: "127.0.0.1",
        port: 0,
        socketPath: "/socket",
        maxFrameBytes: 100_000,
        maxFirstFrameBytes: 50_000,
        pingIntervalMs: 10_000,
        pingTimeoutMs: 20_000,
        maxConnections: 100,
        headersTimeoutMs: 1_000,
        bodyTimeoutMs: 500,
        trustedProxies: 0,
        ...options,
      },
      {
        admit: () => (handlers.refuse ? { status: 429, headers: {}, body: random(5) } : undefined),
        request: handlers.request ?? (async () => ({ status: 204, headers: {}, body: new Uint8Array(0) })),
        opened: (connection) => {
          const seen: Seen = { connection, frames: [], causes: [], drains: 0, texts: 0 };
          connections.push(seen);
          return {
            received: (frame) => {
              seen.frames.push(frame);
              handlers.onFrame?.(seen, frame);
            },
            receivedText: () => seen.texts++,
            drained: () => seen.drains++,
            closed: (cause) => void seen.causes.push(cause),
          };
        },
      },
    );
    return { port, connections, base: `http://127.0.0.1:${port}` };
  }

  async function open(port: number, options: object = {}): Promise<WebSocket> {
    const client = new WebSocket(`ws://127.0.0.1:${port}/socket`, options);
    clients.push(client);
    client.on("error", () => {});
    await once(client, "open");
    return client;
  }

  // The first of all: uWebSockets has memory across connections of what was paused before.
  it("reads a body that comes a while after its headers", async () => {
    const { port } = await listen(
      {},
      {
        request: async (request) => ({
          status: 200,
          headers: { "x-length": String((await request.body(100)).length) },
          body: new Uint8Array(0),
        }),
      },
    );
    const client = connect(port, "127.0.0.1");
    client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n");
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.write("abc");
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.write("def");
    const [answer] = await once(client, "data");
    expect(String(answer).toLowerCase()).toContain("x-length: 6\r\n");
    client.destroy();
  });

  it("carries frames both ways, whole and in order", async () => {
    const echo = (seen: Seen, frame: Bytes) => seen.connection.send(frame);
    const { port, connections } = await listen({}, { onFrame: echo });
    const client = await open(port);
    const sent = Array.from({ length: 50 }, (_, index) => random(1 + index * 700));
    const back: Uint8Array[] = [];
    client.on("message", (data: Buffer) => back.push(new Uint8Array(data)));
    for (const frame of sent) client.send(frame);
    await expect.poll(() => back.length).toBe(50);
    expect(back).toEqual(sent);
    expect(connections[0]!.frames).toEqual(sent);
    expect(connections[0]!.connection.remoteAddress).toContain("127.0.0.1");
  });

  it("says once why a connection ended", async () => {
    const { port, connections } = await listen();
    (await open(port)).close();
    await expect.poll(() => connections[0]!.causes).toEqual(["peer"]);
    const told = await open(port);
    connections[1]!.connection.close(4001, "a/reason");
    const [code, reason] = await once(told, "close");
    expect([code, String(reason)]).toEqual([4001, "a/reason"]);
    await expect.poll(() => connections[1]!.causes).toEqual(["server"]);
    const long = await open(port);
    long.send(random(100_001));
    const [oversizeCode] = await once(long, "close");
    expect(oversizeCode).toBe(wholeFramesOnly ? 1006 : 1009);
    await expect.poll(() => connections[2]!.causes).toEqual(["oversize-frame"]);
    connections[1]!.connection.send(random(5));
    expect(connections[1]!.connection.bufferedBytes()).toBe(0);
  });

  it("cuts a peer that never answers the closing handshake", async () => {
    const { port, connections } = await listen();
    const client = await open(port);
    client.pause();
    connections[0]!.connection.close(4001, "bye");
    await expect.poll(() => connections[0]!.causes, { timeout: 3_000 }).toEqual(["server"]);
  });

  it("tells a text frame from a binary one", async () => {
    const { port, connections } = await listen();
    const texter = await open(port);
    texter.send("text");
    await expect.poll(() => connections[0]!.texts).toBe(1);
    expect(connections[0]!.frames).toEqual([]);
  });

  it.skipIf(wholeFramesOnly)("bounds the first frame while it is incomplete", async () => {
    const { port, connections } = await listen();
    const client = await open(port);
    client.send(random(60_000), { fin: false });
    await expect.poll(() => connections[0]!.causes).toEqual(["oversize-frame"]);
  });

  it("bounds a frame that comes in fragments while it is incomplete", async () => {
    const { port, connections } = await listen();
    const client = await open(port);
    client.send(random(10));
    for (let i = 0; i < 3; i++) client.send(random(40_000), { fin: false });
    await expect.poll(() => connections[0]!.causes).toEqual(["oversize-frame"]);
    expect(connections[0]!.frames).toHaveLength(1);
  });

  it.skipIf(wholeFramesOnly)(
    "cuts who never finishes a large frame, however many pings it answers, and keeps who is slow with a small one",
    async () => {
      const { port, connections } = await listen({ maxFrameBytes: 1_000_000, bodyTimeoutMs: 300 });
      const [hoarder, slow, quick] = [await open(port), await open(port), await open(port)];
      for (const client of [hoarder, slow, quick]) client.send(random(10));
      hoarder.send(random(400_000), { fin: false });
      slow.send(random(400), { fin: false });
      for (let i = 0; i < 3; i++) quick.send(random(400_000));
      const pings = setInterval(() => hoarder.ping(random(125)), 20);
      await expect.poll(() => connections[0]!.causes, { timeout: 3_000 }).toEqual(["silent"]);
      clearInterval(pings);
      await new Promise((resolve) => setTimeout(resolve, 500));
      slow.send(random(100));
      await expect.poll(() => connections[1]!.frames.map((frame) => frame.length)).toEqual([10, 500]);
      expect(connections[2]!.frames).toHaveLength(4);
      expect(connections.map((seen) => seen.causes)).toEqual([["silent"], [], []]);
    },
  );

  it("takes an answer back that nobody reads", async () => {
    const { port } = await listen(
      { bodyTimeoutMs: 300 },
      { request: async () => ({ status: 200, headers: {}, body: new Uint8Array(30_000_000) }) },
    );
    const greedy = connect(port, "127.0.0.1");
    greedy.on("error", () => {});
    greedy.pause();
    greedy.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    let taken = 0;
    greedy.on("data", (chunk) => {
      taken += chunk.length;
    });
    greedy.resume();
    await Promise.race([once(greedy, "close"), new Promise((resolve) => setTimeout(resolve, 2_000))]);
    expect(greedy.readyState).toBe("closed");
    expect(taken).toBeLessThan(30_000_000);
  });

  it("cuts who answers no ping, keeps who does", async () => {
    const { port, connections } = await listen({ pingIntervalMs: 200, pingTimeoutMs: 1_500 });
    const [alive, dead] = [await open(port), await open(port, { autoPong: false })];
    await expect.poll(() => connections[1]!.causes, { timeout: 6_000 }).toEqual(["silent"]);
    expect(connections[0]!.causes).toEqual([]);
    expect(alive.readyState).toBe(WebSocket.OPEN);
    await expect.poll(() => dead.readyState).toBe(WebSocket.CLOSED);
  });

  it("shows what a slow peer leaves in the buffer, and says when it is empty again", async () => {
    const { port, connections } = await listen();
    const client = await open(port);
    client.pause();
    const { connection } = connections[0]!;
    for (let i = 0; i < 400; i++) connection.send(new Uint8Array(50_000));
    expect(connection.bufferedBytes()).toBeGreaterThan(5_000_000);
    expect(connections[0]!.drains).toBe(0);
    client.resume();
    await expect.poll(() => connections[0]!.drains, { timeout: 5_000 }).toBeGreaterThan(0);
    await expect.poll(() => connection.bufferedBytes()).toBe(0);
  });

  it("reads nothing while it is told not to", async () => {
    const { port, connections } = await listen();
    const client = await open(port);
    connections[0]!.connection.setReading(false);
    client.send(random(10));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(connections[0]!.frames).toEqual([]);
    connections[0]!.connection.setReading(true);
    await expect.poll(() => connections[0]!.frames.length).toBe(1);
  });

  it("sends away who floods it while it reads nothing, or leaves that to the peer's own buffers", async () => {
    const { port, connections } = await listen();
    const client = await open(port);
    connections[0]!.connection.setReading(false);
    const before = heldBytes();
    for (let i = 0; i < 500; i++) client.send(new Uint8Array(50_000));
    if (wholeFramesOnly) {
      const [code] = await once(client, "close");
      expect(code).toBe(1013);
      await expect.poll(() => connections[0]!.causes).toEqual(["server"]);
    } else {
      await new Promise((resolve) => setTimeout(resolve, 300));
      // Of the 25 MB that the client holds itself, twice, in this process.
      expect(heldBytes() - before).toBeLessThan(60_000_000);
      expect(connections[0]!.causes).toEqual([]);
    }
    expect(connections[0]!.frames).toEqual([]);
  });

  it("keeps what waits unread in order, also when the reader stops again in the middle of it", async () => {
    const { port, connections } = await listen(
      {},
      { onFrame: ({ connection, frames }) => connection.setReading(frames.length % 3 !== 0) },
    );
    const client = await open(port);
    const sent = Array.from({ length: 10 }, () => random(100));
    for (const frame of sent) client.send(frame);
    const readOn = () => {
      connections[0]!.connection.setReading(true);
      return connections[0]!.frames.length;
    };
    await expect.poll(readOn).toBe(10);
    expect(connections[0]!.frames).toEqual(sent);
  });

  it("closes what is beyond the greatest number of connections, and takes new ones when others are gone", async () => {
    const { port } = await listen({ maxConnections: 3 });
    const raw = () => {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      return socket;
    };
    const [upgraded, first] = [await open(port), raw(), raw()];
    await once(first, "connect");
    const fourth = raw();
    await once(fourth, "close");
    first.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(upgraded.readyState).toBe(WebSocket.OPEN);
    expect((await open(port)).readyState).toBe(WebSocket.OPEN);
    upgraded.terminate();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await open(port)).readyState).toBe(WebSocket.OPEN);
  });

  it("closes who says nothing, and who never finishes its headers", { timeout: 60_000 }, async () => {
    const { port } = await listen();
    const startedAt = performance.now();
    const [mute, dripping] = [connect(port, "127.0.0.1"), connect(port, "127.0.0.1")];
    for (const socket of [mute, dripping]) socket.on("error", () => {}).resume();
    dripping.write("GET / HTTP/1.1\r\nHost: x\r\n");
    const drops = setInterval(() => dripping.write("X: y\r\n"), 100);
    await Promise.all([once(mute, "close"), once(dripping, "close")]);
    clearInterval(drops);
    expect(performance.now() - startedAt).toBeLessThan(headersTakeMs);
  });

  it("serves one request after the other on a connection, and none after it was told to stop", async () => {
    const { port } = await listen(
      {},
      {
        request: async ({ method, path, query, header }) => ({
          status: 200,
          headers: { "x-asked": `${method} ${path} ${query.get("q")} ${header("x-twice")}` },
          body: method === "HEAD" ? new Uint8Array(7) : new Uint8Array(0),
        }),
      },
    );
    const socket = connect(port, "127.0.0.1");
    let text = "";
    socket.on("data", (data) => {
      text += data;
    });
    const ask = async (line: string) => {
      text = "";
      socket.write(`${line} HTTP/1.1\r\nHost: x\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n`);
      await expect.poll(() => text.includes("\r\n\r\n")).toBe(true);
      return text.toLowerCase();
    };
    expect(await ask("GET /a%20b?q=c")).toContain("x-asked: get /a%20b c 1, 2\r\n");
    const head = await ask("HEAD /?q=d");
    expect(head).toContain("x-asked: head / d 1, 2\r\n");
    expect(head).toContain("content-length: 7\r\n");
    expect(head.endsWith("\r\n\r\n")).toBe(true);
    expect(await ask("DELETE /x")).toContain("x-asked: delete /x null 1, 2\r\n");
    await server.stopAccepting();
    socket.on("error", () => {});
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await once(socket, "close");
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow();
  });

  it("serves the next request of a connection after a large body that waited for its reader", async () => {
    const { port } = await listen(
      {},
      {
        request: async (request) => {
          await new Promise((resolve) => setTimeout(resolve, 50));
          const { length } = await request.body(2_000_000);
          return { status: 200, headers: { "x-length": String(length) }, body: new Uint8Array(0) };
        },
      },
    );
    const socket = connect(port, "127.0.0.1");
    for (const length of [1_500_000, 700_000, 0, 1_100_000, 3]) {
      const answered = once(socket, "data");
      socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`);
      socket.write(new Uint8Array(length));
      const [answer] = await answered;
      expect(String(answer).toLowerCase()).toContain(`x-length: ${length}\r\n`);
    }
    socket.destroy();
  });

  it("lives on when peers go away in every part of a request and its answer", async () => {
    const codes: string[] = [];
    const { base, port } = await listen(
      { bodyTimeoutMs: 5_000 },
      {
        request: async (request) => {
          if (request.path === "/slow") await new Promise((resolve) => setTimeout(resolve, 50));
          const code = await request.body(10_000_000).then(
            () => "read",
            (error: { code: string }) => error.code,
          );
          codes.push(code);
          async function* pieces() {
            for (let i = 0; i < 100; i++) yield new Uint8Array(100_000);
          }
          if (request.path === "/short") return { status: 200, headers: {}, body: new Uint8Array(5) };
          return { status: 200, headers: {}, body: { length: 10_000_000, pieces: pieces() } };
        },
      },
    );
    const requests = [
      "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n",
      "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\nabc",
      "POST /short HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc",
      "POST /short HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
      "GET /short HTTP/1.1\r\nHost: x\r\n\r\nGET /short HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    for (let round = 0; round < 4; round++) {
      for (const text of requests) {
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => {});
        socket.write(text);
        await new Promise((resolve) => setTimeout(resolve, round * 20));
        if (round % 2 === 0) socket.destroy();
        else socket.resetAndDestroy();
      }
    }
    await expect
      .poll(() => codes.filter((code) => code === "http/body-incomplete").length)
      .toBeGreaterThan(6);
    expect((await (await fetch(`${base}/stream`)).arrayBuffer()).byteLength).toBe(10_000_000);
  });

  it("refuses an upgrade with an answer, on another path as well", async () => {
    const { port } = await listen({}, { refuse: true });
    for (const [path, status] of [
      ["/socket", 429],
      ["/other", 404],
    ] as const) {
      const client = new WebSocket(`ws://127.0.0.1:${port}${path}`);
      client.on("error", () => {});
      const [, response] = await once(client, "unexpected-response");
      expect(response.statusCode).toBe(status);
      client.terminate();
    }
  });

  it("answers a request whose body is too long, and one whose body never comes", async () => {
    const codes: string[] = [];
    const { base, port } = await listen(
      {},
      {
        request: async (request) => {
          const code = await request.body(1_000).then(
            (body) => `read ${body.length}`,
            (error: { code: string }) => error.code,
          );
          codes.push(code);
          return { status: 200, headers: {}, body: new TextEncoder().encode(code) };
        },
      },
    );
    const post = async (bytes: Bytes) =>
      (await fetch(base, { method: "POST", body: bytes })).text().catch(() => "cut");
    expect(await post(random(1_000))).toBe("read 1000");
    expect(await post(random(1_001))).toBe("wire/too-large");
    const stalled = connect(port, "127.0.0.1");
    stalled.on("error", () => {});
    stalled.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc");
    await once(stalled, "close");
    expect(codes).toEqual(["read 1000", "wire/too-large", "http/body-incomplete"]);
  });

  it("streams bodies both ways at the pace of the slower side", async () => {
    let made = 0;
    const { base } = await listen(
      {},
      {
        request: async (request) => {
          let length = 0;
          for await (const piece of request.pieces(30_000_000)) length += piece.length;
          async function* pieces() {
            for (let i = 0; i < 300; i++) {
              made++;
              yield new Uint8Array(100_000).fill(i);
            }
          }
          const headers = { "x-length": String(length) };
          return { status: 200, headers, body: { length: 30_000_000, pieces: pieces() } };
        },
      },
    );
    const response = await fetch(base, { method: "PUT", body: new Uint8Array(20_000_000) });
    expect(response.headers.get("x-length")).toBe("20000000");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(made).toBeLessThan(300);
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(bytes.length).toBe(30_000_000);
    expect(bytes[29_999_999]).toBe(299 % 256);
  });

  it("believes the address that the trusted proxy saw, and no other claim", async () => {
    const addressOf = async (trustedProxies: number) => {
      const { base } = await listen(
        { trustedProxies },
        {
          request: async ({ remoteAddress }) => ({
            status: 200,
            headers: {},
            body: new TextEncoder().encode(remoteAddress),
          }),
        },
      );
      const headers = { "x-forwarded-for": "203.0.113.66, 198.51.100.7" };
      const text = await (await fetch(base, { headers })).text();
      if (trustedProxies === 0) await server.close();
      return text;
    };
    expect(await addressOf(0)).toBe("127.0.0.1");
    expect(await addressOf(1)).toBe("198.51.100.7");
  });

  it("sends one frame to many, whatever its length", async () => {
    const { port, connections } = await listen();
    const clients = [await open(port), await open(port)];
    const received = clients.map((client) => {
      const frames: Uint8Array[] = [];
      client.on("message", (data: Buffer) => frames.push(new Uint8Array(data)));
      return frames;
    });
    // Where the length of a WebSocket frame's header changes.
    const sent = [0, 125, 126, 65_535, 65_536].map(random);
    for (const frame of sent) for (const { connection } of connections) connection.send(frame);
    await expect.poll(() => received.map((frames) => frames.length)).toEqual([5, 5]);
    expect(received).toEqual([sent, sent]);
  });

  it("a taken port is UnavailableError", async () => {
    const { port } = await listen();
    const second = create();
    const refused = second.listen(
      {
        host: "127.0.0.1",
        port,
        socketPath: "/socket",
        maxFrameBytes: 1,
        maxFirstFrameBytes: 1,
        pingIntervalMs: 1_000,
        pingTimeoutMs: 1_000,
        maxConnections: 1,
        headersTimeoutMs: 1_000,
        bodyTimeoutMs: 1_000,
        trustedProxies: 0,
      },
      {
        admit: () => undefined,
        request: async () => ({ status: 204, headers: {}, body: new Uint8Array(0) }),
        opened: () => ({ received() {}, receivedText() {}, drained() {}, closed() {} }),
      },
    );
    await expect(refused).rejects.toMatchObject({ code: "server/cannot-listen" });
    await second.close();
  });
});

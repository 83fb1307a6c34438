import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { connectTo } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { startFaultProxy } from "../../src/fault-proxy.ts";
import { seededRandom } from "../../src/seeded-random.ts";
import { until } from "../../src/world.ts";

/** A server that sends back what it gets, and remembers its sockets. */
async function startEcho() {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => socket.write(chunk));
    socket.on("end", () => socket.end());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** A client that keeps what it receives. */
async function dial(port: number) {
  const socket = connect(port, "127.0.0.1");
  const seen = { text: "", ended: false, closed: false };
  socket.on("error", () => undefined);
  socket.on("data", (chunk) => {
    seen.text += chunk.toString("latin1");
  });
  socket.on("end", () => {
    seen.ended = true;
  });
  socket.on("close", () => {
    seen.closed = true;
  });
  await new Promise<void>((resolve) => {
    socket.on("connect", () => resolve());
    socket.on("close", () => resolve());
  });
  return { socket, seen };
}

test("bytes and the end of a stream pass unchanged in both directions", async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port });
  const { socket, seen } = await dial(proxy.port);
  const sent = Array.from({ length: 200_000 }, (_, index) => String.fromCharCode(index % 251)).join("");
  socket.end(sent, "latin1");
  await until(() => seen.ended);
  expect(seen.text).toBe(sent);
  await until(() => proxy.open === 0);
  expect(proxy.counts.passedBytes).toBe(2 * sent.length);
});

test("a delay is felt in each direction, and a change of it holds for open connections", async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port });
  const { socket, seen } = await dial(proxy.port);
  socket.write("a");
  await until(() => seen.text === "a");
  proxy.shape({ delayMs: 120, jitterMs: 20 });
  const start = performance.now();
  socket.write("b");
  await until(() => seen.text === "ab");
  expect(performance.now() - start).toBeGreaterThanOrEqual(235);
  proxy.heal();
  const again = performance.now();
  socket.write("c");
  await until(() => seen.text === "abc");
  expect(performance.now() - again).toBeLessThan(200);
  socket.destroy();
});

test("a throttle lets so many bytes through in a second, little by little, and makes the sender wait", async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port });
  proxy.shape({ bytesPerSecond: 40_000 });
  const { socket, seen } = await dial(proxy.port);
  const start = performance.now();
  socket.write(Buffer.alloc(20_000));
  await until(() => seen.text.length > 0);
  expect(seen.text.length).toBeLessThan(10_000);
  await until(() => seen.text.length === 20_000);
  expect(performance.now() - start).toBeGreaterThan(450);
  // Far more than the proxy and the system hold back: the sender is not told that it is written.
  let written = false;
  socket.write(Buffer.alloc(32 * 1024 * 1024), () => {
    written = true;
  });
  await delay(300);
  expect(written).toBe(false);
  expect(echo.sockets[0]!.bytesRead).toBeLessThan(100_000);
  socket.destroy();
});

test("parted, nothing passes on old or new connections and nobody is told; healed, new ones pass and old ones stay dead", async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port });
  const before = await dial(proxy.port);
  before.socket.write("a");
  await until(() => before.seen.text === "a");
  proxy.part();
  const meanwhile = await dial(proxy.port);
  for (const { socket } of [before, meanwhile]) socket.write("b");
  await until(() => proxy.counts.swallowedBytes === 2);
  proxy.heal();
  const after = await dial(proxy.port);
  after.socket.write("c");
  await until(() => after.seen.text === "c");
  before.socket.write("d");
  await until(() => proxy.counts.swallowedBytes === 3);
  expect([before.seen.text, meanwhile.seen.text]).toEqual(["a", ""]);
  expect([before.socket.closed, meanwhile.socket.closed]).toEqual([false, false]);
  for (const { socket } of [before, meanwhile, after]) socket.destroy();
});

test("a cut ends both sides, and a new connection works", async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port });
  const { socket, seen } = await dial(proxy.port);
  socket.write("x");
  await until(() => seen.text === "x");
  expect(proxy.cut()).toBe(1);
  await until(() => seen.closed && echo.sockets[0]!.destroyed);
  const next = await dial(proxy.port);
  next.socket.write("y");
  await until(() => next.seen.text === "y");
  next.socket.destroy();
});

test.each([
  ["to-service", false],
  ["to-client", true],
  ["both", false],
] as const)(
  "half-open %s: silence on both ends, no error, not healed, no news of the end",
  async (direction, arrives) => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.port });
    const { socket, seen } = await dial(proxy.port);
    socket.write("x");
    await until(() => seen.text === "x");
    expect(proxy.halfOpen(direction)).toBe(1);
    socket.write("lost");
    await until(() => proxy.counts.swallowedBytes === 4);
    proxy.heal();
    await delay(50);
    expect(echo.sockets[0]!.bytesRead).toBe(arrives ? 5 : 1);
    expect(seen).toEqual({ text: "x", ended: false, closed: false });
    socket.resetAndDestroy();
    await delay(50);
    expect(echo.sockets[0]!.destroyed).toBe(arrives);
    const next = await dial(proxy.port);
    next.socket.write("y");
    await until(() => next.seen.text === "y");
    next.socket.destroy();
  },
);

test("refusing resets new connections and leaves open ones alone, until it is healed", async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port });
  const old = await dial(proxy.port);
  await until(() => proxy.counts.accepted === 1);
  proxy.refuse();
  const refused = await dial(proxy.port);
  await until(() => refused.seen.closed);
  old.socket.write("still");
  await until(() => old.seen.text === "still");
  proxy.heal();
  const next = await dial(proxy.port);
  next.socket.write("y");
  await until(() => next.seen.text === "y");
  expect(proxy.counts).toMatchObject({ accepted: 2, refused: 1 });
  old.socket.destroy();
  next.socket.destroy();
});

test("connections beyond the bound are reset, and a service that is down ends its clients", async () => {
  const echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port, maxConnections: 2 });
  const dialled = [await dial(proxy.port), await dial(proxy.port), await dial(proxy.port)];
  await until(() => dialled[2]!.seen.closed);
  expect(proxy.counts).toMatchObject({ accepted: 2, refused: 1 });
  await echo[Symbol.asyncDispose]();
  await until(() => dialled.every(({ seen }) => seen.closed || seen.ended));
  for (const { socket } of dialled) socket.destroy();
  await until(() => proxy.open === 0);
  const late = await dial(proxy.port);
  await until(() => late.seen.closed);
});

test("closing the proxy ends all of its connections, half-open ones as well", async () => {
  await using echo = await startEcho();
  const proxy = await startFaultProxy({ target: echo.port });
  const dialled = [await dial(proxy.port), await dial(proxy.port)];
  await until(() => echo.sockets.length === 2);
  proxy.halfOpen();
  await proxy.close();
  await until(
    () => dialled.every(({ seen }) => seen.closed) && echo.sockets.every((socket) => socket.destroyed),
  );
  expect(proxy.open).toBe(0);
});

test("the same seed strikes the same connections", async () => {
  const struck = async (seed: number) => {
    await using echo = await startEcho();
    await using proxy = await startFaultProxy({ target: echo.port, random: seededRandom(seed) });
    const dialled: Awaited<ReturnType<typeof dial>>[] = [];
    for (let index = 0; index < 12; index++) dialled.push(await dial(proxy.port));
    await until(() => proxy.open === 12);
    proxy.cut(0.5);
    await until(() => dialled.filter(({ seen }) => seen.closed).length === proxy.counts.cut);
    const pattern = dialled.map(({ seen }) => (seen.closed ? "x" : ".")).join("");
    for (const { socket } of dialled) socket.destroy();
    return pattern;
  };
  const pattern = await struck(7);
  expect(await struck(7)).toBe(pattern);
  expect(new Set(pattern)).toEqual(new Set(["x", "."]));
  expect(await struck(8)).not.toBe(pattern);
});

test("the client's transport learns of a cut at once, of a refusal at once, and of silence by its own limit", async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy({ target: echo.port });
  const transport = connectTo(proxy.origin);
  const handlers = { frame: () => undefined, closed: () => undefined };
  proxy.refuse();
  await expect(transport.connect(handlers, 5_000)).rejects.toThrow("transport/unreachable");
  proxy.heal();
  proxy.shape({ delayMs: 10_000 });
  const start = performance.now();
  await expect(transport.connect(handlers, 300)).rejects.toThrow("transport/unreachable");
  expect(performance.now() - start).toBeGreaterThan(280);
  const { accepted } = proxy.counts;
  const hanging = expect(transport.connect(handlers, 20_000)).rejects.toThrow("transport/unreachable");
  await until(() => proxy.counts.accepted > accepted);
  proxy.cut();
  await hanging;
  expect(performance.now() - start).toBeLessThan(5_000);
  transport.close();
});

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type Bytes, concatBytes, RejectionError, UnavailableError } from "@murmuration/base";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import type {
  ByteStream,
  CloseCause,
  Connection,
  ConnectionHandler,
  HttpRequest,
  SocketServer,
  SocketServerHandlers,
  SocketServerOptions,
  UpgradeRefusal,
} from "../ports/socket-server.ts";
import { clientAddress } from "./remote-address.ts";

const CLOSE_GRACE_MS = 1_000;
/** Header and mask of a client's control frame (RFC 6455 section 5.5). */
const CONTROL_HEADER_BYTES = 6;
/** What a connection may leave unfinished for as long as it lives. */
const UNTIMED_BYTES = 131_072;
/** Close codes of RFC 6455 section 7.4.1 that ws uses for a peer's mistakes. */
const TOO_BIG = 1009;

/** {@link SocketServer} on node:http and ws. */
export class WsSocketServer implements SocketServer {
  private server: Server | undefined;
  private readonly sockets = new Set<WsConnection>();
  private pinger: NodeJS.Timeout | undefined;

  async listen(options: SocketServerOptions, handlers: SocketServerHandlers): Promise<number> {
    const server = createServer({
      headersTimeout: options.headersTimeoutMs,
      // Bodies have timeouts of their own: a large attachment may take its time as long as it moves.
      requestTimeout: 0,
      connectionsCheckingInterval: Math.min(1_000, options.headersTimeoutMs),
      keepAliveTimeout: 5_000,
      maxHeaderSize: 8_192,
    });
    server.maxConnections = options.maxConnections;
    this.server = server;
    const upgrades = new WebSocketServer({
      noServer: true,
      maxPayload: options.maxFrameBytes,
      perMessageDeflate: false,
      clientTracking: false,
      skipUTF8Validation: true,
    });
    server.on("request", (incoming, outgoing) => {
      void respond(incoming, outgoing, options, handlers);
    });
    server.on("clientError", (_error, socket) => socket.destroy());
    server.on("upgrade", (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on("error", () => socket.destroy());
      this.upgrade(upgrades, incoming, socket, head, options, handlers);
    });
    this.pinger = setInterval(() => {
      for (const socket of this.sockets) socket.checkAlive(options);
    }, options.pingIntervalMs);
    this.pinger.unref();
    return new Promise((resolve, reject) => {
      server.once("error", () => reject(new UnavailableError("server/cannot-listen")));
      server.listen({ port: options.port, host: options.host, backlog: 4096 }, () =>
        resolve((server.address() as AddressInfo).port),
      );
    });
  }

  async stopAccepting(): Promise<void> {
    this.server?.close();
    this.server?.closeIdleConnections();
  }

  async close(): Promise<void> {
    clearInterval(this.pinger);
    for (const socket of this.sockets) socket.terminate();
    const server = this.server;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  private upgrade(
    upgrades: WebSocketServer,
    incoming: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    options: SocketServerOptions,
    handlers: SocketServerHandlers,
  ): void {
    const remoteAddress = remoteAddressOf(incoming, options.trustedProxies);
    const refusal =
      incoming.url?.split("?")[0] === options.socketPath
        ? handlers.admit(remoteAddress)
        : { status: 404, headers: {}, body: new Uint8Array(0) };
    if (refusal !== undefined) {
      refuseUpgrade(socket, refusal);
      return;
    }
    upgrades.handleUpgrade(incoming, socket, head, (webSocket) => {
      const connection = new WsConnection(webSocket, socket as Socket, remoteAddress);
      this.sockets.add(connection);
      webSocket.once("close", () => this.sockets.delete(connection));
      connection.serve(handlers.opened(connection), options);
    });
  }
}

class WsConnection implements Connection {
  readonly remoteAddress: string;
  private readonly webSocket: WebSocket;
  private readonly socket: Socket;
  private lastHeardAt = performance.now();
  private cause: CloseCause | undefined;
  /** Bytes that came since the last whole frame, without those of control frames. */
  private unfinishedBytes = 0;
  private frameTimer: NodeJS.Timeout | undefined;

  constructor(webSocket: WebSocket, socket: Socket, remoteAddress: string) {
    this.webSocket = webSocket;
    this.socket = socket;
    this.remoteAddress = remoteAddress;
  }

  serve(handler: ConnectionHandler, options: SocketServerOptions): void {
    this.boundFirstFrame(options.maxFirstFrameBytes);
    this.boundUnfinishedFrame(options);
    const heard = () => {
      this.lastHeardAt = performance.now();
    };
    const heardControl = (content: Buffer) => {
      heard();
      this.unfinishedBytes = Math.max(0, this.unfinishedBytes - content.length - CONTROL_HEADER_BYTES);
    };
    this.webSocket.on("pong", heardControl);
    this.webSocket.on("ping", heardControl);
    this.webSocket.on("message", (data: RawData, isBinary: boolean) => {
      heard();
      this.frameFinished();
      if (isBinary) handler.received(toBytes(data));
      else handler.receivedText();
    });
    this.webSocket.on("error", (error: Error & { code?: string }) => {
      this.cause ??= error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH" ? "oversize-frame" : "protocol-error";
      // ws answers an oversize frame with a close frame; a peer that goes on sending must not keep us reading.
      setTimeout(() => this.webSocket.terminate(), CLOSE_GRACE_MS).unref();
    });
    this.socket.on("drain", () => handler.drained());
    this.webSocket.once("close", (code: number) => {
      this.frameFinished();
      handler.closed(this.cause ?? (code === TOO_BIG ? "oversize-frame" : "peer"));
    });
  }

  /** ws would hold up to a whole frame of anybody: before the first one is complete the bytes are counted. */
  private boundFirstFrame(maxBytes: number): void {
    const before = this.socket.bytesRead;
    let complete = false;
    // ws sees a chunk before this does: one that completes the first frame may hold further frames as well.
    const count = () => {
      if (complete || this.socket.bytesRead - before <= maxBytes) return;
      this.cause ??= "oversize-frame";
      this.close(TOO_BIG, "");
    };
    this.socket.on("data", count);
    this.webSocket.once("message", () => {
      complete = true;
      this.socket.off("data", count);
    });
  }

  /**
   * A frame larger than UNTIMED_BYTES has to be complete in time: who sends most of one and then
   * only answers pings would keep megabytes here for as long as it likes, on each of its connections.
   */
  private boundUnfinishedFrame({ bodyTimeoutMs }: SocketServerOptions): void {
    const overdue = () => {
      this.frameTimer = undefined;
      // Nothing came because nothing was read: the peer gets its time again.
      if (this.webSocket.isPaused) this.frameTimer = setTimeout(overdue, bodyTimeoutMs).unref();
      else this.cut("silent");
    };
    // ws hears of a chunk first: after a whole frame the chunk that ended it still counts, 64 KiB at most.
    this.socket.on("data", (chunk: Buffer) => {
      this.unfinishedBytes += chunk.length;
      if (this.unfinishedBytes <= UNTIMED_BYTES) return;
      this.frameTimer ??= setTimeout(overdue, bodyTimeoutMs).unref();
    });
  }

  private frameFinished(): void {
    this.unfinishedBytes = 0;
    clearTimeout(this.frameTimer);
    this.frameTimer = undefined;
  }

  private cut(cause: CloseCause): void {
    this.cause ??= cause;
    this.webSocket.terminate();
  }

  bufferedBytes(): number {
    return this.webSocket.bufferedAmount;
  }

  /** Past ws, which would hand the kernel header and content as two pieces, at a seventh more CPU for a whole fan-out. */
  send(frame: Uint8Array): void {
    if (this.webSocket.readyState === this.webSocket.OPEN) this.socket.write(framed(frame));
  }

  setReading(reading: boolean): void {
    if (reading) this.webSocket.resume();
    else this.webSocket.pause();
  }

  close(code: number, reason: string): void {
    this.cause ??= "server";
    // A paused socket would never see the peer's closing handshake.
    this.webSocket.resume();
    this.webSocket.close(code, reason);
    setTimeout(() => this.webSocket.terminate(), CLOSE_GRACE_MS).unref();
  }

  terminate(): void {
    this.cause ??= "server";
    this.webSocket.terminate();
  }

  /** Cuts a connection that was silent for too long; pings any other. */
  checkAlive(options: SocketServerOptions): void {
    if (performance.now() - this.lastHeardAt > options.pingTimeoutMs) {
      this.cut("silent");
    } else if (this.webSocket.readyState === this.webSocket.OPEN) {
      this.webSocket.ping();
    }
  }
}

async function respond(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  options: SocketServerOptions,
  handlers: SocketServerHandlers,
): Promise<void> {
  const response = await handlers.request(toRequest(incoming, options));
  if (outgoing.destroyed) return;
  // A body that nobody read to its end would be taken for the next request of a kept-alive connection.
  const finished = incoming.complete;
  outgoing.writeHead(response.status, {
    ...response.headers,
    ...(response.status === 204 ? {} : { "content-length": String(response.body.length) }),
    ...(finished ? {} : { connection: "close" }),
  });
  try {
    if (!(response.body instanceof Uint8Array)) await sendPieces(outgoing, response.body, options);
    // Whoever asks for much and reads nothing must not hold the answer, and a connection, for good.
    const timer = setTimeout(() => outgoing.destroy(), options.bodyTimeoutMs).unref();
    outgoing.once("close", () => clearTimeout(timer));
    outgoing.end(response.body instanceof Uint8Array ? response.body : undefined, () => {
      clearTimeout(timer);
      if (!finished) incoming.destroy();
    });
  } catch {
    outgoing.destroy();
  }
}

/** Writes a body at the pace of the peer; rejects when it goes away or reads nothing for too long. */
async function sendPieces(
  outgoing: ServerResponse,
  body: ByteStream,
  options: SocketServerOptions,
): Promise<void> {
  for await (const piece of body.pieces) {
    if (outgoing.destroyed) throw new UnavailableError("http/peer-gone");
    if (outgoing.write(piece)) continue;
    await drainOrClose(outgoing, options.bodyTimeoutMs);
  }
}

async function drainOrClose(outgoing: ServerResponse, timeoutMs: number): Promise<void> {
  const waiting = new AbortController();
  const timer = setTimeout(() => waiting.abort(), timeoutMs);
  try {
    const { signal } = waiting;
    await Promise.race([once(outgoing, "drain", { signal }), once(outgoing, "close", { signal })]);
  } finally {
    clearTimeout(timer);
    // Takes the other listener away; its promise was raced, so nobody misses it.
    waiting.abort();
  }
}

function toRequest(incoming: IncomingMessage, options: SocketServerOptions): HttpRequest {
  const [path = "/", query = ""] = (incoming.url ?? "/").split("?", 2);
  return {
    method: incoming.method ?? "GET",
    path,
    query: new URLSearchParams(query),
    remoteAddress: remoteAddressOf(incoming, options.trustedProxies),
    header: (name) => {
      const value = incoming.headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
    body: (maxBytes) => readBody(incoming, maxBytes, options.bodyTimeoutMs),
    pieces: (maxBytes) => readPieces(incoming, maxBytes, options.bodyTimeoutMs),
  };
}

async function readBody(incoming: IncomingMessage, maxBytes: number, timeoutMs: number): Promise<Bytes> {
  const parts: Uint8Array[] = [];
  const timer = setTimeout(() => incoming.destroy(), timeoutMs);
  try {
    for await (const part of readPieces(incoming, maxBytes, timeoutMs)) parts.push(part);
  } finally {
    clearTimeout(timer);
  }
  return concatBytes(...parts);
}

/** Does not destroy the stream on a refusal: the peer shall still get its answer. */
async function* readPieces(
  incoming: IncomingMessage,
  maxBytes: number,
  timeoutMs: number,
): AsyncIterable<Uint8Array> {
  let length = 0;
  let timer = setTimeout(() => incoming.destroy(), timeoutMs);
  try {
    for await (const piece of incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      clearTimeout(timer);
      length += piece.length;
      if (length > maxBytes) throw new RejectionError("wire/too-large");
      yield piece;
      timer = setTimeout(() => incoming.destroy(), timeoutMs);
    }
  } catch (error) {
    throw error instanceof RejectionError ? error : new RejectionError("http/body-incomplete");
  } finally {
    clearTimeout(timer);
  }
}

function remoteAddressOf(incoming: IncomingMessage, trustedProxies: number): string {
  const header = incoming.headers["x-forwarded-for"];
  const forwardedFor = Array.isArray(header) ? header.join() : header;
  return clientAddress(incoming.socket.remoteAddress ?? "", forwardedFor, trustedProxies);
}

function refuseUpgrade(socket: Duplex, refusal: UpgradeRefusal): void {
  const headers = Object.entries(refusal.headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(
    `HTTP/1.1 ${refusal.status} Refused\r\n${headers.join("")}content-length: ${refusal.body.length}\r\nconnection: close\r\n\r\n`,
  );
  socket.end(refusal.body, () => socket.destroy());
}

let lastFramed: { readonly frame: Uint8Array; readonly bytes: Buffer } | undefined;

/**
 * A binary message as one WebSocket frame (RFC 6455 section 5.2). A service's frames have no mask, so that a message to
 * many connections is the same bytes on all of them: it is made once while it is sent to one after the other.
 */
function framed(frame: Uint8Array): Buffer {
  if (lastFramed?.frame === frame) return lastFramed.bytes;
  const { length } = frame;
  const header = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const bytes = Buffer.allocUnsafe(header + length);
  bytes[0] = 0x82;
  bytes[1] = header === 2 ? length : header === 4 ? 126 : 127;
  if (header === 4) bytes.writeUInt16BE(length, 2);
  else if (header === 10) bytes.writeBigUInt64BE(BigInt(length), 2);
  bytes.set(frame, header);
  lastFramed = { frame, bytes };
  return bytes;
}

/** A frame as bytes of its own: ws hands out views of a pooled buffer. */
function toBytes(data: RawData): Bytes {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return new Uint8Array(Array.isArray(data) ? Buffer.concat(data) : data);
}
